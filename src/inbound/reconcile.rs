//! Compares what subscribers on this node were told with what the database has, where other nodes write to it too.
//!
//! Whatever the bus loses, this finds: within `[redis] reconcile`, within a second while there is no bus, and at once where
//! the bus says that something may be missing. It costs three small queries while nothing happens, otherwise one for some
//! hundred mailboxes that are followed here. A database that went back is noticed by the same look. Started by `app`; runs
//! until aborted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::announcer::Announcer;
use super::map::Shared;
use super::metrics as names;
use crate::cluster::redis::{Channels, Redis};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::store::{Store, StoreError};

/// Mailboxes in one query.
const KEYS: usize = 300;
/// How long what was committed may be on its way here before it counts as missed.
const ON_THE_WAY: Duration = Duration::from_millis(50);
/// Between comparisons without a bus.
const ALONE: Duration = Duration::from_secs(1);
/// So many are told at once to read, and then after a pause as many more: not all wait for the database together.
const LOT: u64 = 250;
const BETWEEN: Duration = Duration::from_millis(50);
/// A comparison takes at most this part of the time: with very many mailboxes and a slow database they are rarer.
const SHARE: u32 = 4;

/// See the module.
pub struct Reconcile {
    pub store: Store,
    pub announcer: Announcer,
    pub channels: Channels,
    pub redis: Option<Redis>,
    /// Between comparisons with a bus that is whole.
    pub every: Duration,
    /// Asks for one now.
    pub now: Arc<Notify>,
}

impl Reconcile {
    /// Compares again and again.
    pub async fn run(self) {
        loop {
            let began = Instant::now();
            let outcome = match self.compare().await {
                Ok(0) => "agreed",
                Ok(found) => {
                    tracing::debug!(found, "other nodes did what the bus did not tell");
                    metrics::counter!(names::FOUND).increment(found);
                    "behind"
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot compare with the database");
                    "failed"
                }
            };
            metrics::counter!(names::RECONCILED, "outcome" => outcome).increment(1);
            metrics::histogram!(names::RECONCILE_SECONDS).record(began.elapsed());
            let pause = self.pause().max(began.elapsed() * SHARE);
            // Asked for while it ran: once more, after a moment in which more such may come.
            let _ = tokio::time::timeout(pause, self.now.notified()).await;
            tokio::time::sleep(ON_THE_WAY).await;
        }
    }

    fn pause(&self) -> Duration {
        let has_bus = self.redis.as_ref().is_some_and(Redis::is_up) && self.channels.is_whole();
        if has_bus { self.every } else { self.every.min(ALONE) }
    }

    /// How many had missed something. They read it from the store by themselves from here on.
    async fn compare(&self) -> Result<u64, StoreError> {
        // Whether anybody follows anything or not: who commits next must know how far the stream was.
        let stamp = self.store.look_back().await?.stamp;
        if self.announcer.stream.place.lock().is_none() && !self.announcer.map.is_followed() {
            return Ok(0);
        }
        let mut suspects = Vec::new();
        let all = self.announcer.map.to_compare(stamp);
        for lot in all.chunks(KEYS) {
            let keys: Vec<MailboxKey> = lot.iter().map(|(key, _)| key.clone()).collect();
            let rows = self.store.places(&keys).await?;
            for (key, shared) in lot {
                let row = rows.get(key).copied().unwrap_or_default();
                match is_behind(shared, row) {
                    true => suspects.push((key, shared, row)),
                    false => shared.compared_at.store(stamp, Ordering::SeqCst),
                }
            }
        }
        let stream_behind = || self.announcer.stream.place.lock().is_some_and(|place| place < stamp);
        if suspects.is_empty() && !stream_behind() {
            return Ok(0);
        }
        tokio::time::sleep(ON_THE_WAY).await;
        let mut found = 0;
        if stream_behind() {
            self.announcer.ahead(stamp);
            found += 1;
        }
        for (key, shared, row) in suspects {
            if is_behind(shared, row) {
                self.announcer.look(key);
                found += 1;
                if found % LOT == 0 {
                    tokio::time::sleep(BETWEEN).await;
                }
            }
            shared.compared_at.store(stamp, Ordering::SeqCst);
        }
        Ok(found)
    }
}

/// Whether the subscribers were told less than the row says, or of another life or history. Who has none is not behind.
fn is_behind(shared: &Shared, row: Cursor) -> bool {
    let Some(place) = *shared.place.lock() else { return false };
    match row.incarnation == place.incarnation {
        true => row.modseq > place.modseq || row.lineage != place.lineage,
        // A row that is older than what was told was read before that.
        false => row.incarnation > place.incarnation || row.incarnation == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(incarnation: u64, modseq: u64) -> Cursor {
        Cursor { lineage: 1, incarnation, modseq }
    }

    #[test]
    fn who_was_told_less_or_of_another_life_is_behind() {
        let shared = Shared::default();
        assert!(!is_behind(&shared, cursor(5, 9)), "without subscribers nobody misses anything");
        shared.set_place(Some(cursor(5, 9)));
        for (row, behind) in [
            (cursor(5, 9), false),
            (cursor(5, 8), false),
            (cursor(5, 10), true),
            (cursor(6, 1), true),
            (cursor(4, 20), false),
            (Cursor::default(), true),
        ] {
            assert_eq!(is_behind(&shared, row), behind, "{row:?}");
        }
        assert!(is_behind(&shared, Cursor { lineage: 2, ..cursor(5, 9) }), "of another history");
        shared.set_place(Some(Cursor::default()));
        assert!(!is_behind(&shared, Cursor::default()));
        assert!(is_behind(&shared, cursor(7, 1)));
    }

    #[test]
    fn a_new_place_is_compared_although_nothing_happened_since() {
        let shared = Shared::default();
        shared.set_place(Some(cursor(1, 1)));
        shared.compared_at.store(70, Ordering::SeqCst);
        shared.set_place(Some(cursor(1, 2)));
        assert_eq!(shared.compared_at.load(Ordering::SeqCst), 70);
        shared.set_place(None);
        shared.set_place(Some(cursor(1, 2)));
        assert_eq!(shared.compared_at.load(Ordering::SeqCst), 0);
    }
}
