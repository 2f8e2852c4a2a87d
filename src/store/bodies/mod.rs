//! Message bodies in append-only segment files; `docs/storage.md` has the format.
//!
//! The writer alone appends ([`segment`]); anyone may read ([`read`]). A record describes itself ([`record`]), so that what
//! a lost commit left behind can be taken in again ([`recover`]). A file never changes below its committed length.

pub mod record;
pub mod recover;
pub mod segment;

use std::cell::RefCell;
use std::path::Path;

use super::incoming::Body;
use super::messages::BodyLocation;
use crate::mail::id::DeliveryId;
use record::Record;

/// Shorter messages are stored plain: a frame's own cost eats the gain.
const MIN_COMPRESSED: usize = 256;
/// Bytes that are looked at to tell whether compressing may pay.
const SAMPLE: usize = 1_024;

thread_local! {
    /// A context costs more to make than to use.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Makes a message ready for the disk: compressed where that saves a tenth, plain otherwise. Costs about 20 µs for
/// 10 KB; call it on the session's side.
#[must_use]
pub fn encode(raw: &[u8]) -> Body {
    let size = raw.len() as u64;
    let compressed = if may_compress(raw) { compress(raw) } else { None };
    match compressed {
        Some(bytes) if bytes.len() + raw.len() / 10 < raw.len() => Body { bytes, compressed: true, size },
        _ => Body { bytes: raw.to_vec(), compressed: false, size },
    }
}

/// Bytes spread evenly over all 256 values gain nothing: then the sum of the squared counts of a sample is near its
/// least. Text, base64 and all that has a rhythm lie far above.
fn may_compress(raw: &[u8]) -> bool {
    if raw.len() < MIN_COMPRESSED {
        return false;
    }
    let step = (raw.len() / SAMPLE).max(1);
    let mut counts = [0u32; 256];
    let mut taken = 0u64;
    for byte in raw.iter().step_by(step).take(SAMPLE) {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
        taken += 1;
    }
    let squares: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(*count)).sum();
    squares > taken * taken / 170 + taken
}

fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(1).ok();
        }
        slot.as_mut()?.compress(raw).ok()
    })
}

/// Why a body could not be read; names the place.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment file is not there: compaction moved the body, or the file was lost.
    #[error("segment {0} is missing")]
    Missing(i64),
    #[error("segment {segment} at {offset}: {what}")]
    Damaged { segment: i64, offset: i64, what: String },
}

/// Reads and checks the record at `at`.
///
/// # Errors
/// [`ReadError::Missing`] when the file is gone, [`ReadError::Damaged`] when any byte of it is not what was written.
pub fn read_record(dir: &Path, at: BodyLocation) -> Result<Record, ReadError> {
    let damaged = |what: String| ReadError::Damaged { segment: at.segment, offset: at.offset, what };
    let bytes = segment::read(dir, at).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ReadError::Missing(at.segment),
        _ => damaged(error.to_string()),
    })?;
    Record::parse(&bytes).map_err(|error| damaged(error.to_string()))
}

/// The message `id` byte for byte as it was received.
///
/// # Errors
/// As [`read_record`]; `Damaged` also when another message lies there.
pub fn read(dir: &Path, at: BodyLocation, id: DeliveryId) -> Result<Vec<u8>, ReadError> {
    let damaged = |what| ReadError::Damaged { segment: at.segment, offset: at.offset, what };
    let record = read_record(dir, at)?;
    if record.head.id != id {
        return Err(damaged(format!("its place holds another message, {}", record.head.id)));
    }
    unpack(record.head.compressed, record.head.size, record.body).map_err(damaged)
}

/// The message `id` of a record, byte for byte as it was received.
///
/// # Errors
/// What of `bytes` is not what was written.
pub(super) fn message_of(bytes: &[u8], id: DeliveryId) -> Result<Vec<u8>, String> {
    let record = Record::parse(bytes).map_err(|error| error.to_string())?;
    if record.head.id != id {
        return Err(format!("its place holds another message, {}", record.head.id));
    }
    unpack(record.head.compressed, record.head.size, record.body)
}

/// The size of the message that [`encode`] made `body` of, as the bytes themselves say; none when they say nothing.
#[must_use]
pub fn claimed(compressed: bool, body: &[u8]) -> Option<u64> {
    if !compressed {
        return Some(body.len() as u64);
    }
    zstd::zstd_safe::get_frame_content_size(body).ok().flatten()
}

/// Undoes [`encode`].
///
/// # Errors
/// What is wrong with the bytes. Nothing is believed of a size that there is no memory for.
pub fn unpack(compressed: bool, size: u64, body: Vec<u8>) -> Result<Vec<u8>, String> {
    match claimed(compressed, &body) {
        Some(claimed) if claimed == size => {}
        Some(claimed) => return Err(format!("{claimed} bytes instead of {size}")),
        None => return Err("no zstd frame that says its size".into()),
    }
    if !compressed {
        return Ok(body);
    }
    let size = usize::try_from(size).map_err(|error| error.to_string())?;
    let mut raw = Vec::new();
    raw.try_reserve_exact(size).map_err(|error| error.to_string())?;
    let decompressed = DECOMPRESSOR.with_borrow_mut(|slot| match slot {
        Some(ready) => ready.decompress_to_buffer(&body, &mut raw),
        None => slot.insert(zstd::bulk::Decompressor::new()?).decompress_to_buffer(&body, &mut raw),
    });
    match decompressed {
        Ok(_) if raw.len() == size => Ok(raw),
        Ok(_) => Err(format!("{} bytes instead of {size}", raw.len())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let text = "The quick brown fox. ".repeat(500);
        assert!(encode(text.as_bytes()).compressed);
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(10_000)
        .collect();
        assert!(!may_compress(&noise));
        assert!(!encode(&noise).compressed);
        assert!(!encode(b"short").compressed);
    }

    #[test]
    fn a_size_that_is_not_that_of_the_bytes_is_damage_and_takes_no_memory() {
        let raw = "The quick brown fox. ".repeat(500);
        let body = encode(raw.as_bytes());
        assert_eq!(claimed(true, &body.bytes), Some(raw.len() as u64));
        for size in [0, raw.len() as u64 - 1, 1 << 45, u64::MAX] {
            assert!(unpack(true, size, body.bytes.clone()).is_err(), "{size}");
        }
        assert!(unpack(false, 4, b"short".to_vec()).is_err());
        assert!(unpack(true, 5, b"short".to_vec()).is_err());
        // A frame whose header itself says 2^45 bytes: eight bytes of size, one segment, no more.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        frame.extend((1_u64 << 45).to_le_bytes());
        frame.extend([1, 0, 0]);
        assert_eq!(claimed(true, &frame), Some(1 << 45));
        assert!(unpack(true, 1 << 45, frame).is_err());
    }

    #[test]
    fn what_was_packed_unpacks() {
        for length in [0, 1, 255, 256, 1_000, 100_000] {
            let raw: Vec<u8> = (0..length).map(|n: usize| (n % 61) as u8).collect();
            let body = encode(&raw);
            assert_eq!(unpack(body.compressed, body.size, body.bytes).unwrap(), raw);
        }
    }
}
