//! Which channels of the bus this node needs, and which of them Redis has confirmed.
//!
//! A mailbox actor takes a [`Following`] for as long as it has subscribers, the actor for `*` one for all channels.
//! [`super::subscribe`] makes it true. Invariant: a channel that is confirmed hears every message that Redis takes from
//! then on; one that nobody needs is given back after a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::shard::shard;
use crate::mail::address::MailboxKey;

/// How long a subscriber waits for Redis to confirm its channel. What happens meanwhile is found in the database.
const PATIENCE: Duration = Duration::from_millis(100);

/// A cheap handle; the default one is of a node without a bus, which has nothing to wait for.
#[derive(Clone, Default)]
pub struct Channels(Option<Arc<Inner>>);

struct Inner {
    shards: Mutex<Vec<Shard>>,
    /// Somebody needs a channel that is not confirmed.
    wanted: Notify,
    /// A channel was confirmed, or the connection was lost.
    changed: Notify,
}

#[derive(Clone, Copy, Default)]
struct Shard {
    followers: u32,
    state: State,
    /// Since when nobody needs it.
    idle: Option<Instant>,
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing was done, and nobody waits for what may take long.
    #[default]
    Away,
    /// Redis was asked.
    Asked,
    Confirmed,
}

/// Keeps channels subscribed until it is dropped.
pub struct Following {
    inner: Option<Arc<Inner>>,
    shards: std::ops::Range<u16>,
}

impl Channels {
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let shards = Mutex::new(vec![Shard::default(); usize::from(shards.max(1))]);
        Self(Some(Arc::new(Inner { shards, wanted: Notify::new(), changed: Notify::new() })))
    }

    /// Needs the channel of a mailbox.
    #[must_use]
    pub fn follow(&self, mailbox: &MailboxKey) -> Following {
        let shard = shard(mailbox, self.count());
        self.take(shard..shard + 1)
    }

    /// Needs all channels.
    #[must_use]
    pub fn follow_all(&self) -> Following {
        self.take(0..self.count())
    }

    /// Whether every channel that is needed is confirmed: otherwise the database is looked at more often.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Some(inner) = &self.0 else { return false };
        inner.shards.lock().iter().all(|shard| shard.followers == 0 || shard.state == State::Confirmed)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.0.as_ref().map_or(1, |inner| u16::try_from(inner.shards.lock().len()).unwrap_or(u16::MAX))
    }

    fn take(&self, shards: std::ops::Range<u16>) -> Following {
        if let Some(inner) = &self.0 {
            let mut all = inner.shards.lock();
            let mut missing = false;
            for shard in all.iter_mut().take(shards.end.into()).skip(shards.start.into()) {
                shard.followers += 1;
                shard.idle = None;
                missing |= shard.state != State::Confirmed;
            }
            if missing {
                inner.wanted.notify_one();
            }
        }
        Following { inner: self.0.clone(), shards }
    }

    /// Comes back when a channel is needed that is not confirmed; may do so for nothing.
    pub(super) async fn wanted(&self) {
        match &self.0 {
            Some(inner) => inner.wanted.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Channels that are needed and were not asked for.
    pub(super) fn missing(&self) -> Vec<u16> {
        self.select(|shard| shard.followers > 0 && shard.state == State::Away)
    }

    /// Channels that nobody has needed for `long`; they are not confirmed any more.
    pub(super) fn idle(&self, long: Duration) -> Vec<u16> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let mut idle = Vec::new();
        for (index, shard) in inner.shards.lock().iter_mut().enumerate() {
            let is_idle = shard.followers == 0 && shard.idle.is_some_and(|since| since.elapsed() >= long);
            if is_idle && shard.state == State::Confirmed {
                shard.state = State::Away;
                idle.extend(u16::try_from(index));
            }
        }
        idle
    }

    pub(super) fn asked(&self, shards: &[u16]) {
        self.set(shards, State::Asked);
    }

    pub(super) fn confirmed(&self, shards: &[u16]) {
        self.set(shards, State::Confirmed);
    }

    pub(super) fn lost(&self, shards: &[u16]) {
        self.set(shards, State::Away);
    }

    /// How many are confirmed.
    pub(super) fn subscribed(&self) -> u32 {
        u32::try_from(self.select(|shard| shard.state == State::Confirmed).len()).unwrap_or(u32::MAX)
    }

    fn set(&self, shards: &[u16], state: State) {
        let Some(inner) = &self.0 else { return };
        let mut all = inner.shards.lock();
        for shard in shards {
            if let Some(shard) = all.get_mut(usize::from(*shard)) {
                shard.state = state;
                if state == State::Confirmed && shard.followers == 0 {
                    shard.idle = Some(Instant::now());
                }
            }
        }
        drop(all);
        inner.changed.notify_waiters();
    }

    fn select(&self, wanted: impl Fn(&Shard) -> bool) -> Vec<u16> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let all = inner.shards.lock();
        (0..).zip(all.iter()).filter(|(_, shard)| wanted(shard)).map(|(index, _)| index).collect()
    }
}

impl Following {
    /// Comes back when Redis confirmed the channels: at once when they are, or when it is away; after 100 ms at the latest.
    pub fn confirmed(&self) -> impl Future<Output = ()> + Send + 'static {
        let (inner, shards) = (self.inner.clone(), self.shards.clone());
        async move {
            let Some(inner) = inner else { return };
            // A missing channel that nobody asked Redis for yet will be in a moment, if Redis is there.
            let began = Instant::now();
            while !inner.settled(&shards, began.elapsed()) {
                let changed = inner.changed.notified();
                if inner.settled(&shards, began.elapsed()) || began.elapsed() >= PATIENCE {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(5), changed).await;
            }
        }
    }
}

impl Inner {
    /// Whether there is nothing to wait for.
    fn settled(&self, shards: &std::ops::Range<u16>, waited: Duration) -> bool {
        /// The task that asks Redis has had its turn by then.
        const TURN: Duration = Duration::from_millis(15);
        let all = self.shards.lock();
        all.iter().take(shards.end.into()).skip(shards.start.into()).all(|shard| match shard.state {
            State::Confirmed => true,
            State::Asked => false,
            State::Away => waited >= TURN,
        })
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let Some(inner) = &self.inner else { return };
        let mut all = inner.shards.lock();
        for shard in all.iter_mut().take(self.shards.end.into()).skip(self.shards.start.into()) {
            shard.followers = shard.followers.saturating_sub(1);
            if shard.followers == 0 {
                shard.idle = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> MailboxKey {
        MailboxKey::from_stored(name)
    }

    #[tokio::test]
    async fn a_channel_is_needed_as_long_as_someone_follows_it() {
        let channels = Channels::new(8);
        let (one, two) = (channels.follow(&key("a@x")), channels.follow(&key("a@x")));
        let shard = shard(&key("a@x"), 8);
        assert_eq!(channels.missing(), [shard]);
        assert!(!channels.is_whole());
        channels.confirmed(&[shard]);
        assert!(channels.is_whole() && channels.missing().is_empty());
        drop(one);
        assert!(channels.idle(Duration::ZERO).is_empty());
        drop(two);
        assert!(channels.idle(Duration::from_secs(60)).is_empty());
        assert_eq!(channels.idle(Duration::ZERO), [shard]);
        assert_eq!(channels.subscribed(), 0);
        let _again = channels.follow(&key("a@x"));
        assert_eq!(channels.missing(), [shard], "given back channels are asked for again");
        let all = channels.follow_all();
        assert_eq!(channels.missing().len(), 8);
        drop(all);
    }

    #[tokio::test]
    async fn waits_for_a_channel_that_redis_was_asked_for_and_no_longer_than_its_patience() {
        let channels = Channels::new(1);
        let following = channels.follow(&key("a@x"));
        channels.asked(&[0]);
        let began = Instant::now();
        following.confirmed().await;
        assert!(began.elapsed() >= PATIENCE, "nobody confirmed it");
        let (waits, confirms) = (following.confirmed(), async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            channels.confirmed(&[0]);
        });
        let began = Instant::now();
        tokio::join!(waits, confirms);
        assert!(began.elapsed() < PATIENCE);
        channels.lost(&[0]);
        let began = Instant::now();
        following.confirmed().await;
        assert!(began.elapsed() < PATIENCE, "Redis is away");
        Channels::default().follow_all().confirmed().await;
    }
}
