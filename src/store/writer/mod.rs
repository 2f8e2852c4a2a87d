//! A writer: a thread of its own with a connection that writes. A node has one on SQLite, which nobody else writes to, and
//! several on a database server.
//!
//! It takes what is queued, deliveries first ([`ground`]), then changes ([`changes`]), makes each lot one transaction and
//! goes round again; nothing lingers. [`transaction`] keeps what a lot promises outside of the code that may panic, and
//! settles it: after the commit readers' pages are dropped, the events announced, the callers answered; after a failure or
//! a panic the writer connects anew and looks whether the commit happened. Closing the store ends it.

pub mod changes;
pub mod checkpoint;
pub mod files;
pub mod ground;
pub mod mark;
pub mod objects;
pub mod plan;
pub mod recovery;
pub mod removal;
pub mod repeats;
pub mod requests;
pub mod rows;
pub mod segments;
pub mod server;
pub mod statements;
pub mod table;
pub mod transaction;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use sea_orm::DatabaseConnection;
use tokio::sync::{mpsc, oneshot};

use super::cache::ListCache;
use super::clocks::Skew;
use super::config::Defaults;
use super::faults::Faults;
use super::history::History;
use super::incoming::{Announce, Incoming, WriteFailed};
use super::metrics as names;
use super::search::Progress;
use super::source::Source;
use super::space::Seen;
use super::tokens::TokenCache;
use ground::Ground;
use requests::Request;
use rows::Mailboxes;
use transaction::{Failure, Head, InFlight};

/// Deliveries and bytes in one transaction; one larger than that goes alone.
const MAX_DELIVERIES: usize = 500;
const MAX_ROWS: usize = 2_000;
const MAX_BYTES: usize = 8 << 20;
/// Changes in one transaction.
const MAX_CHANGES: usize = 64;
/// How often a batch that is in the way of others is tried again.
const MAX_TRIES: u32 = 8;

/// How long what waits for the writer goes on waiting while it finds out whether a commit happened.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the writer and everyone else see of each other.
#[derive(Debug)]
pub struct Shared {
    pub history: History,
    /// Stamp of the last commit that was announced.
    pub stamp: AtomicI64,
    pub healthy: AtomicBool,
    pub closing: AtomicBool,
    pub space: Seen,
    /// Against the database server's clock.
    pub skew: Skew,
    pub cache: ListCache,
    pub tokens: TokenCache,
    /// Told of every commit.
    pub index: Arc<Progress>,
}

/// The writer's state. Everything in it but `in_flight` can be read again from the database.
pub struct Writer<G> {
    pub(super) db: DatabaseConnection,
    pub(super) source: Source,
    pub(super) head: Head,
    pub(super) mailboxes: Mailboxes,
    pub(super) ground: G,
    pub(super) in_flight: InFlight,
    pub(super) shared: Arc<Shared>,
    pub(super) defaults: Defaults,
    pub(super) announce: Arc<dyn Announce>,
    pub(super) faults: Faults,
    /// Nothing is stored any more.
    pub(super) dead: bool,
}

/// Where work for the writer comes in.
pub struct Inbox {
    pub deliveries: mpsc::Receiver<Incoming>,
    pub requests: mpsc::Receiver<Request>,
    /// The store is being closed, which was heard while the writer was busy.
    closed: Option<Closed>,
}

impl Inbox {
    pub fn new(deliveries: mpsc::Receiver<Incoming>, requests: mpsc::Receiver<Request>) -> Self {
        Self { deliveries, requests, closed: None }
    }

    /// Answers what comes while nothing can be stored, after a while: nobody waits for a database that is away. Never
    /// ends.
    async fn turn_away(&mut self) -> Infallible {
        tokio::time::sleep(PATIENCE).await;
        loop {
            tokio::select! {
                Some(incoming) = self.deliveries.recv() => {
                    metrics::counter!(names::REFUSED, "reason" => "failed").increment(1);
                    (incoming.done)(Err(WriteFailed::Failed));
                }
                // Dropping any other tells its caller.
                Some(request) = self.requests.recv() => if let Request::Close(reply) = request {
                    self.closed = Some(reply);
                },
                else => std::future::pending().await,
            }
        }
    }
}

/// Why the writer's loop ended.
type Closed = oneshot::Sender<()>;

impl<G: Ground> Writer<G> {
    /// Serves `inbox` until the store is closed or dropped.
    pub async fn run(mut self, mut inbox: Inbox) {
        let closed = self.serve(&mut inbox).await;
        inbox.deliveries.close();
        while let Ok(first) = inbox.deliveries.try_recv() {
            let batch = take_batch(first, &mut inbox.deliveries);
            self.deliver(batch, &mut inbox).await;
        }
        G::finish(&mut self).await;
        let _ = self.db.close_by_ref().await;
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    async fn serve(&mut self, inbox: &mut Inbox) -> Option<Closed> {
        loop {
            if let Some(closed) = inbox.closed.take() {
                return Some(closed);
            }
            let mut idle = true;
            if let Ok(first) = inbox.deliveries.try_recv() {
                let batch = take_batch(first, &mut inbox.deliveries);
                self.deliver(batch, inbox).await;
                idle = false;
            }
            if let Ok(first) = inbox.requests.try_recv() {
                if let Some(closed) = self.serve_requests(first, inbox).await {
                    return Some(closed);
                }
                idle = false;
            }
            G::tend(self, false).await;
            if !idle {
                continue;
            }
            G::rests(self);
            tokio::select! {
                biased;
                first = inbox.deliveries.recv() => {
                    let batch = take_batch(first?, &mut inbox.deliveries);
                    self.deliver(batch, inbox).await;
                }
                first = inbox.requests.recv() => {
                    if let Some(closed) = self.serve_requests(first?, inbox).await {
                        return Some(closed);
                    }
                }
                () = tokio::time::sleep(self.ground.patience()) => G::tend(self, true).await,
            }
        }
    }

    async fn serve_requests(&mut self, first: Request, inbox: &mut Inbox) -> Option<Closed> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Close(reply) => {
                    self.change(batch, inbox).await;
                    return Some(reply);
                }
                other => batch.push(other),
            }
            next = if batch.len() < MAX_CHANGES { inbox.requests.try_recv().ok() } else { None };
        }
        self.change(batch, inbox).await;
        None
    }

    /// Stores a batch of deliveries and answers each of them.
    async fn deliver(&mut self, batch: Vec<Incoming>, inbox: &mut Inbox) {
        if G::is_short(self) {
            metrics::counter!(names::REFUSED, "reason" => "no_space").increment(batch.len() as u64);
            for incoming in batch {
                (incoming.done)(Err(WriteFailed::NoSpace));
            }
            return;
        }
        let deliveries = self.in_flight.begin(batch);
        if self.dead {
            return self.refuse(WriteFailed::Failed);
        }
        let mut tries = 0;
        loop {
            let outcome = AssertUnwindSafe(in_time::<G>(G::store(self, &deliveries))).catch_unwind().await;
            if !self.repeats(&outcome, &mut tries).await {
                return self.settle(outcome.map_err(drop), inbox.turn_away()).await;
            }
        }
    }

    /// Makes a batch of changes and answers each of them.
    async fn change(&mut self, batch: Vec<Request>, inbox: &mut Inbox) {
        if batch.is_empty() || self.dead {
            // Dropping a request tells its caller.
            return;
        }
        let _ = self.in_flight.begin(Vec::new());
        let mut tries = 0;
        loop {
            let outcome = AssertUnwindSafe(in_time::<G>(self.apply_all(&batch))).catch_unwind().await;
            if !self.repeats(&outcome, &mut tries).await {
                return self.settle(outcome.map_err(drop), inbox.turn_away()).await;
            }
        }
    }

    /// Whether the transaction was only in the way of another, and is to be tried again: after a pause, so that the other
    /// is through.
    async fn repeats(&mut self, outcome: &std::thread::Result<Result<(), Failure>>, tries: &mut u32) -> bool {
        let Ok(Err(failure)) = outcome else { return false };
        if *tries >= MAX_TRIES || !G::repeats(failure) {
            return false;
        }
        *tries += 1;
        tracing::debug!(error = %failure, tries, "a batch was in the way of another and is tried again");
        metrics::counter!(names::CONFLICTS).increment(1);
        self.in_flight.again();
        tokio::time::sleep(Duration::from_millis(u64::from(rand::random_range(1..10 * *tries)))).await;
        true
    }

    /// The time of day by which mailboxes end.
    pub(super) fn now(&self) -> i64 {
        self.shared.skew.now()
    }

    pub(super) fn closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }
}

/// A server that does not answer any more counts as lost. What became of the transaction is looked up then.
async fn in_time<G: Ground>(transaction: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match G::LIMIT {
        None => transaction.await,
        Some(limit) => tokio::time::timeout(limit, transaction).await.unwrap_or(Err(Failure::Late(limit))),
    }
}

/// `first` and what else is queued, within the bounds of one transaction.
fn take_batch(first: Incoming, queue: &mut mpsc::Receiver<Incoming>) -> Vec<Incoming> {
    let mut rows = first.parts.len();
    let mut bytes = first.body.bytes.len();
    let mut batch = vec![first];
    while batch.len() < MAX_DELIVERIES && rows < MAX_ROWS && bytes < MAX_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        rows += next.parts.len();
        bytes += next.body.bytes.len();
        batch.push(next);
    }
    metrics::gauge!(names::QUEUED).set(u32::try_from(queue.len()).unwrap_or(u32::MAX));
    batch
}
