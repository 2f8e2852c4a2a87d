//! `mailroom check`: nothing to say of a sound store whatever it went through, and each kind of damage by its name.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mailroom::mail::id::DeliveryId;
use mailroom::mail::time::Timestamp;
use mailroom::mail::units::Bytes;
use mailroom::store::check::{Finding, Severity, Summary, Watch, check};
use mailroom::store::{Config, Deletion, MailboxPatch, MessagePatch, NewMailbox, Ttl};
use sea_orm::ConnectionTrait;

use crate::store_suite::support::{Fixture, key, mail};

#[derive(Default)]
pub struct Found(Vec<Finding>);

impl Watch for Found {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }

    fn progress(&mut self, done: u64, of: u64) {
        assert!(done <= of);
    }
}

/// Runs a check on a thread of its own, as a process would.
pub async fn look(config: &Config) -> (Summary, Vec<Finding>) {
    let config = config.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let mut found = Found::default();
        let summary = check(&config, &mut found).unwrap();
        (summary, found.0)
    });
    looked.await.unwrap()
}

fn damages(found: &[Finding]) -> Vec<String> {
    found.iter().filter(|finding| finding.severity == Severity::Damage).map(ToString::to_string).collect()
}

/// A store with three messages in small segments, closed.
async fn three() -> (Fixture, Vec<DeliveryId>) {
    let fixture = Fixture::with(|config| {
        config.bodies.segment_size = Bytes(1);
        config.defaults.message_ttl = Some(Duration::from_secs(3_600));
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fixture.put(&["a@x.test", "b@x.test"], mail(n).as_bytes()).await.unwrap());
    }
    fixture.store.close().await;
    (fixture, ids)
}

fn segment(fixture: &Fixture, number: i64) -> PathBuf {
    fixture.bodies().join(format!("{number:08}.seg"))
}

async fn alter(fixture: &Fixture, sql: &str) {
    let path = fixture.dir.path().join("mailroom.db");
    let db = sea_orm::Database::connect(format!("sqlite://{}", path.display())).await.unwrap();
    assert!(db.execute_unprepared(sql).await.unwrap().rows_affected() > 0, "{sql}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_store_in_use_is_sound_after_all_that_can_happen() {
    let fixture = Fixture::with(|config| {
        config.bodies.segment_size = Bytes::kib(4);
        config.bodies.compact_below = 90;
        config.defaults.message_ttl = Some(Duration::from_secs(3_600));
    })
    .await;
    let store = &fixture.store;
    let new = |address: &str, max_messages| NewMailbox {
        key: key(address),
        expires_at: None,
        message_ttl: Ttl::Never,
        max_messages,
        max_bytes: None,
        when_full: Some(mailroom::store::WhenFull::DropOldest),
        token_hash: [address.as_bytes()[0]; 32],
    };
    store.create_mailbox(new("few@x.test", Some(3))).await.unwrap();
    store.create_mailbox(new("made@x.test", None)).await.unwrap();
    store.create_mailbox(new("empty@x.test", None)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..40 {
        let to = ["few@x.test", "made@x.test", "mail@x.test", "gone@x.test", "brief@x.test"];
        ids.push(fixture.put(&to[n % 3..], mail(n).as_bytes()).await.unwrap());
    }
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| n % 4 == 0) {
        let patch = MessagePatch { is_read: Some(true), tags: Some(vec![format!("t{n}")]) };
        let mine = key("mail@x.test");
        store.update_message(&mine, *id, patch).await.unwrap();
        store.update_message(&mine, *id, MessagePatch { is_read: Some(false), tags: None }).await.unwrap();
        store.delete_messages(&mine, Deletion::One(*id)).await.unwrap();
    }
    store.delete_mailbox(&key("gone@x.test")).await.unwrap();
    let brief = MailboxPatch { message_ttl: Some(Ttl::After(Duration::from_millis(1))), ..Default::default() };
    store.alter_mailbox(&key("brief@x.test"), brief).await.unwrap();
    let (summary, found) = look(&fixture.config).await;
    assert_eq!(found, [], "before retention");
    assert_eq!(summary.whole, summary.messages);
    while store.expire(Timestamp(mailroom::clock::now_micros() + 120_000_000)).await.unwrap() {}
    while store.compact().await.unwrap() {}
    let (summary, found) = look(&fixture.config).await;
    assert_eq!(found, [], "after it");
    assert!(summary.messages > 20 && summary.whole == summary.messages && summary.damaged == 0, "{summary:?}");
    store.delete_messages(&key("made@x.test"), Deletion::All).await.unwrap();
    store.close().await;
    assert_eq!(look(&fixture.config).await.1, [], "when stopped");
}

#[tokio::test]
async fn a_changed_byte_anywhere_in_a_record_is_that_message_s_damage() {
    let (fixture, ids) = three().await;
    let path = segment(&fixture, 2);
    let whole = std::fs::read(&path).unwrap();
    for at in 32..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (summary, found) = look(&fixture.config).await;
        assert_eq!((summary.messages, summary.whole, summary.damaged), (6, 4, 2), "byte {at}");
        for (finding, address) in found.iter().zip(["a@x.test", "b@x.test"]) {
            assert_eq!(finding.mailbox.as_deref(), Some(address));
            assert_eq!((finding.uid, finding.id), (Some(2), Some(ids[1].0)));
            assert_eq!((finding.segment, finding.offset), (Some(2), Some(32)));
        }
    }
}

#[tokio::test]
async fn a_cut_segment_and_a_missing_one_are_named_with_their_messages() {
    let (fixture, ids) = three().await;
    let path = segment(&fixture, 3);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (summary, found) = look(&fixture.config).await;
    assert_eq!(summary.whole, 4);
    assert_eq!(found.iter().filter(|finding| finding.id == Some(ids[2].0)).count(), 2);
    assert!(damages(&found).iter().any(|line| line.contains("segment 3: its file has")), "{found:?}");

    std::fs::remove_file(&path).unwrap();
    let (summary, found) = look(&fixture.config).await;
    assert_eq!(summary.whole, 4);
    assert!(damages(&found).iter().any(|line| line.contains("the segment file is missing")), "{found:?}");
    assert!(damages(&found).iter().any(|line| line.contains("segment 3: its file cannot be opened")), "{found:?}");
}

#[tokio::test]
async fn wrong_numbers_in_the_database_are_named() {
    for (sql, expected) in [
        ("UPDATE mailboxes SET modseq = 1 WHERE address = 'a@x.test'", "its counter is 1, below its highest uid 3"),
        ("UPDATE mailboxes SET modseq = 9 WHERE address = 'a@x.test'", "what happened at 4 to 9 of its counter"),
        ("UPDATE mailboxes SET messages = 7 WHERE address = 'a@x.test'", "it says that it has 7 messages and has 3"),
        (
            "UPDATE mailboxes SET unread = 2 WHERE address = 'a@x.test'",
            "it says that it has 2 unread messages and has 3",
        ),
        ("UPDATE mailboxes SET bytes = bytes - 1 WHERE address = 'a@x.test'", "bytes and has"),
        ("UPDATE mailboxes SET due = due + 60000000 WHERE address = 'a@x.test'", "retention comes too late"),
        ("UPDATE mailboxes SET due = NULL WHERE address = 'a@x.test'", "retention comes too late"),
        ("DELETE FROM messages WHERE uid = 2 AND mailbox_id = 1", "what happened at 2 to 2 of its counter"),
        ("DELETE FROM mailboxes WHERE address = 'a@x.test'", "it has 3 messages and no row"),
        ("UPDATE segments SET live = live + 1 WHERE number = 1", "of it are needed, and"),
        ("UPDATE segments SET total = 1 WHERE number = 1", "it says that it ever held 1 bytes"),
        ("UPDATE segments SET committed = committed - 1 WHERE number = 3", "beyond the segment's committed end"),
        ("DELETE FROM segments WHERE number = 1", "the database does not know its segment"),
        ("UPDATE messages SET offset = offset + 1 WHERE uid = 1 AND mailbox_id = 1", "message"),
        ("UPDATE messages SET size = size + 1 WHERE uid = 1 AND mailbox_id = 1", "the list says"),
        ("UPDATE messages SET segment = 2 WHERE uid = 1 AND mailbox_id = 1", "its place holds another message"),
        ("UPDATE messages SET mailbox_id = 9, uid = 1 WHERE uid = 1 AND mailbox_id = 1", "#9"),
        ("UPDATE mailboxes SET address = 'c@x.test' WHERE address = 'a@x.test'", "its body was delivered to a@x.test"),
        ("UPDATE meta SET stamp = 5", "the last stamp given is 5"),
    ] {
        let (fixture, _) = three().await;
        assert_eq!(look(&fixture.config).await.1, []);
        alter(&fixture, sql).await;
        let (summary, found) = look(&fixture.config).await;
        assert!(damages(&found).iter().any(|line| line.contains(expected)), "{sql}: {found:?}");
        assert!(summary.damaged > 0);
    }
}

#[tokio::test]
async fn files_that_nobody_needs_and_bytes_that_nobody_answered_are_told() {
    let (fixture, _) = three().await;
    let end = std::fs::metadata(segment(&fixture, 3)).unwrap().len();
    let active = std::fs::File::options().write(true).open(segment(&fixture, 3)).unwrap();
    active.write_all_at(b"half a record", end).unwrap();
    std::fs::copy(segment(&fixture, 1), segment(&fixture, 4)).unwrap();
    let (summary, found) = look(&fixture.config).await;
    assert_eq!(summary.damaged, 0, "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
    std::fs::copy(segment(&fixture, 1), segment(&fixture, 0)).unwrap();
    let (summary, found) = look(&fixture.config).await;
    assert_eq!((summary.damaged, found.len()), (1, 3), "{found:?}");
}

#[tokio::test]
async fn a_damaged_search_index_is_told_apart_from_mail() {
    let (fixture, _) = three().await;
    std::fs::write(fixture.dir.path().join("search.db"), b"something else".repeat(1_000)).unwrap();
    let (summary, found) = look(&fixture.config).await;
    assert_eq!((summary.whole, summary.damaged), (6, 1));
    assert!(found[0].why.contains("it holds no mail"), "{found:?}");
}

#[tokio::test]
async fn the_command_says_it_in_lines_and_ends_with_1() {
    let (fixture, ids) = three().await;
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
        command.arg("check").arg("--data").arg(fixture.dir.path()).args(more).output().unwrap()
    };
    let sound = run(&[]);
    assert_eq!(sound.status.code(), Some(0));
    let said = String::from_utf8(sound.stdout).unwrap();
    assert!(said.starts_with("6 of 6 messages are whole; 2 mailboxes, 3 segments"), "{said}");
    let damaged = std::fs::File::options().write(true).open(segment(&fixture, 2)).unwrap();
    let end = damaged.metadata().unwrap().len();
    damaged.write_all_at(b"#", end - 3).unwrap();
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!("damaged: mailbox a@x.test, uid 2, message {}, segment 2, offset 32: ", ids[1]);
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("4 of 6 messages are whole"), "{said}");
    let json = run(&["--json"]);
    assert_eq!(json.status.code(), Some(1));
    let lines = String::from_utf8(json.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["summary"]["whole"], 4);
    let nowhere =
        Command::new(env!("CARGO_BIN_EXE_mailroom")).args(["check", "--data", "/nonexistent"]).output().unwrap();
    assert!(nowhere.status.code().unwrap() > 1);
}
