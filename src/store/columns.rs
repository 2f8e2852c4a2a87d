//! Between rows and the words of `mail`: how parties, tags and envelopes are written into columns, how lifetimes are
//! reckoned.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use entity::{mailbox, message};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::config::Defaults;
use super::incoming::Part;
use super::mailboxes::{Mailbox, Origin, Ttl, WhenFull};
use super::messages::{BodyLocation, StoredMessage};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::envelope::Envelope;
use crate::mail::id::DeliveryId;
use crate::mail::summary::{Codes, Listed, Parse, Party};
use crate::mail::time::Timestamp;

const MINUTE: i64 = 60_000_000;

#[derive(Serialize, Deserialize)]
struct PartyColumn(Option<String>, Option<String>);

/// Borrowed for writing, since it is written for each message.
#[derive(Serialize)]
struct PartyRef<'a>(&'a Option<String>, &'a Option<String>);

#[derive(Serialize)]
struct EnvelopeRef<'a>(&'a str, &'a str, IpAddr, &'a str, bool, bool, &'a [String]);

#[derive(Deserialize)]
struct EnvelopeColumn(String, String, IpAddr, String, bool, bool, Vec<String>);

pub fn sender_column(party: Option<&Party>) -> Option<String> {
    party.map(|party| json(&PartyRef(&party.name, &party.address)))
}

pub fn recipients_column(parties: &[Party]) -> String {
    json(&parties.iter().map(|party| PartyRef(&party.name, &party.address)).collect::<Vec<_>>())
}

pub fn tags_column(tags: &[String]) -> Option<String> {
    (!tags.is_empty()).then(|| json(&tags))
}

pub fn envelope_column(envelope: &Envelope, part: &Part) -> String {
    json(&EnvelopeRef(
        &envelope.reverse_path,
        &envelope.helo,
        envelope.client,
        &envelope.protocol,
        envelope.smtputf8,
        envelope.eight_bit,
        &part.recipients,
    ))
}

/// Strings, lists, booleans: nothing here can fail to serialise.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn party(PartyColumn(name, address): PartyColumn) -> Party {
    Party { name, address }
}

pub fn parse_column(parse: Parse) -> i16 {
    match parse {
        Parse::Whole => 0,
        Parse::HeadersOnly => 1,
        Parse::Unreadable => 2,
    }
}

/// Life of messages in this mailbox in microseconds; none for ever.
pub fn message_ttl(row: &mailbox::Model, defaults: &Defaults) -> Option<i64> {
    match row.message_ttl {
        None => defaults.message_ttl.map(micros),
        Some(0) => None,
        Some(ttl) => Some(ttl),
    }
}

pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// When a message that arrived at `received_at` ends: its time is over or its mailbox ends.
pub fn message_end(row: &mailbox::Model, received_at: i64, defaults: &Defaults) -> Option<i64> {
    let own = message_ttl(row, defaults).map(|ttl| received_at.saturating_add(ttl));
    [own, row.expires_at].into_iter().flatten().min()
}

/// Whether a message that arrived at `received_at` has not ended.
pub fn lives(row: &mailbox::Model, received_at: i64, defaults: &Defaults, now: i64) -> bool {
    message_end(row, received_at, defaults).is_none_or(|end| end > now)
}

/// Whether the mailbox has ended, though its row is still there.
pub fn ended(row: &mailbox::Model, now: i64) -> bool {
    row.address.is_none() || row.expires_at.is_some_and(|end| end <= now)
}

/// Rounded up to a minute, so that retention works in few steps and the index changes seldom.
pub fn round_up(at: i64) -> i64 {
    at.saturating_add(MINUTE - 1) / MINUTE * MINUTE
}

pub fn ttl_column(ttl: Ttl) -> Option<i64> {
    match ttl {
        Ttl::Default => None,
        Ttl::Never => Some(0),
        Ttl::After(duration) => Some(micros(duration).max(1)),
    }
}

pub fn when_full_column(when: WhenFull) -> i16 {
    match when {
        WhenFull::Refuse => 0,
        WhenFull::DropOldest => 1,
    }
}

fn when_full(column: i16) -> WhenFull {
    if column == 1 { WhenFull::DropOldest } else { WhenFull::Refuse }
}

/// What `row` does with mail beyond its quota.
pub fn when_full_of(row: &mailbox::Model, defaults: &Defaults) -> WhenFull {
    row.when_full.map_or(defaults.when_full, when_full)
}

pub fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The mailbox's place after `modseq`.
pub fn cursor(row: &mailbox::Model, lineage: u32, modseq: i64) -> Cursor {
    Cursor { lineage, incarnation: unsigned(row.incarnation), modseq: unsigned(modseq) }
}

/// `row` as callers see it; none once it is detached from its address.
pub fn mailbox(row: mailbox::Model, lineage: u32) -> Option<Mailbox> {
    Some(Mailbox {
        cursor: cursor(&row, lineage, row.modseq),
        key: MailboxKey::from_stored(row.address.as_deref()?),
        id: row.id,
        origin: if row.origin == 0 { Origin::Mail } else { Origin::Call },
        created_at: Timestamp(row.created_at),
        expires_at: row.expires_at.map(Timestamp),
        message_ttl: match row.message_ttl {
            None => Ttl::Default,
            Some(0) => Ttl::Never,
            Some(ttl) => Ttl::After(Duration::from_micros(unsigned(ttl))),
        },
        max_messages: row.max_messages.map(unsigned),
        max_bytes: row.max_bytes.map(unsigned),
        when_full: row.when_full.map(when_full),
        messages: unsigned(row.messages),
        unread: unsigned(row.unread),
        bytes: unsigned(row.bytes),
        token_hash: row.token_hash.and_then(|hash| hash.try_into().ok()),
    })
}

/// A message row in the words of the API. `key` is the address of `of`.
pub fn listed(row: message::Model, of: &mailbox::Model, key: &MailboxKey, lineage: u32, defaults: &Defaults) -> Listed {
    Listed {
        codes: Codes,
        id: DeliveryId(row.id),
        uid: unsigned(row.uid),
        mailbox: key.clone(),
        cursor: cursor(of, lineage, row.uid),
        from: row.sender.and_then(|text| serde_json::from_str(&text).ok()).map(|column| Arc::new(party(column))),
        to: serde_json::from_str::<Vec<PartyColumn>>(&row.recipients)
            .map(|parties| parties.into_iter().map(party).collect())
            .unwrap_or_default(),
        subject: row.subject.into(),
        preview: row.preview.into(),
        date: row.date.map(Timestamp),
        received_at: Timestamp(row.received_at),
        expires_at: message_end(of, row.received_at, defaults).map(Timestamp),
        size: unsigned(row.size),
        attachments: u32::try_from(row.attachments).unwrap_or(0),
        is_read: row.is_read,
        tags: row.tags.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    }
}

/// The envelope column, and the recipients in it; none when it is not what this version wrote.
pub fn envelope(column: &str) -> Option<(Envelope, Vec<String>)> {
    let EnvelopeColumn(reverse_path, helo, client, protocol, smtputf8, eight_bit, recipients) =
        serde_json::from_str(column).ok()?;
    Some((Envelope { reverse_path, helo, client, protocol, smtputf8, eight_bit }, recipients))
}

/// The row with its envelope.
///
/// # Errors
/// `Damaged` when the envelope column is not what this version wrote.
pub fn stored(
    row: message::Model,
    of: &mailbox::Model,
    key: &MailboxKey,
    lineage: u32,
    defaults: &Defaults,
) -> Result<StoredMessage, StoreError> {
    let damaged = || StoreError::Damaged(format!("the envelope of message {} in {key}", row.id));
    let (envelope, recipients) = envelope(&row.envelope).ok_or_else(damaged)?;
    Ok(StoredMessage {
        envelope,
        recipients,
        parse: match row.parse {
            0 => Parse::Whole,
            1 => Parse::HeadersOnly,
            _ => Parse::Unreadable,
        },
        location: BodyLocation { segment: row.segment, offset: row.offset, length: row.length },
        listed: listed(row, of, key, lineage, defaults),
    })
}
