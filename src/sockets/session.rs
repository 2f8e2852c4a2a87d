//! The actor of one WebSocket client: its subscriptions, and the way of each event to it. The only user of
//! actix-web-actors.
//!
//! Inbox: [`Push`] from publishers, [`Item`] from the client. It is polled by [`super::drive`] only when all it made is
//! written; when it made enough for one turn, or before it asks the store for more, it waits for that. Ends with the
//! connection; its subscriptions end with it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_web_actors::ws::{self, CloseCode, CloseReason, WebsocketContext};
use bytes::Bytes;
use futures_util::Stream;

use super::Shared;
use super::asking::{self, Question};
use super::follow::{Fetch, Fetched, Held, Step, Subscription};
use super::frame::{self, Kind, Request};
use super::link::{Input, Link};
use super::wire::Item;
use crate::inbound::subscription::{Followed, Page, Push, Subscribe, SubscribeError, SubscriptionId};

/// Questions to the store that one client may have open at a time.
const MAX_FETCHES: usize = 4;

/// See the module.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Rc<Link>,
    /// From the handshake's `Authorization`; used where a request has no token of its own.
    pub(super) token: Option<Box<str>>,
    /// Ordered by id.
    pub(super) subscriptions: Vec<Subscription>,
    /// Those that have something to do, in turn.
    active: VecDeque<SubscriptionId>,
    fetches: usize,
    /// Pushes since all flags were looked at.
    pushed: usize,
    flushing: bool,
}

pub(super) type Ctx = WebsocketContext<Session>;

/// Starts the actor; what it writes comes out of the stream.
pub fn start(
    shared: Arc<Shared>,
    link: Rc<Link>,
    input: Input,
    token: Option<Box<str>>,
) -> impl Stream<Item = Result<Bytes, actix_web::Error>> + Unpin {
    // Input comes from a stream of our own, which bounds it and holds no buffer; the context's own gets nothing.
    WebsocketContext::with_factory(futures_util::stream::pending(), move |ctx| {
        ctx.set_mailbox_capacity(shared.config.inbox.max(1));
        ctx.add_stream(input);
        Session {
            shared,
            link,
            token,
            subscriptions: Vec::new(),
            active: VecDeque::new(),
            fetches: 0,
            pushed: 0,
            flushing: false,
        }
    })
}

impl Actor for Session {
    type Context = Ctx;

    fn stopped(&mut self, _: &mut Ctx) {
        while let Some(last) = self.subscriptions.len().checked_sub(1) {
            self.remove(last);
        }
    }
}

impl Handler<Push> for Session {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Ctx) {
        let (id, held) = match push {
            Push::Event(id, event) => (id, Some(Held::Event(event))),
            Push::Reset(id, at) => (id, Some(Held::Reset(at))),
            Push::Behind(id) => (id, None),
        };
        if let Some(index) = self.index(id)
            && let Some(subscription) = self.subscriptions.get_mut(index)
        {
            let step = match held {
                Some(held) => subscription.push(held),
                None => {
                    subscription.publisher_died();
                    None
                }
            };
            if let Some(step) = step {
                self.take(index, step, ctx);
            }
            self.advance(id, ctx);
        }
        self.pushed += 1;
        if self.pushed * 2 >= self.shared.config.inbox.max(2) {
            self.look_at_flags(ctx);
        }
    }
}

impl StreamHandler<Item> for Session {
    fn handle(&mut self, item: Item, ctx: &mut Ctx) {
        match item {
            Item::Text(text) => match frame::parse(&text) {
                Ok(Request::Subscribe(wanted)) => self.subscribe(wanted, ctx),
                Ok(Request::Unsubscribe { mailbox }) => self.unsubscribe(&mailbox, ctx),
                Err((detail, mailbox)) => self.refuse(Kind::BadJson, Some(&detail), mailbox.as_deref(), ctx),
            },
            Item::Binary => self.refuse(Kind::UnsupportedMediaType, None, None, ctx),
            Item::TooLarge => {
                let detail = format!("at most {} bytes", self.shared.config.max_message.0);
                self.refuse(Kind::TooLarge, Some(&detail), None, ctx);
            }
            Item::Ping(payload) => {
                ctx.pong(&payload);
                self.wrote(payload.len() + 2);
            }
            Item::Pong => {}
            Item::Close(code) => self.close(code, None, "client", ctx),
            Item::Broken(violation) => {
                let (code, what) = violation.close();
                self.close(Some(code), Some(what), "protocol", ctx);
            }
        }
        if self.is_enough() {
            self.wait_for_flush(ctx);
        }
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Session {
    /// The context asks for this handler; its stream yields nothing.
    fn handle(&mut self, _: Result<ws::Message, ws::ProtocolError>, _: &mut Ctx) {}
}

impl Session {
    pub(super) fn index(&self, id: SubscriptionId) -> Option<usize> {
        self.subscriptions.binary_search_by_key(&id, |subscription| subscription.id).ok()
    }

    pub(super) fn remove(&mut self, index: usize) {
        if index < self.subscriptions.len() {
            let subscription = self.subscriptions.remove(index);
            subscription.flag.end();
            self.shared.metrics.subscriptions.decrement(1.0);
            if let Some(followed) = subscription.followed() {
                self.shared.outside.unsubscribe(&followed.scope, subscription.id);
            }
        }
    }

    /// Takes the next steps of one subscription, until it rests, waits, or enough was written for this turn.
    pub(super) fn advance(&mut self, id: SubscriptionId, ctx: &mut Ctx) {
        while let Some(index) = self.index(id) {
            if self.is_enough() {
                self.queue(id);
                return self.wait_for_flush(ctx);
            }
            let Some(subscription) = self.subscriptions.get_mut(index) else { return };
            let step = subscription.next();
            if !self.take(index, step, ctx) {
                return;
            }
        }
    }

    /// Takes one step; false when that was the last for now.
    fn take(&mut self, index: usize, step: Step, ctx: &mut Ctx) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(index) else { return false };
        let id = subscription.id;
        match step {
            Step::Send(json) => self.text(&json, ctx),
            Step::Reset(at) => {
                let reset = frame::reset(subscription.name.as_str(), &at);
                self.text(&reset, ctx);
            }
            Step::Text(event) => {
                let text = asking::text(Arc::clone(&self.shared), event).into_actor(self);
                ctx.spawn(text.map(move |text, actor, ctx| actor.with_text(id, &text, ctx)));
                return false;
            }
            Step::Fetch(_) if self.link.unwritten.get() > 0 => {
                self.queue(id);
                self.wait_for_flush(ctx);
                return false;
            }
            Step::Fetch(_) if self.fetches >= MAX_FETCHES => {
                self.queue(id);
                return false;
            }
            Step::Fetch(fetch) => {
                subscription.waits();
                self.fetch(index, fetch, ctx);
                return false;
            }
            Step::End => {
                let name = subscription.name.clone();
                self.remove(index);
                self.refuse(Kind::NoSuchMailbox, None, Some(name.as_str()), ctx);
                return false;
            }
            Step::Rest => return false,
        }
        true
    }

    fn fetch(&mut self, index: usize, fetch: Fetch, ctx: &mut Ctx) {
        let Some(subscription) = self.subscriptions.get(index) else { return };
        let Some(Followed { scope, incarnation }) = subscription.followed().cloned() else { return };
        let id = subscription.id;
        let question = match fetch {
            Fetch::Page(since) => {
                self.shared.metrics.pages.increment(1);
                Question::Page(Page { id, since, limit: self.shared.config.page.max(1) })
            }
            Fetch::Resubscribe(since) => {
                let behind = subscription.flag.clone();
                Question::Subscribe(Subscribe {
                    id,
                    to: ctx.address().recipient(),
                    behind,
                    since: Some(since),
                    incarnation,
                })
            }
        };
        self.fetches += 1;
        let answer = asking::fetch(Arc::clone(&self.shared), scope, question).into_actor(self);
        ctx.spawn(answer.map(move |answer, actor, ctx| actor.fetched(id, answer, ctx)));
    }

    fn fetched(&mut self, id: SubscriptionId, answer: Result<Fetched, SubscribeError>, ctx: &mut Ctx) {
        self.fetches = self.fetches.saturating_sub(1);
        if let Some(index) = self.index(id)
            && let Some(subscription) = self.subscriptions.get_mut(index)
        {
            match answer {
                Ok(fetched) => {
                    if let Some(at) = subscription.fetched(fetched) {
                        self.take(index, Step::Reset(at), ctx);
                    }
                    self.advance(id, ctx);
                }
                Err(SubscribeError::Unknown) => {
                    subscription.end();
                    self.advance(id, ctx);
                }
                Err(error) => {
                    subscription.failed();
                    // Forgotten by a publisher that is there: at once. Else give it time.
                    let delay = if error == SubscribeError::Lost { Duration::ZERO } else { self.shared.config.retry.0 };
                    ctx.run_later(delay, move |actor, ctx| actor.retry(id, ctx));
                }
            }
        }
        self.go_on(ctx);
    }

    fn retry(&mut self, id: SubscriptionId, ctx: &mut Ctx) {
        if let Some(index) = self.index(id)
            && let Some(subscription) = self.subscriptions.get_mut(index)
        {
            subscription.retry();
            self.advance(id, ctx);
        }
    }

    fn with_text(&mut self, id: SubscriptionId, text: &str, ctx: &mut Ctx) {
        if let Some(index) = self.index(id)
            && let Some(subscription) = self.subscriptions.get_mut(index)
        {
            if let Some(json) = subscription.with_text(text) {
                self.text(&json, ctx);
            }
            self.advance(id, ctx);
        }
    }

    /// Gives each that has something to do a turn.
    fn go_on(&mut self, ctx: &mut Ctx) {
        for _ in 0..self.active.len() {
            if self.is_enough() {
                return self.wait_for_flush(ctx);
            }
            if let Some(id) = self.active.pop_front() {
                self.advance(id, ctx);
            }
        }
    }

    /// The inbox was filling: a publisher may have found it full, for any of the subscriptions.
    fn look_at_flags(&mut self, ctx: &mut Ctx) {
        self.pushed = 0;
        let flagged = self.subscriptions.iter().filter(|subscription| subscription.is_flagged());
        for id in flagged.map(|subscription| subscription.id).collect::<Vec<_>>() {
            self.queue(id);
        }
        self.go_on(ctx);
    }

    /// Gives it a turn later.
    fn queue(&mut self, id: SubscriptionId) {
        if !self.active.contains(&id) {
            self.active.push_back(id);
        }
    }

    fn is_enough(&self) -> bool {
        self.flushing || self.link.unwritten.get() as u64 >= self.shared.config.max_unwritten.0.max(1)
    }

    /// Does nothing more until the client took what was made.
    fn wait_for_flush(&mut self, ctx: &mut Ctx) {
        if std::mem::replace(&mut self.flushing, true) {
            return;
        }
        let link = Rc::clone(&self.link);
        // The drive polls again once it wrote everything.
        let flushed =
            std::future::poll_fn(move |_| if link.unwritten.get() == 0 { Poll::Ready(()) } else { Poll::Pending });
        ctx.wait(flushed.into_actor(self).map(|(), actor, ctx| {
            actor.flushing = false;
            actor.go_on(ctx);
        }));
    }

    pub(super) fn text(&self, text: &str, ctx: &mut Ctx) {
        self.shared.metrics.frames.increment(1);
        ctx.text(text);
        self.wrote(text.len());
    }

    fn wrote(&self, bytes: usize) {
        self.link.unwritten.set(self.link.unwritten.get() + bytes);
    }

    /// Answers a request with an error; `mailbox` as the client wrote it.
    pub(super) fn refuse(&mut self, kind: Kind, detail: Option<&str>, mailbox: Option<&str>, ctx: &mut Ctx) {
        self.shared.metrics.errors.increment(1);
        self.text(&frame::error(kind, detail, mailbox), ctx);
    }

    fn close(&self, code: Option<u16>, description: Option<&str>, reason: &'static str, ctx: &mut Ctx) {
        self.link.reason.set(reason);
        ctx.close(
            code.map(|code| CloseReason { code: CloseCode::from(code), description: description.map(str::to_owned) }),
        );
        ctx.stop();
    }
}
