//! The shapes of answers and requests, as the OpenAPI document shows them. Summaries are `mail::summary::Listed`.

use serde::{Deserialize, Deserializer, Serialize};

use crate::mail::address::MailboxKey;
use crate::mail::summary::Listed;
use crate::mail::time::Timestamp;
use crate::mail::units::{Limit, Period};
use crate::store::{Mailbox, Origin, Ttl, WhenFull};

/// What `GET /v1/server` says.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Server {
    pub name: &'static str,
    pub version: &'static str,
    /// `open`: anyone who reaches the port reads; `token`: a mailbox's token is needed.
    pub access: AccessKind,
    /// Where senders reach SMTP: `[smtp] public_address`, or else every address that it listens on.
    pub smtp: Vec<SmtpAddress>,
    /// The domain of generated addresses.
    pub default_domain: Option<String>,
    /// Changes that are stored and not in the search index yet.
    pub index_lag: u64,
    /// False while the disk is nearly full: mail is refused with 452 until there is room.
    pub receiving: bool,
}

/// An address that SMTP is reached at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SmtpAddress {
    /// A name or an IP address; `0.0.0.0` and `::` are all of this machine's.
    pub host: String,
    pub port: u16,
}

/// Who may read mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    Open,
    Token,
}

/// A domain that accepts mail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Domain {
    /// A domain name, or `*` for any.
    pub domain: String,
    /// Generated addresses have this one.
    pub is_default: bool,
}

/// All domains; there is never a second page.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DomainList {
    pub items: Vec<Domain>,
    pub next_cursor: Option<String>,
}

/// How a mailbox came to be: one made by mail goes once it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    Mail,
    Call,
}

/// What happens to mail for a mailbox that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FullRule {
    /// It is refused with 452.
    Refuse,
    /// The oldest messages make room.
    DropOldest,
}

/// A mailbox with its counts. With open mailboxes an address that could receive mail and has none yet is shown as an
/// empty one: `made_by` and `created_at` are null.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MailboxView {
    #[schema(value_type = String)]
    pub address: MailboxKey,
    pub made_by: Option<MadeBy>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// The end of the mailbox with all its mail; null for none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// How long its messages live after their arrival: `7d`, `never`; null is the server's default.
    #[schema(value_type = Option<String>)]
    pub message_ttl: Option<Limit<Period>>,
    /// Null is the server's default, as for the next two.
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    pub when_full: Option<FullRule>,
    pub messages: u64,
    pub unread: u64,
    pub bytes: u64,
    /// Its present event position: follow it with `since` and miss nothing.
    pub cursor: String,
}

/// A mailbox just made, with its token: it is not shown again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CreatedMailbox {
    #[serde(flatten)]
    pub mailbox: MailboxView,
    pub token: String,
}

/// A page of mailboxes, ordered by address.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MailboxList {
    pub items: Vec<MailboxView>,
    /// Give it as `page` for the next one; null at the end.
    pub next_cursor: Option<String>,
    /// The event position before the page was read: follow `/v1/events` with `since` and miss nothing.
    pub cursor: String,
}

/// A page of summaries, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MessageList<'a> {
    #[schema(value_type = Vec<Listed>)]
    pub items: &'a [Listed],
    /// Give it as `page` for the next one; null at the end.
    #[schema(value_type = Option<String>)]
    pub next_cursor: Option<&'a str>,
    /// The event position of the snapshot that this page was read from: follow events with `since` and miss nothing.
    pub cursor: String,
    /// With a search: how many changes were not in the index yet (they were searched one by one).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_lag: Option<u64>,
}

/// How many messages went.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Deleted {
    pub deleted: u64,
}

/// What mailbox to make. All may be left out: an address is then generated, and the mailbox lives for good.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewMailboxRequest {
    /// The whole address; not together with `local_part` or `domain`.
    pub address: Option<String>,
    /// Generated where it is left out.
    pub local_part: Option<String>,
    /// The server's default where it is left out.
    pub domain: Option<String>,
    /// How long the mailbox lives from now: `10m`, `7d`; `never` is the default. Not together with `expires_at`.
    #[schema(value_type = Option<String>, example = "1h")]
    pub ttl: Option<Limit<Period>>,
    /// The end of the mailbox.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// How long its messages live after their arrival; left out for the server's default.
    #[schema(value_type = Option<String>, example = "1d")]
    pub message_ttl: Option<Limit<Period>>,
    #[schema(minimum = 1)]
    pub max_messages: Option<u64>,
    #[schema(minimum = 1)]
    pub max_bytes: Option<u64>,
    pub when_full: Option<FullRule>,
}

/// Changes to a mailbox. What is left out stays; null goes back to the server's default (for `ttl` and `expires_at`:
/// no end).
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxChange {
    /// How long the mailbox lives from now; `never` takes its end away. Not together with `expires_at`.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "1h")]
    pub ttl: Option<Option<Limit<Period>>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Timestamp>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "1d")]
    pub message_ttl: Option<Option<Limit<Period>>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub max_messages: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub max_bytes: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<FullRule>)]
    pub when_full: Option<Option<FullRule>>,
}

/// Changes to a message. What is left out stays.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MessageChange {
    pub is_read: Option<bool>,
    /// The whole new set: at most 32, each 1 to 64 bytes without control characters.
    pub tags: Option<Vec<String>>,
}

/// Tells null from left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl From<Mailbox> for MailboxView {
    fn from(row: Mailbox) -> Self {
        Self {
            address: row.key,
            made_by: Some(match row.origin {
                Origin::Mail => MadeBy::Mail,
                Origin::Call => MadeBy::Call,
            }),
            created_at: Some(row.created_at),
            expires_at: row.expires_at,
            message_ttl: match row.message_ttl {
                Ttl::Default => None,
                Ttl::Never => Some(Limit::NONE),
                Ttl::After(span) => Some(Limit::of(Period(span))),
            },
            max_messages: row.max_messages,
            max_bytes: row.max_bytes,
            when_full: row.when_full.map(Into::into),
            messages: row.messages,
            unread: row.unread,
            bytes: row.bytes,
            cursor: row.cursor.to_string(),
        }
    }
}

impl MailboxView {
    /// An address without a row that could receive mail.
    #[must_use]
    pub fn empty(address: MailboxKey) -> Self {
        Self {
            address,
            made_by: None,
            created_at: None,
            expires_at: None,
            message_ttl: None,
            max_messages: None,
            max_bytes: None,
            when_full: None,
            messages: 0,
            unread: 0,
            bytes: 0,
            cursor: crate::mail::cursor::Cursor::default().to_string(),
        }
    }
}

impl From<WhenFull> for FullRule {
    fn from(rule: WhenFull) -> Self {
        match rule {
            WhenFull::Refuse => Self::Refuse,
            WhenFull::DropOldest => Self::DropOldest,
        }
    }
}

impl From<FullRule> for WhenFull {
    fn from(rule: FullRule) -> Self {
        match rule {
            FullRule::Refuse => Self::Refuse,
            FullRule::DropOldest => Self::DropOldest,
        }
    }
}

/// The lifetime of messages that a request names; null is the server's default.
#[must_use]
pub fn message_ttl(asked: Option<Limit<Period>>) -> Ttl {
    match asked {
        None => Ttl::Default,
        Some(Limit(None)) => Ttl::Never,
        Some(Limit(Some(Period(span)))) => Ttl::After(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_null_from_left_out() {
        let change: MailboxChange = serde_json::from_str(r#"{"ttl": null, "max_bytes": 5}"#).unwrap();
        assert_eq!(change.ttl, Some(None));
        assert_eq!(change.max_bytes, Some(Some(5)));
        assert_eq!(change.max_messages, None);
        assert!(serde_json::from_str::<MailboxChange>(r#"{"tll": "1h"}"#).is_err());
    }

    #[test]
    fn a_created_mailbox_has_address_and_token_in_one_object() {
        let created =
            CreatedMailbox { mailbox: MailboxView::empty(MailboxKey::from_stored("a@x.test")), token: "mrt_x".into() };
        let json = serde_json::to_value(created).unwrap();
        assert_eq!(json["address"], "a@x.test");
        assert_eq!(json["token"], "mrt_x");
        assert_eq!(json["cursor"], "m0-0-0");
    }
}
