//! The full view of one message for `GET …/messages/{id}`: headers, text, html, parts and attachments; and the octets
//! of one attachment. Called by the API on the stored message.
//!
//! Linear time, bounded output. Text and attachments are chosen as the list columns choose them ([`super::body`]). The
//! html is as the sender wrote it: only [`super::html`] makes it fit to be shown.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::body::{self, Role, View};
use super::content::{Disposition, Media};
use super::structure::{self, Kind, Part, Structure};
use super::summary::{self, Parse, Party};
use super::time::Timestamp;
use super::{clean, content, header};

/// Octets of headers that are shown, and how many.
pub const MAX_HEADER_OCTETS: usize = 1024 * 1024;
pub const MAX_HEADERS: usize = 2_000;
/// Octets of text, and of html; of larger html the text is shown.
pub const MAX_BODY: usize = 1024 * 1024;
/// Addresses of one kind that are shown.
const MAX_PARTIES: usize = 2_000;
/// Characters of one decoded header.
const MAX_VALUE: usize = 16 * 1024;
/// Octets of text shown with an attachment, and with all of them.
const MAX_ATTACHED_TEXT: usize = 64 * 1024;
const MAX_ATTACHED_TEXTS: usize = 1024 * 1024;

/// One message as a reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Parsed {
    pub parse: Parse,
    pub subject: String,
    pub from: Vec<Party>,
    pub sender: Vec<Party>,
    pub reply_to: Vec<Party>,
    pub to: Vec<Party>,
    pub cc: Vec<Party>,
    pub bcc: Vec<Party>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub date: Option<Timestamp>,
    /// Without brackets, as the other ids.
    pub message_id: Option<String>,
    pub in_reply_to: Vec<String>,
    pub references: Vec<String>,
    /// In the order of the message.
    pub headers: Vec<HeaderField>,
    /// There are more headers than are shown.
    pub headers_truncated: bool,
    /// The plain text, or the html converted where there is no text; line ends are LF.
    pub text: String,
    pub text_truncated: bool,
    /// As the sender wrote it, not made safe. Absent where there is none or it is too large to be shown.
    #[serde(skip)]
    pub html: Option<String>,
    /// There is html, but more than is shown.
    pub html_too_large: bool,
    /// All parts, a container before what it holds.
    pub parts: Vec<PartView>,
    pub attachments: Vec<Attachment>,
    /// Which attachment a `cid:` in the html means.
    pub content_ids: BTreeMap<String, usize>,
}

/// One header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HeaderField {
    pub name: String,
    /// Unfolded, encoded words decoded, without controls.
    pub value: String,
    /// As it came, folded, without the last line end; what is not UTF-8 as windows-1252.
    pub raw: String,
}

/// One part of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PartView {
    pub index: usize,
    /// The index of the container; the message itself has none.
    pub parent: Option<usize>,
    pub depth: usize,
    /// In lower case.
    pub media_type: String,
    pub charset: Option<String>,
    /// `inline` or `attachment`, where the sender said so.
    pub disposition: Option<String>,
    pub name: Option<String>,
    pub content_id: Option<String>,
    /// Octets without transfer encoding; of a container, of all that it holds.
    pub size: usize,
    /// Its place in `attachments`, if it is there.
    pub attachment: Option<usize>,
}

/// What can be fetched as `/attachments/{n}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Attachment {
    /// From zero, in the order of the message.
    pub n: usize,
    /// The index of the part.
    pub part: usize,
    /// Safe as a file name; made up where the sender gave none.
    pub name: String,
    pub media_type: String,
    pub charset: Option<String>,
    pub content_id: Option<String>,
    /// Belongs to the body or the transport (a picture of the html, a signature, a report): a list does not count it.
    pub inline: bool,
    /// Octets without transfer encoding.
    pub size: usize,
    /// Of invitations, contacts and delivery reports: their text, cut at 64 KiB.
    pub text: Option<String>,
}

/// The octets of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    pub octets: Cow<'a, [u8]>,
    /// As the sender declared it: not to be believed by a browser.
    pub media_type: String,
    pub charset: Option<String>,
    /// Safe as a file name.
    pub name: String,
    pub inline: bool,
}

/// Reads a message. May panic where the parser does: callers hold it under `catch_unwind`.
#[must_use]
pub fn parse(raw: &[u8]) -> Parsed {
    let mut parsed = parse_headers(raw);
    let structure = structure::scan(raw);
    if structure.exceeded {
        return parsed;
    }
    let view = body::view(raw, &structure);
    parsed.parse = Parse::Whole;
    parsed.text = summary::readable(raw, &structure, &view, MAX_BODY + 1);
    parsed.text_truncated = parsed.text.len() > MAX_BODY;
    parsed.text.truncate(clean::head(&parsed.text, MAX_BODY).len());
    take_html(&mut parsed, raw, &structure, &view);
    take_parts(&mut parsed, raw, &structure, &view);
    parsed
}

/// Reads the headers alone, for a message that [`parse`] failed on.
#[must_use]
pub fn parse_headers(raw: &[u8]) -> Parsed {
    let mut parsed = Parsed { parse: Parse::HeadersOnly, ..Parsed::default() };
    let mut left = MAX_HEADER_OCTETS;
    let mut subject = None;
    let mut date = None;
    for (name, value) in header::fields(raw, 0) {
        let octets = name.len() + value.len();
        if octets > left || parsed.headers.len() == MAX_HEADERS {
            parsed.headers_truncated = true;
            break;
        }
        left -= octets;
        let name = String::from_utf8_lossy(name).into_owned();
        match name.to_ascii_lowercase().as_str() {
            "subject" => subject = subject.or(Some(value)),
            "date" => date = date.or(Some(value)),
            "from" => take_parties(&mut parsed.from, value),
            "sender" => take_parties(&mut parsed.sender, value),
            "reply-to" => take_parties(&mut parsed.reply_to, value),
            "to" => take_parties(&mut parsed.to, value),
            "cc" => take_parties(&mut parsed.cc, value),
            "bcc" => take_parties(&mut parsed.bcc, value),
            "message-id" if parsed.message_id.is_none() => parsed.message_id = header::ids(value, 1).pop(),
            "in-reply-to" if parsed.in_reply_to.is_empty() => parsed.in_reply_to = header::ids(value, 100),
            "references" if parsed.references.is_empty() => parsed.references = header::ids(value, 1_000),
            _ => {}
        }
        let raw = without_nul(&header::undeclared(value));
        parsed.headers.push(HeaderField { name, value: header::text(value, MAX_VALUE), raw });
    }
    parsed.subject = subject.map_or_else(String::new, |value| header::text(value, 1_000));
    parsed.date = date.and_then(header::date);
    parsed
}

/// The attachment that [`parse`] lists at place `n`.
#[must_use]
pub fn attachment(raw: &[u8], n: usize) -> Option<Content<'_>> {
    let structure = structure::scan(raw);
    if structure.exceeded {
        return None;
    }
    let view = body::view(raw, &structure);
    let (index, role) = listed(&view).nth(n)?;
    let (part, media) = (structure.parts.get(index)?, view.media.get(index)?);
    Some(Content {
        octets: content::octets(raw, part, usize::MAX),
        media_type: media.media_type.clone().into_owned(),
        charset: media.charset.clone(),
        name: name(raw, &structure, index, media, n),
        inline: role == Role::Inline,
    })
}

/// The parts that are attachments of any kind, in order.
fn listed(view: &View) -> impl Iterator<Item = (usize, Role)> {
    let roles = view.roles.iter().copied().enumerate();
    roles.filter(|(_, role)| matches!(role, Role::Attachment | Role::Inline))
}

fn take_parties(parties: &mut Vec<Party>, value: &[u8]) {
    parties.extend(header::addresses(value, MAX_PARTIES - parties.len()));
}

fn without_nul(text: &str) -> String {
    text.chars().filter(|&c| c != '\0').collect()
}

fn take_html(parsed: &mut Parsed, raw: &[u8], structure: &Structure, view: &View) {
    let parts = || view.html.iter().filter_map(|&index| Some((structure.parts.get(index)?, view.media.get(index)?)));
    if !parts().any(|(_, media)| media.is_html()) {
        return;
    }
    let mut html = String::new();
    for (part, media) in parts() {
        let text = content::text(raw, part, media, MAX_BODY + 1);
        if media.is_html() {
            html.push_str(&text);
        } else if !text.trim_ascii().is_empty() {
            html.push_str("<div style=\"white-space: pre-wrap\">");
            push_escaped(&mut html, &text);
            html.push_str("</div>");
        }
        if html.len() > MAX_BODY {
            parsed.html_too_large = true;
            return;
        }
    }
    html.retain(|c| c != '\0');
    parsed.html = Some(html);
}

fn push_escaped(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            c => html.push(c),
        }
    }
}

fn take_parts(parsed: &mut Parsed, raw: &[u8], structure: &Structure, view: &View) {
    let mut texts = MAX_ATTACHED_TEXTS;
    for (index, part) in structure.parts.iter().enumerate() {
        let role = view.roles.get(index).copied().unwrap_or_default();
        let hidden = role == Role::Hidden;
        let read = if hidden { Media::read(raw, part) } else { Media::default() };
        let media = if hidden { &read } else { view.media.get(index).unwrap_or(&read) };
        let size = content::size(raw, part);
        let mut shown = part_view(index, part, media, size);
        if matches!(role, Role::Attachment | Role::Inline) {
            let n = parsed.attachments.len();
            shown.attachment = Some(n);
            let text = shows_text(media).then(|| content::text(raw, part, media, MAX_ATTACHED_TEXT.min(texts)));
            texts = texts.saturating_sub(text.as_ref().map_or(0, String::len));
            if let Some(id) = &media.content_id {
                parsed.content_ids.entry(id.clone()).or_insert(n);
            }
            parsed.attachments.push(Attachment {
                n,
                part: index,
                name: name(raw, structure, index, media, n),
                media_type: shown.media_type.clone(),
                charset: shown.charset.clone(),
                content_id: shown.content_id.clone(),
                inline: role == Role::Inline,
                size,
                text: text.filter(|text| !text.is_empty()).map(|text| without_nul(&text)),
            });
        }
        parsed.parts.push(shown);
    }
}

fn part_view(index: usize, part: &Part, media: &Media, size: usize) -> PartView {
    PartView {
        index,
        parent: part.parent,
        depth: part.depth,
        media_type: media.media_type.clone().into_owned(),
        charset: media.charset.as_deref().map(|charset| clean::line(charset, 60)),
        disposition: match media.disposition {
            Disposition::Unsaid => None,
            Disposition::Inline => Some("inline".to_owned()),
            Disposition::Attachment => Some("attachment".to_owned()),
        },
        name: media.name.as_deref().and_then(clean::file_name),
        content_id: media.content_id.clone(),
        size,
        attachment: None,
    }
}

/// Attachments whose text a dashboard can make something of.
fn shows_text(media: &Media) -> bool {
    matches!(
        &*media.media_type,
        "text/calendar"
            | "text/vcard"
            | "text/x-vcard"
            | "text/directory"
            | "text/rfc822-headers"
            | "message/delivery-status"
            | "message/global-delivery-status"
            | "message/disposition-notification"
            | "message/feedback-report"
    )
}

/// The sender's file name made safe, or one that says what it is.
fn name(raw: &[u8], structure: &Structure, index: usize, media: &Media, n: usize) -> String {
    if let Some(name) = media.name.as_deref().and_then(clean::file_name) {
        return name;
    }
    let part = structure.parts.get(index);
    if part.is_some_and(|part| part.kind == Kind::Message) {
        let nested = structure.parts.get(index + 1).map_or(raw.len(), |nested| nested.header.start);
        let subject = header::fields(raw, nested).find(|(name, _)| name.eq_ignore_ascii_case(b"subject"));
        let subject = subject.and_then(|(_, value)| clean::file_name(&header::text(value, 80)));
        return subject.map_or_else(|| "message.eml".to_owned(), |subject| format!("{subject}.eml"));
    }
    match ending(&media.media_type) {
        "ics" => "invite.ics".to_owned(),
        "vcf" => "contact.vcf".to_owned(),
        ending => format!("attachment-{}.{ending}", n + 1),
    }
}

fn ending(media_type: &str) -> &str {
    match media_type {
        "text/plain" => "txt",
        "text/html" => "html",
        "text/csv" => "csv",
        "text/calendar" => "ics",
        "text/vcard" | "text/x-vcard" | "text/directory" => "vcf",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "image/svg+xml" => "svg",
        "application/pdf" => "pdf",
        "application/zip" => "zip",
        "application/json" => "json",
        "application/xml" | "text/xml" => "xml",
        "application/ms-tnef" | "application/vnd.ms-tnef" => "dat",
        "application/pgp-signature" => "asc",
        "application/pkcs7-signature" | "application/x-pkcs7-signature" => "p7s",
        "message/rfc822" | "message/global" => "eml",
        _ if media_type.starts_with("message/") || media_type.starts_with("text/") => "txt",
        _ => "bin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crlf(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    #[test]
    fn shows_headers_in_order_decoded_and_raw() {
        let parsed = parse(&crlf(
            "Received: a\nSubject: =?utf-8?Q?J=C3=B6rg?=\n folded\nFrom: A <a@b>, c@d\nReply-To: r@b\nSender: s@b\n\
             Cc: c@c\nBcc: b@b\nTo: t@t\nTo: u@u\nMessage-ID: <1@b>\nIn-Reply-To: <0@b>\nReferences: <x@b> <0@b>\n\
             Date: Sat, 21 Nov 2026 10:30:00 +0100\nX-Raw: caf\u{e9}\n\nbody\n",
        ));
        assert_eq!(parsed.headers.len(), 14);
        assert_eq!(parsed.headers[1].name, "Subject");
        assert_eq!(parsed.headers[1].value, "J\u{f6}rg folded");
        assert_eq!(parsed.headers[1].raw, " =?utf-8?Q?J=C3=B6rg?=\r\n folded");
        assert_eq!(parsed.subject, "J\u{f6}rg folded");
        assert_eq!((parsed.from.len(), parsed.to.len(), parsed.cc.len(), parsed.bcc.len()), (2, 2, 1, 1));
        assert_eq!((parsed.reply_to.len(), parsed.sender.len()), (1, 1));
        assert_eq!(parsed.message_id.as_deref(), Some("1@b"));
        assert_eq!(parsed.references, ["x@b", "0@b"]);
        assert_eq!(parsed.in_reply_to, ["0@b"]);
        assert_eq!(parsed.text, "body\n");
        assert_eq!(parsed.html, None);
    }

    #[test]
    fn numbers_attachments_so_that_each_can_be_fetched() {
        let raw = crlf(
            "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/related; boundary=r\n\n\
             --r\nContent-Type: text/html\n\n<img src=\"cid:pic@x\">\n\
             --r\nContent-Type: image/png\nContent-ID: <pic@x>\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n--r--\n\
             --m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=\"../a.pdf\"\n\nPDF\n\
             --m\nContent-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\n\
             --m\nContent-Type: message/rfc822\n\nSubject: Inner\n\nx\n--m\nContent-Type: application/ms-tnef\n\nT\n--m--\n",
        );
        let parsed = parse(&raw);
        let seen: Vec<_> = parsed.attachments.iter().map(|a| (a.n, a.name.as_str(), a.inline, a.size)).collect();
        assert_eq!(
            seen,
            [
                (0, "attachment-1.png", true, 5),
                (1, "_a.pdf", false, 3),
                (2, "invite.ics", false, 15),
                (3, "Inner.eml", false, 19),
                (4, "attachment-5.dat", false, 1)
            ]
        );
        assert_eq!(parsed.content_ids.get("pic@x"), Some(&0));
        assert_eq!(parsed.attachments[2].text.as_deref(), Some("BEGIN:VCALENDAR"));
        for listed in &parsed.attachments {
            let content = attachment(&raw, listed.n).unwrap();
            assert_eq!((content.octets.len(), &content.name), (listed.size, &listed.name));
            assert_eq!((&content.media_type, content.inline), (&listed.media_type, listed.inline));
            assert_eq!(parsed.parts[listed.part].attachment, Some(listed.n));
        }
        assert_eq!(&*attachment(&raw, 0).unwrap().octets, b"hello");
        assert_eq!(attachment(&raw, 5), None);
        assert_eq!(parsed.parts.iter().map(|p| p.depth).collect::<Vec<_>>(), [0, 1, 2, 2, 1, 1, 1, 2, 1]);
        assert_eq!(parsed.html.as_deref(), Some("<img src=\"cid:pic@x\">"));
    }

    #[test]
    fn large_html_is_shown_as_text() {
        let raw = format!("Content-Type: text/html\r\n\r\n{}", "<p>word</p>".repeat(200_000));
        let parsed = parse(raw.as_bytes());
        assert!(parsed.html.is_none() && parsed.html_too_large);
        assert!(parsed.text.starts_with("word\n\nword"));
        assert!(!parse(b"Content-Type: text/html\r\n\r\n<p>x").html_too_large);
    }

    #[test]
    fn a_footer_beside_html_is_escaped() {
        let raw = crlf(
            "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/html\n\n<b>a</b>\n--x\n\n1 < 2\n--x--\n",
        );
        assert_eq!(parse(&raw).html.unwrap(), "<b>a</b><div style=\"white-space: pre-wrap\">1 &lt; 2</div>");
    }

    #[test]
    fn bounds_headers_and_text() {
        let many = parse("A: b\r\n".repeat(10_000).as_bytes());
        assert!(many.headers_truncated && many.headers.len() == MAX_HEADERS);
        let long = parse(format!("A: {}\r\nB: {}\r\n\r\n", "x".repeat(900_000), "y".repeat(200_000)).as_bytes());
        assert!(long.headers_truncated && long.headers.len() == 1 && long.headers[0].value.len() <= MAX_VALUE);
        let text = parse(&[b"\r\n".to_vec(), b"line\r\n".repeat(400_000)].concat());
        assert!(text.text_truncated && text.text.len() <= MAX_BODY);
    }

    #[test]
    fn the_wire_form_has_no_raw_html() {
        let json = serde_json::to_value(parse(b"Content-Type: text/html\r\n\r\n<script>x</script>")).unwrap();
        assert!(json.get("html").is_none());
        assert_eq!(json["parse"], "whole");
    }
}
