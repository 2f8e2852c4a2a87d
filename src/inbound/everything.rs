//! Follows all mailboxes: the one actor of a node that serves `*`, in the writer's order.
//!
//! Senders: the announcer (`AllHeard`, `Ahead`), sockets and feeds (`Subscribe`, `Page`, `Unsubscribe`). Invariant:
//! subscribers see every event after their position in the order of stamps. A batch that does not follow the last one waits
//! a moment for what lies between, which may be on its way from another node, then the store is read. A singleton behind a `Handle`: after a panic its subscribers are behind and it is built again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture, fut::ready,
};

use super::announcer::StreamShared;
use super::early::Early;
use super::publisher::{Place, Publisher, Turn};
use super::subscription::{Page, Paged, Position, Subscribe, SubscribeError, Subscribed, Unsubscribe};
use crate::cluster::redis::{Channels, Following};
use crate::mail::cursor::StreamCursor;
use crate::mail::event::Announced;
use crate::store::{Replay, Store, StoreError};

/// A batch was committed; `after` is the stamp of the event before it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AllHeard {
    pub after: i64,
    pub events: Vec<Arc<Announced>>,
}

/// The stream has reached this stamp.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ahead(pub i64);

const INBOX: usize = 4_096;
const REPLAY_PAGE: u32 = 500;
const RETRY: Duration = Duration::from_millis(250);
/// How long a gap may be filled by what is on its way.
const PATIENCE: Duration = Duration::from_millis(20);

/// See the module.
pub struct Everything {
    shared: Arc<StreamShared>,
    store: Store,
    place: Option<StreamCursor>,
    catching_up: bool,
    heard_more: bool,
    /// What came before what lies between.
    early: Early,
    /// Where the stream stood when the present gap was noticed.
    waiting_since: Option<StreamCursor>,
    /// Subscribers that wait for the first position.
    coming: usize,
    publisher: Publisher,
    channels: Channels,
    /// Keeps other nodes' events coming while there are subscribers.
    following: Option<Following>,
}

fn place_of(cursor: StreamCursor) -> Place {
    cursor.stamp.max(0).unsigned_abs()
}

impl Everything {
    #[must_use]
    pub fn new(shared: Arc<StreamShared>, store: Store, channels: Channels) -> Self {
        Self {
            shared,
            store,
            place: None,
            catching_up: false,
            heard_more: false,
            early: Early::default(),
            waiting_since: None,
            coming: 0,
            publisher: Publisher::default(),
            channels,
            following: None,
        }
    }

    fn set_place(&mut self, place: Option<StreamCursor>) {
        self.place = place;
        *self.shared.place.lock() = place.map(|place| place.stamp);
    }

    fn publish(&mut self, events: &[Arc<Announced>]) {
        let Some(mut place) = self.place else { return };
        for event in events {
            if event.stream.stamp > place.stamp {
                self.publisher.publish(place_of(event.stream), event);
                place = event.stream;
            }
        }
        self.set_place(Some(place));
    }

    /// Publishes what waited and follows now. Where something is still missing, it is waited for, then read.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        while let (Some(place), false) = (self.place, self.catching_up) {
            match self.early.next(place.stamp) {
                Some(events) => self.publish(&events),
                None if self.early.is_gap(place.stamp) && self.waiting_since.is_none() => {
                    self.waiting_since = Some(place);
                    ctx.run_later(PATIENCE, Self::mind_missing);
                    return;
                }
                None => return,
            }
        }
    }

    /// The time for a gap to be filled is over.
    fn mind_missing(&mut self, ctx: &mut Context<Self>) {
        let since = self.waiting_since.take();
        if self.place.is_some() && self.place == since && !self.catching_up {
            self.catch_up(ctx);
        } else {
            // That gap was filled; there may be another.
            self.go_on(ctx);
        }
    }

    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        self.heard_more = true;
        let Some(place) = self.place else { return };
        if std::mem::replace(&mut self.catching_up, true) {
            return;
        }
        self.heard_more = false;
        metrics::counter!(super::metrics::GAPS).increment(1);
        let store = self.store.clone();
        let read = async move { store.replay_all(place, REPLAY_PAGE).await };
        ctx.spawn(read.into_actor(self).map(Self::caught_up));
    }

    fn caught_up(read: Result<Replay, StoreError>, actor: &mut Self, ctx: &mut Context<Self>) {
        actor.catching_up = false;
        match read {
            Ok(Replay::Page { events, at: Position::Stream(at), head }) => {
                actor.publish(&events);
                // What it left out is gone.
                if actor.place.is_some_and(|place| place.stamp < at.stamp) {
                    actor.set_place(Some(at));
                }
                actor.caught_up_to(head, ctx);
            }
            Ok(Replay::Reset { at: Position::Stream(at) }) => {
                actor.publisher.reset(place_of(at), Position::Stream(at));
                actor.set_place(Some(at));
                actor.caught_up_to(true, ctx);
            }
            Ok(_) => tracing::error!("the store answered for one mailbox"),
            Err(error) => {
                tracing::warn!(%error, "cannot read missed events, trying again");
                ctx.run_later(RETRY, |actor, ctx| actor.catch_up(ctx));
            }
        }
    }

    fn caught_up_to(&mut self, head: bool, ctx: &mut Context<Self>) {
        if !head || self.heard_more {
            self.catch_up(ctx);
        } else {
            self.go_on(ctx);
        }
    }

    /// Takes in a new subscriber, once the position of the stream is known.
    fn admit(&mut self, subscribe: Subscribe, head: StreamCursor, ctx: &mut Context<Self>) -> Subscribed {
        if self.place.is_none() {
            self.set_place(Some(head));
            self.go_on(ctx);
        }
        let place = self.place.unwrap_or(head);
        let at = Position::Stream(place);
        let live = subscribe.since.is_none_or(|since| since == at);
        self.publisher.add(subscribe, place_of(place), live, None);
        // It may have ended while it waited for its turn.
        self.leave();
        Subscribed { at, live, reset: false }
    }

    /// Without subscribers it is told nothing.
    fn leave(&mut self) {
        if self.publisher.is_empty() && self.coming == 0 {
            self.shared.listening.store(false, Ordering::SeqCst);
            self.set_place(None);
            self.early.clear();
            self.following = None;
        }
    }

    fn mind_the_gap(&mut self, ctx: &mut Context<Self>) {
        if self.shared.lagging.swap(false, Ordering::SeqCst) {
            self.catch_up(ctx);
        }
    }

    fn paged(&mut self, page: &Page, turn: Turn, read: Result<Replay, StoreError>) -> Result<Paged, SubscribeError> {
        let (events, at, head, reset) = match read.map_err(|_| SubscribeError::Unavailable)? {
            Replay::Page { events, at, head } => (events, at, head, false),
            Replay::Reset { at } => (Vec::new(), at, true, true),
        };
        let (Position::Stream(cursor), Some(place)) = (at, self.place) else {
            return Err(SubscribeError::Lost);
        };
        let at_head = head && cursor.stamp >= place.stamp;
        let live = at_head && self.publisher.join(page.id, turn, place_of(cursor));
        Ok(Paged { events, at, live, reset })
    }
}

impl Actor for Everything {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(INBOX);
        self.shared.set(ctx.address());
    }
}

impl Handler<AllHeard> for Everything {
    type Result = ();

    fn handle(&mut self, heard: AllHeard, ctx: &mut Context<Self>) {
        self.mind_the_gap(ctx);
        if self.place.is_none() && self.coming == 0 {
            return;
        }
        if self.early.put(heard.after, heard.events) {
            self.go_on(ctx);
        } else {
            self.catch_up(ctx);
        }
    }
}

impl Handler<Ahead> for Everything {
    type Result = ();

    fn handle(&mut self, Ahead(stamp): Ahead, ctx: &mut Context<Self>) {
        self.mind_the_gap(ctx);
        if self.place.is_some() || self.coming > 0 {
            self.early.exists(stamp);
            self.go_on(ctx);
        }
    }
}

impl Handler<Subscribe> for Everything {
    type Result = ResponseActFuture<Self, Result<Subscribed, SubscribeError>>;

    fn handle(&mut self, subscribe: Subscribe, ctx: &mut Context<Self>) -> Self::Result {
        self.mind_the_gap(ctx);
        // Told from here on, by other nodes once their channels are confirmed; the head is read after that, so nothing
        // falls between.
        self.shared.listening.store(true, Ordering::SeqCst);
        let confirmed = self.following.get_or_insert_with(|| self.channels.follow_all()).confirmed();
        if let Some(place) = self.place {
            return Box::pin(ready(Ok(self.admit(subscribe, place, ctx))));
        }
        self.coming += 1;
        let store = self.store.clone();
        let read = async move {
            confirmed.await;
            store.stream_now().await
        };
        Box::pin(read.into_actor(self).map(|head, actor, ctx| {
            actor.coming -= 1;
            let Ok(head) = head else {
                actor.leave();
                return Err(SubscribeError::Unavailable);
            };
            Ok(actor.admit(subscribe, head, ctx))
        }))
    }
}

impl Handler<Page> for Everything {
    type Result = ResponseActFuture<Self, Result<Paged, SubscribeError>>;

    fn handle(&mut self, page: Page, ctx: &mut Context<Self>) -> Self::Result {
        self.mind_the_gap(ctx);
        let Position::Stream(since) = page.since else {
            return Box::pin(ready(Err(SubscribeError::Lost)));
        };
        let Some(turn) = self.publisher.hold_back(page.id) else {
            return Box::pin(ready(Err(SubscribeError::Lost)));
        };
        let (store, limit) = (self.store.clone(), page.limit);
        let read = async move { store.replay_all(since, limit).await };
        Box::pin(read.into_actor(self).map(move |read, actor, _| actor.paged(&page, turn, read)))
    }
}

impl Handler<Unsubscribe> for Everything {
    type Result = ();

    fn handle(&mut self, Unsubscribe(id): Unsubscribe, _: &mut Context<Self>) {
        self.publisher.remove(id);
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::announcer::Announcer;
    use crate::store::{Config, Faults};

    /// Where catching up ends with a reset; answered with whether more is read.
    #[derive(Message)]
    #[rtype(result = "bool")]
    struct ResetCame {
        heard_more: bool,
    }

    impl Handler<ResetCame> for Everything {
        type Result = bool;

        fn handle(&mut self, ResetCame { heard_more }: ResetCame, ctx: &mut Context<Self>) -> bool {
            let at = self.store.stream_head();
            self.set_place(Some(at));
            (self.catching_up, self.heard_more) = (true, heard_more);
            Self::caught_up(Ok(Replay::Reset { at: Position::Stream(at) }), self, ctx);
            self.catching_up
        }
    }

    #[actix::test]
    async fn what_was_told_while_a_reset_was_read_is_read_after_it() {
        let data = tempfile::tempdir().unwrap();
        let config = Config { data: data.path().to_owned(), ..Config::default() };
        let announcer = Announcer::default();
        let shared = Arc::clone(&announcer.stream);
        let store = Store::open(&config, Arc::new(announcer), Faults::default()).await.unwrap();
        for heard_more in [true, false] {
            let actor = Everything::new(Arc::clone(&shared), store.clone(), Channels::default()).start();
            assert_eq!(actor.send(ResetCame { heard_more }).await.unwrap(), heard_more);
        }
        store.close().await;
    }
}
