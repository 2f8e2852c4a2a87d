//! What a bucket may do to its reader, and in which order nodes may do things to one object.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use entity::object;
use sea_orm::EntityTrait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::waiting::{Hot, Position};
use super::*;
use crate::mail::address::MailboxKey;
use crate::mail::time::Timestamp;
use crate::mail::units::Period;
use crate::store::compaction::tests::{Deaf, put};
use crate::store::writer::requests::{Cold as Change, Placed, Request, Unneeded};
use crate::store::{Config, Deletion, Faults, Store, StoreError};

const ENDLESS: u64 = 10_000_000_000;

/// A server that answers every request with this head, and then for as long as somebody listens; how much it sent.
async fn talkative(head: &'static str) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let sent = counted.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 8 << 10]).await;
                let mut said = socket.write_all(head.as_bytes()).await;
                while said.is_ok() && sent.fetch_add(64 << 10, Ordering::Relaxed) < ENDLESS {
                    said = socket.write_all(&[b'x'; 64 << 10]).await;
                }
            });
        }
    });
    (endpoint, sent)
}

fn bucket(endpoint: String) -> Cold {
    let config = ColdConfig {
        url: "s3://mail".into(),
        endpoint,
        access_key_id: "test".into(),
        secret_access_key: serde_json::from_str("\"secret\"").unwrap(),
        timeout: Period::secs(5),
        ..ColdConfig::default()
    };
    Cold::open(&config).unwrap().unwrap()
}

/// What sockets and chunks hold, far below what was offered.
const MOST: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_than_was_asked_for() {
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Length: 10000000000\r\nContent-Range: bytes 0-999/10000000000\r\n\
                ETag: \"a\"\r\nLast-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n";
    let (endpoint, sent) = talkative(head).await;
    let read = bucket(endpoint).read("a", 0..1_000).await;
    assert!(matches!(read, Err(ColdError::Broken(_))), "{read:?}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < MOST, "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_object_is_not_larger_than_its_row_says() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\nETag: \"a\"\r\n\
                Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n";
    let (endpoint, sent) = talkative(head).await;
    let read = bucket(endpoint).whole("a", 100_000).await;
    assert!(matches!(read, Err(ColdError::Broken(_))), "{read:?}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < MOST, "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_error_only_the_beginning_is_kept() {
    for head in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 10000000000\r\n\r\n",
        // More than there is memory anywhere.
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 9000000000000000000\r\n\r\n",
    ] {
        let (endpoint, sent) = talkative(head).await;
        let read = bucket(endpoint).read("a", 0..1_000).await;
        let Err(ColdError::Away(why)) = read else { panic!("{read:?}") };
        assert!(why.contains("403") && why.len() < 20 << 10, "{} bytes: {:.200}", why.len(), why);
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < MOST, "{sent}");
    }
}

#[tokio::test]
async fn of_a_file_no_more_is_read_than_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let cold = Cold::open(&ColdConfig { url, ..ColdConfig::default() }).unwrap().unwrap();
    std::fs::write(dir.path().join("a"), b"0123456789").unwrap();
    assert_eq!(cold.read("a", 2..5).await.unwrap(), b"234"[..]);
    assert!(matches!(cold.read("a", 8..12).await, Err(ColdError::Broken(_))));
    assert_eq!(cold.whole("a", 10).await.unwrap(), b"0123456789"[..]);
    assert_eq!(cold.whole("a", 11).await.unwrap().len(), 10, "what is missing is told of each record");
    assert!(matches!(cold.whole("a", 9).await, Err(ColdError::Broken(_))));
    assert!(matches!(cold.whole("b", 9).await, Err(ColdError::Missing(_))));
}

/// A store with messages that wait to move.
struct World {
    store: Store,
    _dir: tempfile::TempDir,
}

impl World {
    async fn with(messages: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { data: dir.path().to_owned(), ..Config::default() };
        config.cold.url = format!("file://{}", dir.path().join("cold").display());
        let store = Store::open(&config, Arc::new(Deaf), Faults::default()).await.unwrap();
        let world = Self { store, _dir: dir };
        for nth in 1..=messages {
            put(&world.store, nth.into()).await;
        }
        world
    }

    async fn ask(&self, change: Change) -> Result<i64, StoreError> {
        self.store.ask(|reply| Request::Cold(change, reply)).await
    }

    async fn begin(&self) -> i64 {
        self.ask(Change::Begin { name: "l/o.mail".into() }).await.unwrap()
    }

    async fn place(&self, number: i64) -> Result<i64, StoreError> {
        let hot = Hot { db: &self.store.inner.read, bodies: &self.store.inner.bodies };
        let waiting = hot.next(&mut Position::default(), Timestamp(i64::MAX), 1 << 30).await.unwrap();
        let place = |waiting: super::waiting::Waiting| Placed { id: waiting.id, from: waiting.from, offset: 32 };
        let records = waiting.into_iter().map(place).collect();
        self.ask(Change::Place { number, bytes: 5_000, records }).await
    }

    async fn bury(&self, number: i64, when: Unneeded) -> i64 {
        self.ask(Change::Bury { number, when }).await.unwrap()
    }

    async fn row(&self, number: i64) -> object::Model {
        object::Entity::find_by_id(number).one(&self.store.inner.read).await.unwrap().unwrap()
    }

    async fn empty(&self) {
        self.store.delete_messages(&MailboxKey::from_stored("a@x"), Deletion::All).await.unwrap();
    }
}

#[tokio::test]
async fn what_rows_point_to_is_not_marked_though_it_looked_unused_before() {
    let world = World::with(2).await;
    let number = world.begin().await;
    // Here another node has read that nothing points there.
    let live = world.place(number).await.unwrap();
    assert!(live > 0);
    for when in [Unneeded::Ever, Unneeded::Now] {
        assert_eq!(world.bury(number, when).await, 0);
    }
    assert_eq!(world.ask(Change::Condemn { number }).await.unwrap(), 0);
    let row = world.row(number).await;
    assert_eq!((row.dead_at, row.live, row.total), (None, live, live));
}

#[tokio::test]
async fn no_row_is_pointed_at_what_is_marked() {
    let world = World::with(2).await;
    let number = world.begin().await;
    assert_eq!(world.bury(number, Unneeded::Ever).await, 1);
    assert_eq!(world.bury(number, Unneeded::Ever).await, 0, "only one goes on");
    let placed = world.place(number).await;
    assert!(matches!(placed, Err(StoreError::NotFound)), "{placed:?}");
    let row = world.row(number).await;
    assert_eq!((row.live, row.total), (0, 0));
    // They wait as before.
    let other = world.begin().await;
    assert!(world.place(other).await.unwrap() > 0);
}

#[tokio::test]
async fn what_was_needed_once_is_kept_until_it_was_asked_for_the_last_time() {
    let world = World::with(2).await;
    let number = world.begin().await;
    world.place(number).await.unwrap();
    world.empty().await;
    assert_eq!(world.bury(number, Unneeded::Ever).await, 0, "a backup may need it");
    assert_eq!(world.ask(Change::Condemn { number }).await.unwrap(), 0, "it is not marked");
    assert_eq!(world.bury(number, Unneeded::Now).await, 1);
    assert_eq!(world.bury(number, Unneeded::Now).await, 0, "the time it was marked stays");
    assert_eq!(world.ask(Change::Condemn { number }).await.unwrap(), 1);
}
