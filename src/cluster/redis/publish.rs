//! Tells other nodes what this one committed: a bounded queue, and a task that sends it to the channels of its shards.
//!
//! Called by `app` after the announcement on this node, on the writer's thread: it never waits. What finds the queue full or
//! Redis away is dropped and counted. Whoever needs it finds it in the database: at the next comparison, or sooner, when a
//! message that some were lost gets through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{Cmd, cmd};
use tokio::sync::{mpsc, oneshot};

use super::pool::Redis;
use super::shard::{channel, shard};
use super::wire;
use crate::cluster::metrics as names;
use crate::mail::event::Announced;

/// Commits that may wait.
const QUEUE: usize = 2_048;
/// Events sent together.
const LOT: usize = 2_000;
/// How soon after Redis is back the others hear that something was lost.
const TELL_LOST: Duration = Duration::from_millis(250);

enum Job {
    Tell(Vec<Arc<Announced>>),
    Close(oneshot::Sender<()>),
}

/// Where commits are handed over.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Job>,
    overflow: Arc<AtomicBool>,
}

/// The task.
pub(super) struct Sending {
    queue: mpsc::Receiver<Job>,
    overflow: Arc<AtomicBool>,
    redis: Redis,
    node: u64,
    prefix: String,
    shards: u16,
    cluster: bool,
    /// Shards of which something was lost that the others have not been told.
    lost: BTreeSet<u16>,
}

impl Publisher {
    pub(super) fn new(redis: Redis, node: u64, prefix: &str, shards: u16, cluster: bool) -> (Self, Sending) {
        let (to, queue) = mpsc::channel(QUEUE);
        let overflow = Arc::<AtomicBool>::default();
        let publisher = Self { queue: to, overflow: Arc::clone(&overflow) };
        let (prefix, lost) = (prefix.to_owned(), BTreeSet::new());
        (publisher, Sending { queue, overflow, redis, node, prefix, shards, cluster, lost })
    }

    /// Hands over what was committed; never waits.
    pub fn tell(&self, events: Vec<Arc<Announced>>) {
        let count = events.len();
        if self.queue.try_send(Job::Tell(events)).is_err() {
            self.overflow.store(true, Ordering::SeqCst);
            dropped("queue_full", count);
        }
    }

    /// Sends what is queued and ends the task.
    pub async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        if self.queue.send(Job::Close(closed)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

impl Sending {
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TELL_LOST);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let job = tokio::select! {
                biased;
                job = self.queue.recv() => job,
                _ = tick.tick() => {
                    self.tell_lost().await;
                    continue;
                }
            };
            let closing = match job {
                Some(Job::Tell(events)) => self.lot(events).await,
                Some(Job::Close(closed)) => Some(closed),
                None => return,
            };
            if let Some(closed) = closing {
                // An error means that nobody waits any more.
                let _ = closed.send(());
                return;
            }
        }
    }

    /// Sends `events` and what else is queued; where that ends with the order to close, says so.
    async fn lot(&mut self, mut events: Vec<Arc<Announced>>) -> Option<oneshot::Sender<()>> {
        let mut closing = None;
        while events.len() < LOT && closing.is_none() {
            match self.queue.try_recv() {
                Ok(Job::Tell(more)) => events.extend(more),
                Ok(Job::Close(closed)) => closing = Some(closed),
                Err(_) => break,
            }
        }
        self.send(&events).await;
        closing
    }

    async fn send(&mut self, events: &[Arc<Announced>]) {
        let mut shards: BTreeMap<u16, Vec<&Announced>> = BTreeMap::new();
        for event in events {
            shards.entry(shard(&event.mailbox, self.shards)).or_default().push(event);
        }
        if !self.redis.is_up() {
            self.lost.extend(shards.keys());
            return dropped("away", events.len());
        }
        let mut commands = Vec::with_capacity(shards.len());
        let mut hints = 0;
        for (shard, events) in &shards {
            for (message, hinted) in wire::encode(self.node, events) {
                commands.push(self.command(*shard, message));
                hints += hinted;
            }
        }
        let began = Instant::now();
        match self.redis.send(&commands).await {
            Ok(()) => {
                metrics::histogram!(names::PUBLISH_SECONDS).record(began.elapsed());
                metrics::counter!(names::PUBLISHED).increment(events.len() as u64);
                metrics::counter!(names::HINTS).increment(hints as u64);
            }
            Err(_) => {
                self.lost.extend(shards.keys());
                dropped("failed", events.len());
            }
        }
    }

    async fn tell_lost(&mut self) {
        if self.overflow.swap(false, Ordering::SeqCst) {
            self.lost.extend(0..self.shards);
        }
        if self.lost.is_empty() || !self.redis.is_up() {
            return;
        }
        let commands: Vec<_> = self.lost.iter().map(|shard| self.command(*shard, wire::lost(self.node))).collect();
        if self.redis.send(&commands).await.is_ok() {
            self.lost.clear();
        }
    }

    fn command(&self, shard: u16, message: Vec<u8>) -> Cmd {
        let mut command = cmd(if self.cluster { "SPUBLISH" } else { "PUBLISH" });
        command.arg(channel(&self.prefix, shard)).arg(message);
        command
    }
}

fn dropped(reason: &'static str, events: usize) {
    metrics::counter!(names::DROPPED, "reason" => reason).increment(events as u64);
}
