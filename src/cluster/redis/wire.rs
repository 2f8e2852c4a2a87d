//! Between events and the bytes that travel over the bus. Pure.
//!
//! Invariant: what cannot be sent whole (too large) or read (a kind of a newer version) becomes a [`Hint`], never nothing.

use std::sync::Arc;

use prost::Message as _;

use super::message::{
    Batch, Deleted, Event as Sent, Expired, Kind, MailboxDeleted, Message, Party as SentParty, VERSION,
};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::{Cursor, StreamCursor};
use crate::mail::event::{Announced, Event};
use crate::mail::id::DeliveryId;
use crate::mail::summary::{Codes, Listed, Party};
use crate::mail::time::Timestamp;

/// A text longer than this is not sent with its event: the few who filter by it read it from the database.
const SHORT_TEXT: usize = 2 * 1024;
/// An event larger than this is sent as a hint.
const LARGE: usize = 24 * 1024;
/// About how large a message of the bus becomes.
const FULL: usize = 32 * 1024;

/// A mailbox is at least there, and so is the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    pub mailbox: MailboxKey,
    pub cursor: Cursor,
    pub stream: StreamCursor,
}

/// What a message of the bus says.
#[derive(Debug, Default)]
pub struct Told {
    pub events: Vec<Arc<Announced>>,
    pub hints: Vec<Hint>,
    pub lost: bool,
}

/// Why a message is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// This node sent it.
    Own,
    /// A version that this node does not know.
    Version,
    /// Not a message of the bus.
    Unreadable,
}

impl Skip {
    /// As in the metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Version => "version",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The events of one shard as messages, each with how many of its events are hints alone.
#[must_use]
pub fn encode(node: u64, events: &[&Announced]) -> Vec<(Vec<u8>, usize)> {
    let Some(first) = events.first() else { return Vec::new() };
    let empty = |lineage: u32| Batch { version: VERSION, node, lineage, ..Batch::default() };
    let (mut messages, mut batch, mut size, mut hints) = (Vec::new(), empty(first.stream.lineage), 0, 0);
    for event in events {
        let mut sent = sent(event);
        let mut length = sent.encoded_len();
        if length > LARGE {
            (sent.kind, sent.text) = (None, None);
            length = sent.encoded_len();
            hints += 1;
        }
        let lineage = event.stream.lineage;
        if (size + length > FULL && !batch.events.is_empty()) || batch.lineage != lineage {
            let full = std::mem::replace(&mut batch, empty(lineage));
            messages.push((full.encode_to_vec(), std::mem::take(&mut hints)));
            size = 0;
        }
        size += length;
        if let Some(mark) = event.batch.filter(|_| event.stream.stamp > batch.marked) {
            (batch.marked, batch.mark) = (event.stream.stamp, mark.into_bytes().to_vec());
        }
        batch.events.push(sent);
    }
    messages.push((batch.encode_to_vec(), hints));
    messages
}

/// Says that messages of a shard were lost.
#[must_use]
pub fn lost(node: u64) -> Vec<u8> {
    Batch { version: VERSION, node, lost: true, ..Batch::default() }.encode_to_vec()
}

/// Reads a message of another node than `node`.
///
/// # Errors
/// Why it is not used.
pub fn decode(node: u64, bytes: &[u8]) -> Result<Told, Skip> {
    let batch = Batch::decode(bytes).map_err(|_| Skip::Unreadable)?;
    if batch.version != VERSION {
        return Err(Skip::Version);
    }
    if batch.node == node {
        return Err(Skip::Own);
    }
    let mut told = Told { lost: batch.lost, ..Told::default() };
    let mark = uuid::Uuid::from_slice(&batch.mark).ok();
    for sent in batch.events {
        let mailbox = MailboxKey::from_stored(&sent.mailbox);
        let cursor = Cursor { lineage: batch.lineage, incarnation: sent.incarnation, modseq: sent.modseq };
        let stream = StreamCursor { lineage: batch.lineage, stamp: sent.stamp };
        match sent.kind.and_then(|kind| event(kind, &mailbox, cursor)) {
            Some(event) => {
                let text = sent.text.map(Into::into);
                let mut announced = Announced::new(mailbox, cursor, stream, event, text);
                announced.batch = mark.filter(|_| stream.stamp == batch.marked);
                told.events.push(Arc::new(announced));
            }
            None => told.hints.push(Hint { mailbox, cursor, stream }),
        }
    }
    Ok(told)
}

fn sent(event: &Announced) -> Sent {
    let kind = match &event.event {
        Event::Received { message } => Kind::Received(line(message)),
        Event::Updated { message } => Kind::Updated(line(message)),
        Event::Deleted { id, uid } => Kind::Deleted(Deleted { id: id.0.into_bytes().to_vec(), uid: *uid }),
        Event::Expired { through_uid } => Kind::Expired(Expired { through_uid: *through_uid }),
        Event::MailboxDeleted {} => Kind::MailboxDeleted(MailboxDeleted {}),
    };
    Sent {
        mailbox: event.mailbox.as_str().to_owned(),
        incarnation: event.cursor.incarnation,
        modseq: event.cursor.modseq,
        stamp: event.stream.stamp,
        text: event.text.as_deref().filter(|text| text.len() <= SHORT_TEXT).map(str::to_owned),
        kind: Some(kind),
    }
}

fn line(message: &Listed) -> Message {
    let party = |party: &Party| SentParty { name: party.name.clone(), address: party.address.clone() };
    Message {
        id: message.id.0.into_bytes().to_vec(),
        uid: message.uid,
        from: message.from.as_deref().map(party),
        to: message.to.iter().map(party).collect(),
        subject: message.subject.to_string(),
        preview: message.preview.to_string(),
        date: message.date.map(|date| date.0),
        received_at: message.received_at.0,
        expires_at: message.expires_at.map(|end| end.0),
        size: message.size,
        attachments: message.attachments,
        is_read: message.is_read,
        tags: message.tags.clone(),
    }
}

fn event(kind: Kind, mailbox: &MailboxKey, cursor: Cursor) -> Option<Event> {
    Some(match kind {
        Kind::Received(message) => Event::Received { message: Arc::new(listed(message, mailbox, cursor)?) },
        Kind::Updated(message) => Event::Updated { message: Arc::new(listed(message, mailbox, cursor)?) },
        Kind::Deleted(Deleted { id, uid }) => Event::Deleted { id: delivery(&id)?, uid },
        Kind::Expired(Expired { through_uid }) => Event::Expired { through_uid },
        Kind::MailboxDeleted(_) => Event::MailboxDeleted {},
    })
}

fn listed(message: Message, mailbox: &MailboxKey, at: Cursor) -> Option<Listed> {
    let party = |party: SentParty| Party { name: party.name, address: party.address };
    Some(Listed {
        id: delivery(&message.id)?,
        uid: message.uid,
        mailbox: mailbox.clone(),
        // The position at which it arrived is its UID.
        cursor: Cursor { modseq: message.uid, ..at },
        from: message.from.map(|from| Arc::new(party(from))),
        to: message.to.into_iter().map(party).collect(),
        subject: message.subject.into(),
        preview: message.preview.into(),
        date: message.date.map(Timestamp),
        received_at: Timestamp(message.received_at),
        expires_at: message.expires_at.map(Timestamp),
        size: message.size,
        attachments: message.attachments,
        is_read: message.is_read,
        tags: message.tags,
        codes: Codes,
    })
}

fn delivery(bytes: &[u8]) -> Option<DeliveryId> {
    uuid::Uuid::from_slice(bytes).ok().map(DeliveryId)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of version 1, each behind its length in four bytes.
    const GOLDEN: &[u8] = include_bytes!("../../../tests/bus/v1.bin");
    const NODE: u64 = 0x0102_0304_0506_0708;
    const OTHER: u64 = 9;

    fn announced(modseq: u64, event: Event, text: Option<&str>) -> Announced {
        let cursor = Cursor { lineage: 7, incarnation: 1_764_000_000_000_000, modseq };
        let stream = StreamCursor { lineage: 7, stamp: 1_764_000_000_000_000 + modseq.cast_signed() };
        Announced::new(MailboxKey::from_stored("ann@mailroom.test"), cursor, stream, event, text.map(Into::into))
    }

    fn message(uid: u64) -> Arc<Listed> {
        let bob = Party { name: Some("Bob Ü".into()), address: Some("bob@sender.test".into()) };
        Arc::new(Listed {
            id: DeliveryId(uuid::Uuid::from_u128(0x0199_8877_6655_7443_8221_1009_9887_7665)),
            uid,
            mailbox: MailboxKey::from_stored("ann@mailroom.test"),
            cursor: Cursor { lineage: 7, incarnation: 1_764_000_000_000_000, modseq: uid },
            from: Some(Arc::new(bob.clone())),
            to: [bob, Party::default()].into(),
            subject: "Grüße".into(),
            preview: "Your code is 482913".into(),
            date: Some(Timestamp(-1)),
            received_at: Timestamp(1_764_000_000_000_001),
            expires_at: Some(Timestamp(1_764_000_000_000_002)),
            size: 4_321,
            attachments: 2,
            is_read: true,
            tags: vec!["a".into(), "b c".into()],
            codes: Codes,
        })
    }

    fn samples() -> Vec<Announced> {
        let id = message(1).id;
        vec![
            announced(1, Event::Received { message: message(1) }, Some("the text")),
            announced(2, Event::Updated { message: message(1) }, None),
            announced(3, Event::Deleted { id, uid: 1 }, None),
            announced(4, Event::Expired { through_uid: 300 }, None),
            announced(5, Event::MailboxDeleted {}, None),
        ]
    }

    fn golden() -> Vec<Vec<u8>> {
        let (mut rest, mut messages) = (GOLDEN, Vec::new());
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (message, more) = more.split_at(u32::from_be_bytes(*length) as usize);
            messages.push(message.to_vec());
            rest = more;
        }
        messages
    }

    fn same(one: &Announced, other: &Announced) {
        assert_eq!((one.cursor, one.stream, &one.text), (other.cursor, other.stream, &other.text));
        assert_eq!((one.json(), one.stream_json()), (other.json(), other.stream_json()));
    }

    #[test]
    fn version_1_is_written_and_read_as_it_was() {
        let samples = samples();
        let refs: Vec<_> = samples.iter().collect();
        let mut written: Vec<Vec<u8>> = encode(NODE, &refs).into_iter().map(|(bytes, ..)| bytes).collect();
        written.push(lost(NODE));
        assert_eq!(written, golden(), "a change of the format needs another version");
        let told = decode(OTHER, &golden()[0]).unwrap();
        assert_eq!((told.events.len(), told.hints.len(), told.lost), (5, 0, false));
        for (event, sample) in told.events.iter().zip(&samples) {
            same(event, sample);
        }
        assert!(decode(OTHER, &golden()[1]).unwrap().lost);
    }

    #[test]
    fn own_messages_and_those_of_other_versions_are_skipped() {
        assert_eq!(decode(NODE, &golden()[0]).unwrap_err(), Skip::Own);
        let mut newer = Batch::decode(golden()[0].as_slice()).unwrap();
        newer.version = VERSION + 1;
        assert_eq!(decode(OTHER, &newer.encode_to_vec()).unwrap_err(), Skip::Version);
        assert_eq!(decode(OTHER, b"\xff\xff").unwrap_err(), Skip::Unreadable);
        assert_eq!(decode(OTHER, b"").unwrap_err(), Skip::Version);
    }

    #[test]
    fn what_a_newer_version_adds_is_passed_over() {
        let mut bytes = golden()[0].clone();
        // Field 15, a varint.
        bytes.extend([0x78, 1]);
        assert_eq!(decode(OTHER, &bytes).unwrap().events.len(), 5);
        let hint =
            Sent { mailbox: "ann@mailroom.test".into(), incarnation: 1, modseq: 9, stamp: 11, ..Sent::default() };
        // An event of kind 20, a message without fields.
        let mut unknown = hint.encode_to_vec();
        unknown.extend([0xa2, 1, 0]);
        let mut batch = Batch { version: VERSION, node: NODE, lineage: 7, ..Batch::default() }.encode_to_vec();
        batch.extend([0x22, u8::try_from(unknown.len()).unwrap()]);
        batch.extend(unknown);
        let told = decode(OTHER, &batch).unwrap();
        assert!(told.events.is_empty());
        assert_eq!((told.hints[0].cursor.modseq, told.hints[0].stream.stamp), (9, 11));
    }

    #[test]
    fn an_event_too_large_for_the_bus_is_a_hint_and_many_are_several_messages() {
        let long = "x".repeat(LARGE);
        let large = Arc::new(Listed { preview: long.as_str().into(), ..(*message(2)).clone() });
        let events = [announced(2, Event::Received { message: large }, None)];
        let messages = encode(NODE, &events.iter().collect::<Vec<_>>());
        assert_eq!(messages[0].1, 1);
        let told = decode(OTHER, &messages[0].0).unwrap();
        assert_eq!((told.events.len(), told.hints[0].cursor.modseq), (0, 2));

        let text = "y".repeat(SHORT_TEXT);
        let many: Vec<_> =
            (1..100).map(|n| announced(n, Event::Received { message: message(n) }, Some(&text))).collect();
        let messages = encode(NODE, &many.iter().collect::<Vec<_>>());
        assert!(messages.len() > 5 && messages.iter().all(|(bytes, ..)| bytes.len() < FULL + LARGE));
        let read: Vec<_> = messages.iter().flat_map(|(bytes, ..)| decode(OTHER, bytes).unwrap().events).collect();
        assert_eq!(read.len(), many.len());
        read.iter().zip(&many).for_each(|(read, sent)| same(read, sent));
    }

    #[test]
    fn a_message_is_of_one_history_and_has_the_mark_of_its_last_commit() {
        let mut events = samples();
        for (n, event) in (1_u128..).zip(&mut events) {
            event.batch = Some(uuid::Uuid::from_u128(n / 2));
        }
        events[3].stream.lineage = 8;
        events[3].cursor.lineage = 8;
        events[4].stream.lineage = 8;
        events[4].batch = None;
        let messages = encode(NODE, &events.iter().collect::<Vec<_>>());
        let read = |n: usize| decode(OTHER, &messages[n].0).unwrap().events;
        let marks = |n: usize| read(n).iter().map(|event| event.batch.map(|mark| mark.as_u128())).collect::<Vec<_>>();
        assert_eq!((messages.len(), marks(0), marks(1)), (2, vec![None, None, Some(1)], vec![Some(2), None]));
        assert!(read(0).iter().all(|event| event.stream.lineage == 7));
        assert!(read(1).iter().all(|event| event.stream.lineage == 8));
    }

    #[test]
    fn a_long_text_stays_behind() {
        let text = "z".repeat(SHORT_TEXT + 1);
        let events = [announced(1, Event::Received { message: message(1) }, Some(&text))];
        let told = decode(OTHER, &encode(NODE, &events.iter().collect::<Vec<_>>())[0].0).unwrap();
        assert_eq!(told.events[0].text, None);
    }

    /// Writes the golden file: only for a new version.
    #[test]
    #[ignore = "writes tests/bus/v1.bin"]
    fn write_the_golden_file() {
        let samples = samples();
        let mut messages: Vec<Vec<u8>> =
            encode(NODE, &samples.iter().collect::<Vec<_>>()).into_iter().map(|(bytes, ..)| bytes).collect();
        messages.push(lost(NODE));
        let mut file = Vec::new();
        for message in messages {
            file.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            file.extend(message);
        }
        std::fs::write("tests/bus/v1.bin", file).unwrap();
    }
}
