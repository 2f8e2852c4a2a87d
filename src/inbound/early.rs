//! Batches of the stream over all mailboxes that came before what lies between: they wait here for it, for a moment. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::mail::event::Announced;

/// Events that may wait; with more the store is read instead.
const CAPACITY: usize = 8_192;

/// See the module.
#[derive(Default)]
pub struct Early {
    /// By the stamp before their first event.
    batches: BTreeMap<i64, Vec<Arc<Announced>>>,
    waiting: usize,
    /// The highest stamp that is known to exist.
    known: i64,
}

impl Early {
    /// Keeps a batch; false when there is no room, and none is kept then.
    #[must_use]
    pub fn put(&mut self, after: i64, events: Vec<Arc<Announced>>) -> bool {
        self.exists(events.last().map_or(after, |last| last.stream.stamp));
        self.waiting += events.len();
        if self.waiting > CAPACITY {
            self.forget();
            return false;
        }
        self.batches.entry(after).or_default().extend(events);
        true
    }

    /// The stream has reached `stamp`.
    pub fn exists(&mut self, stamp: i64) {
        self.known = self.known.max(stamp);
    }

    /// The first batch that follows `place`, or lies below it.
    pub fn next(&mut self, place: i64) -> Option<Vec<Arc<Announced>>> {
        let entry = self.batches.first_entry().filter(|entry| *entry.key() <= place)?;
        let events = entry.remove();
        self.waiting -= events.len();
        Some(events)
    }

    /// Whether something after `place` is known of, though perhaps not here.
    #[must_use]
    pub const fn is_gap(&self, place: i64) -> bool {
        self.known > place
    }

    fn forget(&mut self) {
        self.batches.clear();
        self.waiting = 0;
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::MailboxKey;
    use crate::mail::cursor::{Cursor, StreamCursor};
    use crate::mail::event::Event;

    fn event(stamp: i64) -> Arc<Announced> {
        let stream = StreamCursor { lineage: 1, stamp };
        let key = MailboxKey::from_stored("a@b");
        Arc::new(Announced::new(key, Cursor::default(), stream, Event::MailboxDeleted {}, None))
    }

    fn stamps(events: Option<Vec<Arc<Announced>>>) -> Vec<i64> {
        events.into_iter().flatten().map(|event| event.stream.stamp).collect()
    }

    #[test]
    fn what_came_early_follows_in_order() {
        let mut early = Early::default();
        assert!(early.put(12, vec![event(13)]));
        assert!(early.put(10, vec![event(11), event(12)]));
        assert!(early.next(9).is_none());
        assert!(early.is_gap(9));
        assert_eq!(stamps(early.next(10)), [11, 12]);
        assert_eq!(stamps(early.next(12)), [13]);
        assert!(!early.is_gap(13));
        early.exists(14);
        assert!(early.is_gap(13));
        early.clear();
        assert!(!early.is_gap(0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut early = Early::default();
        for stamp in 2..i64::try_from(CAPACITY).unwrap() + 2 {
            assert!(early.put(stamp - 1, vec![event(stamp)]));
        }
        assert!(!early.put(1_000_000, vec![event(1_000_001)]));
        assert_eq!((early.batches.len(), early.waiting), (0, 0));
        assert!(early.is_gap(1_000_000), "what was forgotten is known to exist");
        assert!(early.put(5, vec![event(6)]));
    }
}
