//! A delivery as it lies in the queue. Pure.
//!
//! Protocol Buffers, so that an older and a newer version read each other: what one does not know it passes over. A message says
//! in its first field what its reader must know at least (`NEEDS`): one that changes what earlier fields mean raises it, and a
//! reader that knows less puts the message to the dead letters instead of storing half of it. The body lies in it as it will lie
//! on disk. `tests/broker/` has one of version 1; what is read of it never changes.

use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};

use crate::mail::address::MailboxKey;
use crate::mail::envelope::Envelope;
use crate::mail::id::DeliveryId;
use crate::mail::summary::{MAX_TEXT, Parse, Party, Summary};
use crate::mail::time::Timestamp;
use crate::store::{Body, Part, bodies};

/// What this version knows.
const KNOWN: u32 = 1;
/// What a reader must know to understand what this version writes.
const NEEDS: u32 = 1;

/// A delivery without whoever waits for it.
#[derive(Clone, Debug)]
pub struct Mail {
    pub id: DeliveryId,
    pub received_at: Timestamp,
    pub envelope: Arc<Envelope>,
    pub parts: Vec<Part>,
    pub summary: Arc<Summary>,
    pub body: Body,
}

/// Why bytes are no delivery for this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    #[error("it needs version {0} of the format, this program knows {KNOWN}")]
    Newer(u32),
    #[error("it is no delivery: {0}")]
    Malformed(String),
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    needs: u32,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(int64, tag = "3")]
    received_at: i64,
    #[prost(message, optional, tag = "4")]
    envelope: Option<WireEnvelope>,
    #[prost(message, repeated, tag = "5")]
    parts: Vec<WirePart>,
    #[prost(message, optional, tag = "6")]
    summary: Option<WireSummary>,
    #[prost(message, optional, tag = "7")]
    body: Option<WireBody>,
}

#[derive(Clone, PartialEq, Message)]
struct WireEnvelope {
    #[prost(string, tag = "1")]
    reverse_path: String,
    #[prost(string, tag = "2")]
    helo: String,
    /// 4 or 16 octets.
    #[prost(bytes = "vec", tag = "3")]
    client: Vec<u8>,
    #[prost(string, tag = "4")]
    protocol: String,
    #[prost(bool, tag = "5")]
    smtputf8: bool,
    #[prost(bool, tag = "6")]
    eight_bit: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WirePart {
    #[prost(string, tag = "1")]
    mailbox: String,
    #[prost(string, repeated, tag = "2")]
    recipients: Vec<String>,
    #[prost(bool, tag = "3")]
    create: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WireParty {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    address: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSummary {
    #[prost(string, tag = "1")]
    subject: String,
    #[prost(message, optional, tag = "2")]
    from: Option<WireParty>,
    #[prost(message, repeated, tag = "3")]
    to: Vec<WireParty>,
    #[prost(int64, optional, tag = "4")]
    date: Option<i64>,
    #[prost(string, tag = "5")]
    preview: String,
    #[prost(uint32, tag = "6")]
    attachments: u32,
    /// 0 the whole, 1 headers only, 2 nothing.
    #[prost(uint32, tag = "7")]
    parse: u32,
    #[prost(message, optional, tag = "8")]
    text: Option<WireBody>,
}

/// Octets, a zstd frame where that is shorter.
#[derive(Clone, PartialEq, Message)]
struct WireBody {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(bool, tag = "2")]
    compressed: bool,
    /// Uncompressed.
    #[prost(uint64, tag = "3")]
    size: u64,
}

impl Mail {
    /// The same for these mailboxes alone, as a delivery of its own: the id of the whole one is known where the others have it.
    /// The new id follows from what it is, so that the same part taken out twice is the same delivery.
    #[must_use]
    pub fn part_of(mut self, mailboxes: &[MailboxKey]) -> Self {
        self.parts.retain(|part| mailboxes.contains(&part.mailbox));
        let mut hasher = Sha256::new();
        hasher.update(self.id.0.as_bytes());
        for part in &self.parts {
            hasher.update(part.mailbox.as_str().as_bytes());
            hasher.update([0]);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut random = [0; 10];
        random.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let bytes = self.id.0.as_bytes();
        let millis = bytes.iter().take(6).fold(0, |millis, byte| millis << 8 | u64::from(*byte));
        self.id = DeliveryId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid());
        self
    }

    /// The bytes of it.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let envelope = Arc::unwrap_or_clone(self.envelope);
        Wire {
            needs: NEEDS,
            id: self.id.0.as_bytes().to_vec(),
            received_at: self.received_at.0,
            envelope: Some(WireEnvelope {
                reverse_path: envelope.reverse_path,
                helo: envelope.helo,
                client: octets(envelope.client),
                protocol: envelope.protocol,
                smtputf8: envelope.smtputf8,
                eight_bit: envelope.eight_bit,
            }),
            parts: self.parts.into_iter().map(wire_part).collect(),
            summary: Some(wire_summary(&self.summary)),
            body: Some(wire_body(self.body)),
        }
        .encode_to_vec()
    }

    /// Reads what [`Mail::encode`] of this or another version wrote.
    ///
    /// # Errors
    /// [`Undecodable`], to be told to an operator.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let malformed = |what: &str| Undecodable::Malformed(what.to_owned());
        let needs = Needs::decode(bytes).map_err(|error| malformed(&error.to_string()))?.needs;
        if needs > KNOWN {
            return Err(Undecodable::Newer(needs));
        }
        let wire = Wire::decode(bytes).map_err(|error| malformed(&error.to_string()))?;
        let id = uuid::Uuid::from_slice(&wire.id).map_err(|_| malformed("its id is none"))?;
        let envelope = wire.envelope.and_then(envelope).ok_or_else(|| malformed("there is no envelope"))?;
        let body = wire.body.ok_or_else(|| malformed("there is no body"))?;
        if bodies::claimed(body.compressed, &body.bytes) != Some(body.size) {
            return Err(malformed("its body has not the size that it says"));
        }
        let parts: Option<Vec<Part>> = wire.parts.into_iter().map(part).collect();
        let parts = parts.filter(|parts| !parts.is_empty()).ok_or_else(|| malformed("it is for no mailbox"))?;
        let summary = wire.summary.map_or_else(Summary::unreadable, summary);
        Ok(Self {
            id: DeliveryId(id),
            received_at: Timestamp(wire.received_at),
            envelope: Arc::new(envelope),
            parts,
            summary: Arc::new(summary),
            body: Body { bytes: body.bytes, compressed: body.compressed, size: body.size },
        })
    }
}

/// The one field that every version can read.
#[derive(Clone, PartialEq, Message)]
struct Needs {
    #[prost(uint32, tag = "1")]
    needs: u32,
}

fn octets(client: IpAddr) -> Vec<u8> {
    match client {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn wire_part(part: Part) -> WirePart {
    WirePart { mailbox: part.mailbox.as_str().to_owned(), recipients: part.recipients, create: part.create }
}

fn wire_party(party: &Party) -> WireParty {
    WireParty { name: party.name.clone(), address: party.address.clone() }
}

fn wire_body(body: Body) -> WireBody {
    WireBody { bytes: body.bytes, compressed: body.compressed, size: body.size }
}

fn wire_summary(summary: &Summary) -> WireSummary {
    WireSummary {
        subject: summary.subject.to_string(),
        from: summary.from.as_deref().map(wire_party),
        to: summary.to.iter().map(wire_party).collect(),
        date: summary.date.map(|date| date.0),
        preview: summary.preview.to_string(),
        attachments: summary.attachments,
        parse: match summary.parse {
            Parse::Whole => 0,
            Parse::HeadersOnly => 1,
            Parse::Unreadable => 2,
        },
        text: Some(wire_body(bodies::encode(summary.text.as_bytes()))),
    }
}

fn envelope(wire: WireEnvelope) -> Option<Envelope> {
    let client = match wire.client.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(wire.client).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(wire.client).ok()?),
    };
    let WireEnvelope { reverse_path, helo, protocol, smtputf8, eight_bit, .. } = wire;
    Some(Envelope { reverse_path, helo, client, protocol, smtputf8, eight_bit })
}

fn part(wire: WirePart) -> Option<Part> {
    let mailbox = MailboxKey::canonical(&wire.mailbox)?;
    Some(Part { mailbox, recipients: wire.recipients, create: wire.create })
}

fn party(wire: WireParty) -> Party {
    Party { name: wire.name, address: wire.address }
}

fn summary(wire: WireSummary) -> Summary {
    Summary {
        subject: wire.subject.into(),
        from: wire.from.map(party).map(Arc::new),
        to: wire.to.into_iter().map(party).collect(),
        date: wire.date.map(Timestamp),
        preview: wire.preview.into(),
        attachments: wire.attachments,
        parse: match wire.parse {
            0 => Parse::Whole,
            1 => Parse::HeadersOnly,
            _ => Parse::Unreadable,
        },
        text: wire.text.and_then(text).unwrap_or_default(),
    }
}

/// The text is for search alone: without it the message is as good.
fn text(wire: WireBody) -> Option<Arc<str>> {
    if wire.size > 2 * MAX_TEXT as u64 {
        return None;
    }
    let bytes = bodies::unpack(wire.compressed, wire.size, wire.bytes).ok()?;
    String::from_utf8(bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/broker/delivery-1.bin");

    fn sample() -> Mail {
        let party = |name: &str| Party { name: Some(name.into()), address: Some("a@example.org".into()) };
        Mail {
            id: DeliveryId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
            received_at: Timestamp(1_795_253_400_123_456),
            envelope: Arc::new(Envelope {
                reverse_path: "a@example.org".into(),
                helo: "client.example.org".into(),
                client: [192, 0, 2, 1].into(),
                protocol: "UTF8SMTP".into(),
                smtputf8: true,
                eight_bit: true,
            }),
            parts: vec![
                Part {
                    mailbox: MailboxKey::from_stored("bob@example.com"),
                    recipients: vec!["Bob+1@example.com".into(), "bob@example.com".into()],
                    create: true,
                },
                Part {
                    mailbox: MailboxKey::from_stored("eve@example.com"),
                    recipients: vec!["eve@example.com".into()],
                    create: false,
                },
            ],
            summary: Arc::new(Summary {
                subject: "Grüße".into(),
                from: Some(Arc::new(party("Ann"))),
                to: vec![party("Bob"), Party::default()].into(),
                date: Some(Timestamp(-1)),
                preview: "a preview".into(),
                attachments: 3,
                parse: Parse::HeadersOnly,
                text: "the text".into(),
            }),
            body: Body { bytes: b"Subject: x\r\n\r\nbody\r\n".to_vec(), compressed: false, size: 20 },
        }
    }

    fn same(one: &Mail, other: &Mail) -> bool {
        one.id == other.id
            && one.received_at == other.received_at
            && one.envelope == other.envelope
            && one.parts == other.parts
            && one.summary == other.summary
            && (&one.body.bytes, one.body.compressed, one.body.size)
                == (&other.body.bytes, other.body.compressed, other.body.size)
    }

    #[test]
    fn what_version_1_wrote_is_read_for_good() {
        assert!(same(&Mail::decode(GOLDEN).unwrap(), &sample()));
    }

    #[test]
    fn version_1_reads_what_is_written_now() {
        // As long as this holds byte for byte a node of version 1 understands it.
        assert_eq!(sample().encode(), GOLDEN);
    }

    #[test]
    fn a_part_is_a_delivery_of_its_own_and_the_same_each_time() {
        let of = |mailbox: &str| sample().part_of(&[MailboxKey::from_stored(mailbox)]);
        let eve = of("eve@example.com");
        assert_eq!(eve.parts, sample().parts[1..]);
        assert_ne!(eve.id, sample().id);
        assert_eq!(eve.id, of("eve@example.com").id);
        assert_ne!(eve.id, of("bob@example.com").id);
        assert_eq!(eve.id.0.as_bytes()[..6], sample().id.0.as_bytes()[..6], "it was received then");
        assert_eq!(eve.id.0.get_version_num(), 7);
    }

    /// What a later version may add without anyone who does not know it noticing.
    #[derive(Clone, PartialEq, Message)]
    struct Later {
        #[prost(uint32, tag = "1")]
        needs: u32,
        #[prost(string, tag = "900")]
        unknown: String,
        #[prost(message, optional, tag = "901")]
        more: Option<WirePart>,
    }

    fn later(needs: u32) -> Vec<u8> {
        let mut bytes = GOLDEN.to_vec();
        // In Protocol Buffers what is appended is merged.
        let more = Some(WirePart { mailbox: "x".into(), recipients: vec![], create: true });
        bytes.extend(Later { needs, unknown: "something".into(), more }.encode_to_vec());
        bytes
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        assert!(same(&Mail::decode(&later(1)).unwrap(), &sample()));
    }

    #[test]
    fn what_needs_a_later_version_is_not_half_understood() {
        assert_eq!(Mail::decode(&later(2)).unwrap_err(), Undecodable::Newer(2));
        // Even if everything else in it is of other types.
        assert_eq!(Mail::decode(&[8, 7, 16, 1, 24, 1]).unwrap_err(), Undecodable::Newer(7));
    }

    #[test]
    fn what_is_no_delivery_is_an_error() {
        for bytes in [&b""[..], b"hello", &[8, 1], &GOLDEN[..GOLDEN.len() - 1], &GOLDEN[..40]] {
            assert!(matches!(Mail::decode(bytes), Err(Undecodable::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_size_or_a_mailbox_that_nobody_wrote_is_an_error() {
        let decoded = |mail: Mail| Mail::decode(&mail.encode());
        for (compressed, size) in [(true, 1 << 45), (true, 0), (false, 1)] {
            let body = Body { compressed, size, ..sample().body };
            assert!(
                matches!(decoded(Mail { body, ..sample() }), Err(Undecodable::Malformed(_))),
                "{compressed} {size}"
            );
        }
        for mailbox in ["", "x", "NoT a mailbox", "Upper@example.com", &format!("{}@x", "%".repeat(3_000))] {
            let part = Part { mailbox: MailboxKey::from_stored(mailbox), recipients: vec![], create: true };
            let parts = vec![sample().parts[0].clone(), part];
            assert!(matches!(decoded(Mail { parts, ..sample() }), Err(Undecodable::Malformed(_))), "{mailbox}");
        }
    }

    prop_compose! {
        fn parties()(name in ".{0,20}", address in proptest::option::of("[a-z]{1,8}@[a-z]{1,8}"), named: bool) -> Party {
            Party { name: named.then_some(name), address }
        }
    }

    prop_compose! {
        fn summaries()(
            texts in (".{0,60}", ".{0,60}", ".{0,600}"),
            from in proptest::option::of(parties()),
            to in proptest::collection::vec(parties(), 0..4),
            date: Option<i64>,
            attachments: u32,
            parse in 0..3,
        ) -> Summary {
            let (subject, preview, text) = texts;
            let parse = [Parse::Whole, Parse::HeadersOnly, Parse::Unreadable][usize::try_from(parse).unwrap()];
            Summary {
                subject: subject.into(), from: from.map(Arc::new), to: to.into(), date: date.map(Timestamp),
                preview: preview.into(), attachments, parse, text: text.into(),
            }
        }
    }

    proptest! {
        #[test]
        fn every_delivery_reads_back(
            id: u128,
            at: i64,
            client: std::net::IpAddr,
            flags: (bool, bool, bool),
            names in (".{0,40}", ".{0,40}", "[A-Z]{0,8}"),
            parts in proptest::collection::vec(("[a-z]{1,9}@[a-z]{1,9}", proptest::collection::vec(".{0,20}", 0..3), any::<bool>()), 1..5),
            summary in summaries(),
            raw in proptest::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let (reverse_path, helo, protocol) = names;
            let part = |(mailbox, recipients, create): (String, Vec<String>, bool)| Part {
                mailbox: MailboxKey::from_stored(&mailbox), recipients, create,
            };
            let mail = Mail {
                id: DeliveryId(uuid::Uuid::from_u128(id)),
                received_at: Timestamp(at),
                envelope: Arc::new(Envelope { reverse_path, helo, client, protocol, smtputf8: flags.0, eight_bit: flags.1 }),
                parts: parts.into_iter().map(part).collect(),
                summary: Arc::new(summary),
                body: match flags.2 {
                    true => bodies::encode(&raw),
                    false => Body { size: raw.len() as u64, bytes: raw, compressed: false },
                },
            };
            prop_assert!(same(&Mail::decode(&mail.clone().encode()).unwrap(), &mail));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Mail::decode(&bytes);
        }

        #[test]
        fn no_change_of_a_delivery_makes_it_panic(at in 0..GOLDEN.len(), to: u8) {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = to;
            let _ = Mail::decode(&bytes);
        }
    }
}
