//! What a newer version of the program left in the database: this one goes on beside what was added, and leaves alone what it
//! cannot understand. Real older programs meet this one in [`crate::upgrade`].

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailroom::mail::cursor::{Cursor, StreamCursor};
use mailroom::mail::query::Query;
use mailroom::mail::units::Period;
use mailroom::store::{Config, Deletion, Faults, Replay, Store};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::search::indexed;
use crate::store_suite::support::{Engine, Fixture, Heard, after, key, mail, request};
use crate::support::servers::everywhere;

everywhere! {
    tables_with_additions_of_a_newer_version_are_used
    tables_that_need_a_newer_version_are_left_alone
    a_kind_of_change_of_a_newer_version_is_passed_over
}

/// What a migration of a newer version may do: add what may be absent.
const ADDED: [&str; 6] = [
    "CREATE TABLE added (id BIGINT PRIMARY KEY, text VARCHAR(20) NOT NULL)",
    "ALTER TABLE mailboxes ADD COLUMN added BIGINT",
    "ALTER TABLE messages ADD COLUMN added BIGINT NOT NULL DEFAULT 7",
    "ALTER TABLE changes ADD COLUMN added VARCHAR(20)",
    "ALTER TABLE meta ADD COLUMN added BIGINT NOT NULL DEFAULT 7",
    "INSERT INTO seaql_migrations VALUES ('m9001_added', 1)",
];

async fn change(f: &Fixture, statements: &[&str]) {
    for statement in statements {
        f.database().sql(statement).await;
    }
}

async fn tables_with_additions_of_a_newer_version_are_used(engine: Engine) {
    let few = |config: &mut Config| {
        // Few, so that statements are asked again over the connection that has prepared them.
        config.database.read_connections = 2;
        config.search.enabled = true;
    };
    let mut f = Fixture::on_with(engine, few).await;
    f.fill("a@x", 10).await;
    f.store.delete_messages(&key("a@x"), Deletion::One(f.list("a@x").await.items[0].id)).await.unwrap();
    reads(&f, 9).await;
    // Beside a store that is in use, as by the first node that is replaced.
    change(&f, &ADDED).await;
    reads(&f, 9).await;
    for round in 0..2 {
        let ids = f.fill("a@x", 10).await;
        f.put(&["a@x", "b@x"], mail(3).as_bytes()).await.unwrap();
        assert_eq!(f.raw("a@x", ids[3]).await, mail(3).as_bytes());
        f.store.delete_messages(&key("a@x"), Deletion::One(ids[5])).await.unwrap();
        reads(&f, 9 + 10 * (round + 1)).await;
        // And for those who begin again, or came back from it.
        f.restart().await;
    }
    f.store.delete_messages(&key("b@x"), Deletion::All).await.unwrap();
    f.tidy(after(1)).await;
    f.store.close().await;
    let done = mailroom(&f, "migrate");
    assert!(done.0 == Some(0) && done.1.contains("and more, of a newer version: m9001_added"), "{done:?}");
    assert_eq!(mailroom(&f, "check").0, Some(0));
}

/// All ways to read, of so many messages.
async fn reads(f: &Fixture, messages: usize) {
    match f.store.replay_all(StreamCursor::default(), 1_000).await.unwrap() {
        Replay::Page { events, head: true, .. } => assert!(events.len() > messages, "{} events", events.len()),
        other => panic!("{other:?}"),
    }
    f.replay("a@x", Cursor::default(), 100).await.unwrap();
    indexed(&f.store).await;
    let mut request = request("a@x", 10);
    request.query = Some(Query::parse("\"number 3\"").unwrap());
    assert!(!f.store.list(&request).await.unwrap().items.is_empty());
    assert_eq!(f.uids("a@x").await.len(), messages);
    assert_eq!(f.store.mailbox(&key("a@x")).await.unwrap().unwrap().messages, messages as u64);
}

async fn tables_that_need_a_newer_version_are_left_alone(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    f.fill("a@x", 3).await;
    f.store.close().await;
    change(&f, &ADDED).await;
    change(&f, &["INSERT INTO seaql_migrations VALUES ('m9002_needs_m0001_less', 1)"]).await;
    f.open().await;
    assert_eq!(f.uids("a@x").await.len(), 3, "what it needs is known here");
    f.store.close().await;
    change(&f, &["INSERT INTO seaql_migrations VALUES ('m9003_needs_m9001_less', 1)"]).await;
    // With another lifetime, which a start would write down.
    f.config.defaults.message_ttl = Some(Period::secs(77).0);
    let Err(refused) = Store::open(&f.config, Arc::new(Heard::default()), Faults::default()).await else {
        panic!("it opens what it does not understand");
    };
    let text = refused.to_string();
    assert!(text.contains("run the newer version") && text.contains("m9003_needs_m9001_less"), "{text}");
    let (code, said) = mailroom(&f, "migrate");
    assert!(code.is_some_and(|code| code > 0) && said.contains("run the newer version"), "{code:?} {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    change(&f, &["DELETE FROM seaql_migrations WHERE version LIKE 'm9003%'"]).await;
    f.open().await;
    assert_eq!(f.uids("a@x").await.len(), 3);
    f.store.close().await;
}

async fn a_kind_of_change_of_a_newer_version_is_passed_over(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    f.fill("a@x", 3).await;
    f.store.close().await;
    change(
        &f,
        &[
            "INSERT INTO changes (mailbox_id, modseq, stamp, kind, uid, incarnation) \
             SELECT id, 4, 1, 99, 2, incarnation FROM mailboxes WHERE address = 'a@x'",
            "UPDATE mailboxes SET modseq = 4 WHERE address = 'a@x'",
        ],
    )
    .await;
    f.open().await;
    f.put(&["a@x"], mail(5).as_bytes()).await.unwrap();
    let all = f.replay("a@x", Cursor::default(), 2).await.unwrap();
    assert_eq!(all, ["1 received", "2 received", "3 received", "5 received"]);
    let behind = Cursor { modseq: 3, ..f.cursor("a@x").await };
    assert_eq!(f.replay("a@x", behind, 1).await.unwrap(), ["5 received"]);
    f.store.close().await;
}

/// What waits for a table keeps out who comes after; on PostgreSQL a migration is taken back instead, and tried again.
#[tokio::test]
async fn a_migration_waits_for_who_uses_its_tables_and_holds_up_nobody() {
    let mut f = Fixture::on(Engine::Postgres).await;
    let ids = f.fill("a@x", 10).await;
    f.store.close().await;
    change(
        &f,
        &[
            "ALTER TABLE bodies DROP COLUMN object, DROP COLUMN object_offset, DROP COLUMN object_length",
            "DROP TABLE objects",
            "DROP TABLE secrets",
            "DELETE FROM seaql_migrations WHERE version > 'm0003'",
        ],
    )
    .await;
    let connect = async || sea_orm::Database::connect(&f.config.database.url).await.unwrap();
    let (user, other) = (connect().await, connect().await);
    let busy = user.begin().await.unwrap();
    busy.execute_unprepared("SELECT count(*) FROM bodies").await.unwrap();
    let migrating = {
        let (data, url) = (f.dir.path().to_owned(), f.config.database.url.clone());
        tokio::task::spawn_blocking(move || command(&data, Some(&url), "migrate"))
    };
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(6) {
        let asked = Instant::now();
        other.execute_unprepared("SELECT count(*) FROM bodies").await.unwrap();
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(longest > Duration::from_millis(500), "it never waited: {longest:?}");
    assert!(longest < Duration::from_secs(4), "it kept others out: {longest:?}");
    assert!(!migrating.is_finished());
    busy.commit().await.unwrap();
    let (code, said) = migrating.await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    f.open().await;
    assert_eq!(f.raw("a@x", ids[7]).await, mail(7).as_bytes());
    f.store.close().await;
}

/// A command on the database of a fixture whose store is closed: how it ended, and what it said.
fn mailroom(f: &Fixture, word: &str) -> (Option<i32>, String) {
    let url = (f.engine != Engine::Sqlite).then_some(f.config.database.url.as_str());
    command(f.dir.path(), url, word)
}

fn command(data: &Path, url: Option<&str>, word: &str) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    program.arg(word).arg("--data").arg(data);
    if let Some(url) = url {
        program.arg("--database").arg(url);
    }
    let done = program.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code(), text)
}
