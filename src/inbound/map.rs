//! The registry's map: which mailbox actors live, and what everyone may know of them without asking. Only the
//! registry writes it, everyone reads it, and it outlives the registry: a rebuilt one adopts it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use actix::dev::ToEnvelope;
use actix::{Addr, Handler, Message};
use parking_lot::{Mutex, RwLock};

use super::mailbox::MailboxActor;
use crate::clock;
use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::time::Timestamp;

const SHARDS: usize = 64;

/// What a mailbox actor shares with those who read the map.
#[derive(Debug, Default)]
pub struct Shared {
    /// Someone follows the mailbox or its quota needs its totals: events must reach the actor.
    pub listening: AtomicBool,
    /// An event found the actor's inbox full, or no entry in the map: it reads what it missed from the store.
    pub lagging: AtomicBool,
    /// Subscriptions and deliveries that keep the actor from being retired.
    pub in_use: AtomicU64,
    /// When it was last asked for, in microseconds.
    pub used_at: AtomicI64,
    /// What was known of the row holds until then (microseconds): its end, or 0 after a change, which makes the next
    /// who asks look it up. `i64::MAX` for good.
    pub valid_until: AtomicI64,
    /// The mailbox has a quota: whether a message fits is looked up for each recipient.
    pub quota: AtomicBool,
    /// Where other nodes may change the row: what was known of it is looked up again after this (microseconds).
    pub believed_until: AtomicI64,
    /// The last event that its subscribers were told; none while it has none.
    pub place: Mutex<Option<Cursor>>,
    /// The stamp of the stream at which the place was last compared with the database; 0 for never.
    pub compared_at: AtomicI64,
}

impl Shared {
    /// Notes where its subscribers are.
    pub fn set_place(&self, place: Option<Cursor>) {
        let before = std::mem::replace(&mut *self.place.lock(), place);
        if before.is_none() {
            self.compared_at.store(0, Ordering::SeqCst);
        }
    }

    /// Whether what is known of the row may be used at `now`.
    #[must_use]
    pub fn is_valid(&self, now: i64) -> bool {
        self.valid_until.load(Ordering::SeqCst) > now && self.believed_until.load(Ordering::SeqCst) > now
    }

    /// Holds the actor in memory until the guard is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.in_use.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(self))
    }
}

/// Keeps a mailbox actor from being retired.
#[derive(Debug)]
pub struct Hold(Arc<Shared>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A living mailbox actor.
pub struct Entry {
    pub addr: Addr<MailboxActor>,
    pub shared: Arc<Shared>,
}

/// The map itself.
pub struct Map {
    shards: Vec<RwLock<HashMap<MailboxKey, Entry, RandomState>>>,
    hasher: RandomState,
    active: AtomicU64,
}

impl Default for Map {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, hasher: RandomState::new(), active: AtomicU64::new(0) }
    }
}

impl Map {
    fn shard(&self, key: &MailboxKey) -> &RwLock<HashMap<MailboxKey, Entry, RandomState>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
        &self.shards[index]
    }

    /// Reads the entry of a living actor.
    pub fn with<R>(&self, key: &MailboxKey, read: impl FnOnce(&Entry) -> R) -> Option<R> {
        let shard = self.shard(key).read();
        let entry = shard.get(key)?;
        entry.addr.connected().then(|| read(entry))
    }

    /// As [`Map::with`], and notes that the mailbox is in use at `now`.
    pub fn touch<R>(&self, key: &MailboxKey, now: Timestamp, read: impl FnOnce(&Entry) -> R) -> Option<R> {
        self.with(key, |entry| {
            entry.shared.used_at.store(now.0, Ordering::Relaxed);
            read(entry)
        })
    }

    /// Sends to a living actor within its inbox bound; gives the message back when there is none or it is full.
    ///
    /// # Errors
    /// The message, when it could not be sent.
    pub fn send<M>(&self, key: &MailboxKey, message: M) -> Result<(), M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        MailboxActor: Handler<M>,
        actix::Context<MailboxActor>: ToEnvelope<MailboxActor, M>,
    {
        let shard = self.shard(key).read();
        match shard.get(key) {
            Some(entry) => entry.addr.try_send(message).map_err(actix::dev::SendError::into_inner),
            None => Err(message),
        }
    }

    /// Mailbox actors in memory.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Keys of actors that nobody asked for since `before`: those that nothing holds, and those that someone follows.
    /// The latter are not named again for as long. For the registry.
    #[must_use]
    pub fn idle(&self, before: Timestamp) -> (Vec<MailboxKey>, Vec<MailboxKey>) {
        let (mut idle, mut held) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            for (key, entry) in shard.read().iter() {
                let shared = &entry.shared;
                if shared.used_at.load(Ordering::Relaxed) >= before.0 {
                    continue;
                }
                if shared.in_use.load(Ordering::SeqCst) == 0 || !entry.addr.connected() {
                    idle.push(key.clone());
                } else {
                    shared.used_at.store(clock::now_micros(), Ordering::Relaxed);
                    held.push(key.clone());
                }
            }
        }
        (idle, held)
    }

    /// Mailboxes with subscribers whose place was not compared with the database at `stamp` yet.
    #[must_use]
    pub fn to_compare(&self, stamp: i64) -> Vec<(MailboxKey, Arc<Shared>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for (key, entry) in shard.read().iter() {
                let shared = &entry.shared;
                if shared.compared_at.load(Ordering::SeqCst) != stamp && shared.place.lock().is_some() {
                    all.push((key.clone(), Arc::clone(shared)));
                }
            }
        }
        all
    }

    /// Whether any mailbox has subscribers.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        let followed = |entry: &Entry| entry.shared.place.lock().is_some();
        self.shards.iter().any(|shard| shard.read().values().any(followed))
    }

    /// What was known of the mailbox holds no longer: the next who asks looks it up.
    pub fn invalidate(&self, key: &MailboxKey) {
        self.with(key, |entry| entry.shared.valid_until.store(0, Ordering::SeqCst));
    }

    /// As [`Map::invalidate`], of all mailboxes.
    pub fn invalidate_all(&self) {
        for shard in &self.shards {
            shard.read().values().for_each(|entry| entry.shared.valid_until.store(0, Ordering::SeqCst));
        }
    }

    pub(super) fn insert(&self, key: MailboxKey, entry: Entry) {
        if self.shard(&key).write().insert(key, entry).is_none() {
            self.active.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, key: &MailboxKey) -> Option<Entry> {
        let entry = self.shard(key).write().remove(key)?;
        self.active.fetch_sub(1, Ordering::Relaxed);
        Some(entry)
    }
}
