//! First pages of lists, ready to send, kept while they are exact.
//!
//! The writer drops a mailbox's pages right after each commit that touched it and before anyone is told. A reader leaves
//! a mark before it reads and may store its page only while that very mark stands, so a page read before a commit is
//! never kept after it. Mailboxes that nobody lists cost the writer one look at an empty map. A page ends with the first
//! message on it, because time alone ends messages.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::messages::Scope;
use crate::mail::address::MailboxKey;
use crate::mail::time::Timestamp;

const SHARDS: usize = 16;
/// What a mark and its key cost beside the bytes of the page.
const OVERHEAD: usize = 256;

/// What distinguishes pages of one scope: how many items, only unread ones.
pub type Shape = (u32, bool);

/// Says which page a reader is about to read; give it back to [`ListCache::keep`].
#[derive(Debug)]
pub struct Mark {
    scope: Scope,
    shape: Shape,
    number: u64,
}

#[derive(Debug)]
struct Slot {
    shape: Shape,
    mark: u64,
    /// Until when it holds, if nothing is committed: none for good.
    page: Option<(Bytes, Option<Timestamp>)>,
}

type Shard = Mutex<HashMap<Scope, Vec<Slot>>>;

/// The pages, sharded by scope.
#[derive(Debug)]
pub struct ListCache {
    shards: Vec<Shard>,
    hasher: RandomState,
    marks: AtomicU64,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    capacity: usize,
}

impl ListCache {
    pub fn new(capacity: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            hasher: RandomState::new(),
            marks: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            capacity,
        }
    }

    /// The page, or the mark to keep it under once it was read.
    ///
    /// # Errors
    /// The mark, when the page is not here.
    pub fn get(&self, scope: &Scope, shape: Shape, now: Timestamp) -> Result<Bytes, Mark> {
        let number = self.marks.fetch_add(1, Ordering::Relaxed);
        let mark = Mark { scope: scope.clone(), shape, number };
        let Some(shard) = self.shard(scope) else { return Err(mark) };
        let mut shard = shard.lock();
        let slots = shard.entry(scope.clone()).or_default();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.shape == shape) {
            match &slot.page {
                Some((page, until)) if until.is_none_or(|until| until > now) => return Ok(page.clone()),
                _ => slot.mark = number,
            }
        } else {
            slots.push(Slot { shape, mark: number, page: None });
            self.entries.fetch_add(1, Ordering::SeqCst);
            self.bytes.fetch_add(OVERHEAD, Ordering::Relaxed);
        }
        Err(mark)
    }

    /// Keeps a page that was read after `mark` was given, unless its scope changed since. It holds before `until`.
    pub fn keep(&self, mark: &Mark, page: &Bytes, until: Option<Timestamp>) {
        if self.bytes.load(Ordering::Relaxed) + page.len() > self.capacity {
            self.clear();
            return;
        }
        let Some(shard) = self.shard(&mark.scope) else { return };
        let mut shard = shard.lock();
        let slot = shard
            .get_mut(&mark.scope)
            .and_then(|slots| slots.iter_mut().find(|slot| slot.shape == mark.shape && slot.mark == mark.number));
        if let Some(slot) = slot {
            let before = slot.page.replace((page.clone(), until)).map_or(0, |(page, _)| page.len());
            self.bytes.fetch_add(page.len(), Ordering::Relaxed);
            self.bytes.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// Drops what the commit that touched `keys` made old.
    pub fn changed<'a>(&self, keys: impl Iterator<Item = &'a MailboxKey>) {
        if self.entries.load(Ordering::SeqCst) == 0 {
            return;
        }
        for key in keys {
            self.remove(&Scope::Mailbox(key.clone()));
        }
        self.remove(&Scope::All);
    }

    fn remove(&self, scope: &Scope) {
        let removed = self.shard(scope).and_then(|shard| shard.lock().remove(scope));
        self.forget(removed.iter().flatten());
    }

    /// Drops everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let slots = std::mem::take(&mut *shard.lock());
            self.forget(slots.values().flatten());
        }
    }

    fn forget<'a>(&self, slots: impl Iterator<Item = &'a Slot>) {
        for slot in slots {
            let size = OVERHEAD + slot.page.as_ref().map_or(0, |(page, _)| page.len());
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.entries.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn shard(&self, scope: &Scope) -> Option<&Shard> {
        let hash = usize::try_from(self.hasher.hash_one(scope) & 0xff).unwrap_or(0);
        self.shards.get(hash % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn scope(name: &str) -> Scope {
        Scope::Mailbox(MailboxKey::from_stored(name))
    }

    #[test]
    fn a_page_read_before_a_commit_is_not_kept_after_it() {
        let cache = ListCache::new(1 << 20);
        let key = MailboxKey::from_stored("a@b");
        let mark = cache.get(&scope("a@b"), (20, false), NOW).unwrap_err();
        cache.changed([&key].into_iter());
        cache.keep(&mark, &Bytes::from_static(b"old"), None);
        let mark = cache.get(&scope("a@b"), (20, false), NOW).unwrap_err();
        cache.keep(&mark, &Bytes::from_static(b"new"), None);
        assert_eq!(cache.get(&scope("a@b"), (20, false), NOW).unwrap(), "new");
        assert!(cache.get(&scope("a@b"), (20, true), NOW).is_err());
        cache.changed([&key].into_iter());
        assert!(cache.get(&scope("a@b"), (20, false), NOW).is_err());
    }

    #[test]
    fn a_commit_elsewhere_ends_the_list_of_all_and_no_other() {
        let cache = ListCache::new(1 << 20);
        for scope in [scope("a@b"), Scope::All] {
            let mark = cache.get(&scope, (20, false), NOW).unwrap_err();
            cache.keep(&mark, &Bytes::from_static(b"page"), None);
        }
        cache.changed([&MailboxKey::from_stored("c@d")].into_iter());
        assert!(cache.get(&scope("a@b"), (20, false), NOW).is_ok());
        assert!(cache.get(&Scope::All, (20, false), NOW).is_err());
    }

    #[test]
    fn a_page_ends_with_the_first_message_on_it() {
        let cache = ListCache::new(1 << 20);
        let mark = cache.get(&scope("a@b"), (20, false), NOW).unwrap_err();
        cache.keep(&mark, &Bytes::from_static(b"page"), Some(Timestamp(2_000)));
        assert!(cache.get(&scope("a@b"), (20, false), Timestamp(1_999)).is_ok());
        assert!(cache.get(&scope("a@b"), (20, false), Timestamp(2_000)).is_err());
    }

    #[test]
    fn memory_is_bounded_and_counted_exactly() {
        let cache = ListCache::new(10_000);
        for n in 0..1_000 {
            let scope = scope(&format!("{n}@x"));
            if let Err(mark) = cache.get(&scope, (20, false), NOW) {
                cache.keep(&mark, &Bytes::from(vec![0; 1_000]), None);
            }
            assert!(cache.bytes.load(Ordering::Relaxed) <= 10_000 + OVERHEAD);
        }
        cache.clear();
        assert_eq!((cache.bytes.load(Ordering::Relaxed), cache.entries.load(Ordering::SeqCst)), (0, 0));
    }
}
