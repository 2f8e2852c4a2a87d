//! The queues: their names, which mailbox belongs to which, and how they are declared.
//!
//! All are quorum queues with a single active consumer: one node at a time takes from each, and another takes over when it is
//! gone. Messages over [`LARGE`] have a queue of their own, so that what a node holds of the others stays small. What the broker
//! itself would throw out goes to the dead letters, at least once. The number of queues is kept in the argument of one more, empty queue, because
//! the same mailbox must lead to the same queue on every node; its consumers are the nodes.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ErrorKind};

use super::config::BrokerConfig;
use crate::mail::address::MailboxKey;
use crate::mail::units::Bytes;

/// Longer messages, as they lie in the queue, go to the queue of the large ones.
pub const LARGE: usize = 256 << 10;
/// Large messages that a node has at one time.
pub const LARGE_PREFETCH: u16 = 4;
/// The broker counts every return, also by a node that crashes or loses its connection, and dead letters that are looked at. What
/// counts as a failure is counted by consumers.
const NO_LIMIT: i32 = 1_000_000_000;
const DELIVERY_LIMIT: &str = "x-delivery-limit";
/// Says how many queues there are, in the queue that is always empty.
const MAX_LENGTH: &str = "x-max-length";

/// Names of the queues.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    queues: u16,
}

/// Why the queues are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("[broker] queues = {wanted}, but the queues of {prefix:?} were made for {}: use that number, or see docs/operations.md on changing it",
        found.map_or_else(|| "another number".to_owned(), |found| found.to_string()))]
    Number { prefix: String, wanted: u16, found: Option<u16> },
    #[error("the queue {queue:?} was declared otherwise: {why}")]
    Otherwise { queue: String, why: String },
    #[error(
        "the broker takes no messages of [broker] max_message_size = {wanted}: {why}; raise max_message_size in rabbitmq.conf"
    )]
    Size { wanted: Bytes, why: String },
    #[error("{0}")]
    Link(#[from] lapin::Error),
}

impl Trouble {
    /// It stays until an operator does something.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Link(_))
    }
}

impl Names {
    #[must_use]
    pub fn new(config: &BrokerConfig) -> Self {
        Self { prefix: config.prefix.clone(), queues: config.queues }
    }

    /// The queue of a message of `size` bytes whose first mailbox is this one. The same on every node and in every version.
    #[must_use]
    pub fn of(&self, mailbox: &MailboxKey, size: usize) -> String {
        if size > LARGE {
            return self.large();
        }
        self.queue(u16::try_from(crc32fast::hash(mailbox.as_str().as_bytes()) % u32::from(self.queues)).unwrap_or(0))
    }

    fn queue(&self, index: u16) -> String {
        format!("{}.mail.{index}", self.prefix)
    }

    #[must_use]
    pub fn large(&self) -> String {
        format!("{}.large", self.prefix)
    }

    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The one that keeps the number, and that every node consumes from to be counted.
    #[must_use]
    pub fn number(&self) -> String {
        format!("{}.number", self.prefix)
    }

    /// Every queue that mail is taken from.
    #[must_use]
    pub fn mail(&self) -> Vec<String> {
        (0..self.queues).map(|index| self.queue(index)).chain([self.large()]).collect()
    }

    /// Every queue with the arguments it must have.
    #[must_use]
    pub fn declarations(&self) -> Vec<(String, FieldTable)> {
        let number = table([(MAX_LENGTH, i32::from(self.queues).into())]);
        let dead = table([("x-queue-type", text("quorum")), (DELIVERY_LIMIT, NO_LIMIT.into())]);
        let mail = table([
            ("x-queue-type", text("quorum")),
            ("x-single-active-consumer", true.into()),
            (DELIVERY_LIMIT, NO_LIMIT.into()),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&self.dead())),
            ("x-dead-letter-strategy", text("at-least-once")),
            // Without it the broker would dead-letter at most once.
            ("x-overflow", text("reject-publish")),
        ]);
        let mail = self.mail().into_iter().map(|queue| (queue, mail.clone()));
        [(self.number(), number), (self.dead(), dead)].into_iter().chain(mail).collect()
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

/// Declares every queue that is not there, and makes sure of the others.
///
/// # Errors
/// [`Trouble`]; `Link` when the connection failed.
pub async fn declare(connection: &Connection, config: &BrokerConfig) -> Result<(), Trouble> {
    let names = Names::new(config);
    let mut earlier = None;
    for (queue, arguments) in names.declarations() {
        let made = declare_one(connection, &queue, arguments).await;
        earlier = earlier.or(made.map_err(|error| judge(config, &names, queue, error))?);
    }
    if let Some(limit) = earlier {
        tracing::warn!(
            limit,
            "queues of an earlier version: the broker makes a dead letter of what came back more often than this"
        );
    }
    Ok(())
}

/// Makes sure of one queue. What a queue is was said when it was made, and nobody can change it while there is mail in it: so
/// one whose limit of deliveries is of an earlier version is taken as it is. Gives that limit.
///
/// # Errors
/// The broker's.
pub async fn declare_one(
    connection: &Connection,
    queue: &str,
    mut arguments: FieldTable,
) -> Result<Option<i32>, lapin::Error> {
    let declare = async |arguments| {
        // An error closes a channel: each has its own.
        let channel = connection.create_channel().await?;
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
        channel.close(200, "declared".into()).await
    };
    let Err(error) = declare(arguments.clone()).await else { return Ok(None) };
    let why = refused(&error, AMQPSoftError::PRECONDITIONFAILED);
    let Some(limit) = why.as_deref().and_then(|why| found(why, DELIVERY_LIMIT)) else { return Err(error) };
    arguments.insert(DELIVERY_LIMIT.into(), limit.into());
    // The broker names the first difference alone: everything else must be as it should.
    declare(arguments).await.map(|()| Some(limit))
}

/// What a queue has as an argument, where it was declared with another, in the broker's words: "inequivalent arg 'x-max-length' for
/// queue '…' in vhost '/': received '8' but current is '16'", or "the value '16' of type 'signedint'" for both.
fn found(why: &str, argument: &str) -> Option<i32> {
    let (_, rest) = why.split_once(&format!("inequivalent arg '{argument}' "))?;
    let (_, rest) = rest.rsplit_once("but current is ")?;
    rest.split('\'').nth(1)?.parse().ok()
}

/// Makes sure that the broker takes messages as large as they may come: it does not tell its limit, so one is sent, to nobody.
///
/// # Errors
/// [`Trouble::Size`] when it does not; `Link` when the connection failed.
pub async fn try_size(connection: &Connection, largest: Bytes) -> Result<(), Trouble> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let nobody = format!("mailroom.size.{:016x}", rand::random::<u64>());
    let data = vec![0; largest.as_usize()];
    let sent = async {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), nobody.as_str().into(), options, &data, properties).await?.await
    };
    match sent.await {
        Ok(_) => Ok(channel.close(200, "tried".into()).await?),
        Err(error) => Err(match refused(&error, AMQPSoftError::PRECONDITIONFAILED) {
            Some(why) => Trouble::Size { wanted: largest, why },
            None => Trouble::Link(error),
        }),
    }
}

/// Messages that wait in a queue, and its consumers.
///
/// # Errors
/// The broker's, after which the channel is closed; there is no such queue.
pub async fn look(channel: &Channel, queue: &str) -> Result<(u32, u32), lapin::Error> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok((found.message_count(), found.consumer_count()))
}

/// What an error of a declaration means.
pub fn judge(config: &BrokerConfig, names: &Names, queue: String, error: lapin::Error) -> Trouble {
    let Some(why) = refused(&error, AMQPSoftError::PRECONDITIONFAILED) else { return Trouble::Link(error) };
    if queue != names.number() {
        return Trouble::Otherwise { queue, why };
    }
    let found = found(&why, MAX_LENGTH).and_then(|number| number.try_into().ok());
    Trouble::Number { prefix: config.prefix.clone(), wanted: config.queues, found }
}

/// Whether it ends a channel alone, and not its connection.
#[must_use]
pub fn is_of_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)))
}

/// The broker's words, if it refused for this reason.
#[must_use]
pub fn refused(error: &lapin::Error, reason: AMQPSoftError) -> Option<String> {
    match error.kind() {
        ErrorKind::ProtocolError(error) if *error.kind() == AMQPErrorKind::Soft(reason) => {
            Some(ShortString::to_string(error.get_message()))
        }
        _ => None,
    }
}

/// This user may not, or there is no such vhost.
#[must_use]
pub fn denies(error: &lapin::Error) -> bool {
    use AMQPErrorKind::{Hard, Soft};
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), Soft(AMQPSoftError::ACCESSREFUSED) | Hard(AMQPHardError::NOTALLOWED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_has_one_queue_for_good() {
        let names = Names::new(&BrokerConfig::default());
        let of = |address: &str| names.of(&MailboxKey::from_stored(address), 100);
        // These must never change: nodes of two versions share the queues.
        assert_eq!(of("bob@example.com"), "mailroom.mail.10");
        assert_eq!(of("ann@example.com"), "mailroom.mail.14");
        assert_eq!(names.of(&MailboxKey::from_stored("ann@example.com"), LARGE + 1), "mailroom.large");
    }

    #[test]
    fn mailboxes_are_spread_over_all_queues() {
        let names = Names::new(&BrokerConfig::default());
        let mut counts = std::collections::HashMap::<String, u32>::new();
        for n in 0..1_600 {
            *counts.entry(names.of(&MailboxKey::from_stored(&format!("user{n}@example.com")), 1)).or_default() += 1;
        }
        assert_eq!(counts.len(), 16);
        assert!(counts.values().all(|count| (50..200).contains(count)), "{counts:?}");
    }
}
