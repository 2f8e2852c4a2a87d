//! One of the channels that messages are published on: in order, many on the way at once.
//!
//! [`super::publisher`] runs a few of them on one connection. A channel that the broker closes is the end of that channel alone:
//! another is opened, and what was under way there is sent again, in order (a message that comes twice is stored once), without
//! the one that the broker closed it for. Ends with the connection; then whoever waits hears no.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::link::Pauses;
use super::metrics as names;
use super::publisher::{Done, Publisher, Sent, refused};
use super::topology;

/// How long what is under way on a channel that was closed may take to hear of it.
const ENDS: Duration = Duration::from_secs(1);

/// A message on its way.
pub struct Sending {
    pub parcel: Arc<Parcel>,
    pub done: Answer,
    /// When whoever waits hears no.
    pub until: Instant,
    /// It takes room until it is known what became of it.
    pub permit: OwnedSemaphorePermit,
}

/// What the broker gets.
pub struct Parcel {
    pub queue: ShortString,
    pub data: Vec<u8>,
    pub properties: BasicProperties,
}

/// Says no if nobody says yes.
pub struct Answer(Option<Done>);

impl Answer {
    pub fn new(done: Done) -> Self {
        Self(Some(done))
    }

    fn give(&mut self, sent: Sent) {
        if let Some(done) = self.0.take() {
            done(sent);
        }
    }

    fn refuse(&mut self, reason: &'static str, sent: Sent) {
        refused(reason);
        self.give(sent);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.refuse("lost", Sent::Not);
        }
    }
}

type Said = Result<Confirmation, lapin::Error>;

/// What is heard of a message.
enum News {
    Said(Box<Said>),
    /// Nothing in time. It may be heard yet.
    Late(BoxFuture<'static, Said>),
}

type Open = FuturesUnordered<BoxFuture<'static, (u64, News)>>;

/// A channel that confirms.
///
/// # Errors
/// The connection's.
pub async fn open(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Sends what comes, on `channel` and those that follow it, until the connection ends; returns why.
pub async fn carry(
    publisher: &Publisher,
    connection: &Connection,
    mut channel: Channel,
    lane: &mut mpsc::Receiver<Sending>,
) -> lapin::Error {
    let mut under_way = UnderWay::default();
    let mut pauses = Pauses::default();
    loop {
        let error = under_way.carry(publisher, &channel, lane).await;
        // A connection that is lost may not have been told so yet.
        if !topology::is_of_channel(&error) || !connection.status().connected() {
            return error;
        }
        tracing::error!(%error, "the broker closed a channel: another is opened");
        if under_way.sort_out(publisher, &error) {
            pauses.reset();
        } else {
            tokio::time::sleep(pauses.pause()).await;
        }
        channel = match open(connection).await {
            Ok(channel) => channel,
            Err(error) => return error,
        };
    }
}

/// What was sent and not confirmed, in order.
#[derive(Default)]
struct UnderWay {
    sendings: BTreeMap<u64, Sending>,
    next: u64,
}

impl UnderWay {
    /// Sends what is under way again, then what comes; ends with the channel.
    async fn carry(
        &mut self,
        publisher: &Publisher,
        channel: &Channel,
        lane: &mut mpsc::Receiver<Sending>,
    ) -> lapin::Error {
        let mut open = Open::new();
        let mut again: VecDeque<u64> = self.sendings.keys().copied().collect();
        let error = loop {
            let news = if let Some(number) = again.pop_front() {
                self.begin(number, channel, &mut open)
            } else {
                tokio::select! {
                    biased;
                    Some(news) = open.next(), if !open.is_empty() => Some(news),
                    sending = lane.recv() => {
                        let Some(sending) = sending else { break lapin::ErrorKind::FutureCompleted.into() };
                        let number = self.next;
                        self.next += 1;
                        self.sendings.insert(number, sending);
                        self.begin(number, channel, &mut open)
                    }
                }
            };
            if let Some(error) = news.and_then(|news| self.hear(publisher, news, &mut open)) {
                break error;
            }
        };
        self.end(publisher, error, open).await
    }

    /// Sends one. The first poll puts it behind the one before; the rest is waiting.
    fn begin(&self, number: u64, channel: &Channel, open: &mut Open) -> Option<(u64, News)> {
        let sending = self.sendings.get(&number)?;
        metrics::counter!(names::PUBLISHED).increment(1);
        let (said, until) = (publish(channel.clone(), Arc::clone(&sending.parcel)).boxed(), sending.until);
        let mut news = wait(number, until, said).boxed();
        let first = (&mut news).now_or_never();
        if first.is_none() {
            open.push(news);
        }
        first
    }

    /// Tells its sender; an error is the channel's.
    fn hear(&mut self, publisher: &Publisher, (number, news): (u64, News), open: &mut Open) -> Option<lapin::Error> {
        let said = match news {
            News::Said(said) => match *said {
                Err(error) => return Some(error),
                Ok(said) => said,
            },
            News::Late(rest) => {
                if let Some(sending) = self.sendings.get_mut(&number) {
                    sending.done.refuse("timeout", Sent::Not);
                }
                open.push(rest.map(move |said| (number, News::Said(Box::new(said)))).boxed());
                return None;
            }
        };
        let Sending { parcel, mut done, permit, .. } = self.sendings.remove(&number)?;
        drop(permit);
        match said {
            Confirmation::Ack(None) => {
                metrics::counter!(names::CONFIRMED).increment(1);
                publisher.confirmed(parcel.queue.as_str());
                done.give(Sent::Has);
            }
            Confirmation::Ack(Some(_)) => done.refuse("returned", Sent::Not),
            _ => done.refuse("nack", Sent::Not),
        }
        None
    }

    /// All that is open ends with the channel, some of it well. One of them has the broker's words.
    async fn end(&mut self, publisher: &Publisher, mut error: lapin::Error, mut open: Open) -> lapin::Error {
        let end = Instant::now() + ENDS;
        while let Ok(Some(news)) = tokio::time::timeout_at(end, open.next()).await {
            if let Some(other) = self.hear(publisher, news, &mut open)
                && !topology::is_of_channel(&error)
            {
                error = other;
            }
        }
        error
    }

    /// After the broker closed the channel: keeps what is to be sent again. False when it is not known what it was closed for;
    /// then nothing is.
    fn sort_out(&mut self, publisher: &Publisher, error: &lapin::Error) -> bool {
        let why = topology::refused(error, AMQPSoftError::PRECONDITIONFAILED);
        let largest = why.and_then(|why| largest(&why)).unwrap_or(usize::MAX);
        let mut found = false;
        for sending in self.sendings.values_mut().filter(|sending| sending.parcel.data.len() > largest) {
            sending.done.refuse("too_large", Sent::TooLarge);
            found = true;
        }
        if found {
            publisher.learn(largest);
        }
        // Whoever was answered does not wait for it any more.
        self.sendings.retain(|_, sending| found && sending.done.0.is_some());
        found
    }
}

async fn publish(channel: Channel, parcel: Arc<Parcel>) -> Said {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let Parcel { queue, data, properties } = &*parcel;
    channel.basic_publish("".into(), queue.clone(), options, data, properties.clone()).await?.await
}

async fn wait(number: u64, until: Instant, mut said: BoxFuture<'static, Said>) -> (u64, News) {
    let in_time = tokio::time::timeout_at(until, &mut said).await;
    (number, in_time.map_or_else(|_| News::Late(said), |said| News::Said(Box::new(said))))
}

/// "message size 20000000 is larger than configured max size 16777216", and older ones without "configured".
fn largest(why: &str) -> Option<usize> {
    let (_, rest) = why.rsplit_once("max size ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_says_how_large_a_message_may_be() {
        let said = "PRECONDITION_FAILED - message size 300 is larger than configured max size 200";
        assert_eq!(largest(said), Some(200));
        assert_eq!(largest("message size 300 larger than max size 128"), Some(128));
        assert_eq!(largest("PRECONDITION_FAILED - unknown delivery tag 7"), None);
    }
}
