//! A subscription as a stream, for those who are no actor: SSE and `wait`.
//!
//! [`Feed::next`] gives every event after the start position, in order: from the store while it is behind, then live.
//! What is pushed counts only after an answer said that the feed is live, and until a push was lost: all else may lie
//! beyond a gap, and comes with a page.
//! Dropping it unsubscribes. Where it may see only one life of a mailbox it ends with that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Actor, Context, Handler};
use tokio::sync::mpsc;

use super::Inbound;
use super::subscription::{
    BehindFlag, Followed, Page, Position, Push, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId,
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
    ready: VecDeque<Ready>,
    at: Position,
    /// The last page or subscription that was answered said that what comes next is pushed. False while one is awaited,
    /// and after a `next` that was given up meanwhile.
    caught_up: bool,
    /// The life that may be seen has ended: nothing comes after what is ready.
    over: bool,
}

/// What `next` gives, in order.
enum Ready {
    Item(FeedItem),
    /// The end of a page: everything up to here was in it.
    At(Position),
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
        let mut feed =
            Self { inbound, followed, id, inbox, pushes, behind, overflow, ready, at, caught_up: false, over: false };
        let subscribed = feed.inbound.subscribe(&feed.followed.scope, subscribe).await?;
        feed.at = since.filter(|_| !subscribed.live).unwrap_or(subscribed.at);
        feed.subscribed(&subscribed);
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
            match self.ready.pop_front() {
                Some(Ready::Item(item)) => {
                    self.at = match &item {
                        FeedItem::Event(event) => {
                            self.over |= self.followed.ends_with(event);
                            self.position(event)
                        }
                        FeedItem::Reset(at) => *at,
                    };
                    return Ok(item);
                }
                Some(Ready::At(at)) => {
                    self.at = at;
                    continue;
                }
                None if self.over => return Err(SubscribeError::Unknown),
                None => {}
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
        !self.caught_up || self.behind.is_raised() || self.overflow.load(Ordering::SeqCst)
    }

    fn position(&self, event: &Announced) -> Position {
        match self.followed.scope {
            Scope::Mailbox(_) => Position::Mailbox(event.cursor),
            Scope::All => Position::Stream(event.stream),
        }
    }

    fn take(&mut self, push: Push) {
        match push {
            Push::Behind(_) => self.behind.set(true),
            // The page that follows has them all.
            _ if !self.caught_up || self.overflow.load(Ordering::SeqCst) => self.caught_up = false,
            // Of another life: the store is asked, and tells whether this one is over.
            Push::Event(_, event) if self.followed.is_foreign(self.position(&event)) => self.caught_up = false,
            Push::Reset(_, at) if self.followed.is_foreign(at) => self.caught_up = false,
            Push::Event(_, event) if self.is_news(&event) => self.ready.push_back(Ready::Item(FeedItem::Event(event))),
            Push::Event(..) => {}
            Push::Reset(_, at) => self.ready.push_back(Ready::Item(FeedItem::Reset(at))),
        }
    }

    /// False for what a page has given before.
    fn is_news(&self, event: &Announced) -> bool {
        match self.at {
            // Later lives have higher incarnations.
            Position::Mailbox(at) => (event.cursor.incarnation, event.cursor.modseq) > (at.incarnation, at.modseq),
            Position::Stream(at) => event.stream.stamp > at.stamp,
        }
    }

    async fn page(&mut self) -> Result<(), SubscribeError> {
        self.wait();
        let page = Page { id: self.id, since: self.at, limit: PAGE };
        let paged = match self.inbound.page(&self.followed.scope, page).await {
            Err(SubscribeError::Lost) => return self.subscribe_again().await,
            paged => paged?,
        };
        if self.followed.is_foreign(paged.at) {
            self.over = true;
            return Ok(());
        }
        self.caught_up = paged.live;
        if paged.reset {
            self.ready.push_back(Ready::Item(FeedItem::Reset(paged.at)));
        }
        self.ready.extend(paged.events.into_iter().map(|event| Ready::Item(FeedItem::Event(event))));
        self.ready.push_back(Ready::At(paged.at));
        Ok(())
    }

    /// Before an answer is awaited: until it says that the feed is live, nothing pushed counts. What the publisher
    /// pushed up to then comes before the end of the page, or after a gap; a push that is lost from here on shows in
    /// `overflow` again.
    fn wait(&mut self) {
        self.caught_up = false;
        self.overflow.store(false, Ordering::SeqCst);
    }

    fn subscribed(&mut self, subscribed: &Subscribed) {
        self.caught_up = subscribed.live;
        if subscribed.reset {
            self.ready.push_back(Ready::Item(FeedItem::Reset(subscribed.at)));
        }
    }

    /// The publisher died: its successor knows nothing of this feed.
    async fn subscribe_again(&mut self) -> Result<(), SubscribeError> {
        self.wait();
        let (to, behind, since) = (self.inbox.clone().recipient(), self.behind.clone(), Some(self.at));
        let Followed { scope, incarnation } = &self.followed;
        let subscribe = Subscribe { id: self.id, to, behind, since, incarnation: *incarnation };
        let subscribed = self.inbound.subscribe(scope, subscribe).await?;
        self.subscribed(&subscribed);
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.behind.end();
        self.inbound.unsubscribe(&self.followed.scope, self.id);
    }
}
