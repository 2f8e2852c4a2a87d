//! Following events for `wait` and SSE: the feed of the receiving side, filtered by a search, ended by a stop.

use std::sync::Arc;

use super::error::{Kind, Problem};
use super::state::State;
use crate::inbound::feed::{Feed, FeedItem};
use crate::inbound::subscription::{Followed, SubscribeError};
use crate::mail::event::{Announced, Event};
use crate::mail::query::{Candidate, Query};
use crate::store::Position;

/// A feed with a filter.
pub struct Following {
    state: State,
    feed: Feed,
    query: Option<Query>,
    /// Taken from the feed and not judged yet: kept here, so that a cancelled `next` does not lose it.
    pending: Option<Arc<Announced>>,
}

/// What comes next.
pub enum Next {
    Event(Arc<Announced>),
    /// The position cannot be continued; this is the present one.
    Reset(Position),
    /// The server stops.
    Stopping,
}

impl Following {
    /// Begins at `since`, or at the present position.
    ///
    /// # Errors
    /// `no-such-mailbox`, `unavailable`.
    pub async fn begin(
        state: &State,
        followed: Followed,
        since: Option<Position>,
        query: Option<Query>,
    ) -> Result<Self, Problem> {
        let feed = state.inbound.feed(followed, since).await?;
        Ok(Self { state: state.clone(), feed, query, pending: None })
    }

    /// The position after the last event.
    #[must_use]
    pub fn at(&self) -> Position {
        self.feed.at()
    }

    /// The next event that the filter lets through. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// As [`Following::begin`]; `no-such-mailbox` once the life of the mailbox that the caller's token opens is over.
    pub async fn next(&mut self) -> Result<Next, Problem> {
        loop {
            if let Some(event) = self.pending.clone() {
                let passes = self.passes(&event).await;
                self.pending = None;
                if passes {
                    return Ok(Next::Event(event));
                }
            }
            let item = tokio::select! {
                biased;
                () = self.state.stopped() => return Ok(Next::Stopping),
                item = self.feed.next() => item?,
            };
            match item {
                FeedItem::Reset(at) => return Ok(Next::Reset(at)),
                FeedItem::Event(event) => self.pending = Some(event),
            }
        }
    }

    async fn passes(&self, event: &Announced) -> bool {
        let Some(query) = &self.query else { return true };
        let (Event::Received { message } | Event::Updated { message }) = &event.event else { return true };
        let text = if query.needs_text() { self.state.inbound.text(event).await } else { "".into() };
        query.matches(&Candidate { listed: message, text: &text })
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Unknown => Kind::NoSuchMailbox.into(),
            SubscribeError::Unavailable | SubscribeError::Lost => Kind::Unavailable.into(),
        }
    }
}
