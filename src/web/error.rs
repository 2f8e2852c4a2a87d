//! What goes wrong, as callers see it: RFC 9457 problem documents. [`Kind`] is the one table of them, shown on the
//! docs page and in the OpenAPI document, those of `sockets` among them; this file also holds the one translation of store errors to problems.
//!
//! A problem's `type` is `urn:mailroom:problem:<name>`: stable, meant for programs. `detail` is for people.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_RANGE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::accounts::Denied;
use crate::cluster::limits::Refused;
use crate::store::StoreError;

/// The media type of a problem document (RFC 9457 §3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What a caller without a token can do about it.
const TOKEN_ADVICE: &str = "make a mailbox with POST /v1/mailboxes and send its token as Authorization: Bearer";

/// Why a body is not there that has moved.
const UNNAMED_STORAGE: &str =
    "The message lies in object storage, and the settings of this server name none ([cold] url): tell its operator";
const AWAY_STORAGE: &str = "The message lies in object storage, which does not answer this server";

const URN: &str = "urn:mailroom:problem:";

macro_rules! problems {
    ($($kind:ident, $name:literal, $status:ident, $title:literal;)*) => {
        /// Every problem that the API answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// All of them, in order of their status.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The last part of `type`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),* }
            }

            /// The same for every occurrence (RFC 9457 §3.1.3).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),* }
            }
        }
    };
}

problems! {
    BadAddress, "bad-address", BAD_REQUEST, "This is not a mail address that can be a mailbox here";
    BadCursor, "bad-cursor", BAD_REQUEST, "This is not a cursor of this list or stream";
    BadField, "bad-field", BAD_REQUEST, "A field of the request has a value that cannot be used";
    BadHandshake, "bad-handshake", BAD_REQUEST, "This is not a WebSocket handshake";
    BadJson, "bad-json", BAD_REQUEST, "The request body is not the JSON that this call takes";
    BadPage, "bad-page", BAD_REQUEST, "This is not a page of this list";
    BadParameter, "bad-parameter", BAD_REQUEST, "The query string has a parameter that is unknown or cannot be used";
    BadQuery, "bad-query", BAD_REQUEST, "The search text cannot be used";
    TokenNeeded, "token-needed", UNAUTHORIZED, "A token is needed";
    ForeignOrigin, "foreign-origin", FORBIDDEN, "Requests from pages of other sites are not answered";
    NotForPages, "not-for-pages", FORBIDDEN, "A page may not load this as a part of itself";
    NoSuchPath, "no-such-path", NOT_FOUND, "There is nothing at this path";
    NoSuchMailbox, "no-such-mailbox", NOT_FOUND, "There is no such mailbox";
    NoSuchMessage, "no-such-message", NOT_FOUND, "There is no such message in this mailbox";
    NoSuchPart, "no-such-part", NOT_FOUND, "The message has no such part";
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED, "This path does not take this method";
    RequestTimeout, "request-timeout", REQUEST_TIMEOUT, "The request body did not come in time";
    MailboxExists, "mailbox-exists", CONFLICT, "A mailbox with this address exists";
    CursorGone, "cursor-gone", GONE, "The stream cannot be continued from this cursor: list again, then go on from there";
    TooLarge, "too-large", PAYLOAD_TOO_LARGE, "The request body is too large";
    UnsupportedMediaType, "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The request body must be application/json";
    RangeNotSatisfiable, "range-not-satisfiable", RANGE_NOT_SATISFIABLE, "The range lies beyond the end";
    ForeignHost, "foreign-host", MISDIRECTED_REQUEST, "This server is not known under that host name";
    DomainNotAccepted, "domain-not-accepted", UNPROCESSABLE_ENTITY, "This server does not accept mail for that domain";
    UpgradeRequired, "upgrade-required", UPGRADE_REQUIRED, "This path speaks WebSocket, version 13";
    TooManySubscriptions, "too-many-subscriptions", TOO_MANY_REQUESTS, "This client has too many subscriptions";
    TooManyRequests, "too-many-requests", TOO_MANY_REQUESTS, "This client asks for more than it may";
    TooManyMailboxes, "too-many-mailboxes", TOO_MANY_REQUESTS, "This client made many mailboxes in a short time";
    Internal, "internal", INTERNAL_SERVER_ERROR, "The server failed on this request";
    MessageDamaged, "message-damaged", INTERNAL_SERVER_ERROR, "The stored message is damaged";
    Unavailable, "unavailable", SERVICE_UNAVAILABLE, "The server is busy or stopping: try again shortly";
    NoSpace, "no-space", INSUFFICIENT_STORAGE, "The disk of the server is nearly full";
}

/// A problem and what is particular to this occurrence.
#[derive(Debug)]
pub struct Problem {
    pub kind: Kind,
    pub detail: Option<String>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// The document's shape. It may be read as any JSON object: unknown members are to be ignored (RFC 9457 §3.2).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// `urn:mailroom:problem:<name>`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What is particular to this occurrence, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Problem {
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: Some(detail.into()), header: None }
    }

    /// 405, with the methods that the path does take (RFC 9110 §15.5.6).
    #[must_use]
    pub fn method_not_allowed(allow: &HeaderValue) -> Self {
        Self { kind: Kind::MethodNotAllowed, detail: None, header: Some((ALLOW, allow.clone())) }
    }

    /// 429: one client has as many requests under way as it may have connections; with when to try again. Not 503, by which a
    /// proxy would take this server for a failing one.
    #[must_use]
    pub fn too_many_requests() -> Self {
        let header = Some((RETRY_AFTER, HeaderValue::from_static("10")));
        Self { kind: Kind::TooManyRequests, detail: None, header }
    }

    /// 503: too much is being sent already; with when to try again (RFC 9110 §10.2.3).
    #[must_use]
    pub fn busy() -> Self {
        let detail = "Too many large answers are being read at this time".to_owned();
        Self {
            kind: Kind::Unavailable,
            detail: Some(detail),
            header: Some((RETRY_AFTER, HeaderValue::from_static("2"))),
        }
    }

    /// 429, with the time until the next is allowed (RFC 6585 §4).
    #[must_use]
    pub fn over_limit(kind: Kind, refused: Refused) -> Self {
        let header = HeaderValue::from(refused.retry_after());
        Self { kind, detail: None, header: Some((RETRY_AFTER, header)) }
    }

    /// 426, with the protocol that the path speaks (RFC 9110 §15.5.22).
    #[must_use]
    pub fn upgrade_required() -> Self {
        let header = Some((UPGRADE, HeaderValue::from_static("websocket")));
        Self { kind: Kind::UpgradeRequired, detail: None, header }
    }

    /// 416, with the length that there is (RFC 9110 §15.5.17).
    #[must_use]
    pub fn range_not_satisfiable(length: usize) -> Self {
        let range = HeaderValue::try_from(format!("bytes */{length}")).ok();
        Self { kind: Kind::RangeNotSatisfiable, detail: None, header: range.map(|value| (CONTENT_RANGE, value)) }
    }

    /// The document that is sent.
    #[must_use]
    pub fn document(&self) -> ProblemDocument {
        ProblemDocument {
            kind: format!("{URN}{}", self.kind.name()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
        }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        if kind != Kind::TokenNeeded {
            return Self { kind, detail: None, header: None };
        }
        let challenge = HeaderValue::from_static("Bearer realm=\"mailroom\"");
        Self { kind, detail: Some(TOKEN_ADVICE.to_owned()), header: Some((WWW_AUTHENTICATE, challenge)) }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Kind::Unavailable.into(),
            StoreError::Unnamed => Self::new(Kind::Unavailable, UNNAMED_STORAGE),
            StoreError::Away(_) => Self::new(Kind::Unavailable, AWAY_STORAGE),
            StoreError::Damaged(what) => {
                tracing::error!(record = what, "a stored record is damaged");
                Kind::MessageDamaged.into()
            }
            StoreError::NotFound => Kind::NoSuchMailbox.into(),
            StoreError::Exists => Kind::MailboxExists.into(),
            StoreError::BadQuery(why) => Self::new(Kind::BadQuery, why),
            StoreError::BadPage => Kind::BadPage.into(),
            StoreError::NoSpace => Kind::NoSpace.into(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoToken => Kind::TokenNeeded.into(),
            Denied::Unknown => Kind::NoSuchMailbox.into(),
            Denied::Store(error) => error.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.title())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        let body = serde_json::to_vec(&self.document()).unwrap_or_default();
        let mut response = HttpResponse::build(self.kind.status());
        response.content_type(MEDIA_TYPE).insert_header((CACHE_CONTROL, "no-store"));
        if let Some((name, value)) = &self.header {
            response.insert_header((name.clone(), value.clone()));
        }
        response.body(body)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_problem_has_a_name_of_its_own_and_an_error_status() {
        let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(kind.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
        assert!(Kind::ALL.windows(2).all(|pair| pair[0].status() <= pair[1].status()), "in order of status");
    }

    #[test]
    fn the_document_says_what_rfc_9457_asks() {
        let document = serde_json::to_value(Problem::new(Kind::BadQuery, "no such field: form").document()).unwrap();
        assert_eq!(document["type"], "urn:mailroom:problem:bad-query");
        assert_eq!(document["status"], 400);
        assert_eq!(document["detail"], "no such field: form");
        assert!(document["title"].is_string());
    }

    #[test]
    fn a_missing_token_is_challenged() {
        let response = Problem::from(Kind::TokenNeeded).error_response();
        assert_eq!(response.status(), 401);
        assert!(response.headers().get(WWW_AUTHENTICATE).unwrap().to_str().unwrap().starts_with("Bearer"));
        assert_eq!(response.headers().get("content-type").unwrap(), MEDIA_TYPE);
    }
}
