//! Mailboxes as rows: their lifetime, quota, counter and totals.

use std::time::Duration;

use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::time::Timestamp;

/// How a mailbox came to be: one made by mail goes once it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Mail,
    Call,
}

/// How long messages of a mailbox live after their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// `[mailboxes] message_ttl`.
    Default,
    Never,
    After(Duration),
}

/// What happens to mail for a mailbox that has reached its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    #[default]
    Refuse,
    DropOldest,
}

/// A mailbox row as last committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Mailbox {
    /// Row number; never reused.
    pub id: i64,
    pub key: MailboxKey,
    /// Its current place: lineage, incarnation and last modseq.
    pub cursor: Cursor,
    pub origin: Origin,
    pub created_at: Timestamp,
    /// End of the mailbox with all its mail; none for good.
    pub expires_at: Option<Timestamp>,
    pub message_ttl: Ttl,
    /// None is `[mailboxes] max_messages`, as for `max_bytes`.
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    /// None is `[mailboxes] when_full`.
    pub when_full: Option<WhenFull>,
    pub messages: u64,
    pub unread: u64,
    pub bytes: u64,
    /// SHA-256 of the mailbox's token; none for one made by mail.
    pub token_hash: Option<[u8; 32]>,
}

/// A mailbox to make by a call.
#[derive(Clone, Debug)]
pub struct NewMailbox {
    pub key: MailboxKey,
    pub expires_at: Option<Timestamp>,
    pub message_ttl: Ttl,
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    pub when_full: Option<WhenFull>,
    pub token_hash: [u8; 32],
}

/// Changes to a mailbox; None leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct MailboxPatch {
    /// `Some(None)`: lives for good.
    pub expires_at: Option<Option<Timestamp>>,
    pub message_ttl: Option<Ttl>,
    pub max_messages: Option<Option<u64>>,
    pub max_bytes: Option<Option<u64>>,
    pub when_full: Option<Option<WhenFull>>,
}

/// A page of mailboxes, ordered by key.
#[derive(Clone, Debug)]
pub struct MailboxPage {
    pub items: Vec<Mailbox>,
    /// Give this as `after` for the next page.
    pub next: Option<String>,
}
