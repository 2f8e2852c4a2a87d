//! Follows all mailboxes: the one actor of a node that serves `*`, in the writer's order.
//!
//! Senders: the announcer (`AllHeard`), sockets and feeds (`Subscribe`, `Page`, `Unsubscribe`). Invariant: subscribers
//! see every event after their position in the order of stamps; a batch that does not follow the last one makes it read
//! the store first. A singleton behind a `Handle`: after a panic its subscribers are behind and it is built again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture, fut::ready,
};

use super::announcer::StreamShared;
use super::publisher::{Place, Publisher, Turn};
use super::subscription::{Page, Paged, Position, Subscribe, SubscribeError, Subscribed, Unsubscribe};
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

const INBOX: usize = 1_024;
const REPLAY_PAGE: u32 = 500;
const RETRY: Duration = Duration::from_millis(250);

/// See the module.
pub struct Everything {
    shared: Arc<StreamShared>,
    store: Store,
    place: Option<StreamCursor>,
    catching_up: bool,
    heard_more: bool,
    publisher: Publisher,
}

fn place_of(cursor: StreamCursor) -> Place {
    cursor.stamp.max(0).unsigned_abs()
}

impl Everything {
    #[must_use]
    pub fn new(shared: Arc<StreamShared>, store: Store) -> Self {
        let publisher = Publisher::default();
        Self { shared, store, place: None, catching_up: false, heard_more: false, publisher }
    }

    fn publish(&mut self, events: &[Arc<Announced>]) {
        for event in events {
            if self.place.is_some_and(|place| event.stream.stamp > place.stamp) {
                self.publisher.publish(place_of(event.stream), event);
                self.place = Some(event.stream);
            }
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
            Ok(Replay::Page { events, head, .. }) => {
                actor.publish(&events);
                if !head || actor.heard_more {
                    actor.catch_up(ctx);
                }
            }
            Ok(Replay::Reset { at: Position::Stream(at) }) => {
                actor.publisher.reset(place_of(at), Position::Stream(at));
                actor.place = Some(at);
                if actor.heard_more {
                    actor.catch_up(ctx);
                }
            }
            Ok(Replay::Reset { .. }) => tracing::error!("the store answered for one mailbox"),
            Err(error) => {
                tracing::warn!(%error, "cannot read missed events, trying again");
                ctx.run_later(RETRY, |actor, ctx| actor.catch_up(ctx));
            }
        }
    }

    /// Without subscribers it is told nothing.
    fn leave(&mut self) {
        if self.publisher.is_empty() {
            self.shared.listening.store(false, Ordering::SeqCst);
            self.place = None;
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
        match self.place {
            None => {}
            Some(_) if self.catching_up => self.heard_more = true,
            // `after` below the place: the batch, or its beginning, was read from the store already.
            Some(place) if heard.after <= place.stamp => self.publish(&heard.events),
            Some(_) => self.catch_up(ctx),
        }
    }
}

impl Handler<Subscribe> for Everything {
    type Result = Result<Subscribed, SubscribeError>;

    fn handle(&mut self, subscribe: Subscribe, ctx: &mut Context<Self>) -> Self::Result {
        self.mind_the_gap(ctx);
        // Told from here on; the head is read after that, so nothing falls between.
        self.shared.listening.store(true, Ordering::SeqCst);
        let place = *self.place.get_or_insert_with(|| self.store.stream_head());
        let at = Position::Stream(place);
        let live = subscribe.since.is_none_or(|since| since == at);
        self.publisher.add(subscribe, place_of(place), live, None);
        // It may have ended while it waited for its turn.
        self.leave();
        Ok(Subscribed { at, live, reset: false })
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
            (self.place, self.catching_up, self.heard_more) = (Some(at), true, heard_more);
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
            let actor = Everything::new(Arc::clone(&shared), store.clone()).start();
            assert_eq!(actor.send(ResetCame { heard_more }).await.unwrap(), heard_more);
        }
        store.close().await;
    }
}
