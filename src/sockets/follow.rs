//! One subscription as its socket sees it: what was sent last, what waits to be sent, whether the publisher pushes what
//! comes next or the store must be asked. Pure; [`super::session`] carries out the [`Step`]s.
//!
//! Invariant: events leave in the order of their positions, none twice, and the next one asked for is always the one
//! after the last that left. Whatever cannot be kept (too much waits, a publisher died) is read from the store again.
//! What a token opened ends with that life of the mailbox.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frame::Name;
use crate::inbound::subscription::{BehindFlag, Followed, Paged, Position, Scope, Subscribed, SubscriptionId};
use crate::mail::event::{Announced, Event};
use crate::mail::query::{Candidate, Query};

/// Pushes that are kept while an answer is awaited; more are read from the store afterwards.
const MAX_HELD: usize = 64;

/// What the publisher said, not dealt with yet.
#[derive(Clone, Debug)]
pub enum Held {
    Event(Arc<Announced>),
    Reset(Position),
    /// The end of a page: everything up to here was in it.
    At(Position),
}

/// What the session is to do next.
#[derive(Debug)]
pub enum Step {
    /// Write this event.
    Send(Arc<str>),
    /// Write a reset with this cursor.
    Reset(Position),
    /// Fetch the text of this event, then call [`Subscription::with_text`].
    Text(Arc<Announced>),
    /// Ask the publisher, call [`Subscription::waits`], and [`Subscription::fetched`] when it answers.
    Fetch(Fetch),
    /// What it may see is over: say so and forget it.
    End,
    /// Nothing until something comes.
    Rest,
}

/// What to ask the publisher for: all that comes after a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    Page(Position),
    /// It does not know the subscription any more.
    Resubscribe(Position),
}

/// Its answer.
#[derive(Clone, Debug)]
pub enum Fetched {
    Page(Paged),
    Resubscribed(Subscribed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first answer is awaited; nothing was sent.
    Opening,
    /// Nothing is awaited.
    Idle,
    /// A page or a new subscription is awaited, or the time to ask again.
    Waiting,
    /// The text of the first event in the queue is awaited.
    Text,
    /// Nothing comes any more.
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub name: Name,
    pub flag: BehindFlag,
    followed: Option<Followed>,
    last: Position,
    filter: Option<Box<Query>>,
    queue: VecDeque<Held>,
    stage: Stage,
    /// The publisher pushes what comes after the queue.
    caught_up: bool,
    /// While waiting: a push could not be kept.
    missed: bool,
    /// The publisher does not know this subscription any more.
    lost: bool,
}

impl Subscription {
    /// One that was asked for; `filter` drops `message.received` that do not match.
    #[must_use]
    pub fn new(id: SubscriptionId, name: Name, filter: Option<Query>, flag: BehindFlag) -> Self {
        Self {
            id,
            name,
            flag,
            followed: None,
            last: Position::Mailbox(crate::mail::cursor::Cursor::default()),
            filter: filter.map(Box::new),
            queue: VecDeque::new(),
            stage: Stage::Opening,
            caught_up: false,
            missed: false,
            lost: false,
        }
    }

    /// What it follows; None until it was opened.
    #[must_use]
    pub const fn followed(&self) -> Option<&Followed> {
        self.followed.as_ref()
    }

    /// The last position that was sent or passed over.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.last
    }

    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.stage == Stage::Opening
    }

    /// The publisher raised the flag, and nothing was done about it yet.
    #[must_use]
    pub fn is_flagged(&self) -> bool {
        self.stage == Stage::Idle && self.caught_up && self.flag.is_raised()
    }

    /// It was opened: from now on [`Subscription::position`] is where it stands. True: say `reset` after `subscribed`.
    pub fn opened(&mut self, followed: Followed, since: Option<Position>, answer: Subscribed) -> bool {
        self.followed = Some(followed);
        self.last = match since {
            Some(since) if !answer.live && !answer.reset => since,
            _ => answer.at,
        };
        if !answer.live {
            self.queue.clear();
        }
        self.joined(answer.live);
        answer.reset
    }

    /// What was asked for came. Some: say `reset` with this position first.
    #[must_use]
    pub fn fetched(&mut self, fetched: Fetched) -> Option<Position> {
        let (reset, at) = match fetched {
            Fetched::Resubscribed(answer) => {
                if !answer.live {
                    self.queue.clear();
                }
                self.joined(answer.live);
                (answer.reset, answer.at)
            }
            Fetched::Page(page) => {
                let held = std::mem::take(&mut self.queue);
                self.queue.extend(page.events.into_iter().map(Held::Event));
                self.queue.push_back(Held::At(page.at));
                self.joined(page.live);
                // Only if live does what was pushed meanwhile follow the page without a gap.
                self.queue.extend(held.into_iter().filter(|_| page.live));
                (page.reset, page.at)
            }
        };
        if self.is_foreign(at) {
            self.end();
            return None;
        }
        reset.then(|| self.moved(at))
    }

    /// A page or a new subscription was asked for.
    pub fn waits(&mut self) {
        self.stage = Stage::Waiting;
        self.lost = false;
        self.missed = false;
    }

    /// The life of the mailbox that it may see is over.
    pub fn end(&mut self) {
        self.queue = VecDeque::new();
        self.stage = Stage::Over;
    }

    /// It could not be had: subscribe anew when [`Subscription::retry`] is called.
    pub fn failed(&mut self) {
        self.lost = true;
        // What was held, or comes until then, may lie beyond a gap that the answer would have filled.
        self.queue.clear();
        self.missed = true;
    }

    /// Time to ask again.
    pub fn retry(&mut self) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Idle;
        }
    }

    /// The publisher died: what it would have pushed is read from the store.
    pub fn publisher_died(&mut self) {
        self.lost = true;
        self.missed = true;
        if matches!(self.stage, Stage::Idle | Stage::Text) {
            self.caught_up = false;
        }
    }

    /// Something was pushed: what to do at once, if anything.
    #[must_use]
    pub fn push(&mut self, held: Held) -> Option<Step> {
        let awaited = matches!(self.stage, Stage::Opening | Stage::Waiting);
        if if awaited { self.missed } else { !self.caught_up } {
            return None;
        }
        if self.stage == Stage::Idle && self.queue.is_empty() {
            return self.judge(held);
        }
        if self.queue.len() < MAX_HELD {
            self.queue.push_back(held);
        } else if awaited {
            self.missed = true;
        } else {
            self.caught_up = false;
        }
        None
    }

    /// The next thing to do.
    #[must_use]
    pub fn next(&mut self) -> Step {
        match self.stage {
            Stage::Idle => {}
            Stage::Over => return Step::End,
            Stage::Opening | Stage::Waiting | Stage::Text => return Step::Rest,
        }
        while let Some(held) = self.queue.pop_front() {
            if let Some(step) = self.judge(held) {
                return step;
            }
        }
        self.queue = VecDeque::new();
        if self.caught_up && self.flag.is_raised() {
            self.caught_up = false;
        }
        match (self.caught_up, self.lost) {
            (true, _) => Step::Rest,
            (false, false) => Step::Fetch(Fetch::Page(self.last)),
            (false, true) => Step::Fetch(Fetch::Resubscribe(self.last)),
        }
    }

    /// The text that [`Step::Text`] asked for: the event to write, if it matches.
    #[must_use]
    pub fn with_text(&mut self, text: &str) -> Option<Arc<str>> {
        if self.stage != Stage::Text {
            return None;
        }
        self.stage = Stage::Idle;
        let Some(Held::Event(event)) = self.queue.pop_front() else { return None };
        self.last = self.position_of(&event);
        self.matches(&event, text).then(|| self.json(&event))
    }

    /// What to do about one thing; None when there is nothing to do.
    fn judge(&mut self, held: Held) -> Option<Step> {
        match held {
            Held::At(at) => {
                if self.follows(at) != Some(false) {
                    self.last = at;
                }
                None
            }
            Held::Reset(at) if self.is_foreign(at) => self.ask_again(),
            Held::Reset(at) if self.follows(at) == Some(false) => None,
            Held::Reset(at) => Some(Step::Reset(self.moved(at))),
            Held::Event(event) => self.judge_event(event),
        }
    }

    fn judge_event(&mut self, event: Arc<Announced>) -> Option<Step> {
        let at = self.position_of(&event);
        match self.follows(at) {
            _ if self.is_foreign(at) => return self.ask_again(),
            Some(true) => {}
            Some(false) => return None,
            None => return self.ask_again(),
        }
        if event.text.is_none() && self.wants_text_of(&event) {
            self.queue.push_front(Held::Event(Arc::clone(&event)));
            self.stage = Stage::Text;
            return Some(Step::Text(event));
        }
        self.last = at;
        if self.followed.as_ref().is_some_and(|followed| followed.ends_with(&event)) {
            self.end();
        }
        let text = event.text.as_deref().unwrap_or_default();
        self.matches(&event, text).then(|| Step::Send(self.json(&event)))
    }

    /// Another life of the mailbox, unannounced: the store tells whether this can be continued.
    fn ask_again(&mut self) -> Option<Step> {
        self.queue.clear();
        self.caught_up = false;
        None
    }

    fn is_foreign(&self, at: Position) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.is_foreign(at))
    }

    /// Whether `at` lies after the last position; None when the two cannot be compared.
    fn follows(&self, at: Position) -> Option<bool> {
        match (self.last, at) {
            (Position::Mailbox(last), Position::Mailbox(at)) if last.incarnation == 0 => {
                Some(at.incarnation != 0 || at.modseq > last.modseq)
            }
            (Position::Mailbox(last), Position::Mailbox(at)) => {
                let same = (last.lineage, last.incarnation) == (at.lineage, at.incarnation);
                same.then_some(at.modseq > last.modseq)
            }
            (Position::Stream(last), Position::Stream(at)) => {
                (last.lineage == at.lineage || last.lineage == 0).then_some(at.stamp > last.stamp)
            }
            _ => None,
        }
    }

    fn position_of(&self, event: &Announced) -> Position {
        match self.scope() {
            Some(Scope::All) => Position::Stream(event.stream),
            _ => Position::Mailbox(event.cursor),
        }
    }

    fn scope(&self) -> Option<&Scope> {
        self.followed.as_ref().map(|followed| &followed.scope)
    }

    fn json(&self, event: &Announced) -> Arc<str> {
        match self.scope() {
            Some(Scope::All) => event.stream_json(),
            _ => event.json(),
        }
    }

    fn wants_text_of(&self, event: &Announced) -> bool {
        matches!(event.event, Event::Received { .. }) && self.filter.as_ref().is_some_and(|query| query.needs_text())
    }

    fn matches(&self, event: &Announced, text: &str) -> bool {
        match (&self.filter, &event.event) {
            (Some(query), Event::Received { message }) => query.matches(&Candidate { listed: message, text }),
            _ => true,
        }
    }

    /// An answer came: the publisher pushes from here on, or not.
    fn joined(&mut self, live: bool) {
        // A push that could not be kept, or word of the publisher's death, may have overtaken the answer.
        self.caught_up = live && !self.missed;
        self.missed = false;
        self.stage = Stage::Idle;
    }

    fn moved(&mut self, at: Position) -> Position {
        self.last = at;
        at
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::inbound::subscription::Life;
    use crate::mail::address::MailboxKey;
    use crate::mail::cursor::{Cursor, StreamCursor};

    fn at(incarnation: u64, modseq: u64) -> Position {
        Position::Mailbox(Cursor { lineage: 1, incarnation, modseq })
    }

    fn event(incarnation: u64, modseq: u64) -> Arc<Announced> {
        let cursor = Cursor { lineage: 1, incarnation, modseq };
        let event = Event::Expired { through_uid: modseq };
        Arc::new(Announced::new(MailboxKey::from_stored("a@x.test"), cursor, StreamCursor::default(), event, None))
    }

    fn following(since: u64, live: bool) -> Subscription {
        let key = MailboxKey::from_stored("a@x.test");
        let mut subscription =
            Subscription::new(SubscriptionId::next(), Name::Mailbox(key.clone()), None, BehindFlag::default());
        subscription.flag.set(!live);
        let answer = Subscribed { at: at(1, since), live, reset: false };
        assert!(!subscription.opened(Scope::Mailbox(key).into(), Some(at(1, since)), answer));
        subscription
    }

    /// Bound to incarnation 1, and live.
    fn bound() -> Subscription {
        let life = Life { mailbox: MailboxKey::from_stored("a@x.test"), incarnation: 1 };
        let name = Name::Mailbox(life.mailbox.clone());
        let mut subscription = Subscription::new(SubscriptionId::next(), name, None, BehindFlag::default());
        assert!(!subscription.opened(life.into(), None, Subscribed { at: at(1, 3), live: true, reset: false }));
        subscription
    }

    #[test]
    fn what_a_token_opened_ends_with_that_life() {
        let mut subscription = bound();
        let cursor = Cursor { lineage: 1, incarnation: 1, modseq: 4 };
        let mailbox = MailboxKey::from_stored("a@x.test");
        let deleted = Announced::new(mailbox, cursor, StreamCursor::default(), Event::MailboxDeleted {}, None);
        assert!(matches!(subscription.push(Held::Event(Arc::new(deleted))), Some(Step::Send(_))));
        assert!(subscription.push(Held::Event(event(2, 1))).is_none());
        assert!(matches!(subscription.next(), Step::End));
    }

    #[test]
    fn nothing_of_another_life_is_sent() {
        for other in [Held::Event(event(2, 1)), Held::Reset(at(2, 0))] {
            let mut subscription = bound();
            assert!(subscription.push(other).is_none());
            assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Page(at(1, 3)))));
            let page = Paged { events: vec![event(2, 1)], at: at(2, 1), live: true, reset: true };
            assert_eq!(subscription.fetched(Fetched::Page(page)), None);
            assert!(matches!(subscription.next(), Step::End));
        }
        // The zero cursor can be continued by any life.
        let mut subscription = bound();
        subscription.last = Position::Mailbox(Cursor::default());
        assert!(subscription.push(Held::Event(event(2, 1))).is_none());
        assert_eq!(steps(&mut subscription).0, Vec::<u64>::new());
    }

    fn number(json: &str) -> u64 {
        serde_json::from_str::<serde_json::Value>(json).unwrap()["through_uid"].as_u64().unwrap()
    }

    /// Takes steps until it rests or asks; what was sent, and the question.
    fn steps(subscription: &mut Subscription) -> (Vec<u64>, Option<Fetch>) {
        let mut sent = Vec::new();
        loop {
            match subscription.next() {
                Step::Send(json) => sent.push(number(&json)),
                Step::Fetch(fetch) => {
                    subscription.waits();
                    return (sent, Some(fetch));
                }
                Step::Rest => return (sent, None),
                other => panic!("{other:?}"),
            }
        }
    }

    fn page(events: std::ops::RangeInclusive<u64>, live: bool) -> Fetched {
        let end = *events.end();
        let events = events.map(|n| event(1, n)).collect();
        Fetched::Page(Paged { events, at: at(1, end), live, reset: false })
    }

    #[test]
    fn what_overtakes_the_answer_follows_it() {
        let key = MailboxKey::from_stored("a@x.test");
        let mut subscription =
            Subscription::new(SubscriptionId::next(), Name::Mailbox(key.clone()), None, BehindFlag::default());
        assert!(subscription.push(Held::Event(event(1, 6))).is_none());
        let answer = Subscribed { at: at(1, 5), live: true, reset: false };
        subscription.opened(Scope::Mailbox(key).into(), None, answer);
        assert_eq!((subscription.position(), steps(&mut subscription)), (at(1, 5), (vec![6], None)));
    }

    #[test]
    fn a_page_goes_before_what_was_pushed_meanwhile_and_nothing_twice() {
        let mut subscription = following(0, false);
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Page(at(1, 0)))));
        for n in 3..=5 {
            assert!(subscription.push(Held::Event(event(1, n))).is_none());
        }
        subscription.flag.set(false);
        assert_eq!(subscription.fetched(page(1..=3, true)), None);
        assert_eq!(steps(&mut subscription), (vec![1, 2, 3, 4, 5], None));
        assert!(matches!(subscription.push(Held::Event(event(1, 6))), Some(Step::Send(_))));
        assert!(subscription.push(Held::Event(event(1, 6))).is_none(), "a repeat");
    }

    #[test]
    fn what_cannot_be_kept_is_read_from_the_store() {
        let mut subscription = following(0, false);
        steps(&mut subscription);
        for n in 2..=200 {
            assert!(subscription.push(Held::Event(event(1, n))).is_none());
        }
        assert!(subscription.queue.len() <= MAX_HELD);
        subscription.flag.set(false);
        assert_eq!(subscription.fetched(page(1..=1, true)), None);
        let (sent, fetch) = steps(&mut subscription);
        assert_eq!((sent, fetch), ((1..=65).collect(), Some(Fetch::Page(at(1, 65)))));
    }

    #[test]
    fn another_life_is_not_mixed_with_this_one() {
        let mut subscription = following(5, true);
        assert!(subscription.push(Held::Event(event(2, 6))).is_none());
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Page(at(1, 5)))));
        assert!(subscription.push(Held::Event(event(1, 6))).is_none());
        let reset = Paged { events: Vec::new(), at: at(2, 6), live: true, reset: true };
        assert_eq!(subscription.fetched(Fetched::Page(reset)), Some(at(2, 6)));
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Page(at(2, 6)))), "what was held is of the old life");
        let nothing = Paged { events: Vec::new(), at: at(2, 6), live: true, reset: false };
        assert_eq!(subscription.fetched(Fetched::Page(nothing)), None);
        assert_eq!(steps(&mut subscription), (vec![], None));
        assert!(matches!(subscription.push(Held::Event(event(2, 7))), Some(Step::Send(_))));
    }

    #[test]
    fn a_dead_publisher_is_asked_anew() {
        let mut subscription = following(5, true);
        subscription.publisher_died();
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Resubscribe(at(1, 5)))));
        subscription.publisher_died();
        let live = Subscribed { at: at(1, 5), live: true, reset: false };
        assert_eq!(subscription.fetched(Fetched::Resubscribed(live)), None);
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Resubscribe(at(1, 5)))), "it died once more");
        assert_eq!(subscription.fetched(Fetched::Resubscribed(live)), None);
        assert_eq!(steps(&mut subscription), (vec![], None));
        subscription.flag.set(true);
        assert!(subscription.is_flagged());
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Page(at(1, 5)))));
        subscription.failed();
        assert_eq!(steps(&mut subscription), (vec![], None), "not before it is time");
        subscription.retry();
        assert_eq!(steps(&mut subscription), (vec![], Some(Fetch::Resubscribe(at(1, 5)))));
    }

    /// A publisher as `inbound` has it: pushes while live, is asked for pages, may find the inbox full, may die.
    #[derive(Default)]
    struct Played {
        head: u64,
        live: bool,
        known: bool,
        inbox: VecDeque<Option<Held>>,
        question: Option<Fetch>,
    }

    proptest! {
        #[test]
        fn everything_arrives_once_and_in_order(acts in prop::collection::vec((0u8..8, 1u64..9), 0..400)) {
            let mut subscription = following(0, true);
            let mut played = Played { live: true, known: true, ..Played::default() };
            let mut sent = Vec::new();
            let settle = (0..2_000).map(|n| (2 + (n % 3) as u8, 8));
            for (act, count) in acts.into_iter().chain(settle) {
                match act {
                    // Mail comes in, with an inbox of 8.
                    0 | 1 => for _ in 0..count {
                        played.head += 1;
                        if played.live && played.inbox.len() < 8 {
                            played.inbox.push_back(Some(Held::Event(event(1, played.head))));
                        } else if played.live {
                            played.live = false;
                            subscription.flag.set(true);
                        }
                    },
                    // The session takes from its inbox.
                    2 => for _ in 0..count {
                        match played.inbox.pop_front() {
                            Some(Some(held)) => if let Some(Step::Send(json)) = subscription.push(held) {
                                sent.push(number(&json));
                            },
                            Some(None) => subscription.publisher_died(),
                            None => {}
                        }
                    },
                    3 => {
                        let (more, question) = steps(&mut subscription);
                        sent.extend(more);
                        played.question = played.question.or(question);
                    }
                    // A question is answered.
                    4 => match played.question.take() {
                        Some(Fetch::Page(Position::Mailbox(since))) if played.known => {
                            let end = played.head.min(since.modseq + count);
                            played.live = end == played.head;
                            subscription.flag.set(!played.live);
                            prop_assert!(subscription.fetched(page(since.modseq + 1..=end, played.live)).is_none());
                        }
                        Some(Fetch::Page(_)) => subscription.failed(),
                        Some(Fetch::Resubscribe(since)) => {
                            played.known = true;
                            played.live = since == at(1, played.head);
                            subscription.flag.set(!played.live);
                            let answer = Subscribed { at: at(1, played.head), live: played.live, reset: false };
                            prop_assert!(subscription.fetched(Fetched::Resubscribed(answer)).is_none());
                        }
                        None => subscription.retry_if_failed(),
                    },
                    // The publisher dies; word of it may find the inbox full.
                    5 => {
                        (played.live, played.known) = (false, false);
                        subscription.flag.set(true);
                        if played.inbox.len() < 8 {
                            played.inbox.push_back(None);
                        }
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(sent, (1..=played.head).collect::<Vec<_>>());
        }
    }

    impl Subscription {
        /// The timer that `failed` starts.
        fn retry_if_failed(&mut self) {
            if self.lost {
                self.retry();
            }
        }
    }
}
