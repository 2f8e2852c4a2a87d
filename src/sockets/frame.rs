//! What client and server say to each other over `/v1/ws`: JSON texts to and from types. Pure.
//!
//! Events themselves are written by `mail::event`, once for all subscribers.

use serde::{Deserialize, Serialize};

use crate::mail::address::MailboxKey;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Request {
    #[serde(rename = "subscribe")]
    Subscribe(Wanted),
    #[serde(rename = "unsubscribe")]
    Unsubscribe { mailbox: String },
}

/// A subscription as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// An address, or `*`.
    pub mailbox: String,
    #[serde(default)]
    pub token: Option<String>,
    /// Replay from this cursor on.
    #[serde(default)]
    pub since: Option<String>,
    /// Send only `message.received` that match this search.
    #[serde(default)]
    pub q: Option<String>,
}

/// What a subscription is called by its client: one mailbox, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Mailbox(MailboxKey),
    All,
}

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Mailbox(key) => key.as_str(),
            Self::All => "*",
        }
    }
}

/// Why a request was not carried out: the same names and statuses as in the HTTP API (RFC 9457).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadJson,
    BadAddress,
    BadCursor,
    BadQuery,
    TokenNeeded,
    NoSuchMailbox,
    TooLarge,
    TooManySubscriptions,
    UnsupportedMediaType,
    Unavailable,
    TooManyRequests,
    /// Of the handshake, as those below.
    BadHandshake,
    ForeignHost,
    ForeignOrigin,
    MethodNotAllowed,
    NoSuchPath,
    UpgradeRequired,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::BadJson,
        Self::BadAddress,
        Self::BadCursor,
        Self::BadQuery,
        Self::TokenNeeded,
        Self::NoSuchMailbox,
        Self::TooLarge,
        Self::TooManySubscriptions,
        Self::UnsupportedMediaType,
        Self::Unavailable,
        Self::TooManyRequests,
        Self::BadHandshake,
        Self::ForeignHost,
        Self::ForeignOrigin,
        Self::MethodNotAllowed,
        Self::NoSuchPath,
        Self::UpgradeRequired,
    ];

    /// Name, status and title.
    const fn parts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadJson => ("bad-json", 400, "The message is not JSON that this endpoint takes"),
            Self::BadAddress => ("bad-address", 400, "This is not a mail address that can be a mailbox here"),
            Self::BadCursor => ("bad-cursor", 400, "This is not a cursor of this list or stream"),
            Self::BadQuery => ("bad-query", 400, "The search text cannot be used"),
            Self::TokenNeeded => ("token-needed", 401, "A token is needed"),
            Self::NoSuchMailbox => ("no-such-mailbox", 404, "There is no such mailbox"),
            Self::TooLarge => ("too-large", 413, "The message is too large"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "The message must be text"),
            Self::TooManySubscriptions => ("too-many-subscriptions", 429, "This client has too many subscriptions"),
            Self::Unavailable => ("unavailable", 503, "The server is busy or stopping: try again shortly"),
            Self::TooManyRequests => ("too-many-requests", 429, "This client asks for more than it may"),
            Self::BadHandshake => ("bad-handshake", 400, "This is not a WebSocket handshake"),
            Self::ForeignHost => ("foreign-host", 421, "This server is not known under that host name"),
            Self::ForeignOrigin => ("foreign-origin", 403, "Requests from pages of other sites are not answered"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "This path does not take this method"),
            Self::NoSuchPath => ("no-such-path", 404, "There is nothing at this path"),
            Self::UpgradeRequired => ("upgrade-required", 426, "This path speaks WebSocket, version 13"),
        }
    }

    /// The last part of `type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.parts().0
    }

    /// The status that an HTTP answer would have.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.parts().1
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> Problem<'a> {
    fn new(kind: Kind, detail: Option<&'a str>) -> Self {
        let (name, status, title) = kind.parts();
        Self { kind: format!("urn:mailroom:problem:{name}"), title, status, detail }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Answer<'a> {
    #[serde(rename = "subscribed")]
    Subscribed { mailbox: &'a str, cursor: String },
    #[serde(rename = "reset")]
    Reset { mailbox: &'a str, cursor: String },
    #[serde(rename = "error")]
    Error {
        problem: Problem<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mailbox: Option<&'a str>,
    },
}

impl Answer<'_> {
    fn text(&self) -> String {
        // Strings and numbers only: nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Reads a client's text.
///
/// # Errors
/// What is wrong with it, and the `mailbox` it names when that much can be read.
pub fn parse(text: &str) -> Result<Request, (String, Option<String>)> {
    #[derive(Deserialize)]
    struct Named {
        mailbox: Option<String>,
    }
    serde_json::from_str(text).map_err(|error| {
        let named = serde_json::from_str::<Named>(text).ok().and_then(|named| named.mailbox);
        (error.to_string(), named)
    })
}

/// The subscription stands at `cursor`: what comes after it follows.
#[must_use]
pub fn subscribed(mailbox: &str, cursor: &impl ToString) -> String {
    Answer::Subscribed { mailbox, cursor: cursor.to_string() }.text()
}

/// What the client knows of the mailbox is no longer true and cannot be mended by events: reload, then go on from
/// `cursor`.
#[must_use]
pub fn reset(mailbox: &str, cursor: &impl ToString) -> String {
    Answer::Reset { mailbox, cursor: cursor.to_string() }.text()
}

/// A request was not carried out; `mailbox` as the client wrote it.
#[must_use]
pub fn error(kind: Kind, detail: Option<&str>, mailbox: Option<&str>) -> String {
    Answer::Error { problem: Problem::new(kind, detail), mailbox }.text()
}

/// The problem document that answers a handshake.
#[must_use]
pub fn document(kind: Kind, detail: Option<&str>) -> String {
    serde_json::to_string(&Problem::new(kind, detail)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_requests() {
        let full = r#"{"type":"subscribe","mailbox":"a@b.c","token":"t","since":"m0-0-0","q":"code"}"#;
        let wanted = Wanted {
            mailbox: "a@b.c".into(),
            token: Some("t".into()),
            since: Some("m0-0-0".into()),
            q: Some("code".into()),
        };
        assert_eq!(parse(full).unwrap(), Request::Subscribe(wanted));
        let bare = Wanted { mailbox: "*".into(), token: None, since: None, q: None };
        assert_eq!(parse(r#"{"mailbox":"*","since":null,"type":"subscribe"}"#).unwrap(), Request::Subscribe(bare));
        let leave = Request::Unsubscribe { mailbox: "a@b.c".into() };
        assert_eq!(parse(r#"{"type":"unsubscribe","mailbox":"a@b.c"}"#).unwrap(), leave);
    }

    #[test]
    fn names_the_mailbox_of_a_bad_request_when_it_can() {
        let (_, named) = parse(r#"{"type":"subscribe","mailbox":"a@b.c","sinse":"x"}"#).unwrap_err();
        assert_eq!(named.as_deref(), Some("a@b.c"));
        let (_, named) = parse(r#"{"type":"dance","mailbox":"a@b.c"}"#).unwrap_err();
        assert_eq!(named.as_deref(), Some("a@b.c"));
        let (_, named) = parse(r#"{"type":"unsubscribe","mailbox":"a@b.c","token":"t"}"#).unwrap_err();
        assert_eq!(named.as_deref(), Some("a@b.c"));
        for text in ["", "[]", "{", "null", r#"{"mailbox":7}"#, r#"{"type":"subscribe"}"#] {
            assert!(matches!(parse(text), Err((_, None))), "{text}");
        }
    }

    #[test]
    fn writes_answers() {
        assert_eq!(subscribed("*", &"s1-2"), r#"{"type":"subscribed","mailbox":"*","cursor":"s1-2"}"#);
        assert_eq!(reset("a@b.c", &"m1-2-3"), r#"{"type":"reset","mailbox":"a@b.c","cursor":"m1-2-3"}"#);
        assert_eq!(
            error(Kind::NoSuchMailbox, None, Some("a@b.c")),
            r#"{"type":"error","problem":{"type":"urn:mailroom:problem:no-such-mailbox","title":"There is no such mailbox","status":404},"mailbox":"a@b.c"}"#
        );
        let error: serde_json::Value = serde_json::from_str(&error(Kind::BadJson, Some("x"), None)).unwrap();
        assert_eq!(error["problem"]["detail"], "x");
        assert!(error.get("mailbox").is_none());
    }
}
