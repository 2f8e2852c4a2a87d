//! The part of a mailbox actor, and of the one for `*`, that tells subscribers: who is live, who is behind, who joins
//! when. Pure but for sending: it never waits for anyone.
//!
//! Invariant: a live subscriber gets every event after the one it last saw, in order, or is marked behind; one
//! that is behind pages from the store until it stands at the head and joins within one call of [`Publisher::join`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::map::Hold;
use super::subscription::{BehindFlag, Position, Push, Subscribe, SubscriptionId};
use crate::mail::event::Announced;

/// Where an event stands for one kind of publisher: a modseq, or a stamp.
pub type Place = u64;

struct Subscriber {
    id: SubscriptionId,
    to: actix::Recipient<Push>,
    behind: BehindFlag,
    /// The last place it has seen; events at or below are not for it.
    seen: Place,
    live: bool,
    _hold: Option<Hold>,
}

/// The subscribers of one publisher.
#[derive(Default)]
pub struct Publisher {
    subscribers: Vec<Subscriber>,
}

impl Publisher {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Takes in a subscriber, live from `seen` on or behind. One with the same id is replaced.
    pub fn add(&mut self, subscribe: Subscribe, seen: Place, live: bool, hold: Option<Hold>) {
        self.remove(subscribe.id);
        subscribe.behind.store(!live, Ordering::SeqCst);
        let Subscribe { id, to, behind, .. } = subscribe;
        self.subscribers.push(Subscriber { id, to, behind, seen, live, _hold: hold });
    }

    /// Forgets a subscriber.
    pub fn remove(&mut self, id: SubscriptionId) {
        self.subscribers.retain(|subscriber| subscriber.id != id);
        if self.subscribers.capacity() > 8 && self.subscribers.len() * 4 < self.subscribers.capacity() {
            self.subscribers.shrink_to_fit();
        }
    }

    /// Forgets subscribers whose actor is gone.
    pub fn tidy(&mut self) {
        self.subscribers.retain(|subscriber| subscriber.to.connected());
    }

    /// Sends an event to everyone live; who cannot take it is behind from here on, who is gone is forgotten.
    pub fn publish(&mut self, place: Place, event: &Arc<Announced>) {
        self.send(|subscriber| {
            if subscriber.seen >= place {
                return None;
            }
            subscriber.seen = place;
            Some(Push::Event(subscriber.id, Arc::clone(event)))
        });
    }

    /// Tells everyone live that the stream cannot be continued: it goes on from `at`.
    pub fn reset(&mut self, place: Place, at: Position) {
        self.send(|subscriber| {
            subscriber.seen = place;
            Some(Push::Reset(subscriber.id, at))
        });
    }

    /// The order begins anew (a mailbox without a row got one): nobody has seen anything of it.
    pub fn restart(&mut self) {
        for subscriber in &mut self.subscribers {
            subscriber.seen = 0;
        }
    }

    /// Takes a subscriber off the live list before it pages; false when it is not known.
    pub fn hold_back(&mut self, id: SubscriptionId) -> bool {
        let Some(subscriber) = self.subscribers.iter_mut().find(|s| s.id == id) else { return false };
        subscriber.live = false;
        subscriber.behind.store(true, Ordering::SeqCst);
        true
    }

    /// Makes a subscriber live that has seen everything through `seen`.
    pub fn join(&mut self, id: SubscriptionId, seen: Place) {
        if let Some(subscriber) = self.subscribers.iter_mut().find(|s| s.id == id) {
            subscriber.seen = seen;
            subscriber.live = true;
            subscriber.behind.store(false, Ordering::SeqCst);
        }
    }

    fn send(&mut self, mut push: impl FnMut(&mut Subscriber) -> Option<Push>) {
        self.subscribers.retain_mut(|subscriber| {
            if !subscriber.live {
                return subscriber.to.connected();
            }
            let Some(push) = push(subscriber) else { return true };
            match subscriber.to.try_send(push) {
                Ok(()) => true,
                Err(actix::dev::SendError::Full(_)) => {
                    subscriber.live = false;
                    subscriber.behind.store(true, Ordering::SeqCst);
                    metrics::counter!(super::metrics::SUBSCRIBERS_BEHIND).increment(1);
                    true
                }
                Err(actix::dev::SendError::Closed(_)) => false,
            }
        });
    }
}

impl Drop for Publisher {
    /// A publisher that dies (a panic in its actor) leaves nobody waiting: everyone is behind and told so.
    fn drop(&mut self) {
        for subscriber in &self.subscribers {
            subscriber.behind.store(true, Ordering::SeqCst);
            // A full inbox holds events after which the flag is looked at.
            let _ = subscriber.to.try_send(Push::Behind(subscriber.id));
        }
    }
}
