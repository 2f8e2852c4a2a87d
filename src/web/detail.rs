//! One message in full: what `GET …/messages/{id}` and `wait` answer.

use std::sync::Arc;

use serde::Serialize;

use super::error::Problem;
use super::path;
use super::reading::{self, Addresses, Read};
use super::state::State;
use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::envelope::Envelope;
use crate::mail::extract::Link;
use crate::mail::id::DeliveryId;
use crate::mail::parsed::{Attachment, HeaderField, PartView};
use crate::mail::summary::{Parse, Party};
use crate::mail::time::Timestamp;
use crate::store::StoredMessage;

/// A message in full: the fields of its summary, and what was made of its source. `attachments` is a list here.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MessageDetail {
    pub id: DeliveryId,
    pub uid: u64,
    pub mailbox: MailboxKey,
    /// The mailbox's event position at which this message arrived.
    #[schema(value_type = String)]
    pub cursor: Cursor,
    #[schema(value_type = Option<Party>)]
    pub from: Option<Arc<Party>>,
    pub sender: Vec<Party>,
    pub reply_to: Vec<Party>,
    pub to: Vec<Party>,
    pub cc: Vec<Party>,
    pub bcc: Vec<Party>,
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
    pub is_read: bool,
    pub tags: Vec<String>,
    pub envelope: EnvelopeView,
    pub message_id: Option<String>,
    pub in_reply_to: Vec<String>,
    pub references: Vec<String>,
    /// How far the parser got: of a message that it could not read, the source is there all the same.
    pub parse: Parse,
    /// In the order of the message.
    pub headers: Vec<HeaderField>,
    pub headers_truncated: bool,
    /// The values of its Authentication-Results headers, as other servers wrote them (RFC 8601); not verified here.
    pub authentication_results: Vec<String>,
    /// The plain text, or the html converted where there is no text.
    pub text: String,
    pub text_truncated: bool,
    /// The html made harmless, for a sandboxed frame; null where there is none or it cannot be shown. `/html` is the page.
    pub html: Option<String>,
    /// There is html, but more than is shown (1 MiB): `/html` shows the text.
    pub html_too_large: bool,
    /// The html refers to images elsewhere: `/html?remote=1` fetches them.
    pub html_remote: bool,
    pub attachments: Vec<AttachmentView>,
    /// All parts, a container before what it holds.
    pub parts: Vec<PartView>,
    /// One-time codes found in it, the likeliest first, at most 10, as one types them in: `482 913`, `482-913` and
    /// `G-482913` are `482913`, groups of letters and digits keep their hyphens (`A1B2-C3D4`).
    ///
    /// A code is 4 to 10 digits, or that many letters and digits among which is a digit, or capital groups of one length,
    /// near a word that announces one (code, PIN, OTP, TAN, verification, token, 验证码, …, in some twenty languages) or
    /// between "use" or "enter" and "to log in". Dates, prices, phone, order and version numbers, promotion and postal
    /// codes are none. Looked at are the subject and the first 64 KiB of `text`, and where they have none, of the text of the html.
    pub codes: Vec<String>,
    /// Links with http and https, in the order of the page.
    pub links: Vec<Link>,
}

/// The SMTP envelope, with the recipients that led to this mailbox, as they were written.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EnvelopeView {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub recipients: Vec<String>,
}

/// An attachment and where it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AttachmentView {
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Its path on this server.
    pub url: String,
}

/// The path of a message.
#[must_use]
pub fn message_path(mailbox: &MailboxKey, id: DeliveryId) -> String {
    format!("/v1/mailboxes/{}/messages/{id}", path::encode(mailbox.as_str()))
}

/// Reads the message off this thread.
///
/// # Errors
/// As [`reading::message`].
pub async fn read(state: &State, stored: StoredMessage) -> Result<MessageDetail, Problem> {
    let base = format!("{}/attachments", message_path(&stored.listed.mailbox, stored.listed.id));
    let addresses = Addresses { attachments: base.clone(), suffix: String::new(), remote: true };
    let read = reading::message(state, &stored, addresses, true).await?;
    Ok(view(stored, read, &base))
}

fn view(stored: StoredMessage, read: Read, base: &str) -> MessageDetail {
    let Read { parsed, html, codes, links } = read;
    let listed = stored.listed;
    let is_results = |header: &&HeaderField| header.name.eq_ignore_ascii_case("authentication-results");
    let with_url = |attachment: Attachment| AttachmentView { url: format!("{base}/{}", attachment.n), attachment };
    MessageDetail {
        id: listed.id,
        uid: listed.uid,
        mailbox: listed.mailbox,
        cursor: listed.cursor,
        from: listed.from,
        sender: parsed.sender,
        reply_to: parsed.reply_to,
        to: parsed.to,
        cc: parsed.cc,
        bcc: parsed.bcc,
        subject: listed.subject,
        preview: listed.preview,
        date: listed.date,
        received_at: listed.received_at,
        expires_at: listed.expires_at,
        size: listed.size,
        is_read: listed.is_read,
        tags: listed.tags,
        envelope: EnvelopeView { envelope: stored.envelope, recipients: stored.recipients },
        message_id: parsed.message_id,
        in_reply_to: parsed.in_reply_to,
        references: parsed.references,
        parse: parsed.parse,
        authentication_results: parsed.headers.iter().filter(is_results).map(|header| header.value.clone()).collect(),
        headers: parsed.headers,
        headers_truncated: parsed.headers_truncated,
        text: parsed.text,
        text_truncated: parsed.text_truncated,
        html_too_large: parsed.html_too_large,
        html_remote: html.as_ref().is_some_and(|html| html.remote),
        html: html.map(|html| html.html),
        attachments: parsed.attachments.into_iter().map(with_url).collect(),
        parts: parsed.parts,
        codes,
        links,
    }
}
