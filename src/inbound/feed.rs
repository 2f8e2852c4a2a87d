//! A subscription as a stream, for those who are no actor: SSE and `wait`.
//!
//! [`Feed::next`] gives every event after the start position, in order: from the store while it is behind, then live.
//! Dropping it unsubscribes. Where it may see only one life of a mailbox it ends with that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Actor, Context, Handler};
use tokio::sync::mpsc;

use super::Inbound;
use super::subscription::{
    BehindFlag, Followed, Page, Position, Push, Scope, Subscribe, SubscribeError, SubscriptionId,
};
use crate::mail::cursor::Cursor;
use crate::mail::event::Announced;

/// What a feed gives.
#[derive(Clone, Debug)]
pub enum FeedItem {
    Event(Arc<Announced>),
    /// The position could not be continued: reload; the feed goes on from here.
    Reset(Position),
}

/// See the module.
pub struct Feed {
    inbound: Inbound,
    followed: Followed,
    id: SubscriptionId,
    inbox: actix::Addr<Inbox>,
    pushes: mpsc::Receiver<Push>,
    behind: BehindFlag,
    /// Pushes that found the channel full were dropped.
    overflow: Arc<AtomicBool>,
    ready: VecDeque<FeedItem>,
    at: Position,
    /// The life that may be seen has ended: nothing comes after what is ready.
    over: bool,
}

/// Turns pushes into items of a channel.
struct Inbox {
    to: mpsc::Sender<Push>,
    overflow: Arc<AtomicBool>,
}

const CAPACITY: usize = 64;
const PAGE: u32 = 100;

impl Actor for Inbox {
    type Context = Context<Self>;
}

impl Handler<Push> for Inbox {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Context<Self>) {
        match self.to.try_send(push) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.overflow.store(true, Ordering::SeqCst),
            Err(mpsc::error::TrySendError::Closed(_)) => actix::ActorContext::stop(ctx),
        }
    }
}

impl Feed {
    /// Starts following after `since`, or after the present.
    ///
    /// # Errors
    /// When the address receives no mail here, or the publisher does not answer.
    pub async fn open(inbound: Inbound, followed: Followed, since: Option<Position>) -> Result<Self, SubscribeError> {
        let (to, pushes) = mpsc::channel(CAPACITY);
        let overflow = Arc::new(AtomicBool::new(false));
        let inbox = Inbox { to, overflow: Arc::clone(&overflow) }.start();
        let (id, behind, incarnation) = (SubscriptionId::next(), BehindFlag::default(), followed.incarnation);
        let subscribe = Subscribe { id, to: inbox.clone().recipient(), behind: behind.clone(), since, incarnation };
        let (ready, at) = (VecDeque::new(), since.unwrap_or(Position::Mailbox(Cursor::default())));
        // Made before the answer is awaited: who gives up meanwhile drops it, which unsubscribes.
        let mut feed = Self { inbound, followed, id, inbox, pushes, behind, overflow, ready, at, over: false };
        let subscribed = feed.inbound.subscribe(&feed.followed.scope, subscribe).await?;
        feed.at = since.filter(|_| !subscribed.live).unwrap_or(subscribed.at);
        if subscribed.reset {
            feed.ready.push_back(FeedItem::Reset(subscribed.at));
        }
        Ok(feed)
    }

    /// The position of the last item given.
    #[must_use]
    pub const fn at(&self) -> Position {
        self.at
    }

    /// The next item; waits until there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When neither the publisher nor the store answers: open a new feed with `since` = [`Feed::at`]. `Unknown` when the
    /// life of the mailbox that may be seen is over.
    pub async fn next(&mut self) -> Result<FeedItem, SubscribeError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.at = match &item {
                    FeedItem::Event(event) => {
                        self.over |= self.followed.ends_with(event);
                        self.position(event)
                    }
                    FeedItem::Reset(at) => *at,
                };
                return Ok(item);
            }
            if self.over {
                return Err(SubscribeError::Unknown);
            }
            match self.pushes.try_recv() {
                Ok(push) => self.take(push),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(SubscribeError::Unavailable),
                Err(mpsc::error::TryRecvError::Empty) if self.is_behind() => self.page().await?,
                Err(mpsc::error::TryRecvError::Empty) => match self.pushes.recv().await {
                    Some(push) => self.take(push),
                    None => return Err(SubscribeError::Unavailable),
                },
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.behind.is_raised() || self.overflow.load(Ordering::SeqCst)
    }

    fn position(&self, event: &Announced) -> Position {
        match self.followed.scope {
            Scope::Mailbox(_) => Position::Mailbox(event.cursor),
            Scope::All => Position::Stream(event.stream),
        }
    }

    fn take(&mut self, push: Push) {
        match push {
            // Pushes after a lost one would leave a hole: the page that follows has them all.
            _ if self.overflow.load(Ordering::SeqCst) => {}
            // Of another life: the store is asked, and tells whether this one is over.
            Push::Event(_, event) if self.followed.is_foreign(self.position(&event)) => self.behind.set(true),
            Push::Reset(_, at) if self.followed.is_foreign(at) => self.behind.set(true),
            Push::Event(_, event) if self.is_news(&event) => self.ready.push_back(FeedItem::Event(event)),
            Push::Event(..) => {}
            Push::Behind(_) => self.behind.set(true),
            Push::Reset(_, at) => self.ready.push_back(FeedItem::Reset(at)),
        }
    }

    /// False for what a page has given before.
    fn is_news(&self, event: &Announced) -> bool {
        match self.at {
            Position::Mailbox(at) => at.incarnation != event.cursor.incarnation || event.cursor.modseq > at.modseq,
            Position::Stream(at) => event.stream.stamp > at.stamp,
        }
    }

    async fn page(&mut self) -> Result<(), SubscribeError> {
        self.overflow.store(false, Ordering::SeqCst);
        let page = Page { id: self.id, since: self.at, limit: PAGE };
        let paged = match self.inbound.page(&self.followed.scope, page).await {
            Err(SubscribeError::Lost) => return self.subscribe_again().await,
            paged => paged?,
        };
        if self.followed.is_foreign(paged.at) {
            self.over = true;
            return Ok(());
        }
        if paged.reset {
            self.ready.push_back(FeedItem::Reset(paged.at));
        }
        self.ready.extend(paged.events.into_iter().map(FeedItem::Event));
        if self.ready.is_empty() {
            self.at = paged.at;
        }
        Ok(())
    }

    /// The publisher died: its successor knows nothing of this feed.
    async fn subscribe_again(&mut self) -> Result<(), SubscribeError> {
        let (to, behind, since) = (self.inbox.clone().recipient(), self.behind.clone(), Some(self.at));
        let Followed { scope, incarnation } = &self.followed;
        let subscribe = Subscribe { id: self.id, to, behind, since, incarnation: *incarnation };
        let subscribed = self.inbound.subscribe(scope, subscribe).await?;
        if subscribed.reset {
            self.ready.push_back(FeedItem::Reset(subscribed.at));
        }
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.behind.end();
        self.inbound.unsubscribe(&self.followed.scope, self.id);
    }
}
