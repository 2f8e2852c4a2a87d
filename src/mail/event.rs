//! What happened to a mailbox, as subscribers are told: on the WebSocket, over SSE, to `wait`.
//!
//! The writer makes one [`Announced`] for each change it committed, in commit order; its JSON is written once and
//! shared by all subscribers.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use uuid::Uuid;

use super::address::MailboxKey;
use super::cursor::{Cursor, StreamCursor};
use super::id::DeliveryId;
use super::summary::Listed;

/// One committed change of one mailbox.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type")]
pub enum Event {
    /// A message arrived; its UID is the event's modseq.
    #[serde(rename = "message.received")]
    Received { message: Arc<Listed> },
    /// Flags or tags changed; the message as it is now.
    #[serde(rename = "message.updated")]
    Updated { message: Arc<Listed> },
    /// A message was deleted by a call.
    #[serde(rename = "message.deleted")]
    Deleted { id: DeliveryId, uid: u64 },
    /// This message and all older ones of the mailbox are gone: expired, or all deleted at once.
    #[serde(rename = "messages.expired")]
    Expired { through_uid: u64 },
    /// The mailbox itself is gone, with all its mail. The last event of an incarnation.
    #[serde(rename = "mailbox.deleted")]
    MailboxDeleted {},
}

/// An event with its place in the order of its mailbox and of the whole stream.
#[derive(Debug)]
pub struct Announced {
    pub mailbox: MailboxKey,
    /// Place in the mailbox's order: `cursor.modseq` values are dense within an incarnation.
    pub cursor: Cursor,
    /// Place in the stream over all mailboxes: one stamp an event, strictly increasing in commit order.
    pub stream: StreamCursor,
    pub event: Event,
    /// What `q` filters look at beyond the summary; absent when the event came from the store (`mail::query`
    /// then asks for the stored message).
    pub text: Option<Arc<str>>,
    /// The mark of its commit on a database server, where that is known.
    pub batch: Option<Uuid>,
    json: OnceLock<Arc<str>>,
    stream_json: OnceLock<Arc<str>>,
}

#[derive(Serialize)]
struct Wire<'a> {
    mailbox: &'a MailboxKey,
    cursor: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Announced {
    #[must_use]
    pub fn new(
        mailbox: MailboxKey,
        cursor: Cursor,
        stream: StreamCursor,
        event: Event,
        text: Option<Arc<str>>,
    ) -> Self {
        Self { mailbox, cursor, stream, event, text, batch: None, json: OnceLock::new(), stream_json: OnceLock::new() }
    }

    /// The wire form for a subscriber of this mailbox: `{"mailbox","cursor","type",…}`, written once.
    #[must_use]
    pub fn json(&self) -> Arc<str> {
        self.json.get_or_init(|| self.wire(self.cursor.to_string())).clone()
    }

    /// The wire form for a subscriber of `*`: the same with the cursor of the stream, written once.
    #[must_use]
    pub fn stream_json(&self) -> Arc<str> {
        self.stream_json.get_or_init(|| self.wire(self.stream.to_string())).clone()
    }

    fn wire(&self, cursor: String) -> Arc<str> {
        let wire = Wire { mailbox: &self.mailbox, cursor, event: &self.event };
        // Strings, numbers and maps with string keys: nothing in it can fail to serialise.
        serde_json::to_string(&wire).unwrap_or_default().into()
    }
}
