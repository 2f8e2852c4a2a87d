//! The search index against `Query::matches`: the same answers when it is whole, behind, damaged, absent or turned off, in
//! its file (SQLite) and in a database server. What only one of them has stands below, and in `search_servers`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailroom::mail::id::DeliveryId;
use mailroom::mail::query::{Candidate, Query};
use mailroom::mail::summary::{Listed, summarize};
use mailroom::mail::time::Timestamp;
use mailroom::store::{
    Deletion, Incoming, ListRequest, MailboxPatch, MessagePatch, NewMailbox, Position, Scope, Store, Ttl, WriteFailed,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sea_orm::{ConnectionTrait, Statement};

use crate::store_suite::support::{Engine, Fixture, incoming, key};
use crate::support::servers::everywhere;
use crate::support::until;

everywhere! {
    the_index_finds_what_matches_finds
    without_an_index_messages_are_read
    words_phrases_beginnings_and_exclusions
    since_and_unread_bound_a_search
    deleted_and_expired_messages_leave_the_index
}

pub fn delivery(to: &[&str], raw: &str) -> (Incoming, tokio::sync::oneshot::Receiver<Result<(), WriteFailed>>) {
    let (incoming, answer) = incoming(to, raw.as_bytes());
    (Incoming { summary: Arc::new(summarize(raw.as_bytes())), ..incoming }, answer)
}

pub async fn put(fixture: &Fixture, to: &[&str], raw: &str) -> DeliveryId {
    let (incoming, answer) = delivery(to, raw);
    let id = incoming.id;
    fixture.store.append(incoming).map_err(drop).unwrap();
    answer.await.unwrap().unwrap();
    id
}

pub fn mail(subject: &str, text: &str) -> String {
    format!(
        "From: Ann Müller <ann@sender.test>\r\nTo: Bob <bob@example.com>\r\nSubject: {subject}\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
    )
}

pub async fn indexed(store: &Store) {
    until("the index to be at the head", || async { store.status().index_lag == 0 }).await;
}

pub fn request(scope: &Scope, q: &str, limit: u32, page: Option<String>) -> ListRequest {
    let query = Some(Query::parse(q).unwrap());
    ListRequest { scope: scope.clone(), limit, page, unread: false, since: None, query }
}

/// All that a search finds, page by page, in its order.
pub async fn found_by(store: &Store, scope: &Scope, q: &str, limit: u32) -> Vec<Listed> {
    let mut found = Vec::new();
    let mut page = None;
    loop {
        let list = store.list(&request(scope, q, limit, page)).await.unwrap();
        assert!(list.items.len() <= limit as usize);
        found.extend(list.items);
        page = list.next;
        if page.is_none() {
            return found;
        }
    }
}

pub async fn found(store: &Store, to: &str, q: &str) -> Vec<u64> {
    found_by(store, &Scope::Mailbox(key(to)), q, 100).await.iter().map(|item| item.uid).collect()
}

/// Every message of the scope with its text, newest first.
async fn everything(store: &Store, scope: &Scope) -> Vec<(Listed, Arc<str>)> {
    let mut all = Vec::new();
    for listed in found_by(store, scope, "", 1_000).await {
        let message = store.message(&listed.mailbox, listed.id).await.unwrap().unwrap();
        let text = summarize(&store.body(&message).await.unwrap()).text;
        all.push((listed, text));
    }
    all
}

fn expected<'a>(all: &'a [(Listed, Arc<str>)], q: &str) -> Vec<&'a Listed> {
    let query = Query::parse(q).unwrap();
    all.iter().filter(|(listed, text)| query.matches(&Candidate { listed, text })).map(|(listed, _)| listed).collect()
}

const WORDS: &[&str] = &[
    "alpha",
    "Beta",
    "gamma",
    "invoice",
    "Rechnung",
    "Größe",
    "STRASSE",
    "straße",
    "naïve",
    "日本語の文章",
    "東京都",
    "東京タワー",
    "手机iPhone",
    "한국어",
    "привет",
    "Ёлка",
    "code-482913",
    "a.b@c.example",
    "🙂",
    "don't",
    "x1",
    "m5",
    "the",
    "of",
    "unsubscribe",
    "ﬁne",
    "ＡＢＣ",
    "١٢٣",
];

fn random_mail(random: &mut StdRng) -> String {
    let words = |random: &mut StdRng, most: usize| {
        let count = random.random_range(0..=most);
        (0..count).map(|_| *WORDS.choose(random).unwrap()).collect::<Vec<_>>().join(" ")
    };
    let subject = words(random, 4);
    let text = words(random, 30);
    match random.random_range(0..6) {
        0 => format!("Subject: {subject}\r\n\r\n{text}\r\n"),
        1 => "no header at all".into(),
        2 => mail(&subject, &text).replace("text/plain", "text/html"),
        3 => format!(
            "From: {} <{}@x.example>\r\nTo: a@b.example, \"{}\" <c@d.example>\r\nSubject: {subject}\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n\
             --b\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\n1234\r\n--b--\r\n",
            WORDS.choose(random).unwrap(),
            random.random_range(0..4),
            WORDS.choose(random).unwrap(),
        ),
        _ => mail(&subject, &text),
    }
}

fn random_query(random: &mut StdRng) -> String {
    let mut terms = Vec::new();
    for _ in 0..random.random_range(1..4) {
        let word = *WORDS.choose(random).unwrap();
        let other = *WORDS.choose(random).unwrap();
        let start: String = word.chars().take(random.random_range(1..4)).collect();
        let term = match random.random_range(0..14) {
            0 => format!("-{word}"),
            1 => format!("\"{word} {other}\""),
            2 => format!("-\"{word} {other}\""),
            3 => format!("{start}*"),
            4 => format!("subject:{word}"),
            5 => format!("-subject:{start}*"),
            6 => ["from:ann", "from:x.example", "to:c@d.example", "to:box1", "-from:müller"]
                .choose(random)
                .unwrap()
                .to_string(),
            7 => format!("{word} OR {other}"),
            8 => start,
            9 => ["has:attachment", "-has:attachment", "is:unread", "is:read"].choose(random).unwrap().to_string(),
            10 => ["larger:300", "smaller:300", "tag:red", "-tag:red", "before:2020-01-01", "after:2020-01-01"]
                .choose(random)
                .unwrap()
                .to_string(),
            _ => word.to_owned(),
        };
        terms.push(term);
    }
    terms.join(" ")
}

/// Mail in five mailboxes, some of it to two, some read, some tagged, some deleted.
pub async fn fill(fixture: &Fixture, random: &mut StdRng, count: usize) {
    let mut answers = Vec::new();
    for _ in 0..count {
        let boxes = ["box1@example.com", "box2@example.com", "box3@x.example", "東京@example.com", "b@c.example"];
        let first = *boxes.choose(random).unwrap();
        let second = *boxes.choose(random).unwrap();
        let to: Vec<&str> = BTreeSet::from([first, second]).into_iter().collect();
        let (incoming, answer) = delivery(&to[..random.random_range(1..=to.len())], &random_mail(random));
        fixture.store.append(incoming).map_err(drop).unwrap();
        answers.push(answer);
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
}

pub async fn alter(fixture: &Fixture, random: &mut StdRng) {
    for listed in found_by(&fixture.store, &Scope::All, "", 1_000).await {
        match random.random_range(0..8) {
            0 => {
                let patch = MessagePatch { is_read: Some(true), tags: None };
                fixture.store.update_message(&listed.mailbox, listed.id, patch).await.unwrap();
            }
            1 => {
                let patch = MessagePatch { is_read: None, tags: Some(vec!["red".into()]) };
                fixture.store.update_message(&listed.mailbox, listed.id, patch).await.unwrap();
            }
            2 => drop(fixture.store.delete_messages(&listed.mailbox, Deletion::One(listed.id)).await.unwrap()),
            _ => {}
        }
    }
}

/// Every query finds what `matches` finds, in order, whatever the size of a page.
pub async fn agrees(store: &Store, random: &mut StdRng, queries: usize) -> usize {
    let scopes = [Scope::All, Scope::Mailbox(key("box1@example.com")), Scope::Mailbox(key("東京@example.com"))];
    let mut hits = 0;
    for scope in &scopes {
        let all = everything(store, scope).await;
        for _ in 0..queries {
            let q = random_query(random);
            let expected = expected(&all, &q);
            // Pages of two as long as they are few: a hundred of them would show what ten do.
            let few = u32::try_from(expected.len()).unwrap() / 10;
            let limit = (*[1_000, 7, 2].choose(random).unwrap()).max(few);
            let found = found_by(store, scope, &q, limit).await;
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{q} in {scope:?}, {limit} a page");
            hits += found.len();
        }
    }
    hits
}

fn search_db(fixture: &Fixture) -> PathBuf {
    fixture.dir.path().join("search.db")
}

/// When the file was made: the number of an inode may be used again.
fn made(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path).ok().map(|file| file.created().unwrap())
}

/// Rows in the index itself.
pub async fn rows(fixture: &Fixture) -> usize {
    if fixture.engine != Engine::Sqlite {
        return fixture.database().sql("SELECT count(*) FROM search_words").await.trim().parse().unwrap();
    }
    let url = format!("sqlite://{}?mode=ro", search_db(fixture).display());
    let db = sea_orm::Database::connect(url).await.unwrap();
    let sql = "SELECT count(*) FROM messages";
    let row = db.query_one_raw(Statement::from_string(sea_orm::DbBackend::Sqlite, sql)).await.unwrap().unwrap();
    let count: i64 = row.try_get_by_index(0).unwrap();
    db.close().await.unwrap();
    usize::try_from(count).unwrap()
}

/// All messages, whoever they are for.
pub async fn all(store: &Store) -> usize {
    found_by(store, &Scope::All, "", 1_000).await.len()
}

async fn the_index_finds_what_matches_finds(engine: Engine) {
    let queries = if engine == Engine::Sqlite { 100 } else { 40 };
    let random = &mut StdRng::seed_from_u64(7);
    let fixture = Fixture::on(engine).await;
    fill(&fixture, random, 300).await;
    // Wherever the indexer is just now.
    assert!(agrees(&fixture.store, random, 20).await > 100);
    alter(&fixture, random).await;
    assert!(agrees(&fixture.store, random, 20).await > 100);
    indexed(&fixture.store).await;
    assert_eq!(rows(&fixture).await, all(&fixture.store).await);
    assert!(agrees(&fixture.store, random, queries).await > 10 * queries);
}

async fn without_an_index_messages_are_read(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(8);
    let fixture = Fixture::on_with(engine, |config| config.search.enabled = false).await;
    fill(&fixture, random, 120).await;
    alter(&fixture, random).await;
    assert!(agrees(&fixture.store, random, 30).await > 100);
    match engine {
        Engine::Sqlite => assert!(!search_db(&fixture).exists()),
        _ => assert_eq!(rows(&fixture).await, 0),
    }
    let page = fixture.store.list(&request(&Scope::All, "alpha", 10, None)).await.unwrap();
    assert_eq!(page.index_lag, None);
}

async fn words_phrases_beginnings_and_exclusions(engine: Engine) {
    let fixture = Fixture::on(engine).await;
    put(&fixture, &["a@x.test"], &mail("Your invoice", "The quick brown fox")).await;
    put(&fixture, &["a@x.test"], &mail("請求書", "東京都の天気")).await;
    put(&fixture, &["a@x.test"], &mail("Invoices", "brown quick")).await;
    put(&fixture, &["b@x.test"], &mail("other", "quick brown")).await;
    for at in ["before", "after"] {
        for (q, expected) in [
            ("invoice", vec![1]),
            ("invoice*", vec![3, 1]),
            ("\"quick brown\"", vec![1]),
            ("quick brown", vec![3, 1]),
            ("-quick", vec![2]),
            ("-\"quick brown\"", vec![3, 2]),
            ("quick -invoices", vec![1]),
            ("東京", vec![2]),
            ("京都", vec![2]),
            ("天", vec![2]),
            ("都東", vec![]),
            ("subject:請求", vec![2]),
            ("subject:quick", vec![]),
            ("from:müller", vec![3, 2, 1]),
            ("from:MULLER fox OR 天気", vec![2, 1]),
            ("to:a@x.test fox", vec![1]),
            ("to:b@x.test", vec![]),
            ("the OR of", vec![1]),
            ("a* brown", vec![3, 1]),
        ] {
            assert_eq!(found(&fixture.store, "a@x.test", q).await, expected, "{q} {at} it is indexed");
        }
        assert_eq!(found_by(&fixture.store, &Scope::All, "quick", 2).await.len(), 3);
        indexed(&fixture.store).await;
    }
}

async fn since_and_unread_bound_a_search(engine: Engine) {
    let fixture = Fixture::on(engine).await;
    let first = put(&fixture, &["a@x.test"], &mail("one", "word")).await;
    let at = fixture.store.list(&request(&Scope::All, "", 1, None)).await.unwrap().position;
    let of_box = Position::Mailbox(fixture.cursor("a@x.test").await);
    put(&fixture, &["a@x.test"], &mail("two", "word")).await;
    put(&fixture, &["b@x.test"], &mail("three", "word")).await;
    let patch = MessagePatch { is_read: Some(true), tags: None };
    fixture.store.update_message(&key("a@x.test"), first, patch).await.unwrap();
    indexed(&fixture.store).await;
    let subjects = async |request: ListRequest| {
        let page = fixture.store.list(&request).await.unwrap();
        page.items.into_iter().map(|item| item.subject.to_string()).collect::<Vec<_>>()
    };
    let all = request(&Scope::All, "word", 10, None);
    let mine = |q| request(&Scope::Mailbox(key("a@x.test")), q, 10, None);
    assert_eq!(subjects(ListRequest { since: Some(at), ..all.clone() }).await, ["three", "two"]);
    assert_eq!(subjects(ListRequest { unread: true, ..all }).await, ["three", "two"]);
    assert_eq!(subjects(mine("word")).await, ["two", "one"]);
    for (q, found) in [("word", &["two"][..]), ("word is:read", &[]), ("word -is:read", &["two"])] {
        assert_eq!(subjects(ListRequest { since: Some(of_box), ..mine(q) }).await, found, "{q}");
    }
}

fn new(address: &str) -> NewMailbox {
    NewMailbox {
        key: key(address),
        expires_at: None,
        message_ttl: Ttl::Never,
        max_messages: None,
        max_bytes: None,
        when_full: None,
        token_hash: [address.as_bytes()[0]; 32],
    }
}

async fn deleted_and_expired_messages_leave_the_index(engine: Engine) {
    let fixture = Fixture::on(engine).await;
    let store = &fixture.store;
    for address in ["kept@x.test", "short-lived@x.test", "gone@x.test"] {
        store.create_mailbox(new(address)).await.unwrap();
    }
    let mut ids = Vec::new();
    for n in 0..6 {
        let raw = mail(&format!("number {n}"), "word");
        ids.push(put(&fixture, &["kept@x.test", "short-lived@x.test", "gone@x.test"], &raw).await);
    }
    indexed(store).await;
    assert_eq!(rows(&fixture).await, 18);
    store.delete_mailbox(&key("gone@x.test")).await.unwrap();
    for id in [ids[0], ids[2], ids[5]] {
        store.delete_messages(&key("kept@x.test"), Deletion::One(id)).await.unwrap();
    }
    let patch =
        MailboxPatch { message_ttl: Some(Ttl::After(std::time::Duration::from_micros(1))), ..Default::default() };
    store.alter_mailbox(&key("short-lived@x.test"), patch).await.unwrap();
    // Out of sight at once, whatever the index has.
    assert_eq!(found_by(store, &Scope::All, "word", 2).await.len(), 3);
    assert_eq!(found(store, "kept@x.test", "word").await, [5, 4, 2]);
    assert_eq!(found(store, "short-lived@x.test", "-other").await, [0; 0]);
    let end = Timestamp(mailroom::clock::now_micros() + 120_000_000);
    while store.expire(end).await.unwrap() {}
    indexed(store).await;
    assert_eq!(rows(&fixture).await, 3);
    store.delete_messages(&key("kept@x.test"), Deletion::All).await.unwrap();
    indexed(store).await;
    assert_eq!(rows(&fixture).await, 0);
}

#[tokio::test]
async fn a_stop_in_the_middle_is_gone_on_from() {
    let random = &mut StdRng::seed_from_u64(9);
    let mut fixture = Fixture::new().await;
    put(&fixture, &["box1@example.com"], &mail("first", "word")).await;
    indexed(&fixture.store).await;
    let file = made(&search_db(&fixture));
    for _ in 0..5 {
        fill(&fixture, random, 400).await;
        fixture.restart().await;
    }
    assert!(agrees(&fixture.store, random, 5).await > 10);
    indexed(&fixture.store).await;
    assert!(agrees(&fixture.store, random, 20).await > 100);
    assert_eq!(made(&search_db(&fixture)), file, "it was not made anew");
}

#[tokio::test]
async fn the_lag_is_told() {
    let fixture = Fixture::new().await;
    let random = &mut StdRng::seed_from_u64(10);
    fill(&fixture, random, 1_000).await;
    let page = fixture.store.list(&request(&Scope::All, "alpha", 10, None)).await.unwrap();
    assert!(page.index_lag.is_some());
    indexed(&fixture.store).await;
    assert_eq!(rows(&fixture).await, all(&fixture.store).await);
    let page = fixture.store.list(&request(&Scope::All, "alpha", 10, None)).await.unwrap();
    assert_eq!(page.index_lag, Some(0));
    let page = fixture.store.list(&request(&Scope::All, "has:attachment", 10, None)).await.unwrap();
    assert_eq!(page.index_lag, None, "no words, no index");
}

#[tokio::test]
async fn a_damaged_index_is_made_anew() {
    let random = &mut StdRng::seed_from_u64(11);
    let mut fixture = Fixture::new().await;
    fill(&fixture, random, 300).await;
    indexed(&fixture.store).await;
    let path = search_db(&fixture);
    for round in 0..12 {
        fixture.store.close().await;
        let whole = std::fs::read(&path).unwrap();
        let file = made(&path);
        let mut bytes = whole.clone();
        match round {
            0 => bytes.truncate(whole.len() / 2),
            1 => bytes.truncate(0),
            2 => bytes = b"not a database, not at all".repeat(1_000),
            3 => {
                std::fs::remove_file(&path).unwrap();
                bytes.clear();
            }
            _ => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        if round != 3 {
            std::fs::write(&path, bytes).unwrap();
        }
        fixture.open().await;
        assert!(agrees(&fixture.store, random, 2).await < usize::MAX);
        indexed(&fixture.store).await;
        until("a new file", || async { made(&path).is_some_and(|made| Some(made) != file) }).await;
        indexed(&fixture.store).await;
        assert!(agrees(&fixture.store, random, 4).await < usize::MAX);
        assert_eq!(rows(&fixture).await, all(&fixture.store).await);
    }
}

#[tokio::test]
async fn an_index_that_breaks_while_it_is_used_does_no_harm() {
    let random = &mut StdRng::seed_from_u64(12);
    let fixture = Fixture::new().await;
    fill(&fixture, random, 400).await;
    indexed(&fixture.store).await;
    let path = search_db(&fixture);
    let damaged = std::fs::File::options().write(true).open(&path).unwrap();
    let length = damaged.metadata().unwrap().len();
    for page in 1..length / 8_192 {
        std::os::unix::fs::FileExt::write_all_at(&damaged, &[0xa5; 8_192], page * 8_192).unwrap();
    }
    let wal = std::fs::File::options().write(true).open(path.with_extension("db-wal")).unwrap();
    wal.set_len(0).unwrap();
    fill(&fixture, random, 400).await;
    indexed(&fixture.store).await;
    assert!(agrees(&fixture.store, random, 20).await > 100);
}

/// One large message below 40,000 small ones, made by the database itself: `mailroom.db`, whose list is what rows it has.
async fn deep(fixture: &Fixture) {
    put(fixture, &["a@x"], &mail("large", &"word ".repeat(2_000))).await;
    put(fixture, &["a@x"], &mail("small", "word")).await;
    let path = fixture.dir.path().join("mailroom.db");
    let db = sea_orm::Database::connect(format!("sqlite://{}", path.display())).await.unwrap();
    let columns = "received_at, size, segment, \"offset\", length, parse, 1, attachments, subject, sender, recipients, date, preview, \
                   tags, envelope";
    let fill = format!(
        "WITH RECURSIVE n(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM n WHERE n < 40000)
         INSERT INTO messages SELECT stamp + n, mailbox_id, uid + n, randomblob(16), {columns} FROM messages, n WHERE uid = 2"
    );
    let fill = Statement::from_string(db.get_database_backend(), fill);
    assert_eq!(db.execute_raw(fill).await.unwrap().rows_affected(), 40_000);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_part_of_what_it_searches() {
    let fixture = Fixture::new().await;
    deep(&fixture).await;
    let store = &fixture.store;
    for scope in [Scope::All, Scope::Mailbox(key("a@x"))] {
        for (q, unread, count) in [
            ("larger:5K", false, 1),
            ("larger:9G", false, 0),
            ("-smaller:5K has:attachment", false, 0),
            ("", true, 2),
            ("is:unread", false, 2),
            ("larger:5K tag:none", false, 0),
            ("nothing larger:5K", false, 0),
            ("word larger:5K", false, 1),
        ] {
            let (mut pages, mut found, mut page) = (0, 0, None);
            loop {
                let asked = ListRequest { unread, ..request(&scope, q, 50, page) };
                let list = store.list(&asked).await.unwrap();
                if pages == 0 {
                    assert_eq!(list.items.len(), 0, "{scope:?} {q:?}: found within the work of one page");
                    assert!(list.next.is_some(), "{scope:?} {q:?}: there is more");
                }
                found += list.items.len();
                pages += 1;
                page = list.next;
                if page.is_none() {
                    break;
                }
            }
            assert_eq!(found, count, "{scope:?} {q:?}");
            assert!((2..=5).contains(&pages), "{scope:?} {q:?}: {pages} pages");
        }
        let plain = store.list(&request(&scope, "", 50, None)).await.unwrap();
        assert_eq!(plain.items.len(), 50);
    }
}
