//! What cannot be stored, and the way back.

use std::process::{Command, Output};
use std::sync::Arc;

use mailroom::mail::address::MailboxKey;
use mailroom::mail::envelope::Envelope;
use mailroom::mail::id::DeliveryId;
use mailroom::mail::summary::summarize;
use mailroom::mail::time::Timestamp;
use mailroom::store::{Part, bodies};

use super::*;
use crate::support::servers::Engine;

/// The program with a broker in its environment.
pub fn program(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.env("MAILROOM__BROKER__URL", url).env("MAILROOM__DATABASE__MIN_FREE", "1B").env("NO_COLOR", "1");
    command
}

pub async fn dead(url: &str, words: &[&str]) -> Output {
    let mut command = program(url);
    command.args(["queue", "dead"]).args(words);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn said(url: &str, words: &[&str]) -> String {
    let output = dead(url, words).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn mail(subject: &str, parts: &[(&str, bool)]) -> Mail {
    let now = Timestamp(mailroom::clock::now_micros());
    let raw = message(subject, "the text");
    let part = |(address, create): &(&str, bool)| Part {
        mailbox: MailboxKey::from_stored(address),
        recipients: vec![(*address).to_owned()],
        create: *create,
    };
    Mail {
        id: DeliveryId::new(now),
        received_at: now,
        envelope: Arc::new(Envelope {
            reverse_path: "ann@sender.test".into(),
            helo: "client.test".into(),
            client: [127, 0, 0, 1].into(),
            protocol: "ESMTP".into(),
            smtputf8: false,
            eight_bit: false,
        }),
        parts: parts.iter().map(part).collect(),
        summary: Arc::new(summarize(raw.as_bytes())),
        body: bodies::encode(raw.as_bytes()),
    }
}

#[actix::test]
async fn what_comes_twice_is_stored_once() {
    let url = shared().fresh();
    let server = server(&url, |_| {}).await;
    let queues = Queues::of(&url).await;
    let twice = mail("twice", &[("a@example.com", true), ("b@example.com", true)]);
    for _ in 0..3 {
        queues.put(twice.clone()).await;
    }
    queues.put(mail("after", &[("a@example.com", true)])).await;
    has(&server.api(), "a@example.com", &["twice".into(), "after".into()]).await;
    has(&server.api(), "b@example.com", &["twice".into()]).await;
    let view = server.api().json("/v1/mailboxes/a@example.com").await;
    assert_eq!((view["messages"].as_u64(), view["unread"].as_u64()), (Some(2), Some(2)), "{view}");
    // Once more, long after.
    queues.put(twice).await;
    queues.put(mail("end", &[("a@example.com", true)])).await;
    has(&server.api(), "a@example.com", &["twice".into(), "after".into(), "end".into()]).await;
    server.stop().await;
}

#[actix::test]
async fn a_mailbox_that_is_gone_has_a_dead_letter_and_the_others_the_message() {
    let url = shared().fresh();
    let server = server(&url, |_| {}).await;
    let queues = Queues::of(&url).await;
    let letter = mail("for three", &[("a@example.com", true), ("gone@example.com", false), ("c@example.com", true)]);
    let id = letter.id.to_string();
    queues.put(letter).await;
    for there in ["a@example.com", "c@example.com"] {
        has(&server.api(), there, &["for three".into()]).await;
    }
    until("there is a dead letter", async || queues.dead().await == 1).await;
    until("nothing else is left", async || queues.waiting().await == 0).await;

    let list = said(&url, &["list", "--json"]).await;
    let line: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_ne!(line["id"], id, "it is a delivery of its own: {list}");
    let id = line["id"].as_str().unwrap().to_owned();
    assert_eq!(line["mailboxes"], serde_json::json!(["gone@example.com"]));
    assert!(line["reason"].as_str().unwrap().contains("gone@example.com"), "{list}");
    assert!(said(&url, &["list"]).await.contains("\"for three\""));
    assert_eq!(said(&url, &["show", "--raw", &id]).await, message("for three", "the text"));
    assert!(said(&url, &["show", &id]).await.contains("\"reverse_path\": \"ann@sender.test\""));

    // It is made again, and the letter is sent back.
    let made = server.api().post("/v1/mailboxes", serde_json::json!({"address": "gone@example.com"})).await;
    assert_eq!(made.status, 201);
    said(&url, &["requeue", &id]).await;
    let api = server.api().with_token(made.json()["token"].as_str().unwrap());
    has(&api, "gone@example.com", &["for three".into()]).await;
    has(&server.api(), "a@example.com", &["for three".into()]).await;
    until("it is no dead letter any more", async || queues.dead().await == 0).await;
    assert_eq!(all_subjects(&server.api(), "c@example.com").await.len(), 1);
    server.stop().await;
}

#[actix::test]
async fn what_a_later_version_wrote_waits_for_it_with_the_dead_letters() {
    let url = shared().fresh();
    let server = server(&url, |_| {}).await;
    let queues = Queues::of(&url).await;
    let mut later = mail("later", &[("a@example.com", true)]).encode();
    let understood = later.clone();
    // In Protocol Buffers what is appended replaces: the first field says what a reader must know.
    later.extend([8, 99]);
    queues.put_bytes("mailroom.mail.3", &later).await;
    queues.put_bytes("mailroom.mail.3", b"no delivery at all").await;
    until("both are dead letters", async || queues.dead().await == 2).await;
    let list = said(&url, &["list", "--json"]).await;
    assert!(list.contains("needs version 99") && list.contains("it is no delivery"), "{list}");
    assert_eq!(list.matches("\"queue\":\"mailroom.mail.3\"").count(), 2, "{list}");
    // Not understood now either: they come back.
    assert_eq!(said(&url, &["requeue", "--all"]).await.trim(), "2 sent back");
    until("both are dead letters again", async || queues.dead().await == 2).await;

    let other = DeliveryId::new(Timestamp(1)).to_string();
    for words in [["show", &other], ["drop", &other], ["requeue", &other]] {
        let output = dead(&url, &words).await;
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(&other), "{words:?}");
    }
    assert_eq!(queues.dead().await, 2, "they are all still there");
    // A field that this version does not know is passed over.
    let mut more = understood;
    more.extend([0xa2, 0x38, 3, b'n', b'e', b'w']);
    queues.put_bytes("mailroom.mail.3", &more).await;
    has(&server.api(), "a@example.com", &["later".into()]).await;
    server.stop().await;
}

#[actix::test]
async fn a_dead_letter_can_be_thrown_away() {
    let url = shared().fresh();
    let server = server(&url, |_| {}).await;
    let queues = Queues::of(&url).await;
    let letters = [mail("one", &[("x@example.com", false)]), mail("two", &[("y@example.com", false)])];
    let [one, two] = [letters[0].id.to_string(), letters[1].id.to_string()];
    for letter in letters {
        queues.put(letter).await;
    }
    until("both are dead letters", async || queues.dead().await == 2).await;
    said(&url, &["drop", &one]).await;
    let list = said(&url, &["list"]).await;
    assert!(!list.contains(&one) && list.contains(&two), "{list}");
    until("they are counted", async || status(&server).dead == 1).await;
    server.stop().await;
}

/// PostgreSQL takes no zero byte: a message that fails by itself, whatever comes with it.
#[actix::test]
async fn what_fails_by_itself_is_counted_and_nothing_else_is() {
    let url = shared().fresh();
    let dir = tempfile::tempdir().unwrap();
    let database = Engine::Postgres.database(dir.path()).url;
    let server = server(&url, |config| {
        config.database.url = database;
        config.broker.delivery_limit = 3;
    })
    .await;
    let queues = Queues::of(&url).await;
    let mut poison = mail("poison", &[("a@example.com", true)]);
    Arc::make_mut(&mut poison.summary).subject = "zero \0".into();
    let id = poison.id.to_string();
    let mut sent = Vec::new();
    for n in 0..20 {
        if n == 5 {
            queues.put(poison.clone()).await;
        }
        let subject = n.to_string();
        queues.put(mail(&subject, &[("a@example.com", true)])).await;
        sent.push(subject);
    }
    until("everything else is stored", async || {
        let found: BTreeSet<_> = all_subjects(&server.api(), "a@example.com").await.into_iter().collect();
        found == sent.iter().cloned().collect()
    })
    .await;
    until("it is a dead letter", async || queues.dead().await == 1).await;
    let list = said(&url, &["list", "--json"]).await;
    assert!(list.contains(&id) && list.contains("failed too often"), "{list}");
    server.stop().await;
}
