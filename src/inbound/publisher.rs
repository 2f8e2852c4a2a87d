//! The part of a mailbox actor, and of the one for `*`, that tells subscribers: who is live, who is behind, who joins
//! when. Pure but for sending: it never waits for anyone.
//!
//! Invariant: a live subscriber gets every event after the one it last saw, in order, or is marked behind; one
//! that is behind pages from the store until it stands at the head and joins within one call of [`Publisher::join`].

use std::sync::Arc;

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

impl Subscriber {
    /// False when the word that it ended was lost, or came before it was taken in.
    fn is_there(&self) -> bool {
        !self.behind.has_ended() && self.to.connected()
    }
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

    /// Takes in a subscriber, live from `seen` on or behind. One with the same id is replaced; one that ended while it
    /// waited for this is left out.
    pub fn add(&mut self, subscribe: Subscribe, seen: Place, live: bool, hold: Option<Hold>) {
        self.remove(subscribe.id);
        let Subscribe { id, to, behind, .. } = subscribe;
        if behind.has_ended() || !to.connected() {
            return;
        }
        behind.set(!live);
        self.subscribers.push(Subscriber { id, to, behind, seen, live, _hold: hold });
    }

    /// Forgets a subscriber.
    pub fn remove(&mut self, id: SubscriptionId) {
        self.subscribers.retain(|subscriber| subscriber.id != id);
        if self.subscribers.capacity() > 8 && self.subscribers.len() * 4 < self.subscribers.capacity() {
            self.subscribers.shrink_to_fit();
        }
    }

    /// Forgets subscribers that ended or whose actor is gone.
    pub fn tidy(&mut self) {
        self.subscribers.retain(Subscriber::is_there);
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
        subscriber.behind.set(true);
        true
    }

    /// Makes a subscriber live that has seen everything through `seen`.
    pub fn join(&mut self, id: SubscriptionId, seen: Place) {
        if let Some(subscriber) = self.subscribers.iter_mut().find(|s| s.id == id) {
            subscriber.seen = seen;
            subscriber.live = true;
            subscriber.behind.set(false);
        }
    }

    fn send(&mut self, mut push: impl FnMut(&mut Subscriber) -> Option<Push>) {
        self.subscribers.retain_mut(|subscriber| {
            if !subscriber.live || subscriber.behind.has_ended() {
                return subscriber.is_there();
            }
            let Some(push) = push(subscriber) else { return true };
            match subscriber.to.try_send(push) {
                Ok(()) => true,
                Err(actix::dev::SendError::Full(_)) => {
                    subscriber.live = false;
                    subscriber.behind.set(true);
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
            subscriber.behind.set(true);
            // A full inbox holds events after which the flag is looked at.
            let _ = subscriber.to.try_send(Push::Behind(subscriber.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};

    use super::*;
    use crate::mail::cursor::Cursor;

    /// A subscriber that takes everything.
    struct Reader;

    impl Actor for Reader {
        type Context = Context<Self>;
    }

    impl Handler<Push> for Reader {
        type Result = ();

        fn handle(&mut self, _: Push, _: &mut Context<Self>) {}
    }

    #[actix::test]
    async fn who_ended_is_not_taken_in_and_not_kept() {
        let reader = Reader.start();
        let flags = [BehindFlag::default(), BehindFlag::default(), BehindFlag::default()];
        let [stays, early, late] = &flags;
        let subscribe = |behind: &BehindFlag| Subscribe {
            id: SubscriptionId::next(),
            to: reader.clone().recipient(),
            behind: behind.clone(),
            since: None,
        };
        let mut publisher = Publisher::default();
        early.end();
        flags.iter().for_each(|flag| publisher.add(subscribe(flag), 0, true, None));
        assert_eq!(publisher.len(), 2);
        late.end();
        publisher.reset(1, Position::Mailbox(Cursor::default()));
        assert_eq!((publisher.len(), stays.is_raised()), (1, false));
    }
}
