//! The list columns of a message, made once when it is received: subject, from, to, date, preview, attachment count.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::address::MailboxKey;
use super::id::DeliveryId;
use super::time::Timestamp;

/// A display name and an address as a header wrote them, decoded (RFC 2047) and cleaned of control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Party {
    pub name: Option<String>,
    pub address: Option<String>,
}

/// How far the MIME parser got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parse {
    /// The whole message.
    #[default]
    Whole,
    /// Too deeply nested or too many parts (`structure`): only the headers.
    HeadersOnly,
    /// Nothing: the parser failed on it. The raw message is stored all the same.
    Unreadable,
}

/// What the receiving side learns from a message before it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub subject: String,
    pub from: Option<Party>,
    pub to: Vec<Party>,
    pub date: Option<Timestamp>,
    pub preview: String,
    pub attachments: u32,
    pub parse: Parse,
    /// The readable text for search and filters, at most 256 KiB of it.
    pub text: Arc<str>,
}

impl Summary {
    /// What is kept of a message that the parser failed on.
    #[must_use]
    pub fn unreadable() -> Self {
        Self { parse: Parse::Unreadable, ..Self::default() }
    }
}

/// Reads a whole message.
#[must_use]
pub fn summarize(raw: &[u8]) -> Summary {
    summarize_headers(raw)
}

/// Reads the headers alone.
#[must_use]
pub fn summarize_headers(raw: &[u8]) -> Summary {
    let Some(message) = mail_parser::MessageParser::default().parse_headers(raw) else {
        return Summary::unreadable();
    };
    Summary {
        subject: message.subject().unwrap_or_default().to_owned(),
        parse: Parse::HeadersOnly,
        ..Summary::default()
    }
}

/// One line of a message list: the `summary` of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Listed {
    pub id: DeliveryId,
    /// Place in the mailbox: ascending, never reused within an incarnation.
    pub uid: u64,
    pub mailbox: MailboxKey,
    /// The mailbox's event position at which this message arrived (opaque).
    pub cursor: String,
    pub from: Option<Party>,
    pub to: Vec<Party>,
    pub subject: String,
    pub preview: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub date: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Bytes of the message as stored (with the trace headers this server added).
    pub size: u64,
    pub attachments: u32,
    pub is_read: bool,
    pub tags: Vec<String>,
}
