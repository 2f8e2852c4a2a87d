//! `/raw`, `/html` and `/attachments/{n}`: what a message is made of, sent so that nothing of it runs.
//!
//! A message never changes, so its id makes the ETags; `private, no-cache` lets a browser keep what it must ask about.

use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_RANGE, RANGE,
};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;

use super::answer::Answer;
use super::byte_range::{self, Wanted};
use super::detail::message_path;
use super::disposition;
use super::error::{Kind, Problem};
use super::messages::named;
use super::params::{self, DownloadParams, HtmlParams, PartParams, is_set};
use super::reading::{self, Addresses};
use super::state::State;
use super::{in_flight, path, static_files};
use crate::accounts::part_keys::PartKey;
use crate::clock;
use crate::mail::html;
use crate::mail::time::Timestamp;
use crate::store::StoredMessage;

/// The page of a message: styles and what came with it, nothing else, in an origin of its own.
const HTML_POLICY: &str = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox";

/// The same with what it refers to elsewhere: images, fonts, style sheets.
const REMOTE_POLICY: &str = "default-src 'none'; img-src 'self' data: https: http:; style-src 'unsafe-inline' https: http:; \
     font-src data: https: http:; media-src https: http:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; \
     sandbox allow-popups allow-popups-to-escape-sandbox";

/// A source or a part, should a browser show it as a page after all.
const PART_POLICY: &str = "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; \
     frame-ancestors 'self'; sandbox";

/// The source, byte for byte as stored.
#[utoipa::path(get, path = "/v1/mailboxes/{address}/messages/{id}/raw", tag = "parts",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ("id", description = "The message's id"), DownloadParams),
    responses((status = 200, body = Vec<u8>, content_type = "message/rfc822"), (status = 206, description = "The range that was asked for")))]
pub async fn raw(request: HttpRequest, state: web::Data<State>) -> Answer {
    let asked: DownloadParams = params::query(&request)?;
    let stored = named(&request, &state, asked.token.as_deref()).await?;
    let etag = format!("\"{}\"", stored.listed.id);
    if static_files::is_known(&request, &etag) {
        return Ok(not_modified(&etag));
    }
    let room = in_flight::room(&state, stored.listed.size).await?;
    let octets = state.store.body(&stored).await?;
    let kind = if is_set(asked.download) { "attachment" } else { "inline" };
    let name = if stored.listed.subject.is_empty() { "message" } else { &stored.listed.subject };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "message/rfc822"))
        .insert_header((CONTENT_DISPOSITION, disposition::disposition(kind, &format!("{name}.eml"))))
        .insert_header((CONTENT_SECURITY_POLICY, PART_POLICY));
    Ok(in_flight::keep(ranged(&request, response, octets, &etag)?, room))
}

/// An attachment.
///
/// Pictures, sound and plain text are sent to be shown, all else to be saved.
#[utoipa::path(get, path = "/v1/mailboxes/{address}/messages/{id}/attachments/{n}", tag = "parts",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ("id", description = "The message's id"),
        ("n" = u32, Path, description = "Its `n` in `attachments`"), PartParams),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 206, description = "The range that was asked for")))]
pub async fn attachment(request: HttpRequest, state: web::Data<State>) -> Answer {
    let asked: PartParams = params::query(&request)?;
    let stored = match asked.key.as_deref() {
        Some(key) => opened(&request, &state, key).await?,
        None => named(&request, &state, asked.token.as_deref()).await?,
    };
    let n = path::part(&request)?;
    let etag = format!("\"{}-{n}\"", stored.listed.id);
    if static_files::is_known(&request, &etag) {
        return Ok(not_modified(&etag));
    }
    // Its transfer encoding undone, it is no larger than the message.
    let room = in_flight::room(&state, stored.listed.size).await?;
    let part = reading::attachment(&state, &stored, n).await?.ok_or(Kind::NoSuchPart)?;
    let is_picture = part.media_type.starts_with("image/");
    let sending = disposition::sending(&part.media_type, &part.name, is_set(asked.download));
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, sending.content_type))
        .insert_header((CONTENT_DISPOSITION, sending.disposition))
        .insert_header((CONTENT_SECURITY_POLICY, PART_POLICY));
    if is_picture {
        // The page of the message is in an origin of its own and shows pictures from here.
        response.insert_header(("cross-origin-resource-policy", "cross-origin"));
    }
    Ok(in_flight::keep(ranged(&request, response, part.octets, &etag)?, room))
}

/// The message of the path for who has the key to its attachments; a wrong one answers like an unknown mailbox.
async fn opened(request: &HttpRequest, state: &State, key: &str) -> Result<StoredMessage, Problem> {
    let (mailbox, id) = (path::mailbox(request, state)?, path::message(request)?);
    if !state.is_open() && !state.part_keys.opens(key, &mailbox, id, Timestamp(clock::now_micros())) {
        return Err(Kind::NoSuchMailbox.into());
    }
    Ok(state.store.message(&mailbox, id).await?.ok_or(Kind::NoSuchMessage)?)
}

/// The page of a message, for a sandboxed frame.
///
/// Its html made harmless, or its text; nothing is fetched from elsewhere unless `remote` says so.
#[utoipa::path(get, path = "/v1/mailboxes/{address}/messages/{id}/html", tag = "parts",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ("id", description = "The message's id"), HtmlParams),
    responses((status = 200, body = String, content_type = "text/html")))]
pub async fn html(request: HttpRequest, state: web::Data<State>) -> Answer {
    let asked: HtmlParams = params::query(&request)?;
    let stored = named(&request, &state, asked.token.as_deref()).await?;
    let remote = is_set(asked.remote);
    let (id, mailbox) = (stored.listed.id, &stored.listed.mailbox);
    let now = Timestamp(clock::now_micros());
    let key = (!state.is_open()).then(|| state.part_keys.make(mailbox, id, now));
    // What is taken out may differ from one version of this program to the next.
    let edition = key.as_ref().map(|key| format!("-{}", key.edition)).unwrap_or_default();
    let etag = format!("W/\"{id}-{}-{}{edition}\"", env!("CARGO_PKG_VERSION"), u8::from(remote));
    if static_files::is_known(&request, &etag) {
        return Ok(not_modified(&etag));
    }
    let page = page(&state, &stored, key, remote).await?;
    let mut response = HttpResponse::Ok();
    tagged(&mut response, &etag)
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, if remote { REMOTE_POLICY } else { HTML_POLICY }));
    Ok(response.body(page))
}

/// The document. Pictures cannot be given a header, and no token may stand in a page that strangers write: a key of their
/// own opens them.
async fn page(state: &State, stored: &StoredMessage, key: Option<PartKey>, remote: bool) -> Result<String, Problem> {
    let attachments = format!("{}/attachments", message_path(&stored.listed.mailbox, stored.listed.id));
    let suffix = key.map(|key| format!("?key={}", key.key)).unwrap_or_default();
    let read = reading::message(state, stored, Addresses { attachments, suffix, remote }, false).await?;
    Ok(html::page(&read.html.unwrap_or_else(|| html::text_body(&read.parsed.text))))
}

/// Sends all of `octets`, or the range that was asked for (RFC 9110 §14).
fn ranged(request: &HttpRequest, mut response: HttpResponseBuilder, octets: Bytes, etag: &str) -> Answer {
    tagged(&mut response, etag).insert_header((ACCEPT_RANGES, "bytes"));
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    // A range of another version would be a piece of something else.
    let is_same = header(IF_RANGE).is_none_or(|validator| validator == etag);
    match byte_range::wanted(header(RANGE).filter(|_| is_same), octets.len()) {
        Wanted::Whole => Ok(response.body(octets)),
        Wanted::Beyond => Err(Problem::range_not_satisfiable(octets.len())),
        Wanted::Part(range) => {
            let shown = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), octets.len());
            response.status(actix_web::http::StatusCode::PARTIAL_CONTENT).insert_header((CONTENT_RANGE, shown));
            Ok(response.body(octets.slice(range)))
        }
    }
}

fn tagged<'a>(response: &'a mut HttpResponseBuilder, etag: &str) -> &'a mut HttpResponseBuilder {
    response.insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, "private, no-cache"))
}

fn not_modified(etag: &str) -> HttpResponse {
    tagged(&mut HttpResponse::NotModified(), etag).finish()
}
