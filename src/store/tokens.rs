//! Which mailbox a token opens, kept for a moment, so that a caller who asks often costs one look-up in the database now
//! and then.
//!
//! The writer calls [`TokenCache::ended`] right after the commit that ends a mailbox, so a token never opens the
//! mailbox that takes the address next. Only what was found is kept: a guess costs the database a look-up, and no memory.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::mail::address::MailboxKey;
use crate::mail::event::{Announced, Event};
use crate::mail::time::Timestamp;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// What a token opens: one life of a mailbox, not the one that takes its address next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    pub mailbox: MailboxKey,
    /// The incarnation that its cursors have.
    pub incarnation: u64,
}

/// The longest that an answer is kept.
const LIFE: Duration = Duration::from_secs(5);
/// About 2 MB of hashes and addresses.
const CAPACITY: usize = 10_000;

/// What a token opens, until when.
#[derive(Clone, Debug)]
struct Opens {
    life: Life,
    expires_at: Option<Timestamp>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    opens: HashMap<TokenHash, Opens>,
    /// How often a mailbox ended: what was read before that is not kept after it.
    ended: u64,
}

/// How often a mailbox had ended when a look-up began; give it back to [`TokenCache::keep`].
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// See the module.
#[derive(Debug, Default)]
pub struct TokenCache(Mutex<Inner>);

impl TokenCache {
    /// The life, or the mark to keep it under once it was read.
    ///
    /// # Errors
    /// The mark, when the token is not here.
    pub fn get(&self, hash: &TokenHash, now: Timestamp) -> Result<Life, Mark> {
        let inner = self.0.lock();
        let lives =
            |opens: &&Opens| opens.since.elapsed() < LIFE && opens.expires_at.is_none_or(|expires_at| expires_at > now);
        inner.opens.get(hash).filter(lives).map(|opens| opens.life.clone()).ok_or(Mark(inner.ended))
    }

    /// Keeps what was read after `mark` was given, unless a mailbox ended since.
    pub fn keep(&self, mark: Mark, hash: TokenHash, life: Life, expires_at: Option<Timestamp>) {
        let mut inner = self.0.lock();
        if inner.ended != mark.0 {
            return;
        }
        if inner.opens.len() >= CAPACITY {
            inner.opens.clear();
        }
        inner.opens.insert(hash, Opens { life, expires_at, since: Instant::now() });
    }

    /// Forgets everything, and what is being read.
    pub fn clear(&self) {
        let mut inner = self.0.lock();
        inner.ended += 1;
        inner.opens.clear();
    }

    /// Forgets the mailboxes that these events end.
    pub fn ended<'a>(&self, events: impl Iterator<Item = &'a Announced>) {
        let ended: HashSet<_> = events
            .filter(|event| matches!(event.event, Event::MailboxDeleted {}))
            .map(|event| &event.mailbox)
            .collect();
        if ended.is_empty() {
            return;
        }
        let mut inner = self.0.lock();
        inner.ended += 1;
        inner.opens.retain(|_, opens| !ended.contains(&opens.life.mailbox));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::cursor::{Cursor, StreamCursor};

    const NOW: Timestamp = Timestamp(1_000);

    fn key(name: &str) -> MailboxKey {
        MailboxKey::from_stored(name)
    }

    fn life(name: &str) -> Life {
        Life { mailbox: key(name), incarnation: 1 }
    }

    fn deleted(name: &str) -> Announced {
        Announced::new(key(name), Cursor::default(), StreamCursor::default(), Event::MailboxDeleted {}, None)
    }

    fn keep(cache: &TokenCache, token: u8, name: &str, expires_at: Option<Timestamp>) {
        let mark = cache.get(&[token; 32], NOW).unwrap_err();
        cache.keep(mark, [token; 32], life(name), expires_at);
    }

    #[test]
    fn the_token_of_a_mailbox_that_ended_opens_nothing() {
        let cache = TokenCache::default();
        keep(&cache, 1, "a@x", None);
        keep(&cache, 2, "b@x", None);
        cache.ended([deleted("a@x")].iter());
        assert!(cache.get(&[1; 32], NOW).is_err());
        assert_eq!(cache.get(&[2; 32], NOW).unwrap(), life("b@x"));
    }

    #[test]
    fn what_was_read_before_an_end_is_not_kept_after_it() {
        let cache = TokenCache::default();
        let mark = cache.get(&[1; 32], NOW).unwrap_err();
        cache.ended([deleted("a@x")].iter());
        cache.keep(mark, [1; 32], life("a@x"), None);
        assert!(cache.get(&[1; 32], NOW).is_err());
    }

    #[test]
    fn what_was_forgotten_is_read_again() {
        let cache = TokenCache::default();
        keep(&cache, 1, "a@x", None);
        let mark = cache.get(&[2; 32], NOW).unwrap_err();
        cache.clear();
        cache.keep(mark, [2; 32], life("b@x"), None);
        assert!(cache.get(&[1; 32], NOW).is_err() && cache.get(&[2; 32], NOW).is_err());
    }

    #[test]
    fn a_mailbox_opens_until_its_time() {
        let cache = TokenCache::default();
        keep(&cache, 1, "a@x", Some(Timestamp(2_000)));
        assert!(cache.get(&[1; 32], Timestamp(1_999)).is_ok());
        assert!(cache.get(&[1; 32], Timestamp(2_000)).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let cache = TokenCache::default();
        for n in 0..2 * CAPACITY {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            let mark = cache.get(&hash, NOW).unwrap_err();
            cache.keep(mark, hash, life("a@x"), None);
            assert!(cache.0.lock().opens.len() <= CAPACITY);
        }
    }
}
