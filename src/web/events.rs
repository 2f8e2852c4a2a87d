//! `…/events`: the WebSocket's events as server-sent events (WHATWG HTML §9.2).
//!
//! Each event is one `data:` line with the same JSON and has the cursor as its `id:`, so that a browser that reconnects
//! sends `Last-Event-ID` and misses nothing. The first line says where the stream begins. Comments keep it open. A
//! client that reads slowly holds up only its own feed. It ends at a stop, when the client goes, or with the life of the
//! mailbox that its token opened.

use std::convert::Infallible;
use std::fmt::Write;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde::Serialize;

use super::answer::Answer;
use super::auth;
use super::error::{Kind, Problem};
use super::follow::{Following, Next};
use super::metrics::Follower;
use super::params::{self, EventParams};
use super::state::State;
use crate::inbound::subscription::Followed;
use crate::mail::event::Announced;
use crate::store::{Position, Scope};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a browser waits before it reconnects.
const RETRY_MILLIS: u32 = 2_000;

/// Follow a mailbox as server-sent events.
///
/// The events of `/v1/ws` as `data:` lines; `id:` is the cursor. Where a token opens the mailbox the stream ends after
/// `mailbox.deleted`.
#[utoipa::path(get, path = "/v1/mailboxes/{address}/events", tag = "events",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), EventParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The last cursor seen: goes before `since`")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn one(request: HttpRequest, state: web::Data<State>) -> Answer {
    let asked: EventParams = params::query(&request)?;
    let followed = auth::followed(&request, &state, asked.token.as_deref()).await?;
    follow(&request, &state, followed, &asked).await
}

/// Follow all mailboxes as server-sent events.
///
/// Those that the caller may read; otherwise as for one mailbox.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(EventParams, ("Last-Event-ID" = Option<String>, Header, description = "The last cursor seen: goes before `since`")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn all(request: HttpRequest, state: web::Data<State>) -> Answer {
    let asked: EventParams = params::query(&request)?;
    let followed = auth::followed_everything(&request, &state, asked.token.as_deref()).await?;
    follow(&request, &state, followed, &asked).await
}

async fn follow(request: &HttpRequest, state: &State, followed: Followed, asked: &EventParams) -> Answer {
    let since = params::position(last_event_id(request)?.or(asked.since.as_deref()), &followed.scope)?;
    let query = params::search(asked.q.as_deref())?;
    let mailbox = match &followed.scope {
        Scope::Mailbox(key) => key.to_string(),
        Scope::All => "*".to_owned(),
    };
    let following = Following::begin(state, followed, since, query).await?;
    let first = format!("retry: {RETRY_MILLIS}\n{}", control("subscribed", &mailbox, following.at()));
    let stream = Writer {
        following,
        mailbox,
        first: Some(first),
        heartbeat: state.config.heartbeat.0,
        _count: Follower::new("events"),
    };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would otherwise hold events back until its buffer is full.
        .insert_header(("x-accel-buffering", "no"));
    Ok(response.streaming(stream.into_stream()))
}

/// Empty, as a browser sends it that has seen no event, is as good as none.
fn last_event_id(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let Some(value) = request.headers().get(LAST_EVENT_ID) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Kind::BadCursor)?;
    Ok((!text.is_empty()).then_some(text))
}

struct Writer {
    following: Following,
    mailbox: String,
    first: Option<String>,
    heartbeat: std::time::Duration,
    _count: Follower,
}

impl Writer {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut writer| async move {
            let text = writer.next().await?;
            Some((Ok(Bytes::from(text)), writer))
        })
    }

    /// The next lines; none ends the stream, and the browser comes again.
    async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match tokio::time::timeout(self.heartbeat, self.following.next()).await {
            Err(_) => Some(":\n\n".to_owned()),
            Ok(Ok(Next::Event(event))) => Some(self.event(&event)),
            Ok(Ok(Next::Reset(at))) => Some(control("reset", &self.mailbox, at)),
            Ok(Ok(Next::Stopping) | Err(_)) => None,
        }
    }

    fn event(&self, event: &Announced) -> String {
        match self.following.at() {
            Position::Mailbox(_) => message(&event.cursor, &event.json()),
            Position::Stream(_) => message(&event.stream, &event.stream_json()),
        }
    }
}

fn message(id: &impl std::fmt::Display, json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 64);
    // Writing to a String cannot fail. JSON as serde writes it has no line break.
    let _ = write!(text, "id: {id}\ndata: {json}\n\n");
    text
}

/// What the stream itself says: where it begins, or that its reader must load again.
fn control(kind: &'static str, mailbox: &str, at: Position) -> String {
    #[derive(Serialize)]
    struct Control<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        mailbox: &'a str,
        cursor: String,
    }
    let control = Control { kind, mailbox, cursor: at.to_string() };
    message(&at, &serde_json::to_string(&control).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::cursor::StreamCursor;

    #[test]
    fn an_event_is_one_block_of_lines() {
        let at = Position::Stream(StreamCursor { lineage: 1, stamp: 10 });
        let text = control("subscribed", "*", at);
        assert_eq!(text, "id: s1-a\ndata: {\"type\":\"subscribed\",\"mailbox\":\"*\",\"cursor\":\"s1-a\"}\n\n");
    }
}
