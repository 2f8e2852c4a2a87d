//! What lies in a segment file beyond its committed length: whole records are found, a torn end is told.

use super::record::{Broken, Frame, Record};

/// A whole record and where it lies in the file.
#[derive(Clone, Debug)]
pub struct Found {
    pub offset: u64,
    pub length: u64,
    pub record: Record,
}

/// The result of a scan.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    pub found: Vec<Found>,
    /// End of the last whole record (or where the scan began): the file is to be cut here.
    pub end: u64,
    /// Bytes beyond `end`, and records in between whose contents were damaged.
    pub torn: u64,
    pub damaged: Vec<(u64, Broken)>,
}

/// Looks through `bytes`, the file's contents from `offset` on.
///
/// A record with a whole head and damaged contents is passed over: pages of one append may have reached the disk in any
/// order. Where no head is, the scan ends.
#[must_use]
pub fn scan(bytes: &[u8], offset: u64) -> Scan {
    let mut scan = Scan { end: offset, ..Scan::default() };
    let mut at = 0usize;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Ok(frame) = Frame::parse(rest) else { break };
        let place = offset + at as u64;
        match Record::parse(rest) {
            Ok(record) => {
                scan.end = place + frame.length();
                scan.found.push(Found { offset: place, length: frame.length(), record });
            }
            Err(Broken::Short | Broken::Head) => break,
            Err(broken) => scan.damaged.push((place, broken)),
        }
        match usize::try_from(frame.length()).ok().and_then(|length| at.checked_add(length)) {
            Some(next) => at = next,
            None => break,
        }
    }
    scan.torn = (offset + bytes.len() as u64).saturating_sub(scan.end);
    scan
}

/// The ids of all records in `bytes`, damaged or not, as far as heads are whole.
#[must_use]
pub fn ids(bytes: &[u8]) -> Vec<uuid::Uuid> {
    let mut ids = Vec::new();
    let mut rest = bytes;
    while let Ok(frame) = Frame::parse(rest) {
        ids.push(frame.head.id.0);
        let length = usize::try_from(frame.length()).unwrap_or(usize::MAX);
        rest = rest.get(length..).unwrap_or_default();
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::MailboxKey;
    use crate::mail::envelope::Envelope;
    use crate::mail::id::DeliveryId;
    use crate::mail::time::Timestamp;
    use crate::store::bodies::record;
    use crate::store::incoming::{Body, Part};

    /// Three records and where each begins.
    fn three() -> (Vec<u8>, Vec<u64>) {
        let envelope = Envelope {
            reverse_path: String::new(),
            helo: "h".into(),
            client: [127, 0, 0, 1].into(),
            protocol: "SMTP".into(),
            smtputf8: false,
            eight_bit: false,
        };
        let part = Part { mailbox: MailboxKey::from_stored("a@b"), recipients: vec!["a@b".into()], create: true };
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for n in 0..3u8 {
            starts.push(32 + bytes.len() as u64);
            let body = Body { bytes: vec![n; 30], compressed: false, size: 30 };
            let id = DeliveryId(uuid::Uuid::from_bytes([n; 16]));
            record::write(&mut bytes, id, Timestamp(0), &envelope, std::slice::from_ref(&part), &body);
        }
        (bytes, starts)
    }

    #[test]
    fn whole_records_before_any_cut_are_found() {
        let (bytes, starts) = three();
        for end in 0..=bytes.len() {
            let scan = scan(&bytes[..end], 32);
            let whole = starts.iter().skip(1).filter(|start| **start <= 32 + end as u64).count()
                + usize::from(end == bytes.len());
            assert_eq!(scan.found.len(), whole, "cut at {end}");
            assert_eq!(scan.torn, 32 + end as u64 - scan.end);
        }
    }

    #[test]
    fn a_record_with_damaged_contents_is_passed_over() {
        let (mut bytes, starts) = three();
        let inside = usize::try_from(starts[2]).unwrap() - 32 - 1;
        bytes[inside] ^= 1;
        let scan = scan(&bytes, 32);
        assert_eq!(scan.found.iter().map(|found| found.offset).collect::<Vec<_>>(), [starts[0], starts[2]]);
        assert_eq!(scan.damaged, [(starts[1], Broken::Body)]);
        assert_eq!(ids(&bytes).len(), 3);
    }
}
