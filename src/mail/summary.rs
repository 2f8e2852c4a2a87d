//! The list columns of a message, made once when it is received: subject, from, to, date, preview, attachment count.
//!
//! The session calls [`summarize`] under `catch_unwind` before the message is stored, falls back to
//! [`summarize_headers`] and then to [`Summary::unreadable`]. It is on the path of every message: attachments are not
//! decoded, html is converted only as far as it is wanted. Linear time, bounded output.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::address::MailboxKey;
use super::body::{self, Role, View};
use super::cursor::Cursor;
use super::id::DeliveryId;
use super::structure::{self, Structure};
use super::time::Timestamp;
use super::{clean, content, extract, header, plain, preview};

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

/// What the receiving side learns from a message before it is stored. What each mailbox that gets it repeats is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub subject: Arc<str>,
    pub from: Option<Arc<Party>>,
    pub to: Arc<[Party]>,
    pub date: Option<Timestamp>,
    pub preview: Arc<str>,
    pub attachments: u32,
    /// In subject and preview.
    pub codes: Vec<String>,
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

/// Characters of a subject that are kept.
const MAX_SUBJECT: usize = 1_000;
/// Recipients that are kept.
const MAX_TO: usize = 50;
/// Octets of text that are kept for search.
pub const MAX_TEXT: usize = 256 * 1024;

/// Reads a whole message. Beyond the limits of [`super::structure`] it reads the headers alone.
///
/// May panic where the parser does; see the module.
#[must_use]
pub fn summarize(raw: &[u8]) -> Summary {
    let structure = structure::scan(raw);
    // A message that is nothing but a nested one still has its own headers.
    let mut summary = headers(raw);
    if structure.exceeded {
        return with_codes(summary);
    }
    let view = body::view(raw, &structure);
    let text = readable(raw, &structure, &view, MAX_TEXT);
    summary.preview = preview::preview(&text).into();
    summary.attachments = count(&view);
    summary.text = text.into();
    summary.parse = Parse::Whole;
    with_codes(summary)
}

/// Reads the headers alone.
///
/// May panic where the parser does; see the module.
#[must_use]
pub fn summarize_headers(raw: &[u8]) -> Summary {
    with_codes(headers(raw))
}

fn with_codes(mut summary: Summary) -> Summary {
    summary.codes = extract::summary_codes(&summary.subject, &summary.preview);
    summary
}

fn headers(raw: &[u8]) -> Summary {
    let mut summary = Summary { parse: Parse::HeadersOnly, ..Summary::default() };
    let (mut subject, mut from, mut sender, mut date, mut to) = (None, None, None, None, Vec::new());
    for (name, value) in header::fields(raw, 0) {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        // Of fields that may stand once, the first counts.
        match name.len() {
            2 if is(b"to") && to.len() < MAX_TO => to.extend(header::addresses(value, MAX_TO - to.len())),
            4 if is(b"from") => from = from.or(Some(value)),
            4 if is(b"date") => date = date.or(Some(value)),
            6 if is(b"sender") => sender = sender.or(Some(value)),
            7 if is(b"subject") => subject = subject.or(Some(value)),
            _ => {}
        }
    }
    summary.subject = subject.map_or_else(String::new, |value| header::text(value, MAX_SUBJECT)).into();
    summary.to = to.into();
    let first = |value| header::addresses(value, 1).pop().map(Arc::new);
    summary.from = from.and_then(first).or_else(|| sender.and_then(first));
    summary.date = date.and_then(header::date);
    summary
}

fn count(view: &View) -> u32 {
    let attachments = view.roles.iter().filter(|role| **role == Role::Attachment).count();
    u32::try_from(attachments).unwrap_or(u32::MAX)
}

/// The text of a message as one reads it, at most `limit` octets: its plain parts, or its html converted where there
/// are none or they are blank.
#[must_use]
pub fn readable(raw: &[u8], structure: &Structure, view: &View, limit: usize) -> String {
    let text = joined(raw, structure, view, &view.text, limit);
    if text.trim_ascii().is_empty() && view.html != view.text {
        return joined(raw, structure, view, &view.html, limit);
    }
    text
}

fn joined(raw: &[u8], structure: &Structure, view: &View, parts: &[usize], limit: usize) -> String {
    /// Markup is many times its text; what comes after this much of it is not looked for.
    const MARKUP: usize = 8;
    let mut all = String::new();
    for &index in parts {
        let (Some(part), Some(media)) = (structure.parts.get(index), view.media.get(index)) else { continue };
        let left = limit.saturating_sub(all.len());
        if left == 0 {
            break;
        }
        let text = if media.is_html() {
            plain::text_of_html(&content::text(raw, part, media, left.saturating_mul(MARKUP)), left)
        } else {
            content::text(raw, part, media, left)
        };
        if all.is_empty() {
            all = text;
        } else {
            all.push('\n');
            all.push_str(&text);
        }
    }
    let end = clean::head(&all, limit).len();
    all.truncate(end);
    // SQLite ends a text at NUL.
    if memchr::memchr(0, all.as_bytes()).is_some() {
        all.retain(|c| c != '\0');
    }
    all
}

/// One line of a message list: the `summary` of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Listed {
    pub id: DeliveryId,
    /// Place in the mailbox: ascending, never reused within an incarnation.
    pub uid: u64,
    pub mailbox: MailboxKey,
    /// The mailbox's event position at which this message arrived (opaque).
    #[schema(value_type = String)]
    pub cursor: Cursor,
    #[schema(value_type = Option<Party>)]
    pub from: Option<Arc<Party>>,
    #[schema(value_type = Vec<Party>)]
    pub to: Arc<[Party]>,
    #[schema(value_type = String)]
    pub subject: Arc<str>,
    #[schema(value_type = String)]
    pub preview: Arc<str>,
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
    /// One-time codes found in subject and preview, the likeliest first. The message itself and `wait` look at all of it.
    pub codes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_list_columns() {
        let raw = b"Received: from a by b\r\nFrom: =?utf-8?Q?J=C3=B6rg?= <j@example.com>\r\nTo: a@b, C <c@d>\r\nTo: e@f\r\n\
            Subject: Hello\r\n there\r\nSubject: second\r\nDate: Sat, 21 Nov 2026 10:30:00 +0100\r\n\r\nOne\r\n  two\r\n";
        let summary = summarize(raw);
        assert_eq!(&*summary.subject, "Hello there");
        assert_eq!(
            summary.from.as_deref(),
            Some(&Party { name: Some("J\u{f6}rg".into()), address: Some("j@example.com".into()) })
        );
        assert_eq!(summary.to.len(), 3);
        assert_eq!(summary.date, Timestamp::parse("2026-11-21T09:30:00Z"));
        assert_eq!((&*summary.preview, &*summary.text), ("One two", "One\n  two\n"));
        assert_eq!((summary.attachments, summary.parse), (0, Parse::Whole));
    }

    #[test]
    fn bounds_everything() {
        let raw = format!(
            "Subject: {}\r\nTo: {}\r\n\r\n{}",
            "s".repeat(5_000),
            "a@b, ".repeat(5_000),
            "\u{e4} ".repeat(400_000)
        );
        let summary = summarize(raw.as_bytes());
        assert_eq!((summary.subject.len(), summary.to.len()), (MAX_SUBJECT, MAX_TO));
        assert!(summary.text.len() <= MAX_TEXT && summary.text.len() > MAX_TEXT - 4);
        assert!(summary.preview.chars().count() <= 200);
    }

    #[test]
    fn html_stands_in_for_a_text_that_is_missing_or_blank() {
        for plain in ["", "--x\r\n\r\n \r\n"] {
            let raw = format!(
                "Content-Type: multipart/alternative; boundary=x\r\n\r\n{plain}--x\r\nContent-Type: text/html\r\n\r\n\
                 <p>Hello</p>\r\n--x--\r\n"
            );
            assert_eq!(&*summarize(raw.as_bytes()).preview, "Hello");
        }
    }

    #[test]
    fn too_deep_a_message_keeps_its_headers() {
        let raw = [b"Subject: deep\r\n".to_vec(), b"Content-Type: message/rfc822\r\n\r\n".repeat(300_000)].concat();
        let summary = summarize(&raw);
        assert_eq!((&*summary.subject, summary.parse), ("deep", Parse::HeadersOnly));
    }

    #[test]
    fn an_unreadable_message_says_so() {
        assert_eq!(Summary::unreadable().parse, Parse::Unreadable);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..500)) {
            let summary = summarize(&raw);
            prop_assert!(!summary.text.contains('\0'));
        }
    }
}
