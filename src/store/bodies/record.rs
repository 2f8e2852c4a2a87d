//! One message in a segment file: a fixed head, the envelope and mailboxes as JSON, the body.
//!
//! Head (64 bytes, little-endian): 0 magic `MRec`, 4 version, 5 flags (1: zstd), 8 delivery id, 24 received at (µs),
//! 32 size of the message, 40 length of the body, 48 length of the JSON, 52 CRC-32 of the body, 56 of the JSON,
//! 60 of bytes 0 to 59.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mail::envelope::Envelope;
use crate::mail::id::DeliveryId;
use crate::mail::time::Timestamp;
use crate::store::incoming::{Body, Part};

const MAGIC: [u8; 4] = *b"MRec";
const VERSION: u8 = 1;
const COMPRESSED: u8 = 1;
/// Bytes before the JSON.
pub const HEAD: usize = 64;

/// What a record says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub id: DeliveryId,
    pub received_at: Timestamp,
    pub compressed: bool,
    /// Length of the message itself.
    pub size: u64,
}

/// Who sent it and where it was to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address<'a> {
    pub envelope: Cow<'a, Envelope>,
    pub parts: Cow<'a, [Part]>,
}

/// A record that was read and found whole.
#[derive(Clone, Debug)]
pub struct Record {
    pub head: Head,
    pub envelope: Arc<Envelope>,
    pub parts: Vec<Part>,
    /// As it lies on disk; [`Head::compressed`] says how.
    pub body: Vec<u8>,
}

/// What is wrong with the bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The bytes end before the record does.
    #[error("the record is cut short")]
    Short,
    #[error("no record begins here")]
    Head,
    #[error("the checksum of the envelope is wrong")]
    Envelope,
    #[error("the checksum of the body is wrong")]
    Body,
}

/// Lengths of the parts of a record, from its head.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub head: Head,
    json: usize,
    body: usize,
    json_crc: u32,
    body_crc: u32,
}

impl Frame {
    /// Reads a head.
    ///
    /// # Errors
    /// [`Broken::Short`] for fewer than [`HEAD`] bytes, [`Broken::Head`] for anything but a head.
    pub fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        let head = bytes.first_chunk::<HEAD>().ok_or(Broken::Short)?;
        let (checked, _) = head.split_at(60);
        if !head.starts_with(&MAGIC) || field(head, 4) != [VERSION] || crc32fast::hash(checked) != u32_at(head, 60) {
            return Err(Broken::Head);
        }
        let [flags] = field(head, 5);
        Ok(Self {
            head: Head {
                id: DeliveryId(uuid::Uuid::from_bytes(field(head, 8))),
                received_at: Timestamp(i64::from_le_bytes(field(head, 24))),
                compressed: flags & COMPRESSED != 0,
                size: u64::from_le_bytes(field(head, 32)),
            },
            body: usize::try_from(u64::from_le_bytes(field(head, 40))).map_err(|_| Broken::Head)?,
            json: usize::try_from(u32_at(head, 48)).map_err(|_| Broken::Head)?,
            body_crc: u32_at(head, 52),
            json_crc: u32_at(head, 56),
        })
    }

    /// Bytes of the whole record.
    #[must_use]
    pub fn length(&self) -> u64 {
        HEAD as u64 + self.json as u64 + self.body as u64
    }
}

impl Record {
    /// Reads a whole record and checks all of it; bytes after it are left alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        let frame = Frame::parse(bytes)?;
        let (_, rest) = bytes.split_at_checked(HEAD).ok_or(Broken::Short)?;
        let (json, rest) = rest.split_at_checked(frame.json).ok_or(Broken::Short)?;
        let (body, _) = rest.split_at_checked(frame.body).ok_or(Broken::Short)?;
        if crc32fast::hash(json) != frame.json_crc {
            return Err(Broken::Envelope);
        }
        if crc32fast::hash(body) != frame.body_crc {
            return Err(Broken::Body);
        }
        let address: Address<'_> = serde_json::from_slice(json).map_err(|_| Broken::Envelope)?;
        Ok(Self {
            head: frame.head,
            envelope: Arc::new(address.envelope.into_owned()),
            parts: address.parts.into_owned(),
            body: body.to_vec(),
        })
    }
}

/// Appends the record of a delivery to `out` and returns its length.
pub fn write(
    out: &mut Vec<u8>,
    id: DeliveryId,
    at: Timestamp,
    envelope: &Envelope,
    parts: &[Part],
    body: &Body,
) -> u64 {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let address = Address { envelope: Cow::Borrowed(envelope), parts: Cow::Borrowed(parts) };
    // Strings, lists and booleans: nothing in it can fail to serialise.
    let _ = serde_json::to_writer(&mut *out, &address);
    let json = out.len() - start - HEAD;
    let json_crc = crc32fast::hash(out.get(start + HEAD..).unwrap_or_default());
    out.extend_from_slice(&body.bytes);

    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&[VERSION, if body.compressed { COMPRESSED } else { 0 }, 0, 0]);
    head.extend_from_slice(id.0.as_bytes());
    head.extend_from_slice(&at.0.to_le_bytes());
    head.extend_from_slice(&body.size.to_le_bytes());
    head.extend_from_slice(&(body.bytes.len() as u64).to_le_bytes());
    head.extend_from_slice(&u32::try_from(json).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(&crc32fast::hash(&body.bytes).to_le_bytes());
    head.extend_from_slice(&json_crc.to_le_bytes());
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    if let Some(place) = out.get_mut(start..start + HEAD) {
        place.copy_from_slice(&head);
    }
    (out.len() - start) as u64
}

/// `N` bytes of the head from `at`, which is a constant inside it.
fn field<const N: usize>(head: &[u8; HEAD], at: usize) -> [u8; N] {
    head.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u32_at(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_le_bytes(field(head, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::MailboxKey;

    fn sample() -> (Vec<u8>, u64) {
        let envelope = Envelope {
            reverse_path: "a@example.org".into(),
            helo: "client".into(),
            client: [127, 0, 0, 1].into(),
            protocol: "ESMTP".into(),
            smtputf8: false,
            eight_bit: true,
        };
        let part = Part {
            mailbox: MailboxKey::from_stored("b@example.net"),
            recipients: vec!["B@example.net".into()],
            create: true,
        };
        let body = Body { bytes: b"Subject: x\r\n\r\nhello\r\n".to_vec(), compressed: false, size: 21 };
        let mut out = Vec::new();
        let length = write(&mut out, DeliveryId(uuid::Uuid::max()), Timestamp(7), &envelope, &[part], &body);
        (out, length)
    }

    #[test]
    fn a_record_reads_back() {
        let (bytes, length) = sample();
        assert_eq!(bytes.len() as u64, length);
        assert_eq!(Frame::parse(&bytes).unwrap().length(), length);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.head.received_at, Timestamp(7));
        assert_eq!(record.body, b"Subject: x\r\n\r\nhello\r\n");
        assert_eq!(record.parts[0].recipients, ["B@example.net"]);
        assert!(record.envelope.eight_bit);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let (bytes, _) = sample();
        for end in 0..bytes.len() {
            assert!(Record::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(Record::parse(&changed).is_err(), "changed at {at}");
        }
    }
}
