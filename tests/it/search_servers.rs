//! The search index in a database server: the same answers as `Query::matches`, on each engine, whatever node keeps it,
//! however far it is behind, and whatever strangers write.

use std::time::Duration;

use mailroom::mail::time::Timestamp;
use mailroom::store::{Deletion, ListRequest, MailboxPatch, NewMailbox, Position, Scope, Ttl};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};

use crate::search::{agrees, alter, fill, found, found_by, indexed, mail, put, request};
use crate::store_suite::support::{Fixture, key};
use crate::support::servers::{Database, Engine};
use crate::support::until;

/// Each of these on every engine that has the index in itself.
macro_rules! on_servers {
    ($($name:ident)*) => {
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Engine::Postgres).await; })*
        }
        mod mariadb {
            $(#[tokio::test] async fn $name() { super::$name(super::Engine::MariaDb).await; })*
        }
    };
}

on_servers! {
    the_index_finds_what_matches_finds
    without_an_index_messages_are_read
    words_phrases_beginnings_and_exclusions
    since_and_unread_bound_a_search
    deleted_and_expired_messages_leave_the_index
    an_index_that_is_too_far_behind_is_made_again
    another_layout_is_made_again_and_a_newer_one_left_alone
    two_nodes_keep_one_index
    nobody_waits_for_a_node_that_stands_still
    hostile_words_are_found_like_others
    frequent_words_are_found_page_by_page
}

async fn on(engine: Engine) -> (Fixture, Database) {
    let fixture = Fixture::with(|config| config.database.url = engine.database(&config.data).url).await;
    let database = engine.database(fixture.dir.path());
    (fixture, database)
}

async fn rows(database: &Database) -> usize {
    database.sql("SELECT count(*) FROM search_words").await.trim().parse().unwrap()
}

async fn the_index_finds_what_matches_finds(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(7);
    let (fixture, database) = on(engine).await;
    fill(&fixture, random, 300).await;
    // Wherever the indexer is just now.
    assert!(agrees(&fixture.store, random, 20).await > 100);
    alter(&fixture, random).await;
    assert!(agrees(&fixture.store, random, 20).await > 100);
    indexed(&fixture.store).await;
    assert_eq!(rows(&database).await, found_by(&fixture.store, &Scope::All, "", 1_000).await.len());
    assert!(agrees(&fixture.store, random, 40).await > 400);
}

async fn without_an_index_messages_are_read(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(8);
    let fixture = Fixture::with(|config| {
        config.database.url = engine.database(&config.data).url;
        config.search.enabled = false;
    })
    .await;
    fill(&fixture, random, 120).await;
    assert!(agrees(&fixture.store, random, 20).await > 100);
    assert_eq!(rows(&engine.database(fixture.dir.path())).await, 0);
    let page = fixture.store.list(&request(&Scope::All, "alpha", 10, None)).await.unwrap();
    assert_eq!(page.index_lag, None);
}

async fn words_phrases_beginnings_and_exclusions(engine: Engine) {
    let (fixture, database) = on(engine).await;
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
            ("天", vec![2]),
            ("都東", vec![]),
            ("subject:請求", vec![2]),
            ("subject:quick", vec![]),
            ("from:MULLER fox OR 天気", vec![2, 1]),
            ("to:a@x.test fox", vec![1]),
            ("the OR of", vec![1]),
            ("a* brown", vec![3, 1]),
        ] {
            assert_eq!(found(&fixture.store, "a@x.test", q).await, expected, "{q} {at} it is indexed");
        }
        assert_eq!(found_by(&fixture.store, &Scope::All, "quick", 2).await.len(), 3);
        indexed(&fixture.store).await;
    }
    // It is the index that answers: what is not in it, as nothing but this test can make it, is not found.
    database.sql("DELETE FROM search_words WHERE uid = 1").await;
    assert_eq!(found(&fixture.store, "a@x.test", "brown").await, [3]);
    assert_eq!(found_by(&fixture.store, &Scope::All, "brown OR 東京", 2).await.len(), 2);
}

async fn since_and_unread_bound_a_search(engine: Engine) {
    let (fixture, _) = on(engine).await;
    put(&fixture, &["a@x.test"], &mail("one", "word")).await;
    let of_box = fixture.cursor("a@x.test").await;
    let at = fixture.store.list(&request(&Scope::All, "", 1, None)).await.unwrap().position;
    put(&fixture, &["a@x.test"], &mail("two", "word")).await;
    put(&fixture, &["b@x.test"], &mail("three", "word")).await;
    indexed(&fixture.store).await;
    let subjects = async |scope: Scope, since: Position, q: &str| {
        let request = ListRequest { since: Some(since), ..request(&scope, q, 10, None) };
        let page = fixture.store.list(&request).await.unwrap();
        page.items.into_iter().map(|item| item.subject.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(subjects(Scope::All, at, "word").await, ["three", "two"]);
    let mine = Scope::Mailbox(key("a@x.test"));
    assert_eq!(subjects(mine.clone(), Position::Mailbox(of_box), "word").await, ["two"]);
    assert_eq!(subjects(mine.clone(), Position::Mailbox(of_box), "word is:read").await, [""; 0]);
    assert_eq!(subjects(mine, Position::Mailbox(of_box), "word -is:read").await, ["two"]);
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
    let (fixture, database) = on(engine).await;
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
    assert_eq!(rows(&database).await, 18);
    store.delete_mailbox(&key("gone@x.test")).await.unwrap();
    for id in [ids[0], ids[2], ids[5]] {
        store.delete_messages(&key("kept@x.test"), Deletion::One(id)).await.unwrap();
    }
    let patch = MailboxPatch { message_ttl: Some(Ttl::After(Duration::from_micros(1))), ..Default::default() };
    store.alter_mailbox(&key("short-lived@x.test"), patch).await.unwrap();
    // Out of sight at once, whatever the index has.
    assert_eq!(found_by(store, &Scope::All, "word", 2).await.len(), 3);
    assert_eq!(found(store, "kept@x.test", "word").await, [5, 4, 2]);
    assert_eq!(found(store, "short-lived@x.test", "-other").await, [0; 0]);
    let end = Timestamp(mailroom::clock::now_micros() + 120_000_000);
    while store.expire(end).await.unwrap() {}
    indexed(store).await;
    assert_eq!(rows(&database).await, 3);
    store.delete_messages(&key("kept@x.test"), Deletion::All).await.unwrap();
    indexed(store).await;
    assert_eq!(rows(&database).await, 0);
}

async fn an_index_that_is_too_far_behind_is_made_again(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(9);
    let (mut fixture, database) = on(engine).await;
    fill(&fixture, random, 200).await;
    indexed(&fixture.store).await;
    fixture.store.close().await;
    // As if a day had gone by without an indexer, in which one message went and another came.
    database.sql("DELETE FROM search_words WHERE uid % 3 = 0").await;
    database.sql("UPDATE search_words SET mailbox_id = mailbox_id + 1000000 WHERE uid % 5 = 0 AND uid % 3 <> 0").await;
    database.sql("UPDATE meta SET stream_floor = stamp").await;
    database.sql("UPDATE search_state SET position = position - 1").await;
    fixture.open().await;
    assert!(agrees(&fixture.store, random, 5).await > 10);
    fill(&fixture, random, 200).await;
    assert!(agrees(&fixture.store, random, 5).await > 10);
    indexed(&fixture.store).await;
    assert_eq!(rows(&database).await, found_by(&fixture.store, &Scope::All, "", 1_000).await.len());
    assert!(agrees(&fixture.store, random, 20).await > 100);
}

async fn another_layout_is_made_again_and_a_newer_one_left_alone(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(10);
    let (mut fixture, database) = on(engine).await;
    fill(&fixture, random, 100).await;
    indexed(&fixture.store).await;
    for (version, remade) in [(0, true), (1_000, false)] {
        fixture.store.close().await;
        database.sql(&format!("UPDATE search_state SET version = {version}")).await;
        database.sql("UPDATE search_words SET uid = uid + 1000").await;
        fixture.open().await;
        assert!(agrees(&fixture.store, random, 5).await > 5);
        if remade {
            indexed(&fixture.store).await;
        }
        fill(&fixture, random, 20).await;
        assert!(agrees(&fixture.store, random, 5).await > 5);
        let of_this = database.sql("SELECT count(*) FROM search_state WHERE version = 1").await;
        assert_eq!(of_this.trim(), if remade { "1" } else { "0" });
    }
}

async fn two_nodes_keep_one_index(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(11);
    let (one, database) = on(engine).await;
    let other = Fixture::with(|config| config.database.url = database.url.clone()).await;
    for _ in 0..4 {
        let others = &mut StdRng::seed_from_u64(random.random());
        tokio::join!(fill(&one, random, 60), fill(&other, others, 60));
        assert!(agrees(&other.store, random, 3).await > 5);
    }
    indexed(&one.store).await;
    indexed(&other.store).await;
    assert!(agrees(&one.store, random, 10).await > 50);
    // Who kept it goes; the other goes on.
    one.store.close().await;
    fill(&other, random, 60).await;
    indexed(&other.store).await;
    assert!(agrees(&other.store, random, 10).await > 50);
    assert_eq!(rows(&database).await, found_by(&other.store, &Scope::All, "", 1_000).await.len());
}

async fn nobody_waits_for_a_node_that_stands_still(engine: Engine) {
    let (fixture, database) = on(engine).await;
    put(&fixture, &["a@x.test"], &mail("one", "word")).await;
    indexed(&fixture.store).await;
    // Another node has the index and does nothing with it; here for a while, until its connection is ended in life.
    let other = sea_orm::Database::connect(&database.url).await.unwrap();
    let held = other.begin().await.unwrap();
    let locked = async || {
        let sql = "SELECT id FROM search_state FOR UPDATE SKIP LOCKED";
        held.query_one_raw(Statement::from_string(held.get_database_backend(), sql)).await.unwrap().is_some()
    };
    until("the state to be held", locked).await;
    put(&fixture, &["a@x.test"], &mail("two", "word")).await;
    assert_eq!(found(&fixture.store, "a@x.test", "word").await, [2, 1]);
    assert_eq!(found_by(&fixture.store, &Scope::All, "word", 1).await.len(), 2);
    assert!(fixture.store.status().index_lag > 0);
    held.rollback().await.unwrap();
    other.close().await.unwrap();
    indexed(&fixture.store).await;
    assert_eq!(rows(&database).await, 2);
}

async fn hostile_words_are_found_like_others(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(12);
    let (fixture, database) = on(engine).await;
    let word = |random: &mut StdRng, letters: &[char], length: usize| -> String {
        (0..length).map(|_| *letters.choose(random).unwrap()).collect()
    };
    let many: String = (0..30_000).map(|n| format!("w{n} ")).collect();
    let long: Vec<String> = (0..20).map(|n| format!("{}{n}", "я".repeat(28 + n % 4))).collect();
    let ideographs: Vec<char> = ('\u{4e00}'..'\u{9fff}').collect();
    // More words than FULLTEXT is given of one message.
    let dense = word(random, &ideographs, 87_000);
    for text in [&many, &long.join(" "), &dense, "qahello zb70 M1 Bx zoo O", "the of to a www", &"x".repeat(70_000)] {
        put(&fixture, &["a@x.test"], &mail("hostile", text)).await;
    }
    put(&fixture, &["a@x.test"], &mail("plain", "hello")).await;
    indexed(&fixture.store).await;
    let partial = database.sql("SELECT count(*) FROM search_words WHERE NOT whole").await;
    assert_eq!(partial.trim(), if engine == Engine::MariaDb { "1" } else { "0" });
    let part: String = dense.chars().skip(5_000).take(3).collect();
    for (q, expected) in [
        ("w29999", vec![1]),
        ("w2999*", vec![1]),
        ("w30000", vec![]),
        (long[0].as_str(), vec![2]),
        (long[19].as_str(), vec![2]),
        (&format!("{}*", "я".repeat(31)), vec![2]),
        (&"я".repeat(31), vec![]),
        (&part, vec![3]),
        ("hello", vec![7]),
        ("qahello", vec![4]),
        ("zb70", vec![4]),
        ("www", vec![5]),
        (&"x".repeat(64), vec![6]),
        (&"x".repeat(63), vec![]),
        ("hostile -w1 -www -hello -qahello -xx*", vec![3, 2]),
    ] {
        assert_eq!(found(&fixture.store, "a@x.test", q).await, expected, "{q:.40}");
        let all = found_by(&fixture.store, &Scope::All, q, 3).await;
        assert_eq!(all.iter().map(|item| item.uid).collect::<Vec<_>>(), expected, "{q:.40} of all");
    }
}

async fn frequent_words_are_found_page_by_page(engine: Engine) {
    let (fixture, _) = on(engine).await;
    let random = &mut StdRng::seed_from_u64(13);
    let mut expected = Vec::new();
    for round in 0..6 {
        let mut answers = Vec::new();
        for n in 0..500 {
            let rare = if random.random_range(0..200) == 0 { "rare" } else { "usual" };
            let (incoming, answer) = crate::search::delivery(&["a@x.test"], &mail("s", &format!("every {rare}")));
            fixture.store.append(incoming).map_err(drop).unwrap();
            answers.push(answer);
            if rare == "rare" {
                expected.push(round * 500 + n + 1);
            }
        }
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
    }
    indexed(&fixture.store).await;
    expected.reverse();
    for scope in [Scope::All, Scope::Mailbox(key("a@x.test"))] {
        // However many there are: the first page is full.
        for q in ["every", "-nothing", "every -rare"] {
            let page = fixture.store.list(&request(&scope, q, 50, None)).await.unwrap();
            assert_eq!((page.items.len(), page.next.is_some()), (50, true), "{q} in {scope:?}");
        }
        let found: Vec<u64> = found_by(&fixture.store, &scope, "rare", 5).await.iter().map(|item| item.uid).collect();
        assert_eq!(found, expected);
        let found: Vec<u64> =
            found_by(&fixture.store, &scope, "every", 900).await.iter().map(|item| item.uid).collect();
        assert_eq!(found, (1..=3_000).rev().collect::<Vec<u64>>());
        assert_eq!(found_by(&fixture.store, &scope, "every -usual", 50).await.len(), expected.len());
    }
}
