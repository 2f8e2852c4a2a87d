//! Messages as rows: lists, one message, changes.

use crate::mail::address::MailboxKey;
use crate::mail::envelope::Envelope;
use crate::mail::id::DeliveryId;
use crate::mail::query::Query;
use crate::mail::summary::{Listed, Parse};
use crate::mail::time::Timestamp;

use super::replay::Position;

/// Which messages: of one mailbox, or of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Mailbox(MailboxKey),
    All,
}

/// What a list should hold, newest first.
#[derive(Clone, Debug)]
pub struct ListRequest {
    pub scope: Scope,
    /// At most this many items (1 to 1,000; the caller has checked).
    pub limit: u32,
    /// `next_cursor` of the page before.
    pub page: Option<String>,
    pub unread: bool,
    /// Only what came after this position.
    pub since: Option<Position>,
    pub query: Option<Query>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct MessagePage {
    pub items: Vec<Listed>,
    pub next: Option<String>,
    /// The event position of the snapshot that the page was read from: subscribing with it misses nothing.
    pub position: Position,
    /// When time alone changes the page: the first end of a message on it or of its mailbox.
    pub until: Option<Timestamp>,
    /// With a text query: how many messages wait for the index (they were searched by `Query::matches`).
    pub index_lag: Option<u64>,
}

/// A message row with what the list does not show.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    pub listed: Listed,
    pub envelope: Envelope,
    /// Only those that led to this mailbox, as they were written.
    pub recipients: Vec<String>,
    pub parse: Parse,
    /// Where its body is; opaque, for `Store::body`.
    pub location: BodyLocation,
}

/// Where a body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLocation {
    pub segment: i64,
    pub offset: i64,
    pub length: i64,
}

/// Changes to a message; None leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct MessagePatch {
    pub is_read: Option<bool>,
    pub tags: Option<Vec<String>>,
}

/// Which messages of a mailbox to delete.
#[derive(Clone, Debug)]
pub enum Deletion {
    One(DeliveryId),
    All,
}
