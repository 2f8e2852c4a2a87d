//! What others ask of the writer besides deliveries; each is answered after its commit.

use tokio::sync::oneshot;

use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Listed;
use crate::mail::time::Timestamp;
use crate::store::StoreError;
use crate::store::mailboxes::{Mailbox, MailboxPatch, NewMailbox};
use crate::store::messages::{BodyLocation, MessagePatch};

/// Where the answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub enum Request {
    Create(NewMailbox, Reply<Mailbox>),
    Alter(MailboxKey, MailboxPatch, Reply<Mailbox>),
    DeleteMailbox(MailboxKey, Reply<()>),
    Update(MailboxKey, DeliveryId, MessagePatch, Reply<Listed>),
    Delete(MailboxKey, DeliveryId, Reply<()>),
    /// A step of deleting all messages up to this UID.
    DeleteThrough(MailboxKey, i64, Reply<Step>),
    /// A step of retention.
    Expire(Timestamp, Reply<bool>),
    /// Records that compaction copies to the end of the active segment.
    Move(Vec<Moving>, Reply<()>),
    /// A step of removing segments in which nothing lives; the answer is how much there was to do.
    DropDead(Reply<usize>),
    /// The last request: commit what was taken, then stop.
    Close(oneshot::Sender<()>),
}

/// What a step of a long deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub gone: u64,
    pub more: bool,
}

/// A live record on its way to another segment.
#[derive(Debug)]
pub struct Moving {
    pub id: DeliveryId,
    pub from: BodyLocation,
    /// The whole record as it lies on the disk.
    pub bytes: Vec<u8>,
}
