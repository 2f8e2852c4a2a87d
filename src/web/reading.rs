//! Reads foreign messages off the threads that answer requests: as many at once as there are processors, each under
//! `catch_unwind`, so that a message that breaks the parser hurts who looks at it and nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use actix_web::web;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::error::{Kind, Problem};
use super::state::State;
use crate::mail::extract::{self, Link};
use crate::mail::html::{self, HtmlContext, SafeHtml};
use crate::mail::parsed::{self, Parsed};
use crate::mail::summary::Parse;
use crate::store::StoredMessage;

/// Each holds a message of up to the largest size and what was made of it. What goes out of here is counted by
/// [`super::in_flight`].
static SLOTS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get)));

/// A message, read.
pub struct Read {
    pub parsed: Parsed,
    /// None where there is no html, or it cannot be shown.
    pub html: Option<SafeHtml>,
    pub codes: Vec<String>,
    pub links: Vec<Link>,
}

/// One attachment, its transfer encoding undone.
pub struct Part {
    pub octets: Bytes,
    pub media_type: String,
    pub name: String,
}

/// Which addresses the html of a message gets.
pub struct Addresses {
    /// The path below which its attachments are.
    pub attachments: String,
    /// What follows their number.
    pub suffix: String,
    /// Those of images elsewhere stay.
    pub remote: bool,
}

/// The whole view of a message.
///
/// # Errors
/// Those of the store; `unavailable` when the server stops.
pub async fn message(
    state: &State,
    stored: &StoredMessage,
    addresses: Addresses,
    with_extracts: bool,
) -> Result<Read, Problem> {
    let subject = stored.listed.subject.clone();
    with_body(state, stored, move |raw| {
        let parsed = parse(&raw);
        let html = guarded(|| safe_html(&parsed, &addresses)).flatten();
        let (codes, links) = if with_extracts {
            let codes = guarded(|| extract::message_codes(&subject, &parsed.text, parsed.html.as_deref()));
            (
                codes.unwrap_or_default(),
                guarded(|| extract::links(Some(&parsed.text), parsed.html.as_deref())).unwrap_or_default(),
            )
        } else {
            (Vec::new(), Vec::new())
        };
        Read { parsed, html, codes, links }
    })
    .await
}

/// The attachment at place `n`; none when there is no such.
///
/// # Errors
/// As [`message`].
pub async fn attachment(state: &State, stored: &StoredMessage, n: usize) -> Result<Option<Part>, Problem> {
    with_body(state, stored, move |raw| {
        let content = guarded(|| parsed::attachment(&raw, n)).flatten()?;
        let octets = match content.octets {
            std::borrow::Cow::Borrowed(octets) => raw.slice_ref(octets),
            std::borrow::Cow::Owned(octets) => octets.into(),
        };
        Some(Part { octets, media_type: content.media_type, name: content.name })
    })
    .await
}

async fn with_body<T: Send + 'static>(
    state: &State,
    stored: &StoredMessage,
    work: impl FnOnce(Bytes) -> T + Send + 'static,
) -> Result<T, Problem> {
    // Before the body is read: that bounds the memory as well.
    let _slot = SLOTS.acquire().await.map_err(|_| Kind::Unavailable)?;
    let raw = state.store.body(stored).await?;
    web::block(move || work(raw)).await.map_err(|_| Kind::Unavailable.into())
}

fn parse(raw: &[u8]) -> Parsed {
    guarded(|| parsed::parse(raw))
        .or_else(|| guarded(|| parsed::parse_headers(raw)))
        .unwrap_or_else(|| Parsed { parse: Parse::Unreadable, ..Parsed::default() })
}

fn safe_html(parsed: &Parsed, addresses: &Addresses) -> Option<SafeHtml> {
    let Addresses { attachments, suffix, remote } = addresses;
    let attachment = |id: &str| parsed.content_ids.get(id).map(|n| format!("{attachments}/{n}{suffix}"));
    html::sanitize(parsed.html.as_deref()?, &HtmlContext { attachment: &attachment, remote: *remote }).ok()
}

fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves behind is dropped here and seen by nobody.
    catch_unwind(AssertUnwindSafe(work)).ok()
}
