//! Gives deliveries to the broker and tells whoever waits once it has said that it has them.
//!
//! Called by whoever hands over a delivery, on any thread; never blocks. A few [`lane`]s carry them, each in order, many on the
//! way at once. What cannot be sent now (no connection, a broker that is short of memory or disk, too much on the way) is given
//! back; what is larger than the broker takes is refused for good. Whatever happens to a connection, everyone is answered: what
//! was not confirmed is a refusal, although the broker may have it. A task of the broker's thread connects again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, FutureExt, select, select_all};
use futures_util::stream::BoxStream;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Event};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::config::BrokerConfig;
use super::lane::{self, Answer, Parcel, Sending};
use super::link::{self, NoLink, Pauses};
use super::message::Mail;
use super::topology::{self, Names, Trouble};
use super::{Condition, metrics as names};
use crate::mail::id::DeliveryId;
use crate::store::{Incoming, Outlet, WriteFailed};

/// Channels: the broker works on several at once.
const CHANNELS: usize = 4;
/// Messages that may wait for a channel.
const WAITING: usize = 4_096;

/// Why a message is where it is, and where it came from: headers of the dead letters.
pub const REASON: &str = "x-mailroom-reason";
pub const QUEUE: &str = "x-mailroom-queue";
/// How often a message failed by itself.
pub const FAILED: &str = "x-mailroom-failed";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The broker has it.
    Has,
    /// It was not confirmed; later it may be.
    Not,
    /// It is larger than what the broker takes.
    TooLarge,
}

pub type Done = Box<dyn FnOnce(Sent) + Send>;

/// A message on its way.
pub struct Letter {
    pub queue: String,
    pub id: Option<DeliveryId>,
    pub data: Vec<u8>,
    /// How often it failed by itself.
    pub failed: u32,
    /// For the dead letters: why, and the queue it was in.
    pub dead: Option<(String, String)>,
    /// Told whether the broker has it.
    pub done: Done,
}

/// Counts a message that the broker does not have.
pub fn refused(reason: &'static str) {
    metrics::counter!(names::REFUSED, "reason" => reason).increment(1);
}

/// See the module. A cheap handle.
#[derive(Clone)]
pub struct Publisher {
    names: Names,
    lanes: Arc<[mpsc::Sender<Sending>]>,
    room: Arc<Semaphore>,
    /// All of it, in bytes.
    space: usize,
    timeout: Duration,
    /// The largest message that the broker takes, in bytes: as it is set, or as the broker said.
    largest: Arc<AtomicUsize>,
    ready: Arc<AtomicBool>,
    condition: Arc<Condition>,
}

/// Where the lanes end.
pub struct Lanes(Vec<mpsc::Receiver<Sending>>);

impl Publisher {
    pub fn new(config: &BrokerConfig, condition: Arc<Condition>) -> (Self, Lanes) {
        let (lanes, ends): (Vec<_>, Vec<_>) = (0..CHANNELS).map(|_| mpsc::channel(WAITING / CHANNELS)).unzip();
        let space = config.max_unconfirmed.as_usize().min(Semaphore::MAX_PERMITS);
        let publisher = Self {
            names: Names::new(config),
            lanes: lanes.into(),
            room: Arc::new(Semaphore::new(space)),
            space,
            timeout: config.confirm_timeout.0,
            largest: Arc::new(AtomicUsize::new(config.max_message_size.as_usize())),
            ready: Arc::default(),
            condition,
        };
        (publisher, Lanes(ends))
    }

    /// Bytes that wait for the broker's answer.
    pub fn unconfirmed(&self) -> u64 {
        (self.space - self.room.available_permits()) as u64
    }

    /// Sends a letter; its `done` is told what became of it, at once when it cannot be sent now.
    pub fn send(&self, letter: Letter) {
        if self.is_too_large(letter.data.len()) {
            return (letter.done)(Sent::TooLarge);
        }
        let permit = self.permit(letter.data.len());
        match permit.and_then(|permit| Some((permit, self.slot(&letter.queue)?))) {
            Some((permit, slot)) => self.put(slot, permit, letter),
            None => (letter.done)(Sent::Not),
        }
    }

    fn is_too_large(&self, size: usize) -> bool {
        let is = size > self.largest.load(Ordering::Relaxed);
        if is {
            refused("too_large");
        }
        is
    }

    /// The broker said that it takes messages of no more than `largest` bytes.
    pub fn learn(&self, largest: usize) {
        if self.largest.fetch_min(largest, Ordering::Relaxed) > largest {
            tracing::error!(
                largest,
                "the broker takes smaller messages than [broker] max_message_size says: larger ones are refused for good; \
                 raise max_message_size in rabbitmq.conf"
            );
        }
    }

    /// The broker has one more in this queue.
    pub fn confirmed(&self, queue: &str) {
        self.condition.counts.confirmed(queue);
    }

    /// Room for so many bytes; none while the broker does not take any.
    fn permit(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        if !self.ready.load(Ordering::Relaxed) {
            refused(if self.condition.is_blocked() { "blocked" } else { "away" });
            return None;
        }
        // One alone may be larger than all the room there is.
        let size = u32::try_from(size.min(self.space)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(size).ok();
        if permit.is_none() {
            refused("full");
        }
        permit
    }

    /// A place in the lane of this queue: what goes to one queue stays in order.
    fn slot(&self, queue: &str) -> Option<mpsc::Permit<'_, Sending>> {
        let lane = usize::try_from(crc32fast::hash(queue.as_bytes())).unwrap_or(0) % self.lanes.len().max(1);
        let slot = self.lanes.get(lane).and_then(|lane| lane.try_reserve().ok());
        if slot.is_none() {
            refused("full");
        }
        slot
    }

    fn put(&self, slot: mpsc::Permit<'_, Sending>, permit: OwnedSemaphorePermit, letter: Letter) {
        let properties = properties(&letter);
        let Letter { queue, data, done, .. } = letter;
        let parcel = Arc::new(Parcel { queue: queue.as_str().into(), data, properties });
        slot.send(Sending { parcel, done: Answer::new(done), until: Instant::now() + self.timeout, permit });
    }
}

impl Outlet for Publisher {
    fn append(&self, incoming: Incoming) -> Result<(), Box<Incoming>> {
        let Some(first) = incoming.parts.first() else { return Err(Box::new(incoming)) };
        // What it will be, near enough: the text is shorter by then.
        let size = incoming.body.bytes.len() + incoming.summary.text.len() / 2 + 1_024;
        let queue = self.names.of(&first.mailbox, size);
        let Some(permit) = self.permit(size) else { return Err(Box::new(incoming)) };
        let Some(slot) = self.slot(&queue) else { return Err(Box::new(incoming)) };
        let Incoming { id, received_at, envelope, body, summary, parts, done, repeat: _ } = incoming;
        let data = Mail { id, received_at, envelope, parts, summary, body }.encode();
        let done: Done = Box::new(move |sent| {
            done(match sent {
                Sent::Has => Ok(()),
                Sent::Not => Err(WriteFailed::Failed),
                Sent::TooLarge => Err(WriteFailed::TooLarge),
            });
        });
        match self.is_too_large(data.len()) {
            true => done(Sent::TooLarge),
            false => self.put(slot, permit, Letter { queue, id: Some(id), data, failed: 0, dead: None, done }),
        }
        Ok(())
    }
}

/// A connection for publishing.
pub struct Opened {
    pub connection: Connection,
    events: BoxStream<'static, Event>,
    channels: Vec<Channel>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NotOpen {
    #[error("{0}")]
    NoLink(#[from] NoLink),
    #[error("{0}")]
    Queues(#[from] Trouble),
}

impl NotOpen {
    /// The broker answered, and does not let this node in.
    fn is_refusal(&self) -> bool {
        match self {
            Self::NoLink(NoLink::Refused(error)) | Self::Queues(Trouble::Link(error)) => topology::denies(error),
            _ => false,
        }
    }
}

impl From<lapin::Error> for NotOpen {
    fn from(error: lapin::Error) -> Self {
        Self::Queues(error.into())
    }
}

impl Publisher {
    /// Connects and makes sure of the queues. From here on messages are taken; they go out once [`run`] has the connection.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub async fn open(&self, config: &BrokerConfig) -> Result<Opened, NotOpen> {
        let connection = link::connect(config, "publisher").await?;
        // Before anything can be said of the connection.
        let events = connection.events_listener().boxed();
        topology::declare(&connection, config).await?;
        let mut channels = Vec::with_capacity(CHANNELS);
        for _ in 0..CHANNELS {
            channels.push(lane::open(&connection).await?);
        }
        self.largest.store(config.max_message_size.as_usize(), Ordering::Relaxed);
        self.condition.connected();
        self.ready.store(true, Ordering::Relaxed);
        Ok(Opened { connection, events, channels })
    }
}

/// Keeps a connection for publishing, `opened` first, until it is aborted.
pub async fn run(publisher: Publisher, mut lanes: Lanes, config: BrokerConfig, mut opened: Option<Opened>) {
    let mut pauses = Pauses::default();
    loop {
        let link = match opened.take() {
            Some(opened) => Ok(opened),
            None => publisher.open(&config).await,
        };
        let (why, refused) = match link {
            Ok(opened) => {
                pauses.reset();
                (serve(&publisher, opened, &mut lanes).await, false)
            }
            Err(why) => (why.to_string(), why.is_refusal()),
        };
        publisher.ready.store(false, Ordering::Relaxed);
        publisher.condition.lost(&why, refused);
        // What waited for a channel was lost with it; dropping it answers.
        for lane in &mut lanes.0 {
            while lane.try_recv().is_ok() {}
        }
        tokio::time::sleep(pauses.pause()).await;
    }
}

/// Sends what comes until the connection fails; returns why.
async fn serve(publisher: &Publisher, opened: Opened, lanes: &mut Lanes) -> String {
    let Opened { connection, events, channels } = opened;
    let lanes = channels.into_iter().zip(&mut lanes.0);
    let lanes = select_all(lanes.map(|(channel, lane)| lane::carry(publisher, &connection, channel, lane).boxed()));
    let minded = mind(publisher, events);
    match select(std::pin::pin!(minded), lanes).await {
        Either::Left((why, _)) => why,
        Either::Right(((why, _, rest), _)) => {
            // Dropping them answers everyone.
            drop(rest);
            why.to_string()
        }
    }
}

/// Heeds what the broker says of the connection; ends when it is lost.
async fn mind(publisher: &Publisher, mut events: BoxStream<'static, Event>) -> String {
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                publisher.ready.store(false, Ordering::Relaxed);
                publisher.condition.blocked(&reason);
            }
            Event::ConnectionUnblocked => {
                publisher.condition.connected();
                publisher.ready.store(true, Ordering::Relaxed);
            }
            // The one of a channel is its lane's.
            Event::Error(error) if !topology::is_of_channel(&error) => return error.to_string(),
            _ => {}
        }
    }
    "the connection ended".into()
}

/// How often a message failed by itself before.
pub fn failed(delivery: &Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(&ShortString::from(FAILED))) {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}

fn properties(letter: &Letter) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/vnd.mailroom.delivery".into())
        .with_timestamp(u64::try_from(crate::clock::now_micros() / 1_000_000).unwrap_or(0));
    if let Some(id) = letter.id {
        properties = properties.with_message_id(id.to_string().into());
    }
    let mut headers = FieldTable::default();
    if letter.failed > 0 {
        headers.insert(FAILED.into(), AMQPValue::LongLongInt(letter.failed.into()));
    }
    if let Some((reason, queue)) = &letter.dead {
        headers.insert(REASON.into(), AMQPValue::LongString(reason.as_str().into()));
        headers.insert(QUEUE.into(), AMQPValue::LongString(queue.as_str().into()));
    }
    properties.with_headers(headers)
}
