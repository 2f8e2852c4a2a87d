//! What mail is made of that an engine could choke on: it is stored, listed and read back on each of them alike.

use std::sync::Arc;

use mailroom::mail::address::MailboxKey;
use mailroom::mail::summary::summarize;
use mailroom::store::{MessagePatch, Scope};

use super::support::*;

/// A message as the receiving side hands it over.
async fn put(f: &Fixture, to: &str, raw: &[u8]) -> mailroom::mail::summary::Listed {
    let (mut incoming, answer) = incoming(&[to], raw);
    incoming.summary = Arc::new(summarize(raw));
    let id = incoming.id;
    f.store.append(incoming).map_err(drop).unwrap();
    answer.await.unwrap().unwrap();
    assert_eq!(f.raw(to, id).await, raw);
    let heard = f.heard.events().last().unwrap().event.clone();
    let mailroom::mail::event::Event::Received { message } = heard else { panic!("{heard:?}") };
    let listed = f.store.message(&key(to), id).await.unwrap().unwrap().listed;
    // What subscribers were told is what the list says.
    assert_eq!(listed, *message);
    listed
}

pub async fn text_that_an_engine_could_refuse(engine: Engine) {
    let f = Fixture::on(engine).await;
    for (header, subject) in [
        ("=?utf-8?q?a=00b?=".as_bytes(), "ab"),
        ("\u{1f600} \u{10ffff} \u{fffe}".as_bytes(), "\u{1f600} \u{10ffff} \u{fffe}"),
        (b"=?utf-16be?b?2D0AYQ==?=", "\u{fffd}a"),
        (b"caf\xe9 \xff\xfe", "café ÿþ"),
        (b"\\' \" \\0 \\x00 %s ; -- ? $1 :a {}", "\\' \" \\0 \\x00 %s ; -- ? $1 :a {}"),
    ] {
        let mut raw = b"From: \"=?utf-8?q?N=00\xf0\x9f\x98\x80?=\" <a@b.c>\r\nTo: x@y.z\r\nSubject: ".to_vec();
        raw.extend(header);
        raw.extend(b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ntext \0 \xed\xa0\xbd \xf0\x9f\x98\x80\r\n");
        let listed = put(&f, "a@x", &raw).await;
        assert!(listed.subject.contains(subject) || header.starts_with(b"caf") || header.starts_with(b"=?utf-16"));
        assert!(!listed.subject.contains('\0') && !listed.preview.contains('\0'));
    }
    let tags = MessagePatch { tags: Some(vec!["\u{1f600}".into(), "a\0b'\"\\".into()]), ..MessagePatch::default() };
    let id = f.list("a@x").await.items[0].id;
    let tagged = f.store.update_message(&key("a@x"), id, tags.clone()).await.unwrap();
    assert_eq!(Some(tagged.tags), tags.tags);
    assert_eq!(Some(&f.list("a@x").await.items[0].tags), tags.tags.as_ref());
}

pub async fn the_longest_of_everything(engine: Engine) {
    let f = Fixture::on(engine).await;
    let words = "word ".repeat(20_000);
    let to: Vec<String> = (0..300).map(|n| format!("\"{}\" <{n}@{}.test>", "N".repeat(900), "d".repeat(60))).collect();
    let raw = format!("From: {0} <a@b.c>\r\nTo: {1}\r\nSubject: {0}\r\n\r\n{0}\r\n", words.trim(), to.join(",\r\n "));
    // A key may have this many octets, with a domain as ASCII labels; all of ASCII is the most characters.
    let address = format!("{}@{}", "l".repeat(194), format!("{}.", "d".repeat(63)).repeat(4).get(..255).unwrap());
    assert_eq!(address.len(), 450);
    let waiting: Vec<_> = (0..64).map(|_| incoming(&[&address], raw.as_bytes())).collect();
    let summary = Arc::new(summarize(raw.as_bytes()));
    let mut answers = Vec::new();
    for (mut incoming, answer) in waiting {
        incoming.summary = summary.clone();
        f.store.append(incoming).map_err(drop).unwrap();
        answers.push(answer);
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let listed = put(&f, &address, raw.as_bytes()).await;
    assert!(listed.subject.chars().count() > 900 && listed.to.len() >= 50);
    assert_eq!(f.list(&address).await.items.len(), 65);
    f.store.delete_mailbox(&MailboxKey::from_stored(&address)).await.unwrap();
    assert!(f.store.mailbox(&key(&address)).await.unwrap().is_none());
}

/// Addresses are compared by their octets, everywhere.
pub async fn addresses_that_an_engine_could_take_for_one(engine: Engine) {
    let f = Fixture::on(engine).await;
    let all = ["a@x", "á@x", "ａ@x", "ß@x", "ss@x", "a @x", "a\u{301}@x", "\u{1f600}@x", "i@x", "ı@x"];
    for (n, to) in all.iter().enumerate() {
        f.put(&[to], mail(n).as_bytes()).await.unwrap();
    }
    for (n, to) in all.iter().enumerate() {
        let page = f.list(to).await;
        assert_eq!(page.items.len(), 1, "{to}");
        assert_eq!(*page.items[0].subject, *format!("number {n}"));
    }
    let mut sorted = all.map(str::to_owned).to_vec();
    sorted.sort();
    let page = f.store.list_mailboxes(None, 100).await.unwrap();
    let listed: Vec<String> = page.items.iter().map(|mailbox| mailbox.key.as_str().to_owned()).collect();
    assert_eq!(listed, sorted);
    let mut every = request("a@x", 100);
    every.scope = Scope::All;
    assert_eq!(f.store.list(&every).await.unwrap().items.len(), all.len());
}

pub async fn a_body_of_10_mib_that_does_not_compress(engine: Engine) {
    let f = Fixture::on(engine).await;
    let mut state = 88_172_645_463_325_252_u64;
    let mut raw = b"Subject: large\r\n\r\n".to_vec();
    raw.extend((0..(10 << 20)).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    }));
    let ids = [f.put(&["a@x", "b@x"], &raw).await.unwrap(), f.put(&["a@x"], &raw).await.unwrap()];
    for id in ids {
        assert!(f.raw("a@x", id).await == raw);
    }
    assert_eq!(f.store.mailbox(&key("a@x")).await.unwrap().unwrap().bytes, 2 * raw.len() as u64);
}
