//! Durable storage: what was answered 250 is here. The only user of SeaORM.
//!
//! Callers see [`Store`]: `append` and the changes go through the one [`writer`], reads through a pool of their
//! own. Every committed change is told to the [`Announce`] given at start, in commit order, before its caller
//! hears of it.

pub mod incoming;
pub mod mailboxes;
pub mod messages;
pub mod replay;

pub use incoming::{Announce, Body, Incoming, Part, WriteFailed};
pub use mailboxes::{Mailbox, MailboxPatch, NewMailbox, Origin, Ttl, WhenFull};
pub use messages::{Deletion, ListRequest, MessagePage, MessagePatch, Scope, StoredMessage};
pub use replay::{Position, Replay};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is busy, away or failing; trying again may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// A record exists but its bytes are not what was written; the text names it.
    #[error("damaged: {0}")]
    Damaged(String),
    /// No such mailbox or message.
    #[error("not found")]
    NotFound,
    /// A mailbox with this address exists.
    #[error("exists")]
    Exists,
    /// The search text cannot be used (its message says why).
    #[error("{0}")]
    BadQuery(String),
    /// The page token is not one of ours.
    #[error("not a page of this list")]
    BadPage,
    /// Free disk space is below `[database] min_free`.
    #[error("the disk is nearly full")]
    NoSpace,
}

/// The store, open: a cheap handle that every stage may clone.
#[derive(Clone)]
pub struct Store {}

/// What of the store's work can be seen from outside: for readiness, metrics and refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStatus {
    /// Free bytes below `[database] min_free`: receiving answers 452.
    pub no_space: bool,
    pub free_bytes: u64,
    /// Deliveries waiting for the writer.
    pub queued: u64,
    /// Committed events that are not in the search index yet.
    pub index_lag: u64,
    /// The writer is running and its last batch did not fail.
    pub healthy: bool,
}

#[expect(
    clippy::unused_async,
    clippy::unimplemented,
    unused_variables,
    reason = "the signatures, before the store behind them"
)]
impl Store {
    /// Hands a delivery to the writer.
    ///
    /// # Errors
    /// Gives it back when the writer's queue is full or closed (451 at SMTP).
    pub fn append(&self, incoming: Incoming) -> Result<(), Box<Incoming>> {
        unimplemented!()
    }
    /// What can be seen from outside; reads a few atomics.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        unimplemented!()
    }
    /// The present position of the stream over all mailboxes.
    #[must_use]
    pub fn stream_head(&self) -> crate::mail::cursor::StreamCursor {
        unimplemented!()
    }

    /// Rows of those keys that exist, in any order: one query.
    pub async fn mailboxes(&self, keys: &[crate::mail::address::MailboxKey]) -> Result<Vec<Mailbox>, StoreError> {
        unimplemented!()
    }
    pub async fn mailbox(&self, key: &crate::mail::address::MailboxKey) -> Result<Option<Mailbox>, StoreError> {
        unimplemented!()
    }
    pub async fn mailbox_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<Mailbox>, StoreError> {
        unimplemented!()
    }
    /// Ordered by key; `after` is `next` of the page before.
    pub async fn list_mailboxes(&self, after: Option<&str>, limit: u32) -> Result<mailboxes::MailboxPage, StoreError> {
        unimplemented!()
    }
    /// `Exists` when there is a row, made by mail or by a call, that has not ended.
    pub async fn create_mailbox(&self, new: NewMailbox) -> Result<Mailbox, StoreError> {
        unimplemented!()
    }
    pub async fn alter_mailbox(
        &self,
        key: &crate::mail::address::MailboxKey,
        patch: MailboxPatch,
    ) -> Result<Mailbox, StoreError> {
        unimplemented!()
    }
    /// Deletes it with all its mail; `NotFound` when there is none.
    pub async fn delete_mailbox(&self, key: &crate::mail::address::MailboxKey) -> Result<(), StoreError> {
        unimplemented!()
    }

    pub async fn list(&self, request: &ListRequest) -> Result<MessagePage, StoreError> {
        unimplemented!()
    }
    pub async fn message(
        &self,
        key: &crate::mail::address::MailboxKey,
        id: crate::mail::id::DeliveryId,
    ) -> Result<Option<StoredMessage>, StoreError> {
        unimplemented!()
    }
    /// The message byte for byte as stored; follows a body that compaction moved (reads the row again, once).
    pub async fn body(&self, message: &StoredMessage) -> Result<bytes::Bytes, StoreError> {
        unimplemented!()
    }
    /// The message as it is after the change.
    pub async fn update_message(
        &self,
        key: &crate::mail::address::MailboxKey,
        id: crate::mail::id::DeliveryId,
        patch: MessagePatch,
    ) -> Result<crate::mail::summary::Listed, StoreError> {
        unimplemented!()
    }
    /// How many went.
    pub async fn delete_messages(
        &self,
        key: &crate::mail::address::MailboxKey,
        which: Deletion,
    ) -> Result<u64, StoreError> {
        unimplemented!()
    }

    /// Events of one mailbox after `since`, at most `limit`. An address without a row has the zero cursor.
    pub async fn replay(
        &self,
        key: &crate::mail::address::MailboxKey,
        since: crate::mail::cursor::Cursor,
        limit: u32,
    ) -> Result<Replay, StoreError> {
        unimplemented!()
    }
    /// Events of all mailboxes after `since`, at most `limit`.
    pub async fn replay_all(&self, since: crate::mail::cursor::StreamCursor, limit: u32) -> Result<Replay, StoreError> {
        unimplemented!()
    }

    /// Removes what has ended by `now`, in small batches between deliveries; true when more is left.
    pub async fn expire(&self, now: crate::mail::time::Timestamp) -> Result<bool, StoreError> {
        unimplemented!()
    }
    /// Gives space back: deletes dead segments, compacts one that is mostly dead; true when more is left.
    pub async fn compact(&self, now: crate::mail::time::Timestamp) -> Result<bool, StoreError> {
        unimplemented!()
    }
    /// Stops taking deliveries, commits what was taken, closes the databases.
    pub async fn close(&self) {}
}
pub fn encode(_raw: &[u8]) -> Body {
    unimplemented!()
}
