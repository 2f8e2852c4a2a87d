//! Mailbox tokens: 256 random bits, shown once to who made the mailbox; the store keeps only their SHA-256.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

/// What every mailbox token begins with, so that one found in a log or a repository can be recognised.
pub const PREFIX: &str = "mrt_";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The system gave no randomness; nothing secret can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random numbers")]
pub struct NoRandomness;

/// A new token: `mrt_` and 43 characters of URL-safe base64 (RFC 4648 §5, no padding).
///
/// # Errors
/// When the system's random source fails.
pub fn make() -> Result<String, NoRandomness> {
    let mut secret = [0u8; 32];
    OsRng.try_fill_bytes(&mut secret).map_err(|_| NoRandomness)?;
    let mut token = String::with_capacity(PREFIX.len() + 43);
    token.push_str(PREFIX);
    base64url(&secret, &mut token);
    Ok(token)
}

/// What the store keeps of a token and looks it up by. The token has 256 random bits, so a plain hash suffices and
/// the look-up by it tells nothing through its timing.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Adds `bytes` in URL-safe base64 without padding (RFC 4648 §5).
pub(super) fn base64url(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        for (slot, byte) in group.iter_mut().zip(chunk) {
            *slot = *byte;
        }
        let [a, b, c] = group;
        let sextets = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
        for sextet in sextets.iter().take(chunk.len() + 1) {
            out.push(char::from(ALPHABET.get(usize::from(*sextet)).copied().unwrap_or(b'A')));
        }
    }
}

/// The bytes of URL-safe base64 without padding; none for what [`base64url`] never writes.
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for character in text.bytes() {
        let sextet = ALPHABET.iter().position(|known| *known == character)?;
        bits = (bits << 6 | u32::try_from(sextet).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff).try_into().ok()?);
        }
    }
    // What is left over belongs to no byte: not a whole digit, and nothing in it.
    (count < 6 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_need_no_escaping() {
        let (one, two) = (make().unwrap(), make().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), PREFIX.len() + 43);
        assert!(one.strip_prefix(PREFIX).unwrap().bytes().all(|b| ALPHABET.contains(&b)));
    }

    #[test]
    fn encodes_like_rfc_4648() {
        for (bytes, text) in [(&b"f"[..], "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"\xfb\xff", "-_8")] {
            let mut out = String::new();
            base64url(bytes, &mut out);
            assert_eq!(out, text);
            assert_eq!(from_base64url(text).unwrap(), bytes);
        }
        for wrong in ["A", "Zh", "Zm9", "Zg==", "Zg.", "Zm8+"] {
            assert_eq!(from_base64url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
