//! What ends goes, in time and for those who watch; its space goes back to the file system; and going costs what goes, not
//! what stays.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mailroom::mail::time::Timestamp;
use mailroom::mail::units::{Bytes, Period};
use mailroom::store::cold::pass::Which;
use mailroom::store::{Deletion, Faults, NewMailbox, Store, StoreError, Ttl};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::store_suite::support::{self as store, Fixture};
use crate::support::servers::Engine;
use crate::support::{Api, Socket, TestServer, message, until};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The clock is the process's: a process of its own for the one that shifts it.
#[test]
fn what_ends_goes_in_time_and_gives_its_space_back() {
    in_a_process_of_its_own("retention::in_shifted_time");
}

#[test]
fn a_clock_that_jumps_ahead_removes_nothing_until_it_has_stayed_so() {
    in_a_process_of_its_own("retention::in_jumping_time");
}

#[test]
fn a_node_whose_clock_is_ahead_of_postgresqls_removes_nothing() {
    in_a_process_with("retention::beside_a_server_of_another_clock", "postgres");
}

#[test]
fn a_node_whose_clock_is_ahead_of_mariadbs_removes_nothing() {
    in_a_process_with("retention::beside_a_server_of_another_clock", "mariadb");
}

fn in_a_process_of_its_own(test: &str) {
    in_a_process_with(test, &std::env::var("MAILROOM_TEST_ENGINE").unwrap_or_default());
}

fn in_a_process_with(test: &str, engine: &str) {
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("MAILROOM_TEST_ENGINE", engine)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    let wrong = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}\n{wrong}");
}

async fn make(server: &TestServer, body: Value) {
    let made = server.api().post("/v1/mailboxes", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

async fn view(server: &TestServer, mailbox: &str) -> Value {
    server.api().json(&format!("/v1/mailboxes/{mailbox}")).await
}

/// Nothing of the mailbox is listed, although retention may not have come yet.
async fn out_of_sight(server: &TestServer, mailbox: &str) {
    assert!(server.api().subjects(mailbox).await.is_empty(), "{mailbox} is out of sight");
}

/// Waits until the mailbox has no messages left, not even ones that are out of sight.
async fn empties(server: &TestServer, mailbox: &str) {
    until(&format!("{mailbox} is empty"), || async {
        let row = view(server, mailbox).await;
        row["messages"] == 0 && row["bytes"] == 0
    })
    .await;
}

#[actix::test]
#[ignore = "shifts the clock of its process: run by the test above"]
async fn in_shifted_time() {
    let server = TestServer::with(|config| {
        config.bodies.segment_size = Bytes::mib(1);
        // Free pages are given back when the writer has had nothing to do for a moment.
        config.mailboxes.expire_every = Period::millis(1_500);
        config.database.queue = 70_000;
        config.search.enabled = false;
    })
    .await;
    let disk = || Disk::of(server.data.path());
    let before = disk();
    make(&server, json!({"address": "day@example.com", "message_ttl": "1d"})).await;
    make(&server, json!({"address": "hour@example.com", "ttl": "1h"})).await;
    make(&server, json!({"address": "longer@example.com", "ttl": "1h"})).await;
    make(&server, json!({"address": "never@example.com", "message_ttl": "never"})).await;
    for to in ["day", "hour", "longer", "mail", "never"] {
        server.deliver(&format!("{to}@example.com"), &message(to, "x")).await;
    }
    fill(&server).await;
    until("the WAL is copied back", || async { disk().database > 12 << 20 }).await;
    let full = disk();
    assert!(full.bodies > 20 << 20, "there is something to give back: {full:?}");

    let longer = server.api().patch("/v1/mailboxes/longer@example.com", json!({"ttl": "30d"})).await;
    assert_eq!(longer.status, 200, "{}", longer.text());
    let mut socket = Socket::connect(server.app.http).await;
    socket.subscribe("day@example.com").await;
    assert_eq!(server.api().subjects("hour@example.com").await, ["hour"]);
    mailroom::clock::shift(HOUR + 2 * MINUTE);
    out_of_sight(&server, "hour@example.com").await;
    until("the mailbox is gone", || async { view(&server, "hour@example.com").await["made_by"].is_null() }).await;
    assert_eq!(server.api().subjects("longer@example.com").await, ["longer"]);
    assert_eq!(server.api().subjects("day@example.com").await, ["day"]);

    mailroom::clock::shift(DAY + 2 * MINUTE);
    out_of_sight(&server, "day@example.com").await;
    let expired = socket.hear().await;
    assert_eq!((&expired["type"], &expired["through_uid"]), (&json!("messages.expired"), &json!(1)), "{expired}");
    empties(&server, "day@example.com").await;
    assert_eq!(view(&server, "day@example.com").await["made_by"], "call", "one made by a call stays");
    assert_eq!(server.api().subjects("mail@example.com").await, ["mail"]);

    mailroom::clock::shift(7 * DAY + 2 * MINUTE);
    for mailbox in ["mail@example.com", "bodies@example.com", "rows@example.com"] {
        out_of_sight(&server, mailbox).await;
        until(&format!("{mailbox} is gone"), || async { view(&server, mailbox).await["made_by"].is_null() }).await;
    }
    empties(&server, "longer@example.com").await;
    assert_eq!(view(&server, "longer@example.com").await["made_by"], "call", "extended by PATCH");
    assert_eq!(server.api().subjects("never@example.com").await, ["never"]);
    until("the space of the bodies is given back", || async { disk().bodies < full.bodies / 8 }).await;
    until("the space of the rows is given back", || async { disk().database < full.database / 2 }).await;
    let after = disk();
    assert!(after.wal < 32 << 20, "{after:?}");
    println!("empty {before:?}, full {full:?}, expired {after:?}");

    mailroom::clock::shift(31 * DAY);
    until("it has ended", || async { view(&server, "longer@example.com").await["made_by"].is_null() }).await;
    assert_eq!(server.api().subjects("never@example.com").await, ["never"]);
    let server = server.restart().await;
    assert_eq!(server.api().subjects("never@example.com").await, ["never"]);
    server.stop().await;
}

#[actix::test]
#[ignore = "moves the clock of its process: run by a test above"]
async fn in_jumping_time() {
    let server = TestServer::with(|config| config.mailboxes.expire_every = Period::millis(100)).await;
    let some_passes = || tokio::time::sleep(Duration::from_millis(300));
    // A pass has looked at the clock since it was moved, however long that takes.
    let sees = async |server: &TestServer, ahead: bool| {
        until("a pass looks at the clock", || async { clock_ahead(server).await == ahead }).await;
        some_passes().await;
    };
    server.deliver("mail@example.com", &message("kept", "x")).await;

    mailroom::clock::jump(8 * DAY);
    sees(&server, true).await;
    mailroom::clock::jump(0);
    assert_eq!(server.api().subjects("mail@example.com").await, ["kept"], "the clock was wrong for a moment");

    // Wrong when the server starts. Another one: a pass that was under way when the clock jumped may have written by it.
    sees(&server, false).await;
    server.stop().await;
    let server = TestServer::with(|config| config.mailboxes.expire_every = Period::millis(100)).await;
    server.deliver("mail@example.com", &message("kept", "x")).await;
    let data = server.stop().await;
    mailroom::clock::jump(8 * DAY);
    let server = TestServer::on(data, |config| config.mailboxes.expire_every = Period::millis(100)).await;
    sees(&server, true).await;
    mailroom::clock::jump(0);
    assert_eq!(server.api().subjects("mail@example.com").await, ["kept"], "the clock was wrong at a start");

    sees(&server, false).await;
    mailroom::clock::jump(8 * DAY);
    sees(&server, true).await;
    assert_eq!(view(&server, "mail@example.com").await["messages"], 1);
    mailroom::clock::shift(HOUR + MINUTE);
    if Engine::chosen() != Engine::Sqlite {
        // The database's own clock is another, and holds.
        some_passes().await;
        sees(&server, true).await;
        assert_eq!(view(&server, "mail@example.com").await["messages"], 1);
        server.stop().await;
        return;
    }
    until("it is gone", || async { view(&server, "mail@example.com").await["made_by"].is_null() }).await;
    server.stop().await;
}

/// Two nodes, one of which has a clock that is eight days ahead.
#[actix::test]
#[ignore = "moves the clock of its process: run by tests above"]
async fn beside_a_server_of_another_clock() {
    let engine = Engine::chosen();
    let cold = tempfile::tempdir().unwrap();
    let f = Fixture::on_with(engine, |config| {
        config.defaults.message_ttl = Some(Duration::from_secs(86_400));
        config.cold.url = format!("file://{}", cold.path().display());
    })
    .await;
    let lasts = |key: &str| NewMailbox {
        key: store::key(key),
        expires_at: Some(store::after(2 * store::DAY)),
        message_ttl: Ttl::Default,
        max_messages: None,
        max_bytes: None,
        when_full: None,
        token_hash: [7; 32],
    };
    f.store.create_mailbox(lasts("made@x")).await.unwrap();
    let told = f.fill("made@x", 2).await;
    f.fill("mail@x", 2).await;
    f.store.delete_messages(&store::key("made@x"), Deletion::One(told[0])).await.unwrap();
    let rows = async || {
        let count = async |table: &str| f.database().sql(&format!("SELECT count(*) FROM {table}")).await;
        (count("messages").await, count("mailboxes").await, count("changes").await, count("commits").await)
    };
    let before = rows().await;
    assert_eq!((before.0.as_str(), before.1.as_str(), before.2.as_str()), ("3", "2", "1"));

    // A node that is started by a wrong clock, and one whose clock goes wrong.
    mailroom::clock::jump(8 * DAY);
    let other = Store::open(&f.config, f.heard.clone(), Faults::default()).await.unwrap();
    assert!(other.status().clock_ahead.unwrap() > 7 * DAY, "it looked when it was opened");
    for node in [&other, &f.store] {
        assert!(node.compare_clocks().await.unwrap().is_some());
        let ahead = node.status().clock_ahead.unwrap();
        assert!((ahead - 8 * DAY).abs() < MINUTE, "{ahead}");
        let now = Timestamp(mailroom::clock::now_micros());
        assert!(!node.expire(now).await.unwrap());
        let moved = node.archive(now, Which::All, &mut |_| {}).await;
        let why = moved.unwrap_err().to_string();
        assert!(why.contains("ahead of the database's"), "{why}");
    }
    assert_eq!(rows().await, before, "nothing that others still show was removed");
    // It shows them, too, and does not end a mailbox because mail comes to it.
    assert_eq!(other.list(&store::request("mail@x", 10)).await.unwrap().items.len(), 2);
    let life = other.mailbox(&store::key("made@x")).await.unwrap().expect("it lasts for two days").id;
    let (mail, answer) = store::incoming(&["made@x"], store::mail(3).as_bytes());
    other.append(mail).map_err(drop).unwrap();
    answer.await.unwrap().unwrap();
    assert!(matches!(other.create_mailbox(lasts("made@x")).await, Err(StoreError::Exists)));
    other.close().await;

    mailroom::clock::jump(0);
    assert_eq!(f.store.compare_clocks().await.unwrap(), None);
    assert_eq!(f.store.mailbox(&store::key("made@x")).await.unwrap().unwrap().id, life);
    assert_eq!(f.list("made@x").await.items.len(), 2);
    let moved = f.store.archive(store::after(1), Which::All, &mut |_| {}).await.unwrap().unwrap();
    assert!(moved.records > 0, "{moved:?}");
    f.tidy(store::after(store::DAY + 120)).await;
    assert!(f.store.mailbox(&store::key("mail@x")).await.unwrap().is_none(), "it goes on by itself");
    f.store.close().await;

    // The whole program says so.
    let server = TestServer::with(|config| config.mailboxes.expire_every = Period::millis(100)).await;
    let health = async || Api::new(server.app.ops).get("/health").await.json();
    assert_eq!(health().await["parts"]["clock"]["ok"], true, "{}", health().await);
    server.deliver("mail@example.com", &message("kept", "x")).await;
    mailroom::clock::jump(8 * DAY);
    until("a pass looks at the clock", || clock_ahead(&server)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let said = health().await;
    assert_eq!((&said["status"], &said["parts"]["clock"]["ok"]), (&json!("degraded"), &json!(false)), "{said}");
    assert!(said["parts"]["clock"]["trouble"].as_str().unwrap().contains("ahead of the database's"), "{said}");
    assert_eq!(server.api().subjects("mail@example.com").await, ["kept"]);
    // However long it stays so.
    mailroom::clock::shift(HOUR + MINUTE);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(view(&server, "mail@example.com").await["messages"], 1);
    mailroom::clock::jump(0);
    until("it is well", async || health().await["parts"]["clock"]["ok"] == true).await;
    until("a pass looks at the clock", async || !clock_ahead(&server).await).await;
    mailroom::clock::jump(-DAY / 2);
    until("it is said", async || health().await["parts"]["clock"]["ok"] == false).await;
    assert!(!clock_ahead(&server).await, "what is behind ends nothing early");
    server.stop().await;
}

/// Whether retention holds the clock to be ahead of the time that passed.
async fn clock_ahead(server: &TestServer) -> bool {
    let text = Api::new(server.app.ops).get("/metrics").await.text();
    let value = text.lines().find_map(|line| line.strip_prefix("retention_clock_ahead_seconds ")?.parse::<f64>().ok());
    value.is_some_and(|seconds| seconds > 0.0)
}

/// Bytes that lie in the data directory.
#[derive(Debug)]
struct Disk {
    bodies: u64,
    database: u64,
    wal: u64,
}

impl Disk {
    fn of(data: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let blocks = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.blocks() * 512);
        let bodies = data.join("bodies").read_dir().unwrap().map(|entry| blocks(&entry.unwrap().path())).sum();
        Self { bodies, database: blocks(&data.join("mailroom.db")), wal: blocks(&data.join("mailroom.db-wal")) }
    }
}

/// Large bodies that do not compress, and many rows.
async fn fill(server: &TestServer) {
    let mut rng = StdRng::seed_from_u64(3);
    for n in 0..250 {
        let mut raw = format!("Subject: {n}\r\nContent-Type: application/octet-stream\r\n\r\n").into_bytes();
        raw.extend((0..100_000).map(|_| rng.random_range(b' '..=b'~')));
        // One at a time, so that segments are no larger than they need to be.
        put(server, "bodies@example.com", &raw).await.unwrap().unwrap();
    }
    let mut waiting = Vec::new();
    for n in 0..50_000 {
        waiting.push(put(
            server,
            "rows@example.com",
            format!("Subject: {n} {}\r\n\r\n", "long ".repeat(80)).as_bytes(),
        ));
    }
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
}

type Answer = tokio::sync::oneshot::Receiver<Result<(), mailroom::store::WriteFailed>>;

fn put(server: &TestServer, to: &str, raw: &[u8]) -> Answer {
    let (incoming, answer) = store::incoming(&[to], raw);
    server.app.store.append(incoming).map_err(drop).expect("the queue is long enough");
    answer
}

/// How long retention takes for 500 messages while `live` others are there: half of them behind them in their mailbox,
/// half in other mailboxes. The median of several.
async fn cost(live: usize) -> Duration {
    const ROUNDS: i64 = 7;
    let ttl = Duration::from_secs(7 * 86_400);
    let f = Fixture::with(|config| {
        config.defaults.message_ttl = Some(ttl);
        config.database.queue = 1_000_000;
        // The index follows by itself: it would only compete for the time that is measured.
        config.search.enabled = false;
    })
    .await;
    let now = mailroom::clock::now_micros();
    let mut waiting = Vec::new();
    let mut put = |to: &str, received_at: i64| {
        let (mut incoming, answer) = store::incoming(&[to], store::mail(waiting.len()).as_bytes());
        incoming.received_at = Timestamp(received_at);
        f.store.append(incoming).map_err(drop).unwrap();
        waiting.push(answer);
    };
    for round in 0..ROUNDS {
        (0..500).for_each(|_| put("some@x", now - 6 * DAY + round * HOUR));
    }
    (0..live / 2).for_each(|_| put("some@x", now));
    (0..live / 2).for_each(|n| put(&format!("{}@x", n % (live / 20)), now));
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        while f.store.expire(Timestamp(now + DAY + round * HOUR + 2 * MINUTE)).await.unwrap() {}
        times.push(began.elapsed());
        let left = f.store.mailbox(&store::key("some@x")).await.unwrap().unwrap().messages;
        assert_eq!(left, (live / 2) as u64 + 500 * (ROUNDS - 1 - round).unsigned_abs());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn expiry_costs_what_expires_not_what_is_stored() {
    // What grew with what is stored would do so each time; a machine that is busy with something else does not.
    for last in [false, false, true] {
        let few = cost(1_000).await;
        let many = cost(100_000).await;
        println!("500 of 1,000: {few:?}; 500 of 100,000: {many:?}");
        if many < 4 * few + Duration::from_millis(20) {
            return;
        }
        assert!(!last, "{few:?} beside 1,000, {many:?} beside 100,000");
    }
}

#[actix::test]
async fn room_is_made_by_deleting_and_by_a_call() {
    let server = TestServer::start().await;
    make(&server, json!({"address": "few@example.com", "max_messages": 2})).await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    for n in 0..2 {
        server.deliver("few@example.com", &message(&n.to_string(), "x")).await;
    }
    let path = "/v1/mailboxes/few@example.com";
    let list = server.api().json(&format!("{path}/messages")).await;
    let id = list["items"][0]["id"].as_str().unwrap();
    assert_eq!(server.api().delete(&format!("{path}/messages/{id}")).await.status, 204);
    server.deliver("few@example.com", &message("2", "x")).await;
    let reply = smtp.send("ann@sender.test", &["few@example.com"], message("3", "x").as_bytes()).await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    assert_eq!(server.api().patch(path, json!({"max_messages": 3})).await.status, 200);
    server.deliver("few@example.com", &message("3", "x")).await;
    assert_eq!(server.api().subjects("few@example.com").await, ["3", "2", "0"]);
}

#[actix::test]
async fn a_mailbox_that_drops_its_oldest_takes_all_and_says_what_went() {
    let server = TestServer::start().await;
    make(&server, json!({"address": "last@example.com", "max_messages": 3, "when_full": "drop_oldest"})).await;
    let mut socket = Socket::connect(server.app.http).await;
    socket.subscribe("last@example.com").await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    for n in 0..6 {
        let reply = smtp.send("ann@sender.test", &["last@example.com"], message(&n.to_string(), "x").as_bytes()).await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }
    assert_eq!(server.api().subjects("last@example.com").await, ["5", "4", "3"]);
    let mut there = Vec::new();
    while there.last().is_none_or(|(_, subject)| subject != "5") || there.len() > 3 {
        let event = socket.hear().await;
        match event["type"].as_str().unwrap() {
            "message.received" => {
                let message = &event["message"];
                there.push((message["uid"].as_u64().unwrap(), message["subject"].as_str().unwrap().to_owned()));
            }
            "messages.expired" => there.retain(|(uid, _)| *uid > event["through_uid"].as_u64().unwrap()),
            other => panic!("{other}: {event}"),
        }
    }
    assert_eq!(there.iter().map(|(_, subject)| subject.as_str()).collect::<Vec<_>>(), ["3", "4", "5"]);
}
