//! The part of a mailbox actor, and of the one for `*`, that tells subscribers: who is live, who is behind, who joins
//! when. Pure but for sending: it never waits for anyone.
//!
//! Invariant: a live subscriber gets every event after the one it last saw, in order, or is marked behind; one
//! that is behind pages from the store until it stands at the head and joins within one call of [`Publisher::join`].
//! One that may see only one life of a mailbox is forgotten when that is over, and sent nothing of another.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;

use super::map::Hold;
use super::subscription::{BehindFlag, Position, Push, Subscribe, SubscriptionId, is_foreign};
use crate::mail::event::{Announced, Event};

/// Where an event stands for one kind of publisher: a modseq, or a stamp.
pub type Place = u64;

struct Subscriber {
    id: SubscriptionId,
    to: actix::Recipient<Push>,
    behind: BehindFlag,
    /// The last place it has seen; events at or below are not for it.
    seen: Place,
    live: bool,
    /// As in [`Subscribe`].
    incarnation: Option<u64>,
    /// Its last page, or zero.
    turn: u64,
    _hold: Option<Hold>,
}

impl Subscriber {
    /// False when the word that it ended was lost, or came before it was taken in.
    fn is_there(&self) -> bool {
        !self.behind.has_ended() && self.to.connected()
    }

    /// Whether it may see nothing after this event.
    fn is_over_after(&self, event: &Announced) -> bool {
        let deleted = matches!(event.event, Event::MailboxDeleted {});
        self.incarnation.is_some_and(|own| match event.cursor.incarnation.cmp(&own) {
            Less => false,
            Equal => deleted,
            Greater => true,
        })
    }

    /// Makes it ask; it hears then that it is forgotten.
    fn give_up(&self) {
        self.behind.set(true);
        // A full inbox holds events after which the flag is looked at.
        let _ = self.to.try_send(Push::Behind(self.id));
    }
}

/// A page that was begun: only the last one of a subscriber may let it join, since one whose answer nobody awaits any
/// more may have read farther than what its subscriber got.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    number: u64,
    /// As in [`Subscribe`].
    pub incarnation: Option<u64>,
}

/// The subscribers of one publisher.
#[derive(Default)]
pub struct Publisher {
    subscribers: Vec<Subscriber>,
    /// Pages begun.
    turns: u64,
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
        let Subscribe { id, to, behind, incarnation, .. } = subscribe;
        if behind.has_ended() || !to.connected() {
            return;
        }
        behind.set(!live);
        self.subscribers.push(Subscriber { id, to, behind, seen, live, incarnation, turn: 0, _hold: hold });
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
            if subscriber.incarnation.is_some_and(|own| own != event.cursor.incarnation) || subscriber.seen >= place {
                return None;
            }
            subscriber.seen = place;
            Some(Push::Event(subscriber.id, Arc::clone(event)))
        });
        self.subscribers.retain(|subscriber| {
            let over = subscriber.is_over_after(event);
            // Who was sent the last event of its life knows.
            let knows = subscriber.incarnation == Some(event.cursor.incarnation) && subscriber.live;
            if over && !knows {
                subscriber.give_up();
            }
            !over
        });
    }

    /// Tells everyone live that the stream cannot be continued: it goes on from `at`.
    pub fn reset(&mut self, place: Place, at: Position) {
        self.send(|subscriber| {
            subscriber.seen = place;
            (!is_foreign(subscriber.incarnation, at)).then_some(Push::Reset(subscriber.id, at))
        });
        self.subscribers.retain(|subscriber| {
            let over = is_foreign(subscriber.incarnation, at);
            if over {
                subscriber.give_up();
            }
            !over
        });
    }

    /// The order begins anew (a mailbox without a row got one): nobody has seen anything of it.
    pub fn restart(&mut self) {
        for subscriber in &mut self.subscribers {
            subscriber.seen = 0;
        }
    }

    /// Takes a subscriber off the live list before it pages; none when it is not known.
    pub fn hold_back(&mut self, id: SubscriptionId) -> Option<Turn> {
        let subscriber = self.subscribers.iter_mut().find(|s| s.id == id)?;
        self.turns += 1;
        subscriber.turn = self.turns;
        subscriber.live = false;
        subscriber.behind.set(true);
        Some(Turn { number: self.turns, incarnation: subscriber.incarnation })
    }

    /// Makes a subscriber live whose page of this turn brings it to `seen`; false when it began another one since, or is
    /// not known.
    #[must_use]
    pub fn join(&mut self, id: SubscriptionId, turn: Turn, seen: Place) -> bool {
        let Some(subscriber) = self.subscribers.iter_mut().find(|s| s.id == id && s.turn == turn.number) else {
            return false;
        };
        subscriber.seen = seen;
        subscriber.live = true;
        subscriber.behind.set(false);
        true
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
                    // It may have taken everything before the flag was up: nothing else would make it look.
                    let _ = subscriber.to.try_send(Push::Behind(subscriber.id));
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
        self.subscribers.iter().for_each(Subscriber::give_up);
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};
    use parking_lot::Mutex;

    use super::*;
    use crate::mail::address::MailboxKey;
    use crate::mail::cursor::{Cursor, StreamCursor};

    /// A subscriber that takes everything and notes it.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<(SubscriptionId, String)>>>);

    impl Actor for Log {
        type Context = Context<Self>;
    }

    impl Handler<Push> for Log {
        type Result = ();

        fn handle(&mut self, push: Push, _: &mut Context<Self>) {
            let place = |cursor: Cursor| format!("{}.{}", cursor.incarnation, cursor.modseq);
            self.0.lock().push(match push {
                Push::Event(id, event) => (id, place(event.cursor)),
                Push::Behind(id) => (id, "behind".to_owned()),
                Push::Reset(id, Position::Mailbox(at)) => (id, format!("reset {}", place(at))),
                Push::Reset(id, Position::Stream(_)) => (id, "reset of the stream".to_owned()),
            });
        }
    }

    /// Answered when everything before it was handled.
    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Done;

    impl Handler<Done> for Log {
        type Result = ();

        fn handle(&mut self, _: Done, _: &mut Context<Self>) {}
    }

    impl Log {
        async fn of(&self, reader: &actix::Addr<Self>, id: SubscriptionId) -> Vec<String> {
            reader.send(Done).await.unwrap();
            self.0.lock().iter().filter(|(of, _)| *of == id).map(|(_, what)| what.clone()).collect()
        }
    }

    fn event(incarnation: u64, modseq: u64, event: Event) -> Arc<Announced> {
        let cursor = Cursor { lineage: 1, incarnation, modseq };
        let mailbox = MailboxKey::from_stored("a@x.test");
        Arc::new(Announced::new(mailbox, cursor, StreamCursor::default(), event, None))
    }

    #[actix::test]
    async fn who_may_see_one_life_is_sent_nothing_of_another_and_forgotten_with_its_own() {
        let log = Log::default();
        let reader = log.clone().start();
        let mut publisher = Publisher::default();
        let mut follow = |incarnation, seen, live| {
            let (id, behind) = (SubscriptionId::next(), BehindFlag::default());
            let to = reader.clone().recipient();
            publisher.add(Subscribe { id, to, behind: behind.clone(), since: None, incarnation }, seen, live, None);
            (id, behind)
        };
        let (any, _) = follow(None, 4, true);
        let (first, first_flag) = follow(Some(1), 4, true);
        let (late, late_flag) = follow(Some(1), 4, false);
        let (next, _) = follow(Some(2), 0, true);
        publisher.publish(5, &event(1, 5, Event::Expired { through_uid: 1 }));
        publisher.publish(6, &event(1, 6, Event::MailboxDeleted {}));
        assert_eq!((publisher.len(), first_flag.is_raised(), late_flag.is_raised()), (2, false, true));
        publisher.restart();
        publisher.publish(1, &event(2, 1, Event::Expired { through_uid: 1 }));
        // The end of the second life was missed: its reset is not for who might see that only.
        publisher.reset(0, Position::Mailbox(Cursor { lineage: 1, incarnation: 3, modseq: 0 }));
        assert_eq!(publisher.len(), 1);
        let of = |id| log.of(&reader, id);
        assert_eq!(of(any).await, ["1.5", "1.6", "2.1", "reset 3.0"]);
        assert_eq!(of(first).await, ["1.5", "1.6"]);
        assert_eq!(of(late).await, ["behind"]);
        assert_eq!(of(next).await, ["2.1", "behind"]);
    }

    #[actix::test]
    async fn only_the_last_page_lets_a_subscriber_join() {
        let reader = Log::default().start();
        let mut publisher = Publisher::default();
        let (id, behind) = (SubscriptionId::next(), BehindFlag::default());
        let to = reader.recipient();
        let subscribe = Subscribe { id, to, behind: behind.clone(), since: None, incarnation: None };
        publisher.add(subscribe, 0, false, None);
        let (given_up, last) = (publisher.hold_back(id).unwrap(), publisher.hold_back(id).unwrap());
        assert!(!publisher.join(id, given_up, 9));
        assert!(behind.is_raised());
        assert!(publisher.join(id, last, 5));
        assert!(!behind.is_raised());
        assert!(!publisher.join(id, given_up, 9));
        publisher.remove(id);
        assert!(publisher.hold_back(id).is_none());
        assert!(!publisher.join(id, last, 5));
    }

    #[actix::test]
    async fn who_ended_is_not_taken_in_and_not_kept() {
        let reader = Log::default().start();
        let flags = [BehindFlag::default(), BehindFlag::default(), BehindFlag::default()];
        let [stays, early, late] = &flags;
        let subscribe = |behind: &BehindFlag| Subscribe {
            id: SubscriptionId::next(),
            to: reader.clone().recipient(),
            behind: behind.clone(),
            since: None,
            incarnation: None,
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
