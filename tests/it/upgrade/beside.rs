//! One node of each version: what one does, the other understands.

use std::time::Duration;

use serde_json::{Value, json};

use super::{New, Nodes, Old, Version, said};
use crate::broker::noise;
use crate::cluster::load::Load;
use crate::nodes::{SOON, hears, names};
use crate::support::api::Answer;
use crate::support::servers::RabbitMq;
use crate::support::socket::Heard;
use crate::support::{Api, Process, SmtpClient, Socket, message, until};

/// What no loss on the bus may exceed.
const LOST: Duration = Duration::from_secs(30);
/// Where each version stands.
const VERSIONS: [Version; 2] = [Old, New];
/// From one to the other, and back.
const WAYS: [(usize, usize); 2] = [(0, 1), (1, 0)];

/// Mail goes straight to the database: the node that takes it is the one that stores it.
async fn both(settings: &[(&str, &str)]) -> Nodes {
    Nodes::start(&VERSIONS, None, settings).await
}

async fn deliver(node: &Process, to: &str, mail: &[String]) {
    let mut smtp = node.smtp().await;
    smtp.hello().await;
    for mail in mail {
        let reply = smtp.send("ann@sender.test", &[to], mail.as_bytes()).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    smtp.quit().await;
}

fn mails(subjects: &[String]) -> Vec<String> {
    subjects.iter().map(|subject| message(subject, &format!("the text of {subject}"))).collect()
}

/// What both versions show of something must be the same; one may show more than the other.
fn alike(one: &Value, other: &Value, place: &str) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                if let Some(theirs) = other.get(key) {
                    alike(value, theirs, &format!("{place}.{key}"));
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{place}");
            one.iter().zip(other).enumerate().for_each(|(n, (one, other))| alike(one, other, &format!("{place}[{n}]")));
        }
        // Keys of pictures, and what they are signed with, are each version's own.
        _ if place.ends_with("html") => {}
        _ => assert_eq!(one, other, "{place}"),
    }
}

fn well(answer: &Answer) {
    assert!(answer.status.is_success(), "{} {}", answer.status, answer.text());
}

/// What came over the bus: the database is compared more rarely.
async fn soon(socket: &mut Socket) -> Value {
    match socket.hear_within(SOON).await {
        Heard::Frame(frame) => frame,
        other => panic!("{other:?} instead of a frame"),
    }
}

/// A mailbox that is made, filled, read, changed and deleted by turns.
async fn a_life(one: &Process, other: &Process, name: &str) {
    let made = one.api().post("/v1/mailboxes", json!({"local_part": name})).await;
    well(&made);
    let (address, token) = (made.json()["address"].clone(), made.json()["token"].clone());
    let (address, token) = (address.as_str().unwrap(), token.as_str().unwrap());
    let path = format!("/v1/mailboxes/{address}");
    let (here, there) = (one.api().with_token(token), other.api().with_token(token));
    alike(&here.json(&path).await, &there.json(&path).await, "mailbox");

    let mut socket = Socket::connect(other.http).await;
    socket.subscribe_with(address, token).await;
    let subjects = names(name, 0..20);
    let sent = mails(&subjects);
    deliver(one, address, &sent).await;
    let mut frames = Vec::new();
    for subject in &subjects {
        let frame = soon(&mut socket).await;
        assert_eq!(frame["message"]["subject"], **subject, "in order, each once");
        frames.push(frame);
    }
    // A position that one gave is understood by the other.
    let mut late = Socket::connect(one.http).await;
    assert!(late.follow(address, frames[4]["cursor"].as_str()).await);
    assert_eq!(late.hear().await["type"], "subscribed");
    for frame in &frames[5..] {
        alike(frame, &late.hear().await, "replay");
    }

    let list = format!("{path}/messages?limit=50");
    let (first, second) = (here.json(&list).await, there.json(&list).await);
    assert_eq!(first["items"].as_array().unwrap().len(), 20);
    alike(&first, &second, "list");
    for (n, item) in first["items"].as_array().unwrap().iter().enumerate() {
        let one = format!("{path}/messages/{}", item["id"].as_str().unwrap());
        alike(&here.json(&one).await, &there.json(&one).await, "message");
        let (raw, same) = (here.get(&format!("{one}/raw")).await, there.get(&format!("{one}/raw")).await);
        assert!(raw.body.ends_with(sent[19 - n].as_bytes()) && raw.body == same.body, "{}", raw.text());
    }
    for api in [&here, &there] {
        finds(api, &path, &format!("\"{}\"", subjects[7])).await;
    }

    let id = |n: usize| format!("{path}/messages/{}", first["items"][n]["id"].as_str().unwrap());
    well(&there.patch(&id(0), json!({"is_read": true, "tags": ["seen"]})).await);
    let changed = soon(&mut late).await;
    assert_eq!((&changed["type"], &changed["message"]["is_read"]), (&"message.updated".into(), &true.into()));
    assert_eq!(here.json(&list).await["items"][0]["tags"], json!(["seen"]));
    well(&there.delete(&id(1)).await);
    assert_eq!(soon(&mut late).await["type"], "message.deleted");
    let left = here.json(&list).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 19);
    alike(&left, &there.json(&list).await, "list");
    well(&there.delete(&path).await);
    assert_eq!(soon(&mut late).await["type"], "mailbox.deleted");
    assert_eq!(one.api().subjects(address).await, [""; 0]);
    // Whoever makes it again is not answered with what was.
    deliver(one, address, &sent[..1]).await;
    assert_eq!(other.api().subjects(address).await, subjects[..1]);
}

/// The one message with these words; the index may be a moment behind.
async fn finds(api: &Api, mailbox: &str, words: &str) {
    let query = words.replace('"', "%22").replace(' ', "%20");
    until(&format!("{words} is found"), async || {
        let found = api.json(&format!("{mailbox}/messages?q={query}")).await;
        found["items"].as_array().unwrap().len() == 1
    })
    .await;
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn what_one_stores_the_other_pushes_lists_finds_changes_and_deletes() {
    // So that what is heard before came over the bus.
    let nodes = both(&[("MAILROOM__REDIS__RECONCILE", "30s")]).await;
    let load = Load::start(&nodes.doors()).await;
    for (n, (from, to)) in WAYS.into_iter().enumerate() {
        a_life(nodes.node(from), nodes.node(to), &format!("life{n}")).await;
    }
    load.goes_on("beside it").await;
    load.ends_well(&nodes.api(0)).await;
    nodes.are_sound().await;
    nodes.stop();
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn without_redis_each_finds_the_others_mail_in_the_database() {
    let mut nodes = both(&[]).await;
    let load = Load::start(&nodes.doors()).await;
    let mut sockets = Vec::new();
    for (from, to) in WAYS {
        let mut socket = Socket::connect(nodes.node(to).http).await;
        socket.subscribe(&format!("box-of-{from}@example.com")).await;
        sockets.push(socket);
    }
    for (when, limit) in [("before", SOON), ("away", LOST), ("back", LOST), ("settled", SOON)] {
        match when {
            "away" => nodes.redis.kill(),
            "back" => nodes.redis.restart().await,
            _ => {}
        }
        for ((from, _), socket) in WAYS.into_iter().zip(&mut sockets) {
            let subjects = names(when, 0..10);
            deliver(nodes.node(from), &format!("box-of-{from}@example.com"), &mails(&subjects)).await;
            hears(socket, &subjects, limit).await;
        }
        load.goes_on(when).await;
        load.catches_up(when).await;
    }
    load.ends_well(&nodes.api(1)).await;
    nodes.are_sound().await;
    nodes.stop();
}

/// The same while the database is away, which a node does not know at once: what is refused is sent again.
async fn insist(node: &Process, to: &[&str], mail: &str) {
    let reply = async || {
        let mut smtp = SmtpClient::try_connect(node.smtp).await?;
        let reply = smtp.send("ann@sender.test", to, mail.as_bytes()).await;
        smtp.attempt(b"QUIT\r\n").await;
        Some(reply)
    };
    until("mail is taken for the queue", async || match reply().await {
        Some(reply) if reply.starts_with("250 ") => true,
        Some(reply) => {
            assert!(reply.starts_with('4'), "{reply}");
            false
        }
        None => false,
    })
    .await;
}

/// What one has put into the queues before it was killed, the other stores.
async fn left_by(leaver: usize) {
    let mut nodes = Nodes::start(&VERSIONS, Some(RabbitMq::start()), &[]).await;
    let stays = 1 - leaver;
    for n in 0..2 {
        deliver(nodes.node(n), "first@example.com", &mails(&names(&format!("first {n}"), 0..5))).await;
    }
    until("it is stored", async || nodes.api(stays).subjects("first@example.com").await.len() == 10).await;
    nodes.postgres.kill();
    let subjects = names("left behind", 0..30);
    for mail in mails(&subjects) {
        insist(nodes.node(leaver), &["first@example.com"], &mail).await;
    }
    // This has a queue of its own.
    let large = message("large", &noise(600_000));
    insist(nodes.node(leaver), &["large@example.com"], &large).await;
    insist(nodes.node(leaver), &["one@example.com", "two@example.com"], &message("for both", "text")).await;
    nodes.kill(leaver);
    nodes.postgres.restart().await;
    let api = nodes.api(stays);
    until("the database is back", async || api.get("/v1/mailboxes/first@example.com/messages").await.status == 200)
        .await;
    until("what was left is stored", async || {
        let found = api.subjects("first@example.com").await;
        assert!(found.len() <= 40, "something is there twice: {found:?}");
        found.len() == 40
    })
    .await;
    let found = api.subjects("first@example.com").await;
    assert_eq!(found[..30].iter().rev().collect::<Vec<_>>(), subjects.iter().collect::<Vec<_>>(), "in order");
    until("all of them are stored", async || {
        let mut there = true;
        for (mailbox, subject) in [("large", "large"), ("one", "for both"), ("two", "for both")] {
            there &= api.get(&format!("/v1/mailboxes/{mailbox}@example.com")).await.status == 200
                && api.subjects(&format!("{mailbox}@example.com")).await == [subject];
        }
        there
    })
    .await;
    let list = api.json("/v1/mailboxes/large@example.com/messages").await;
    let id = list["items"][0]["id"].as_str().unwrap();
    let raw = api.get(&format!("/v1/mailboxes/large@example.com/messages/{id}/raw")).await;
    assert!(raw.body.ends_with(large.as_bytes()), "{} bytes", raw.body.len());
    nodes.are_sound().await;
    nodes.stop();
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn what_the_old_one_queued_the_new_one_stores() {
    left_by(0).await;
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn what_the_new_one_queued_the_old_one_stores() {
    left_by(1).await;
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn bodies_that_the_new_one_moves_to_object_storage_the_old_one_reads() {
    moved_by(1).await;
}

/// Bodies move by the command of one version, and are read and let go of by the node of the other.
pub async fn moved_by(mover: usize) {
    let cold = tempfile::tempdir().unwrap();
    let url = format!("file://{}", cold.path().display());
    let settings = [
        ("MAILROOM__COLD__URL", url.as_str()),
        ("MAILROOM__COLD__OBJECT_SIZE", "64KiB"),
        ("MAILROOM__COLD__KEEP", "0s"),
    ];
    let nodes = both(&settings).await;
    let load = Load::start(&nodes.doors()).await;
    let sent: Vec<String> = (0..20).map(|n| message(&format!("number {n}"), &noise(5_000 + n))).collect();
    for n in 0..2 {
        deliver(nodes.node(n), &format!("old-mail-{n}@example.com"), &sent).await;
    }
    load.goes_on("before it moves").await;
    let moved = nodes.run(VERSIONS[mover], &["archive", "--older-than", "0"]);
    assert!(moved.status.success(), "{}", said(&moved));
    for n in 0..2 {
        let mailbox = format!("old-mail-{n}@example.com");
        let stored = "SELECT count(*) FROM bodies JOIN messages USING (id) JOIN mailboxes ON mailboxes.id = mailbox_id \
                      WHERE object IS NOT NULL AND address = ";
        let count = nodes.postgres.sql(super::DATABASE, &format!("{stored}'{mailbox}'"));
        assert_eq!(count.trim(), "20", "all of them moved: {}", said(&moved));
        let path = format!("/v1/mailboxes/{mailbox}/messages");
        let (mover, other) = (nodes.api(mover), nodes.api(1 - mover));
        let list = other.json(&format!("{path}?limit=50")).await;
        for (item, mail) in list["items"].as_array().unwrap().iter().rev().zip(&sent) {
            for api in [&other, &mover] {
                let raw = api.get(&format!("{path}/{}/raw", item["id"].as_str().unwrap())).await;
                assert!(raw.status == 200 && raw.body.ends_with(mail.as_bytes()), "{} {item}", raw.status);
            }
        }
        well(&other.delete(&path).await);
        assert_eq!(mover.subjects(&mailbox).await, [""; 0]);
    }
    load.goes_on("after it moved").await;
    load.ends_well(&nodes.api(0)).await;
    nodes.are_sound().await;
    nodes.stop();
}
