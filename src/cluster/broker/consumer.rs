//! Takes deliveries from the queues and brings them into the store.
//!
//! One task a queue, on one connection of the node; the broker lets one node at a time take from each queue. A delivery is
//! handed to the store as it comes, and acknowledged once it is committed. When the store fails, the database is asked: if it is
//! away, the task cancels its consumer, hands back what it has, once, and takes again when the database is back. If it is not,
//! what failed is tried alone, and only what fails by itself is handed back to be counted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, ErrorKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::config::BrokerConfig;
use super::link::{self, Pauses};
use super::message::{Mail, Undecodable};
use super::monitor::{Mode, Monitor};
use super::publisher::{Letter, Publisher};
use super::topology::{self, LARGE_PREFETCH, Names};
use super::window::{Held, State, Window};
use super::{Condition, metrics as names};
use crate::mail::address::MailboxKey;
use crate::store::{Gone, Incoming, Repeat, Store, WriteFailed};

/// How long what the store has may take before the rest is handed back; also the time in which other nodes notice an outage,
/// so that they do not get the same messages to hand them back once more.
const HAND_BACK: Duration = Duration::from_secs(3);
/// Before something is tried again that could not be done.
const AGAIN: Duration = Duration::from_millis(20);
const BURY_AGAIN: Duration = Duration::from_secs(1);
/// A message that fails in company is tried alone as often before it counts as its own failure.
const ALONE: u32 = 3;
/// Between two looks at the length of the queues.
const DEPTHS: Duration = Duration::from_secs(5);

/// What all of a node's consumers have.
#[derive(Clone)]
pub struct Consumers {
    pub config: BrokerConfig,
    pub store: Store,
    pub monitor: Monitor,
    pub publisher: Publisher,
    pub condition: Arc<Condition>,
}

impl Consumers {
    /// Keeps a connection and takes from every queue, until the server stops.
    pub async fn run(mut self) {
        let mut pauses = Pauses::default();
        while self.monitor.mode() != Mode::Stop {
            let why = match link::connect(&self.config, "consumer").await {
                Ok(connection) => match self.serve(&connection).await {
                    Ok(()) => {
                        let _ = connection.close(200, "the server stops".into()).await;
                        return;
                    }
                    Err(trouble) => {
                        pauses.reset();
                        trouble.to_string()
                    }
                },
                Err(no_link) => no_link.to_string(),
            };
            tracing::warn!(reason = why, "taking from the broker was interrupted");
            let pause = tokio::time::sleep(pauses.next());
            futures_util::future::select(std::pin::pin!(self.monitor.stopped()), std::pin::pin!(pause)).await;
        }
    }

    /// Ends without an error when the server stops.
    async fn serve(&self, connection: &Connection) -> Result<(), topology::Trouble> {
        topology::declare(connection, &self.config).await?;
        let queues = Names::new(&self.config);
        let mut tasks = FuturesUnordered::new();
        for queue in queues.mail() {
            let channel = connection.create_channel().await?;
            let large = queue == queues.large();
            let prefetch = if large { LARGE_PREFETCH } else { self.config.prefetch };
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (told, verdicts) = mpsc::channel(usize::from(prefetch) * 2 + 1);
            let task = Task { all: self.clone(), queue, channel, window: Window::default(), told, verdicts };
            tasks.push(task.run());
        }
        let lengths = self.watch_depths(connection, &queues);
        let mut lengths = std::pin::pin!(lengths);
        loop {
            tokio::select! {
                ended = tasks.next() => match ended {
                    Some(ended) => ended?,
                    None => return Ok(()),
                },
                failed = &mut lengths => return Err(failed.into()),
            }
        }
    }

    /// Looks at the lengths of the queues now and then; ends with the connection.
    async fn watch_depths(&self, connection: &Connection, queues: &Names) -> lapin::Error {
        loop {
            if let Err(error) = self.depths(connection, queues).await {
                return error;
            }
            tokio::time::sleep(DEPTHS).await;
        }
    }

    async fn depths(&self, connection: &Connection, queues: &Names) -> Result<(), lapin::Error> {
        let channel = connection.create_channel().await?;
        let (mut mail, mut large) = (0, 0);
        for queue in queues.mail() {
            let (waiting, _) = topology::look(&channel, &queue).await?;
            if queue == queues.large() { large += u64::from(waiting) } else { mail += u64::from(waiting) }
        }
        let (dead, _) = topology::look(&channel, &queues.dead()).await?;
        let dead = u64::from(dead);
        self.condition.depths(mail + large, dead);
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        for (queue, depth) in [("mail", mail), ("large", large), ("dead", dead)] {
            metrics::gauge!(names::DEPTH, "queue" => queue).set(depth as f64);
        }
        channel.close(200, "looked".into()).await
    }
}

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
enum End {
    Away,
    Stop,
}

/// One queue.
struct Task {
    all: Consumers,
    queue: String,
    channel: Channel,
    window: Window,
    told: mpsc::Sender<(u64, Verdict)>,
    verdicts: mpsc::Receiver<(u64, Verdict)>,
}

impl Task {
    /// Takes from the queue until the server stops or the connection fails.
    async fn run(mut self) -> Result<(), lapin::Error> {
        loop {
            if self.all.monitor.other_than(Mode::Rest).await == Mode::Stop {
                return Ok(());
            }
            if let End::Stop = self.consume().await? {
                return Ok(());
            }
        }
    }

    /// Consumes once: until the database is away or the server stops. Then nothing is in hand any more.
    async fn consume(&mut self) -> Result<End, lapin::Error> {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer =
            self.channel.basic_consume(self.queue.as_str().into(), "".into(), options, arguments).await?;
        let end = self.take(&mut consumer).await?;
        self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        // What had come before the broker heard of it.
        while let Some(delivery) = consumer.next().await {
            let held = held(delivery?, State::Failed);
            self.window.push(held);
        }
        self.hand_back().await?;
        Ok(end)
    }

    async fn take(&mut self, consumer: &mut Consumer) -> Result<End, lapin::Error> {
        let mut monitor = self.all.monitor.clone();
        loop {
            tokio::select! {
                biased;
                mode = monitor.other_than(Mode::Take) => {
                    return Ok(if mode == Mode::Stop { End::Stop } else { End::Away });
                }
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
        self.send(Letter { queue, id, data, dead: Some((reason, self.queue.clone())), done });
    }

    fn send(&self, letter: Letter) {
        if let Err(returned) = self.all.publisher.send(letter) {
            (returned.done)(false);
        }
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
        let mut mail = mail;
        mail.parts.retain(|part| gone.contains(&part.mailbox));
        let names: Vec<&str> = gone.iter().map(MailboxKey::as_str).collect();
        let reason = format!("no mailbox any more: {}", names.join(", "));
        self.bury(tag, mail.encode(), ("gone", reason));
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
                State::Failed | State::Done | State::Settled => return state,
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
        self.window.set(tag, State::Settled);
        self.channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await
    }

    async fn acknowledge(&mut self) -> Result<(), lapin::Error> {
        let (acks, count) = self.window.acknowledge();
        metrics::counter!(names::ACKED).increment(count as u64);
        let acks =
            acks.into_iter().map(|ack| self.channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }));
        join_all(acks).await.into_iter().collect()
    }

    /// Gives everything back that the store did not take, once and in order, and waits for what the store still has.
    async fn hand_back(&mut self) -> Result<(), lapin::Error> {
        let end = Instant::now() + HAND_BACK;
        while self.window.has(State::Asked) && Instant::now() < end {
            self.listen(end).await?;
        }
        // Nothing is in hand that could be done sooner, and other nodes notice meanwhile that the database is away.
        if self.window.has(State::Failed) && self.all.monitor.mode() == Mode::Rest {
            tokio::time::sleep_until(end).await;
        }
        self.give_back().await?;
        // The database or the broker may be away for long: what fails then is handed back, too.
        while self.window.has(State::Asked) {
            self.listen(Instant::now() + BURY_AGAIN).await?;
            self.give_back().await?;
        }
        Ok(())
    }

    async fn give_back(&mut self) -> Result<(), lapin::Error> {
        for tag in self.window.tags(State::Again) {
            self.window.set(tag, State::Failed);
        }
        let limit = u64::from(self.all.config.delivery_limit);
        for tag in self.window.tags(State::Failed) {
            let returned = self.window.peek(tag).map_or(0, |held| held.returned);
            if returned + 1 >= limit.div_ceil(2) && self.all.publisher.is_ready() {
                // Outages must not add up to what is counted as failures of its own: it begins anew.
                self.renew(tag);
                continue;
            }
            metrics::counter!(names::REQUEUED, "reason" => "away").increment(1);
            self.window.set(tag, State::Settled);
            self.channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await?;
        }
        self.acknowledge().await
    }

    /// Hears verdicts until `end` at the latest; an error when the connection is gone.
    async fn listen(&mut self, end: Instant) -> Result<(), lapin::Error> {
        if let Ok(Some((tag, verdict))) = tokio::time::timeout_at(end, self.verdicts.recv()).await {
            self.hear(tag, verdict);
        }
        if !self.channel.status().connected() {
            return Err(ErrorKind::InvalidChannel(self.channel.id()).into());
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
        self.send(Letter { queue: self.queue.clone(), id, data, dead: None, done });
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
