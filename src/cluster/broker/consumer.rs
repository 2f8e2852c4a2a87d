//! Takes deliveries from the queues and brings them into the store.
//!
//! [`super::node`] runs one task a queue; the broker lets one node at a time take from each. A delivery is handed to the store as
//! it comes, and acknowledged once it is committed. When the store fails, the database is asked: if it is away, the task closes its channel, by which it hands back what it has, once and in order, and takes again when the database
//! is back. If it is not, what failed is tried alone, and only what fails by itself is handed back to be counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{FutureExt, join_all};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer, ErrorKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::message::{Mail, Undecodable};
use super::metrics as names;
use super::monitor::Mode;
use super::node::{Consumers, Turn};
use super::publisher::Letter;
use super::topology::Names;
use super::window::{Held, State, Window};
use crate::mail::address::MailboxKey;
use crate::store::{Gone, Incoming, Repeat, WriteFailed};

/// How long what the store has may take before the rest is handed back; also the time in which other nodes notice an outage,
/// so that they do not get the same messages to hand them back once more.
const HAND_BACK: Duration = Duration::from_secs(5);
/// How long the broker may take to have again what is renewed.
const RENEW: Duration = Duration::from_secs(2);
/// Before something is tried again that could not be done.
const AGAIN: Duration = Duration::from_millis(20);
const BURY_AGAIN: Duration = Duration::from_secs(1);
/// A message that fails in company is tried alone as often before it counts as its own failure.
const ALONE: u32 = 3;

/// What became of a message that somebody was asked to take.
enum Verdict {
    Stored(Result<(), WriteFailed>, Gone),
    /// Whether it is with the dead letters.
    Buried(bool),
    /// Whether it is at the end of its queue again, as new.
    Renewed(bool),
    /// Some time is over.
    Again,
}

/// Why taking from a queue ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Away,
    /// Another node is to have the queue.
    LetGo,
    Stop,
}

/// One queue, for as long as one channel is open.
pub struct Task {
    all: Consumers,
    turn: Arc<Turn>,
    queue: String,
    channel: Channel,
    window: Window,
    told: mpsc::Sender<(u64, Verdict)>,
    verdicts: mpsc::Receiver<(u64, Verdict)>,
}

impl Task {
    /// On a channel of its own, whose prefetch this is.
    #[must_use]
    pub fn new(all: Consumers, queue: String, channel: Channel, turn: Arc<Turn>, prefetch: u16) -> Self {
        let (told, verdicts) = mpsc::channel(usize::from(prefetch) * 2 + 1);
        Self { all, turn, queue, channel, window: Window::default(), told, verdicts }
    }

    /// Consumes until the database is away, another node is to have the queue, or the server stops; gives back what is not done
    /// by then.
    ///
    /// # Errors
    /// The connection's; what was taken comes again.
    pub async fn consume(mut self) -> Result<End, lapin::Error> {
        let end = self.work().await;
        // Nobody comes back to what lies before them on this channel.
        self.count(self.window.tags(State::Settled).len() as u64);
        end
    }

    async fn work(&mut self) -> Result<End, lapin::Error> {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer =
            self.channel.basic_consume(self.queue.as_str().into(), "".into(), options, arguments).await?;
        let end = self.take(&mut consumer).await?;
        if end == End::LetGo {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        }
        while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
            self.window.push(held(delivery, State::Failed));
        }
        self.hand_back(end).await?;
        Ok(end)
    }

    async fn take(&mut self, consumer: &mut Consumer) -> Result<End, lapin::Error> {
        let (mut monitor, turn) = (self.all.monitor.clone(), Arc::clone(&self.turn));
        loop {
            tokio::select! {
                biased;
                mode = monitor.other_than(Mode::Take) => {
                    return Ok(if mode == Mode::Stop { End::Stop } else { End::Away });
                }
                () = turn.let_go.notified() => return Ok(End::LetGo),
                Some((tag, verdict)) = self.verdicts.recv() => {
                    self.hear(tag, verdict);
                    while let Ok((tag, verdict)) = self.verdicts.try_recv() {
                        self.hear(tag, verdict);
                    }
                    self.acknowledge().await?;
                    for tag in self.window.tags(State::Again) {
                        self.ask(tag).await;
                    }
                    if self.window.has(State::Failed) && !self.doubt().await? {
                        return Ok(End::Away);
                    }
                }
                delivery = consumer.next() => match delivery {
                    Some(delivery) => {
                        metrics::counter!(names::CONSUMED).increment(1);
                        turn.had.store(true, Ordering::Relaxed);
                        let held = held(delivery?, State::Asked);
                        let tag = held.tag;
                        self.window.push(held);
                        self.ask(tag).await;
                    }
                    // The broker cancelled it: the queue was deleted.
                    None => return Err(ErrorKind::InvalidChannel(self.channel.id()).into()),
                }
            }
        }
    }

    /// Gives a message to the store, or to the dead letters if it cannot be understood.
    async fn ask(&mut self, tag: u64) {
        let Some(held) = self.window.get(tag) else { return };
        held.state = State::Asked;
        match Mail::decode(&held.data) {
            Ok(mail) => self.store(tag, mail).await,
            Err(why) => {
                let data = held.data.clone();
                let label = if matches!(why, Undecodable::Newer(_)) { "newer" } else { "malformed" };
                self.bury(tag, data, (label, why.to_string()));
            }
        }
    }

    async fn store(&self, tag: u64, mail: Mail) {
        let gone = Gone::default();
        let (told, noted) = (self.told.clone(), gone.clone());
        let Mail { id, received_at, envelope, parts, summary, body } = mail;
        let done = Box::new(move |stored| {
            // A task that has ended gets the message again.
            let _ = told.try_send((tag, Verdict::Stored(stored, noted)));
        });
        let repeat = Repeat::Possible(gone);
        let mut next = Some(Incoming { id, received_at, envelope, body, summary, parts, repeat, done });
        while let Some(incoming) = next.take() {
            let Err(returned) = self.all.store.append(incoming) else { return };
            if self.all.store.is_closed() {
                return (returned.done)(Err(WriteFailed::Failed));
            }
            // Its queue is full: it has enough to do.
            tokio::time::sleep(AGAIN).await;
            next = Some(*returned);
        }
    }

    /// Puts `data` to the dead letters; the broker keeps the message until they have it.
    fn bury(&self, tag: u64, data: Vec<u8>, (label, reason): (&'static str, String)) {
        let told = self.told.clone();
        let done = Box::new(move |buried| {
            if buried {
                metrics::counter!(names::DEAD, "reason" => label).increment(1);
            }
            let _ = told.try_send((tag, Verdict::Buried(buried)));
        });
        let id = Mail::decode(&data).ok().map(|mail| mail.id);
        tracing::warn!(queue = self.queue, message.id = ?id.map(|id| id.to_string()), reason, "put to the dead letters");
        let queue = Names::new(&self.all.config).dead();
        self.all.publisher.send(Letter { queue, id, data, dead: Some((reason, self.queue.clone())), done });
    }

    fn hear(&mut self, tag: u64, verdict: Verdict) {
        let state = match verdict {
            Verdict::Stored(Ok(()), gone) => {
                let gone = gone.keys();
                if gone.is_empty() {
                    State::Done
                } else {
                    self.bury_parts(tag, &gone);
                    State::Asked
                }
            }
            Verdict::Stored(Err(WriteFailed::MailboxGone), _) => {
                let data = self.window.get(tag).map(|held| held.data.clone()).unwrap_or_default();
                self.bury(tag, data, ("gone", "no mailbox of it is there any more".into()));
                State::Asked
            }
            Verdict::Stored(Err(_), _) => State::Failed,
            Verdict::Buried(true) | Verdict::Renewed(true) => State::Done,
            Verdict::Buried(false) | Verdict::Renewed(false) => {
                self.later(tag);
                State::Asked
            }
            // It goes the whole way again: what is stored is known by its id.
            Verdict::Again => State::Again,
        };
        self.window.set(tag, state);
    }

    /// The mailboxes that are gone have a dead letter of their own; the others have the message.
    fn bury_parts(&self, tag: u64, gone: &[MailboxKey]) {
        let Some(mail) = self.window.peek(tag).and_then(|held| Mail::decode(&held.data).ok()) else { return };
        let names: Vec<&str> = gone.iter().map(MailboxKey::as_str).collect();
        let reason = format!("no mailbox any more: {}", names.join(", "));
        self.bury(tag, mail.part_of(gone).encode(), ("gone", reason));
    }

    /// Says after a while that it may be tried again.
    fn later(&self, tag: u64) {
        let told = self.told.clone();
        tokio::spawn(async move {
            tokio::time::sleep(BURY_AGAIN).await;
            let _ = told.send((tag, Verdict::Again)).await;
        });
    }

    /// Something failed: whether the database takes anything. If it does, what failed is tried by itself.
    async fn doubt(&mut self) -> Result<bool, lapin::Error> {
        for tag in self.window.tags(State::Failed) {
            let mut tries = 0;
            loop {
                if !self.all.monitor.is_there().await {
                    return Ok(false);
                }
                if tries == ALONE {
                    self.fail(tag).await?;
                    break;
                }
                tries += 1;
                self.ask(tag).await;
                if self.settled(tag).await != State::Failed {
                    break;
                }
            }
            self.acknowledge().await?;
        }
        Ok(true)
    }

    /// Hears verdicts until this message has its own.
    async fn settled(&mut self, tag: u64) -> State {
        loop {
            let state = self.window.peek(tag).map_or(State::Settled, |held| held.state);
            match state {
                State::Asked => {}
                State::Again => self.ask(tag).await,
                State::Failed | State::Done | State::Settled | State::Returned => return state,
            }
            // It holds a sender of its own: there is always one.
            let Some((of, verdict)) = self.verdicts.recv().await else { return State::Settled };
            self.hear(of, verdict);
        }
    }

    /// It failed by itself: the broker counts it, and puts it to the dead letters when it is too often.
    async fn fail(&mut self, tag: u64) -> Result<(), lapin::Error> {
        metrics::counter!(names::REQUEUED, "reason" => "failed").increment(1);
        tracing::error!(queue = self.queue, "a message cannot be stored although the database takes others");
        self.window.set(tag, State::Returned);
        self.channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await
    }

    fn count(&self, passed: u64) {
        self.all.condition.counts.settled(&self.queue, passed);
    }

    async fn acknowledge(&mut self) -> Result<(), lapin::Error> {
        let (acks, count, passed) = self.window.acknowledge();
        metrics::counter!(names::ACKED).increment(count as u64);
        self.count(passed);
        let acks =
            acks.into_iter().map(|ack| self.channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }));
        join_all(acks).await.into_iter().collect()
    }

    /// Waits a little for what the store has, then closes the channel: the broker puts back what is not acknowledged, in order and
    /// with what was on its way here, and counts it once. What the store still has may come to be stored meanwhile; it is known
    /// by its id when it comes again.
    async fn hand_back(&mut self, why: End) -> Result<(), lapin::Error> {
        let end = Instant::now() + HAND_BACK;
        let waits = |window: &Window| match why {
            End::Stop | End::LetGo => window.has(State::Asked),
            End::Away => [State::Asked, State::Again, State::Failed].into_iter().any(|state| window.has(state)),
        };
        while waits(&self.window) && Instant::now() < end {
            self.listen(end).await?;
        }
        self.renew_all().await?;
        let left = [State::Asked, State::Again, State::Failed].map(|state| self.window.tags(state).len());
        metrics::counter!(names::REQUEUED, "reason" => "away").increment(left.iter().sum::<usize>() as u64);
        self.channel.close(200, "handed back".into()).await
    }

    /// Outages must not add up to what is counted as failures of its own: what was handed back often begins anew, at the end
    /// of its queue.
    async fn renew_all(&mut self) -> Result<(), lapin::Error> {
        let limit = u64::from(self.all.config.delivery_limit);
        let is_often = |held: &Held| held.returned + 1 >= limit.div_ceil(2);
        for tag in [self.window.tags(State::Failed), self.window.tags(State::Again)].concat() {
            if self.all.publisher.is_ready() && self.window.peek(tag).is_some_and(is_often) {
                self.renew(tag);
            }
        }
        let end = Instant::now() + RENEW;
        while self.window.has(State::Asked) && Instant::now() < end {
            self.listen(end).await?;
        }
        Ok(())
    }

    /// Hears one verdict, until `end` at the latest; an error when the connection is gone.
    async fn listen(&mut self, end: Instant) -> Result<(), lapin::Error> {
        if let Ok(Some((tag, verdict))) = tokio::time::timeout_at(end, self.verdicts.recv()).await {
            self.hear(tag, verdict);
        }
        self.acknowledge().await
    }

    fn renew(&mut self, tag: u64) {
        let Some(held) = self.window.get(tag) else { return };
        held.state = State::Asked;
        let data = held.data.clone();
        let told = self.told.clone();
        let done = Box::new(move |renewed| {
            let _ = told.try_send((tag, Verdict::Renewed(renewed)));
        });
        let id = Mail::decode(&data).ok().map(|mail| mail.id);
        self.all.publisher.send(Letter { queue: self.queue.clone(), id, data, dead: None, done });
    }
}

fn held(delivery: Delivery, state: State) -> Held {
    Held { tag: delivery.delivery_tag, returned: returned(&delivery), data: delivery.data, state }
}

/// How often the broker had it back.
fn returned(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(&ShortString::from("x-delivery-count"))) {
        Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongUInt(count)) => u64::from(*count),
        Some(AMQPValue::ShortInt(count)) => u64::try_from(*count).unwrap_or(0),
        Some(AMQPValue::ShortShortInt(count)) => u64::try_from(*count).unwrap_or(0),
        Some(AMQPValue::ShortShortUInt(count)) => u64::from(*count),
        Some(AMQPValue::ShortUInt(count)) => u64::from(*count),
        _ => 0,
    }
}
