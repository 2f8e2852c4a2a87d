//! What others ask of the writer besides deliveries; each is answered after its commit.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Listed;
use crate::mail::time::Timestamp;
use crate::store::StoreError;
use crate::store::mailboxes::{Mailbox, MailboxPatch, NewMailbox};
use crate::store::messages::{BodyLocation, MessagePatch};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// Where the answer goes. Clones go to the same place, so that a transaction can be tried again; the first answer counts.
#[derive(Debug)]
pub struct Reply<T>(Arc<Mutex<Option<Answer<T>>>>);

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Reply<T> {
    pub fn new() -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(answer)))), answered)
    }

    /// Answers, if nobody has.
    pub fn send(&self, result: Result<T, StoreError>) {
        if let Some(answer) = self.0.lock().take() {
            // A caller that went away does not want it.
            let _ = answer.send(result);
        }
    }
}

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
    /// Nothing but the commit itself and, where bodies lie in the database, whether one of so many bytes has room there.
    Probe(usize, Reply<()>),
    /// A step of moving bodies to object storage.
    Cold(Cold, Reply<i64>),
    /// The last request: commit what was taken, then stop.
    Close(oneshot::Sender<()>),
}

impl Request {
    /// The mailbox that it changes, if it is one.
    pub fn mailbox(&self) -> Option<&MailboxKey> {
        match self {
            Self::Create(new, _) => Some(&new.key),
            Self::Alter(key, ..)
            | Self::DeleteMailbox(key, _)
            | Self::Update(key, ..)
            | Self::Delete(key, ..)
            | Self::DeleteThrough(key, ..) => Some(key),
            Self::Expire(..)
            | Self::Move(..)
            | Self::DropDead(_)
            | Self::Cold(..)
            | Self::Probe(..)
            | Self::Close(_) => None,
        }
    }
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

/// What is to be done with the rows of objects; the answer is a number.
#[derive(Debug)]
pub enum Cold {
    /// Makes the row of an object that will be written under this name; answers its number.
    Begin { name: String },
    /// Points rows at the object, which has so many `bytes`; answers the bytes of records by those that point there now, or
    /// `NotFound` when it was given up meanwhile.
    Place { number: i64, bytes: i64, records: Vec<Placed> },
    /// Marks an object of which nothing is needed, so that no row is pointed there from now on; answers 1 if this marked it,
    /// and 0 when something is needed, or it was marked before.
    Bury { number: i64, when: Unneeded },
    /// Asks of a marked object for the last time whether anything of it is needed; answers 1 if nothing is and nothing will
    /// be. If something is, the mark goes.
    Condemn { number: i64 },
    /// It is gone.
    Forget { number: i64 },
    /// Objects of other histories belong to this one.
    Adopt,
    /// What of objects is needed, as it was counted.
    Counted(Vec<(i64, i64)>),
}

/// What an object has to be for `Bury`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unneeded {
    /// No row ever pointed there.
    Ever,
    /// None does now.
    Now,
}

/// A record in an object, and where rows find it until now.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub id: DeliveryId,
    /// The length is that of the record in the object too.
    pub from: BodyLocation,
    pub offset: i64,
}
