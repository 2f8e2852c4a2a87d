//! Query strings and request bodies as types; what is unknown or out of range becomes a problem.

use std::str::FromStr;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::Config;
use super::error::{Kind, Problem};
use crate::mail::query::Query;
use crate::mail::units::Period;
use crate::store::{Position, Scope};

/// Items on a page when the caller does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// Items on a page at most.
pub const MAX_LIMIT: u32 = 500;
/// How long `wait` waits when the caller does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// How long `wait` waits at most.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// Parameters of a list of messages.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct ListParams {
    /// A search, as typed into the dashboard. Terms are separated by space and all must hold: `word`, `word*` (how a word
    /// begins), `"a phrase"`, `from:` `to:` `subject:` (each with a word, a phrase or a beginning), `has:attachment`,
    /// `is:unread` `is:read`, `before:` `after:` (`2026-11-21`, its first moment in UTC, or RFC 3339), `larger:` `smaller:`
    /// (`10`, `10K`, `2MB`; K is 1,024), `tag:` (exactly this tag). `-` before a term negates it; `OR` in capitals between
    /// words, `from:`, `to:` or `subject:` means that either is enough. At most 64 terms and 2,048 bytes.
    pub q: Option<String>,
    /// True: only messages that are not marked read.
    pub unread: Option<bool>,
    /// Only what came after this `cursor`. One that events could not be continued from (of a mailbox that was deleted since,
    /// from before a backup was restored, of all mailboxes and older than a day on a database server) bounds nothing.
    pub since: Option<String>,
    /// Items on the page.
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before. A page of a search may be short, even empty, and still have one.
    pub page: Option<String>,
}

/// Parameters of a list of mailboxes.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct PageParams {
    /// Items on the page.
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub page: Option<String>,
}

/// Parameters of `wait`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct WaitParams {
    /// How long to wait: a whole number with `ms`, `s` or `m` behind it, or of seconds: `500ms`, `30s`, `5m`, `60`. `30s` by
    /// default, `5m` at most. `0` looks only at what is there after `since`.
    #[param(example = "30s", default = "30s")]
    pub timeout: Option<String>,
    /// The message must match this search, written as in lists.
    pub q: Option<String>,
    /// Also take what came after this `cursor`; without it only mail that comes later counts.
    pub since: Option<String>,
}

/// Parameters of an event stream.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct EventParams {
    /// Begin after this `cursor`; `Last-Event-ID` goes before it.
    pub since: Option<String>,
    /// Only messages that match this search, written as in lists. Deletions and expiry are always told.
    pub q: Option<String>,
    /// The token, for `EventSource`, which cannot send a header.
    pub token: Option<String>,
}

/// Parameters of `/html`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct HtmlParams {
    /// `1` or `true`: the page may fetch images, fonts and styles from elsewhere, which tells their hosts that it was read.
    #[param(value_type = Option<bool>)]
    pub remote: Option<Flag>,
    /// The token, for a frame, which cannot send a header.
    pub token: Option<String>,
}

/// Parameters of `/raw`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct DownloadParams {
    /// `1` or `true`: answered as a file to save.
    #[param(value_type = Option<bool>)]
    pub download: Option<Flag>,
    /// The token, for links, which cannot send a header.
    pub token: Option<String>,
}

/// Parameters of `/attachments/{n}`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct PartParams {
    /// `1` or `true`: answered as a file to save.
    #[param(value_type = Option<bool>)]
    pub download: Option<Flag>,
    /// The token, for links and images, which cannot send a header.
    pub token: Option<String>,
    /// In place of the token: what this server wrote into the addresses of pictures in the page of the message. It opens
    /// the attachments of that message for an hour.
    pub key: Option<String>,
}

/// No parameters at all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// `1`, `true`, or nothing after the name is yes; `0` and `false` are no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "1" | "true" | "" => Ok(Self(true)),
            "0" | "false" => Ok(Self(false)),
            other => Err(serde::de::Error::custom(format!("{other:?} is neither 1 nor 0"))),
        }
    }
}

/// Whether a flag was given and says yes.
#[must_use]
pub fn is_set(flag: Option<Flag>) -> bool {
    flag == Some(Flag(true))
}

/// The query string as `T`.
///
/// # Errors
/// `bad-parameter`, which names the parameter.
pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    web::Query::<T>::from_query(request.query_string())
        .map(web::Query::into_inner)
        .map_err(|error| Problem::new(Kind::BadParameter, query_error(&error)))
}

fn query_error(error: &actix_web::error::QueryPayloadError) -> String {
    match error {
        actix_web::error::QueryPayloadError::Deserialize(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The page size that was asked for.
///
/// # Errors
/// `bad-parameter` outside 1 to [`MAX_LIMIT`].
pub fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::new(Kind::BadParameter, format!("limit must be 1 to {MAX_LIMIT}"))),
    }
}

/// How long to wait.
///
/// # Errors
/// `bad-parameter` for what is no time or more than [`MAX_WAIT`].
pub fn timeout(asked: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = asked else { return Ok(DEFAULT_WAIT) };
    let Period(timeout) = match text.parse() {
        Ok(seconds) => Period::secs(seconds),
        Err(_) => Period::from_str(text)
            .map_err(|error| Problem::new(Kind::BadParameter, format!("timeout: {error}, or seconds such as 60")))?,
    };
    if timeout > MAX_WAIT {
        return Err(Problem::new(Kind::BadParameter, format!("timeout must be at most {}", Period(MAX_WAIT))));
    }
    Ok(timeout)
}

/// The search; none when there is nothing in it.
///
/// # Errors
/// `bad-query`, which says what is wrong and where.
pub fn search(text: Option<&str>) -> Result<Option<Query>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let query = Query::parse(text).map_err(|error| Problem::new(Kind::BadQuery, error.to_string()))?;
    Ok((!query.is_empty()).then_some(query))
}

/// A position in the events of `scope`.
///
/// # Errors
/// `bad-cursor` for what this server never wrote, or wrote for another kind of stream.
pub fn position(text: Option<&str>, scope: &Scope) -> Result<Option<Position>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let position = match scope {
        Scope::Mailbox(_) => text.parse().map(Position::Mailbox),
        Scope::All => text.parse().map(Position::Stream),
    };
    position.map(Some).map_err(|_| Kind::BadCursor.into())
}

/// The request body as `T`; no body at all is `T::default()`.
///
/// # Errors
/// `too-large`, `request-timeout`, `unsupported-media-type`, `bad-json` (also for unknown fields).
pub async fn body<T>(request: &HttpRequest, payload: web::Payload, config: &Config) -> Result<T, Problem>
where
    T: DeserializeOwned + Default,
{
    let bytes = tokio::time::timeout(config.client_timeout.0, payload.to_bytes_limited(config.max_json.as_usize()));
    let bytes = bytes.await.map_err(|_| Kind::RequestTimeout)?.map_err(|_| Kind::TooLarge)?;
    let bytes = bytes.map_err(|error| Problem::new(Kind::BadJson, error.to_string()))?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    if !is_json(request) {
        return Err(Kind::UnsupportedMediaType.into());
    }
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Kind::BadJson, error.to_string()))
}

fn is_json(request: &HttpRequest) -> bool {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("application/merge-patch+json")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn list(uri: &str) -> Result<ListParams, Problem> {
        query(&TestRequest::with_uri(uri).to_http_request())
    }

    #[test]
    fn refuses_parameters_it_does_not_know() {
        let problem = list("/?limt=5").unwrap_err();
        assert_eq!(problem.kind, Kind::BadParameter);
        assert!(problem.detail.unwrap().contains("limt"));
        assert_eq!(list("/?limit=x").unwrap_err().kind, Kind::BadParameter);
        assert_eq!(list("/?limit=1&limit=2").unwrap_err().kind, Kind::BadParameter);
        assert_eq!(list("/?token=x").unwrap_err().kind, Kind::BadParameter);
        assert_eq!(list("/?q=a%20b&limit=7").unwrap().q.as_deref(), Some("a b"));
    }

    #[test]
    fn bounds_pages_and_waits() {
        assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(Some(500)).unwrap(), 500);
        assert!(limit(Some(0)).is_err() && limit(Some(501)).is_err());
        assert_eq!(timeout(None).unwrap(), DEFAULT_WAIT);
        assert_eq!(timeout(Some("5m")).unwrap(), MAX_WAIT);
        assert_eq!(timeout(Some("60")).unwrap(), Duration::from_secs(60));
        assert_eq!(timeout(Some("0")).unwrap(), Duration::ZERO);
        assert_eq!(timeout(Some("250ms")).unwrap(), Duration::from_millis(250));
        for text in ["301s", "301", "18446744073709551616", "soon", "-1", ""] {
            assert!(timeout(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_kind_of_stream() {
        let one = Scope::Mailbox(crate::mail::address::MailboxKey::from_stored("a@x.test"));
        assert!(position(Some("m0-1-2"), &one).unwrap().is_some());
        assert!(position(Some("m0-1-2"), &Scope::All).is_err());
        assert!(position(Some("s0-1"), &Scope::All).unwrap().is_some());
        assert!(position(None, &one).unwrap().is_none());
    }
}
