//! What the receiving side hands to the writer, and what the writer tells about commits.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::mail::address::MailboxKey;
use crate::mail::envelope::Envelope;
use crate::mail::event::Announced;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Summary;
use crate::mail::time::Timestamp;

/// One message for one or more mailboxes: all its rows commit together or none do.
pub struct Incoming {
    pub id: DeliveryId,
    pub received_at: Timestamp,
    pub envelope: Arc<Envelope>,
    pub body: Body,
    pub summary: Arc<Summary>,
    /// One for each distinct mailbox; never empty.
    pub parts: Vec<Part>,
    pub repeat: Repeat,
    /// Called once, on the writer's thread, after the commit was announced or when it failed. Must not block.
    pub done: Box<dyn FnOnce(Result<(), WriteFailed>) + Send>,
}

/// Takes deliveries on behalf of those who received them: the store itself, or a queue before it.
pub trait Outlet: Send + Sync + 'static {
    /// Takes a delivery; its `done` tells the outcome, and `Ok` means durable.
    ///
    /// # Errors
    /// Gives it back when too many wait, or nobody takes any (451 at SMTP).
    fn append(&self, incoming: Incoming) -> Result<(), Box<Incoming>>;
}

/// Whether a delivery may come a second time.
#[derive(Clone, Debug, Default)]
pub enum Repeat {
    /// It is new, and whoever sent it still waits for the answer.
    #[default]
    Never,
    /// It waited in a queue and its sender was told yes long ago. Its id is looked up in the transaction: what is there
    /// already is `Ok` and changes nothing. Quotas do not count. A mailbox that went away meanwhile is left out and noted
    /// in [`Gone`]; [`WriteFailed::MailboxGone`] only when all have.
    Possible(Gone),
}

/// Mailboxes of a promised delivery that are no more; clones share the list. To be read once `done` was called.
#[derive(Clone, Debug, Default)]
pub struct Gone(Arc<Mutex<Vec<MailboxKey>>>);

impl Gone {
    /// The mailboxes that did not get the message.
    #[must_use]
    pub fn keys(&self) -> Vec<MailboxKey> {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, keys: Vec<MailboxKey>) {
        *self.0.lock() = keys;
    }
}

/// One mailbox that gets the message, and the recipients (as they were written) that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub mailbox: MailboxKey,
    pub recipients: Vec<String>,
    /// The row may be made if there is none (automatic mailboxes); otherwise a missing or ended mailbox fails the
    /// whole delivery with [`WriteFailed::MailboxGone`].
    pub create: bool,
}

/// A message as it will lie on disk: made on the session's side by `bodies::encode`.
#[derive(Clone, Debug)]
pub struct Body {
    /// zstd frame, or the message itself where compressing does not pay.
    pub bytes: Vec<u8>,
    pub compressed: bool,
    /// Length of the message itself in bytes.
    pub size: u64,
}

/// Why a delivery was not stored. Every variant but `TooLarge` is temporary for SMTP (451 or 452); nothing of it is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailed {
    #[error("a mailbox went away before the commit")]
    MailboxGone,
    #[error("a mailbox is full")]
    MailboxFull,
    #[error("not enough free space")]
    NoSpace,
    /// A queue before the store takes no message as large as this one, now or later.
    #[error("the message is too large")]
    TooLarge,
    #[error("the store failed")]
    Failed,
}

/// Told of each batch after its commit: its events in their order, on the writer's thread, before any `done` of the batch is
/// called. Must not block. Also called for what is taken in at start, before `Store::open` returns.
pub trait Announce: Send + Sync + 'static {
    /// `after` is the stamp of the event before the first of `events`, here or on another node. With several writers two
    /// calls may come at once, or not in the order of their stamps, which have no gaps then.
    fn announce(&self, after: i64, events: Vec<Arc<Announced>>);
}
