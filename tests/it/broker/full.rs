//! A database that answers and stores nothing: it is full, or something is wrong with it that nobody foresaw.

use std::path::Path;

use futures_util::StreamExt;

use super::*;
use crate::support::servers::Postgres;

/// An empty commit fits, a body does not: what a full disk says.
const FULL: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file: \
    No space left on device' USING ERRCODE = '53100'; END $$; \
    CREATE TRIGGER refuse BEFORE INSERT ON bodies FOR EACH ROW EXECUTE FUNCTION refuse()";
/// Bodies fit, and a probe with them; no message is taken.
const STRANGE: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$; \
    CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse()";
const WELL: &str = "DROP FUNCTION refuse CASCADE";
/// Bodies of more than 100 kB do not fit.
const NARROW: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF length(NEW.contents) > 100000 THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END IF; \
    RETURN NEW; END $$; \
    CREATE TRIGGER refuse BEFORE INSERT ON bodies FOR EACH ROW EXECUTE FUNCTION refuse()";

/// A server with a database that refuses from now on as `how` says, one message before.
async fn refusing(how: &str) -> (TestServer, Postgres, Queues) {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE mail");
    let (url, database) = (shared().fresh(), postgres.url("mail"));
    let server = server(&url, |config| {
        config.database.url = database;
        config.broker.delivery_limit = 1;
    })
    .await;
    assert!(send(server.smtp_address(), &["a@example.com"], "0").await.starts_with("250 "));
    has(&server.api(), "a@example.com", &["0".into()]).await;
    postgres.sql("mail", how);
    (server, postgres, Queues::of(&url).await)
}

/// Sends sixty while nothing is stored, and lets the database be well again: all of them are there, in order.
async fn survives(how: &str) {
    let (server, postgres, queues) = refusing(how).await;
    let mut sent = vec!["0".to_owned()];
    for n in 1..60 {
        assert!(send(server.smtp_address(), &["a@example.com"], &n.to_string()).await.starts_with("250 "), "{n}");
        sent.push(n.to_string());
    }
    until("the database counts as away", async || status(&server).database_away).await;
    // Longer than the pause before the only failure that is allowed would count, and several trials.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(all_subjects(&server.api(), "a@example.com").await, ["0"]);
    assert_eq!(queues.dead().await, 0, "none of them failed by itself");
    postgres.sql("mail", WELL);
    has(&server.api(), "a@example.com", &sent).await;
    until("nothing is left", async || queues.waiting().await == 0).await;
    assert_eq!(queues.dead().await, 0);
    server.stop().await;
}

#[actix::test]
async fn a_full_database_makes_no_dead_letters() {
    survives(FULL).await;
}

#[actix::test]
async fn a_database_that_stores_nothing_for_another_reason_makes_no_dead_letters() {
    survives(STRANGE).await;
}

#[actix::test]
async fn what_is_too_large_for_what_is_left_waits_for_room() {
    let (server, postgres, queues) = refusing(NARROW).await;
    let noise = noise(200_000);
    server.deliver("a@example.com", &message("large", &noise)).await;
    until("the database counts as away", async || status(&server).database_away).await;
    // A probe of the usual size would pass.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(status(&server).database_away, "it is probed with as much as did not fit");
    assert_eq!(queues.dead().await, 0);
    postgres.sql("mail", WELL);
    has(&server.api(), "a@example.com", &["0".into(), "large".into()]).await;
    server.stop().await;
}

/// What a node had in hand when it was killed comes again, however often.
#[actix::test]
async fn a_node_that_crashes_again_and_again_makes_no_dead_letters() {
    let url = shared().fresh();
    let queues = Queues::of(&url).await;
    let dir = tempfile::tempdir().unwrap();
    make_queues(&url, dir.path()).await;
    let (mailbox, mut sent) = ("a@example.com", Vec::new());
    for n in 0..20 {
        let subject = n.to_string();
        queues.put(super::dead::mail(&subject, &[(mailbox, true)])).await;
        sent.push(subject);
    }
    let queue = queues.names.of(&mailroom::mail::address::MailboxKey::from_stored(mailbox), 0);
    // A consumer that is gone without a word, three times as often as a failure is allowed.
    for _ in 0..6 {
        let lost = Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = lost.create_channel().await.unwrap();
        let (options, arguments) =
            (lapin::options::BasicConsumeOptions::default(), lapin::types::FieldTable::default());
        let mut consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, arguments).await.unwrap();
        for _ in 0..sent.len() {
            consumer.next().await.expect("all of them are there").unwrap();
        }
        lost.close(320, "killed".into()).await.unwrap();
        until("they are back", async || queues.waiting().await == 20).await;
    }
    let server = server(&url, |config| config.broker.delivery_limit = 2).await;
    has(&server.api(), mailbox, &sent).await;
    assert_eq!(queues.dead().await, 0);
    server.stop().await;
}

/// The queues as a server makes them, and nobody who takes from them.
async fn make_queues(url: &str, data: &Path) {
    let (url, data) = (url.to_owned(), tempfile::tempdir_in(data).unwrap());
    let first = TestServer::on(data, |config| {
        config.broker.url = url;
        config.broker.delivery_limit = 2;
    })
    .await;
    ready(&first).await;
    first.stop().await;
}
