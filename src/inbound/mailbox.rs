//! One active mailbox: takes its part of each delivery and tells its subscribers what was committed, in order.
//!
//! Senders: the door (`Append`), the announcer (`Heard`), sockets and feeds (`Subscribe`, `Page`, `Unsubscribe`), the
//! registry (`Retire`). Invariant: subscribers see the dense modseq order of the mailbox; an event that is not the
//! next makes the actor read what lies between first. Without subscribers it is told nothing and knows no position.
//! It ends when the registry retires it; after a panic its subscribers are behind and the registry starts another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture, fut::ready,
};

use super::delivery::Delivery;
use super::map::Shared;
use super::publisher::{Publisher, Turn};
use super::subscription::{Page, Paged, Position, Subscribe, SubscribeError, Subscribed, Unsubscribe, is_foreign};
use crate::clock;
use crate::cluster::redis::{Channels, Following};
use crate::handoff::Refusal;
use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::event::{Announced, Event};
use crate::store::{Replay, Store, StoreError};

/// Take your part of this delivery.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append(pub Arc<Delivery>);

/// This was committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard(pub Arc<Announced>);

/// Nobody finds you any more: stop, unless you are in use. True when it stops.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Retire;

/// Forget subscribers that are gone without a word, and look for what was not told.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Tidy;

/// How many messages may wait for one mailbox: more than there are sessions by default, since each has at most one.
const INBOX: usize = 4_096;
const REPLAY_PAGE: u32 = 100;
const RETRY: Duration = Duration::from_millis(250);

/// See the module.
pub struct MailboxActor {
    key: MailboxKey,
    shared: Arc<Shared>,
    store: Store,
    /// The last event published; none while nobody follows.
    place: Option<Cursor>,
    /// Reading from the store what was missed.
    catching_up: bool,
    /// Something came that is not published yet: look again after catching up.
    heard_more: bool,
    /// Subscribers whose place is being looked up: they need what is told from then on.
    coming: usize,
    publisher: Publisher,
    channels: Channels,
    /// Keeps other nodes' events coming while there are subscribers.
    following: Option<Following>,
}

impl MailboxActor {
    #[must_use]
    pub fn new(key: MailboxKey, shared: Arc<Shared>, store: Store, channels: Channels) -> Self {
        Self {
            key,
            shared,
            store,
            place: None,
            catching_up: false,
            heard_more: false,
            coming: 0,
            publisher: Publisher::default(),
            channels,
            following: None,
        }
    }

    fn set_place(&mut self, place: Option<Cursor>) {
        self.place = place;
        self.shared.set_place(place);
    }

    /// Publishes the next event, or says that it is not the next (a gap, or another life of the mailbox).
    fn take(&mut self, event: &Arc<Announced>) -> bool {
        let Some(place) = self.place else { return true };
        let (seen, next) = (place.modseq, event.cursor.modseq);
        let first_life = place.incarnation == 0;
        if event.cursor.lineage != place.lineage && !first_life {
            // The store tells which history it has.
            return false;
        }
        if event.cursor.incarnation != place.incarnation && !first_life {
            return event.cursor.incarnation < place.incarnation;
        }
        if !first_life && next <= seen {
            return true;
        }
        if next != seen + 1 {
            return false;
        }
        if first_life {
            // The row was made under this publisher: what its subscribers saw of the address was nothing.
            self.publisher.restart();
        }
        self.publisher.publish(next, event);
        let ended = matches!(event.event, Event::MailboxDeleted {});
        self.set_place(Some(if ended { Cursor::default() } else { event.cursor }));
        if ended {
            // Those who might see only this life are forgotten.
            self.leave();
        }
        true
    }

    /// Publishes what the store says came next. It leaves out arrivals of messages that are gone since, so these values
    /// rise but are not dense.
    fn publish_missed(&mut self, event: &Arc<Announced>) {
        let Some(place) = self.place else { return };
        let first_life = place.incarnation == 0;
        let life = |cursor: Cursor| (cursor.lineage, cursor.incarnation);
        if life(event.cursor) != life(place) && !first_life {
            return;
        }
        if first_life {
            self.publisher.restart();
        } else if event.cursor.modseq <= place.modseq {
            return;
        }
        self.publisher.publish(event.cursor.modseq, event);
        let ended = matches!(event.event, Event::MailboxDeleted {});
        self.set_place(Some(if ended { Cursor::default() } else { event.cursor }));
    }

    /// Reads from the store what lies after the last published event, until there is nothing more.
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        self.heard_more = true;
        let Some(place) = self.place else { return };
        if std::mem::replace(&mut self.catching_up, true) {
            return;
        }
        self.heard_more = false;
        metrics::counter!(super::metrics::GAPS).increment(1);
        let (store, key) = (self.store.clone(), self.key.clone());
        let read = async move { store.replay(&key, place, REPLAY_PAGE).await };
        ctx.spawn(read.into_actor(self).map(Self::caught_up));
    }

    fn caught_up(read: Result<Replay, StoreError>, actor: &mut Self, ctx: &mut Context<Self>) {
        actor.catching_up = false;
        match read {
            Ok(Replay::Page { events, at: Position::Mailbox(at), head }) => {
                for event in &events {
                    actor.publish_missed(event);
                }
                let life = |cursor: &Cursor| (cursor.lineage, cursor.incarnation);
                let ahead = |place: &Cursor| life(&at) == life(place) && at.modseq > place.modseq;
                if actor.place.as_ref().is_some_and(ahead) {
                    actor.set_place(Some(at));
                }
                if !head || actor.heard_more {
                    actor.catch_up(ctx);
                }
            }
            Ok(Replay::Reset { at: Position::Mailbox(at) }) => {
                actor.publisher.reset(at.modseq, Position::Mailbox(at));
                actor.set_place(Some(at));
                actor.leave();
                if actor.heard_more {
                    actor.catch_up(ctx);
                }
            }
            Ok(_) => tracing::error!(mailbox.key = %actor.key, "the store answered for the whole stream"),
            Err(error) => {
                tracing::warn!(mailbox.key = %actor.key, %error, "cannot read missed events, trying again");
                ctx.run_later(RETRY, |actor, ctx| actor.catch_up(ctx));
            }
        }
    }

    /// Takes in a new subscriber, once the position it starts from is known: the row's, or that of this actor.
    fn admit(
        &mut self,
        subscribe: Subscribe,
        row: Cursor,
        ctx: &mut Context<Self>,
    ) -> Result<Subscribed, SubscribeError> {
        let foreign = |place| is_foreign(subscribe.incarnation, Position::Mailbox(place));
        if foreign(row) {
            self.leave();
            return Err(SubscribeError::Unknown);
        }
        let first = self.place.is_none();
        let place = self.place.unwrap_or(row);
        if first {
            self.set_place(Some(place));
        }
        if first && self.heard_more {
            self.catch_up(ctx);
        }
        // A life that this actor has not been told of yet is read from the store until it has.
        let (at, told) = if foreign(place) { (row, false) } else { (place, true) };
        let live = told && subscribe.since.is_none_or(|since| since == Position::Mailbox(at));
        self.publisher.add(subscribe, at.modseq, live, Some(self.shared.hold()));
        // It may have ended while the place was looked up.
        self.leave();
        Ok(Subscribed { at: Position::Mailbox(at), live, reset: false })
    }

    /// A page was read: join, if it reaches the head and nothing was published since.
    fn paged(&mut self, page: &Page, turn: Turn, read: Result<Replay, StoreError>) -> Result<Paged, SubscribeError> {
        let (events, at, mut live, reset) = match read.map_err(|_| SubscribeError::Unavailable)? {
            Replay::Page { events, at, head } => (events, at, head, false),
            Replay::Reset { at } => (Vec::new(), at, true, true),
        };
        if is_foreign(turn.incarnation, at) {
            self.publisher.remove(page.id);
            self.leave();
            return Err(SubscribeError::Unknown);
        }
        let (Position::Mailbox(cursor), Some(place)) = (at, self.place) else {
            return Err(SubscribeError::Lost);
        };
        // Beyond this actor's own place is fine: it will be told those events and skip this subscriber.
        let same = cursor.lineage == place.lineage;
        let at_head = same && cursor.incarnation == place.incarnation && cursor.modseq >= place.modseq;
        live = live && (at_head || place.incarnation == 0 || (same && cursor.incarnation > place.incarnation));
        live = live && self.publisher.join(page.id, turn, cursor.modseq);
        Ok(Paged { events, at, live, reset })
    }

    /// An event found the inbox full, or the actor out of the map: what it said is read from the store.
    fn mind_the_gap(&mut self, ctx: &mut Context<Self>) {
        if self.shared.lagging.swap(false, Ordering::SeqCst) {
            self.catch_up(ctx);
        }
    }

    /// Once nobody follows, and nobody is about to, it is told nothing.
    fn leave(&mut self) {
        if self.publisher.is_empty() && self.coming == 0 {
            self.shared.listening.store(false, Ordering::SeqCst);
            self.set_place(None);
            self.heard_more = false;
            self.following = None;
        }
    }
}

impl Actor for MailboxActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(INBOX);
    }
}

impl Handler<Append> for MailboxActor {
    type Result = ();

    fn handle(&mut self, Append(delivery): Append, ctx: &mut Context<Self>) {
        self.mind_the_gap(ctx);
        self.shared.used_at.store(clock::now_micros(), Ordering::Relaxed);
        if self.shared.valid_until.load(Ordering::SeqCst) <= clock::now_micros() {
            delivery.refuse(Refusal::Unavailable);
        } else {
            delivery.fill(self.shared.hold());
        }
    }
}

impl Handler<Heard> for MailboxActor {
    type Result = ();

    fn handle(&mut self, Heard(event): Heard, ctx: &mut Context<Self>) {
        self.mind_the_gap(ctx);
        if self.place.is_none() || self.catching_up {
            self.heard_more = true;
        } else if !self.take(&event) {
            self.catch_up(ctx);
        }
    }
}

impl Handler<Subscribe> for MailboxActor {
    type Result = ResponseActFuture<Self, Result<Subscribed, SubscribeError>>;

    fn handle(&mut self, subscribe: Subscribe, ctx: &mut Context<Self>) -> Self::Result {
        self.mind_the_gap(ctx);
        // From here on events are told, other nodes' once their channel is confirmed; the row is read after that, so
        // nothing falls between.
        self.shared.listening.store(true, Ordering::SeqCst);
        let following = self.following.get_or_insert_with(|| self.channels.follow(&self.key));
        let confirmed = following.confirmed();
        let foreign = |place: &Cursor| is_foreign(subscribe.incarnation, Position::Mailbox(*place));
        if let Some(place) = self.place.filter(|place| !foreign(place)) {
            return Box::pin(ready(self.admit(subscribe, place, ctx)));
        }
        self.coming += 1;
        let (store, key) = (self.store.clone(), self.key.clone());
        let hold = self.shared.hold();
        let read = async move {
            confirmed.await;
            let row = store.mailbox(&key).await;
            drop(hold);
            row
        };
        Box::pin(read.into_actor(self).map(|row, actor, ctx| {
            actor.coming -= 1;
            let Ok(row) = row else {
                actor.leave();
                return Err(SubscribeError::Unavailable);
            };
            actor.admit(subscribe, row.map(|row| row.cursor).unwrap_or_default(), ctx)
        }))
    }
}

impl Handler<Page> for MailboxActor {
    type Result = ResponseActFuture<Self, Result<Paged, SubscribeError>>;

    fn handle(&mut self, page: Page, ctx: &mut Context<Self>) -> Self::Result {
        self.mind_the_gap(ctx);
        let Position::Mailbox(since) = page.since else {
            return Box::pin(ready(Err(SubscribeError::Lost)));
        };
        let Some(turn) = self.publisher.hold_back(page.id) else {
            return Box::pin(ready(Err(SubscribeError::Lost)));
        };
        let (store, key) = (self.store.clone(), self.key.clone());
        let limit = page.limit;
        let read = async move { store.replay(&key, since, limit).await };
        Box::pin(read.into_actor(self).map(move |read, actor, _| actor.paged(&page, turn, read)))
    }
}

impl Handler<Unsubscribe> for MailboxActor {
    type Result = ();

    fn handle(&mut self, Unsubscribe(id): Unsubscribe, ctx: &mut Context<Self>) {
        self.mind_the_gap(ctx);
        self.publisher.remove(id);
        self.leave();
    }
}

impl Handler<Retire> for MailboxActor {
    type Result = bool;

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) -> bool {
        let idle = self.shared.in_use.load(Ordering::SeqCst) == 0;
        if idle {
            actix::ActorContext::stop(ctx);
        }
        idle
    }
}

impl Handler<Tidy> for MailboxActor {
    type Result = ();

    fn handle(&mut self, _: Tidy, ctx: &mut Context<Self>) {
        self.mind_the_gap(ctx);
        self.publisher.tidy();
        self.leave();
    }
}
