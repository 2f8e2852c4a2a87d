//! A store in a temporary directory, what it announces, and short ways to put mail into it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailroom::mail::address::MailboxKey;
use mailroom::mail::cursor::Cursor;
use mailroom::mail::envelope::Envelope;
use mailroom::mail::event::{Announced, Event};
use mailroom::mail::id::DeliveryId;
use mailroom::mail::summary::Summary;
use mailroom::mail::time::Timestamp;
use mailroom::mail::units::Bytes;
use mailroom::store::{
    Announce, Config, Faults, Incoming, ListRequest, MessagePage, Part, Position, Repeat, Replay, Scope, Store,
    WriteFailed, bodies,
};

use crate::support::servers::Database;
pub use crate::support::servers::Engine;

/// Everything that was announced, in order.
#[derive(Default)]
pub struct Heard(Mutex<Vec<Arc<Announced>>>);

impl Announce for Heard {
    fn announce(&self, _: i64, events: Vec<Arc<Announced>>) {
        self.0.lock().unwrap().extend(events);
    }
}

impl Heard {
    pub fn events(&self) -> Vec<Arc<Announced>> {
        self.0.lock().unwrap().clone()
    }
}

pub struct Fixture {
    pub engine: Engine,
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub faults: Faults,
    pub heard: Arc<Heard>,
    pub store: Store,
}

pub fn key(address: &str) -> MailboxKey {
    MailboxKey::from_stored(address)
}

pub fn config(data: &Path) -> Config {
    let mut config = Config { data: data.to_owned(), ..Config::default() };
    config.database.min_free = Bytes(0);
    config
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(set: impl FnOnce(&mut Config)) -> Self {
        Self::on_with(Engine::Sqlite, set).await
    }

    /// With rows, and on a database server bodies too, in a fresh database of `engine`.
    pub async fn on(engine: Engine) -> Self {
        Self::on_with(engine, |_| {}).await
    }

    pub async fn on_with(engine: Engine, set: impl FnOnce(&mut Config)) -> Self {
        Self::make(engine, tempfile::tempdir().unwrap(), set).await
    }

    /// In a directory that may hold a store.
    pub async fn within(dir: tempfile::TempDir, set: impl FnOnce(&mut Config)) -> Self {
        Self::make(Engine::Sqlite, dir, set).await
    }

    async fn make(engine: Engine, dir: tempfile::TempDir, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(dir.path());
        config.database.url = engine.database(dir.path()).url;
        set(&mut config);
        let (heard, faults) = (Arc::new(Heard::default()), Faults::default());
        let store = Store::open(&config, heard.clone(), faults.clone()).await.unwrap();
        Self { engine, dir, config, faults, heard, store }
    }

    /// What lies under the store.
    pub fn database(&self) -> Database {
        self.engine.database(self.dir.path())
    }

    /// Closes the store and opens it again.
    pub async fn restart(&mut self) {
        self.store.close().await;
        self.open().await;
    }

    pub async fn open(&mut self) {
        self.store = Store::open(&self.config, self.heard.clone(), self.faults.clone()).await.unwrap();
    }

    /// The only segment file.
    pub fn segment(&self) -> PathBuf {
        let mut files: Vec<_> = self.bodies().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    /// Retention and compaction until nothing is left to do.
    pub async fn tidy(&self, now: Timestamp) {
        while self.store.expire(now).await.unwrap() {}
        while self.store.compact().await.unwrap() {}
    }

    pub fn bodies(&self) -> PathBuf {
        self.dir.path().join("bodies")
    }

    /// Puts a message into `to` and waits for the answer.
    pub async fn put(&self, to: &[&str], raw: &[u8]) -> Result<DeliveryId, WriteFailed> {
        let (incoming, answer) = incoming(to, raw);
        let id = incoming.id;
        self.store.append(incoming).map_err(drop).unwrap();
        answer.await.unwrap().map(|()| id)
    }

    pub async fn fill(&self, to: &str, count: usize) -> Vec<DeliveryId> {
        let mut waiting = Vec::new();
        for n in 0..count {
            let (incoming, answer) = incoming(&[to], mail(n).as_bytes());
            waiting.push((incoming.id, answer));
            let mut next = Some(incoming);
            while let Some(incoming) = next.take() {
                if let Err(refused) = self.store.append(incoming) {
                    next = Some(*refused);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        let mut ids = Vec::new();
        for (id, answer) in waiting {
            answer.await.unwrap().unwrap();
            ids.push(id);
        }
        ids
    }

    pub async fn list(&self, to: &str) -> MessagePage {
        self.store.list(&request(to, 1_000)).await.unwrap()
    }

    pub async fn uids(&self, to: &str) -> Vec<u64> {
        self.list(to).await.items.iter().map(|item| item.uid).collect()
    }

    pub async fn raw(&self, to: &str, id: DeliveryId) -> Vec<u8> {
        let message = self.store.message(&key(to), id).await.unwrap().unwrap();
        self.store.body(&message).await.unwrap().to_vec()
    }

    pub async fn cursor(&self, to: &str) -> Cursor {
        match self.list(to).await.position {
            Position::Mailbox(cursor) => cursor,
            Position::Stream(_) => panic!("a mailbox has a cursor of its own"),
        }
    }

    /// Everything after `since` in short words, or none for a reset.
    pub async fn replay(&self, to: &str, since: Cursor, limit: u32) -> Option<Vec<String>> {
        let mut since = since;
        let mut all = Vec::new();
        loop {
            match self.store.replay(&key(to), since, limit).await.unwrap() {
                Replay::Reset { .. } => return None,
                Replay::Page { events, at: Position::Mailbox(at), head } => {
                    all.extend(events.iter().map(|event| word(event)));
                    since = at;
                    if head {
                        return Some(all);
                    }
                }
                Replay::Page { .. } => panic!("a mailbox has a cursor of its own"),
            }
        }
    }
}

/// `3 received`, `4 deleted 2`, …: the modseq and what happened.
pub fn word(event: &Announced) -> String {
    let modseq = event.cursor.modseq;
    match &event.event {
        Event::Received { message } => {
            assert_eq!(message.uid, modseq);
            format!("{modseq} received")
        }
        Event::Updated { message } => format!("{modseq} updated {}", message.uid),
        Event::Deleted { uid, .. } => format!("{modseq} deleted {uid}"),
        Event::Expired { through_uid } => format!("{modseq} expired {through_uid}"),
        Event::MailboxDeleted {} => format!("{modseq} gone"),
    }
}

pub fn request(to: &str, limit: u32) -> ListRequest {
    ListRequest { scope: Scope::Mailbox(key(to)), limit, page: None, unread: false, since: None, query: None }
}

pub fn mail(n: usize) -> String {
    format!("From: Alice <alice@example.org>\r\nSubject: number {n}\r\n\r\nThe text of number {n}.\r\n")
}

/// This long after the present.
pub fn after(seconds: i64) -> Timestamp {
    Timestamp(mailroom::clock::now_micros() + seconds * 1_000_000)
}

pub const DAY: i64 = 86_400;

pub fn incoming(to: &[&str], raw: &[u8]) -> (Incoming, tokio::sync::oneshot::Receiver<Result<(), WriteFailed>>) {
    let now = Timestamp(mailroom::clock::now_micros());
    let (answer, answered) = tokio::sync::oneshot::channel();
    let envelope = Envelope {
        reverse_path: "alice@example.org".into(),
        helo: "client.example.org".into(),
        client: [192, 0, 2, 1].into(),
        protocol: "ESMTP".into(),
        smtputf8: false,
        eight_bit: true,
    };
    let part = |to: &&str| Part { mailbox: key(to), recipients: vec![to.to_uppercase()], create: true };
    let summary = Summary { subject: subject(raw).into(), text: "the text".into(), ..Summary::default() };
    let incoming = Incoming {
        id: DeliveryId::new(now),
        received_at: now,
        envelope: Arc::new(envelope),
        body: bodies::encode(raw),
        summary: Arc::new(summary),
        parts: to.iter().map(part).collect(),
        repeat: Repeat::Never,
        done: Box::new(move |result| {
            let _ = answer.send(result);
        }),
    };
    (incoming, answered)
}

fn subject(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
}
