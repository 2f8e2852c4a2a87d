//! How others follow a mailbox or all of them: the messages between a subscriber (a WebSocket actor, SSE, `wait`)
//! and the publisher (a mailbox actor, or the one for `*`).
//!
//! A subscription is live, or behind: a full inbox, or a `since` that needs replay, takes it off the publisher's
//! live list and raises the flag it shares with its subscriber, which then pages from the store at its own pace with
//! [`Page`] until it joins again at the head. Nobody waits for it and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use actix::{Message, Recipient};
use metrics::Gauge;

use crate::mail::event::{Announced, Event};
pub use crate::store::tokens::Life;
pub use crate::store::{Position, Scope};

/// What a subscriber follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    pub scope: Scope,
    /// The only incarnation of the mailbox that it may see: it ends with it. None where mailboxes are open.
    pub incarnation: Option<u64>,
}

impl Followed {
    /// Whether `at` lies in a life of the mailbox that is not the subscriber's.
    #[must_use]
    pub fn is_foreign(&self, at: Position) -> bool {
        is_foreign(self.incarnation, at)
    }

    /// Whether this is the last event of all that the subscriber may see.
    #[must_use]
    pub fn ends_with(&self, event: &Announced) -> bool {
        self.incarnation == Some(event.cursor.incarnation) && matches!(event.event, Event::MailboxDeleted {})
    }
}

impl From<Scope> for Followed {
    /// All its lives.
    fn from(scope: Scope) -> Self {
        Self { scope, incarnation: None }
    }
}

impl From<Life> for Followed {
    fn from(Life { mailbox, incarnation }: Life) -> Self {
        Self { scope: Scope::Mailbox(mailbox), incarnation: Some(incarnation) }
    }
}

/// Whether `at` lies in another life than the one that may be seen.
#[must_use]
pub fn is_foreign(incarnation: Option<u64>, at: Position) -> bool {
    match (incarnation, at) {
        (Some(own), Position::Mailbox(at)) => at.incarnation != own,
        (Some(_), Position::Stream(_)) => true,
        (None, _) => false,
    }
}

/// Names one subscription in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

impl SubscriptionId {
    /// The next id of this process.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a publisher sends to a live subscriber, by `try_send`.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum Push {
    /// The next event of the subscription, in order.
    Event(SubscriptionId, Arc<Announced>),
    /// The subscription was taken off the live list (its publisher died): page from the last event seen.
    Behind(SubscriptionId),
    /// The cursor cannot be continued (the mailbox lives again under another incarnation): reload from `Position`.
    Reset(SubscriptionId, Position),
}

/// Raised by the publisher when it took the subscription off its live list; lowered by it when the subscription joins
/// again. The subscriber looks at it after each event it has dealt with.
///
/// While it is raised, the subscription counts in the flag's gauge: whether its subscriber knows or is stuck in a
/// write makes no difference. What ended does not count.
#[derive(Clone, Debug)]
pub struct BehindFlag(Arc<Behind>);

#[derive(Debug)]
struct Behind {
    state: AtomicU8,
    gauge: Gauge,
}

const LIVE: u8 = 0;
const BEHIND: u8 = 1;
const ENDED: u8 = 2;

impl BehindFlag {
    /// A lowered flag that counts in `gauge`.
    #[must_use]
    pub fn counted_in(gauge: Gauge) -> Self {
        Self(Arc::new(Behind { state: AtomicU8::new(LIVE), gauge }))
    }

    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == BEHIND
    }

    /// Raises or lowers it; nothing happens once the subscription ended.
    pub fn set(&self, raised: bool) {
        let (from, to, change) = if raised { (LIVE, BEHIND, 1.0) } else { (BEHIND, LIVE, -1.0) };
        if self.0.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.0.gauge.increment(change);
        }
    }

    /// The subscription ended: from now on it is neither live nor behind, and its publisher forgets it.
    pub fn end(&self) {
        self.0.end();
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == ENDED
    }
}

impl Default for BehindFlag {
    /// A lowered flag that nobody counts.
    fn default() -> Self {
        Self::counted_in(Gauge::noop())
    }
}

impl Behind {
    fn end(&self) {
        if self.state.swap(ENDED, Ordering::SeqCst) == BEHIND {
            self.gauge.increment(-1.0);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts following; a second one with the same id replaces the first. Give it to `Inbound::subscribe`.
#[derive(Debug, Message)]
#[rtype(result = "Result<Subscribed, SubscribeError>")]
pub struct Subscribe {
    pub id: SubscriptionId,
    pub to: Recipient<Push>,
    pub behind: BehindFlag,
    /// None: live from the present position.
    pub since: Option<Position>,
    /// As in [`Followed`]: nothing of another life is pushed or paged, and the subscription is forgotten when its own ends.
    pub incarnation: Option<u64>,
}

/// Where the subscription stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The present position of the mailbox or stream.
    pub at: Position,
    /// False: `behind` is raised, fetch pages from `since` on.
    pub live: bool,
    /// `since` cannot be continued: tell the client to reload; the subscription is live from `at`.
    pub reset: bool,
}

/// Asks for what comes after `since`, at most `limit` events, and joins the live list if that reaches the head.
#[derive(Debug, Message)]
#[rtype(result = "Result<Paged, SubscribeError>")]
pub struct Page {
    pub id: SubscriptionId,
    pub since: Position,
    pub limit: u32,
}

/// A page of missed events.
#[derive(Clone, Debug)]
pub struct Paged {
    pub events: Vec<Arc<Announced>>,
    /// Position after these events: `since` of the next page.
    pub at: Position,
    /// The subscription is live again: the next event comes as a [`Push`].
    pub live: bool,
    /// As in [`Subscribed`].
    pub reset: bool,
}

/// Stops following; give it to `Inbound::unsubscribe`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Unsubscribe(pub SubscriptionId);

/// Why following is not possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The address is not one that receives mail here, or the life of the mailbox that may be seen is over.
    #[error("no such mailbox")]
    Unknown,
    /// The publisher does not know this subscription (it was started anew after a failure): subscribe again with the
    /// last position as `since`.
    #[error("subscription lost")]
    Lost,
    /// The publisher or the store is busy or starting again: try again shortly.
    #[error("not available now")]
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_counts_until_it_is_lowered_or_ends() {
        let value = Arc::new(AtomicU64::new(0));
        let count = || f64::from_bits(value.load(Ordering::SeqCst));
        let flags: Vec<_> = (0..3).map(|_| BehindFlag::counted_in(Gauge::from_arc(Arc::clone(&value)))).collect();
        flags.iter().chain(&flags).for_each(|flag| flag.set(true));
        assert_eq!(count(), 3.0);
        let [lowered, ended, dropped] = flags.try_into().unwrap();
        lowered.set(false);
        lowered.set(false);
        ended.end();
        ended.end();
        ended.set(true);
        assert_eq!((count(), ended.is_raised(), ended.has_ended()), (1.0, false, true));
        drop(dropped.clone());
        assert_eq!(count(), 1.0, "another one still holds it");
        drop(dropped);
        assert_eq!(count(), 0.0);
    }
}
