//! The dead letters: what they are, and the way back.
//!
//! A queue has no index: to find one, all are taken, without acknowledging them, and what is not meant goes back as it was. Two
//! who look at the same time see a part of them each. Called by `mailroom queue dead`, beside running servers.

use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::time::Instant;

use super::config::BrokerConfig;
use super::link::{self, NoLink};
use super::message::Mail;
use super::publisher::{QUEUE, REASON};
use super::topology::{self, Names};
use crate::mail::id::DeliveryId;
use crate::store::bodies;

/// How long what is put back may take; somebody else may have taken it meanwhile.
const PUT_BACK: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(10);

/// Why the dead letters could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    #[error("the broker at {0}: {1}")]
    Link(String, NoLink),
    #[error("the broker: {0}")]
    Broker(#[from] lapin::Error),
    /// It stays where it is.
    #[error("the broker did not take {0} back")]
    NotTaken(String),
}

/// One dead letter.
#[derive(Debug)]
pub struct DeadLetter {
    /// Of the delivery; none when neither the letter nor its label says.
    pub id: Option<DeliveryId>,
    /// Why it is here.
    pub reason: String,
    /// The queue it was in.
    pub queue: Option<String>,
    /// What it is; none when this version cannot read it.
    pub mail: Option<Mail>,
    /// As it lies in the queue.
    pub data: Vec<u8>,
    tag: u64,
}

impl DeadLetter {
    /// The message itself, as it was received.
    ///
    /// # Errors
    /// What is wrong with its bytes.
    pub fn raw(&self) -> Result<Vec<u8>, String> {
        let mail = self.mail.as_ref().ok_or("it cannot be read by this version")?;
        bodies::unpack(mail.body.compressed, mail.body.size, mail.body.bytes.clone())
    }
}

/// What is to be done with a letter that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays among the dead letters.
    Stay,
    /// It goes back to the queue it came from.
    Requeue,
    /// It is gone for good.
    Drop,
}

/// A connection to the dead letters.
pub struct DeadLetters {
    connection: Connection,
    channel: Channel,
    names: Names,
    /// Letters that were looked at and stay.
    kept: u32,
}

impl DeadLetters {
    /// Connects.
    ///
    /// # Errors
    /// [`DeadError::Link`].
    pub async fn open(config: &BrokerConfig) -> Result<Self, DeadError> {
        let connection =
            link::connect(config, "dead letters").await.map_err(|why| DeadError::Link(config.place(), why))?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, names: Names::new(config), kept: 0 })
    }

    /// Shows all that are there now to `decide`, one after the other, and does with each what it says. Returns how many were
    /// sent back or dropped.
    ///
    /// # Errors
    /// [`DeadError`]; what was not done stays.
    pub async fn each(&mut self, mut decide: impl FnMut(&DeadLetter) -> Fate) -> Result<usize, DeadError> {
        let queue = self.names.dead();
        let (count, _) = topology::look(&self.channel, &queue).await?;
        let mut done = 0;
        for _ in 0..count {
            let got = self.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?;
            let Some(got) = got else { break };
            let letter = letter(got.delivery);
            match decide(&letter) {
                Fate::Stay => {
                    self.kept += 1;
                    continue;
                }
                Fate::Requeue => self.send_back(&letter).await?,
                Fate::Drop => {}
            }
            self.channel.basic_ack(letter.tag, BasicAckOptions::default()).await?;
            done += 1;
        }
        Ok(done)
    }

    async fn send_back(&self, letter: &DeadLetter) -> Result<(), DeadError> {
        let first = letter.mail.as_ref().and_then(|mail| mail.parts.first());
        let queue = match first {
            Some(part) => self.names.of(&part.mailbox, letter.data.len()),
            None => letter.queue.clone().unwrap_or_else(|| self.names.large()),
        };
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(id) = letter.id {
            properties = properties.with_message_id(id.to_string().into());
        }
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = self.channel.basic_publish("".into(), queue.as_str().into(), options, &letter.data, properties);
        match sent.await?.await? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(DeadError::NotTaken(letter.id.map_or_else(|| "a letter".into(), |id| id.to_string()))),
        }
    }

    /// Puts back what stays, and ends once it is there for the next who looks.
    ///
    /// # Errors
    /// The broker's; what was looked at is put back by it.
    pub async fn close(self) -> Result<(), DeadError> {
        // What was not acknowledged goes back to its place.
        self.channel.close(200, "looked".into()).await?;
        let channel = self.connection.create_channel().await?;
        let end = Instant::now() + PUT_BACK;
        while topology::look(&channel, &self.names.dead()).await?.0 < self.kept && Instant::now() < end {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(self.connection.close(200, "looked".into()).await?)
    }
}

fn letter(delivery: lapin::message::Delivery) -> DeadLetter {
    let mail = Mail::decode(&delivery.data);
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let labelled = delivery.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
    let reason = text(&headers, REASON).or_else(|| {
        let why = text(&headers, "x-first-death-reason")?;
        Some(if why == "delivery_limit" { "it failed too often".into() } else { why })
    });
    DeadLetter {
        id: mail.as_ref().ok().map(|mail| mail.id).or(labelled),
        reason: reason.unwrap_or_else(|| "unknown".into()),
        queue: text(&headers, QUEUE).or_else(|| text(&headers, "x-first-death-queue")),
        mail: mail.ok(),
        data: delivery.data,
        tag: delivery.delivery_tag,
    }
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(&ShortString::from(name))? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
