//! The one door between stages: a session that received a message hands it over here and does not know what lies
//! behind (mailboxes, later submission).
//!
//! To deliver means: take responsibility for this message, or refuse. A delivery carries an id and whoever
//! handles it is idempotent on it.

use std::future::Future;
use std::pin::Pin;

use crate::mail::address::Address;
use crate::mail::envelope::Envelope;
use crate::mail::id::DeliveryId;
use crate::mail::time::Timestamp;

/// Why a recipient or a message is not taken. One function of each stage turns it into its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Nobody receives mail at this address.
    UnknownMailbox,
    /// This server does not receive mail for the domain.
    UnknownDomain,
    /// The mailbox has reached its quota.
    MailboxFull,
    /// Free disk space is below its limit.
    NoSpace,
    /// The message is larger than what can be kept.
    TooLarge,
    /// Anything else: the sender should try again.
    Unavailable,
}

impl Refusal {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownMailbox => "unknown_mailbox",
            Self::UnknownDomain => "unknown_domain",
            Self::MailboxFull => "mailbox_full",
            Self::NoSpace => "no_space",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }
}

/// An answer that is there at once, or later.
pub enum Answer<T> {
    Now(T),
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

/// A whole message with its envelope, trace headers included.
#[derive(Debug)]
pub struct Deliver {
    pub id: DeliveryId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    /// Each was admitted; never empty. Those that meet in one mailbox are one part.
    pub recipients: Vec<Address>,
    pub data: Vec<u8>,
}

/// What a stage offers to those who receive mail for it.
pub trait Door: Send + Sync + 'static {
    /// May this recipient be given a message of `size` bytes (zero when not declared)? Answered at RCPT, for this
    /// recipient alone.
    fn admit(&self, recipient: &Address, size: u64) -> Answer<Result<(), Refusal>>;

    /// Takes responsibility for the message: `Ok` means durable in every mailbox. The caller may drop the answer; that
    /// changes nothing for the message.
    fn deliver(&self, message: Deliver) -> Answer<Result<(), Refusal>>;
}
