//! Keys that open the attachments of one message for a while, for the pictures in a message's page.
//!
//! Such a page holds html of strangers, whose style sheets can read any attribute in it and tell what they read to
//! anyone once remote images are shown (`img[src*="ab"]{background:url(…)}`). So no token is ever written into a page:
//! a key opens nothing that whoever sent the message does not have already.
//!
//! Called by `web`. A key is HMAC-SHA-256 (RFC 2104) over mailbox, message and end, under the secret that all nodes of an
//! installation share: whatever node a browser asks for a picture opens it. No key is stored.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::tokens;
use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::mail::time::Timestamp;

/// Ends lie on multiples of this, so that a page stays the same for a while and can be kept by a browser.
const STEP_SECONDS: u64 = 1_800;
/// A key lives this many steps at most, and one less at least: an hour to an hour and a half.
const STEPS: u64 = 3;

/// What is signed begins with this, so that no other use of the secret could ever mean the same.
const PURPOSE: &[u8] = b"mailroom attachments 1\0";
/// The same for what tells one secret from another in a name that anybody may see.
const EDITION: &[u8] = b"mailroom edition 1\0";

/// Makes and checks keys.
pub struct PartKeys {
    secret: [u8; 32],
    edition: String,
}

/// A key to write into a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartKey {
    /// `<end in seconds>.<HMAC in URL-safe base64>`: needs no escaping in a query string.
    pub key: String,
    /// Differs where the key differs because time went on or the secret is another. Opens nothing.
    pub edition: String,
}

impl PartKeys {
    /// Under this secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let mut edition = String::new();
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret) {
            mac.update(EDITION);
            tokens::base64url(mac.finalize().into_bytes().get(..8).unwrap_or_default(), &mut edition);
        }
        Self { secret, edition }
    }

    /// The key for the attachments of this message.
    #[must_use]
    pub fn make(&self, mailbox: &MailboxKey, id: DeliveryId, now: Timestamp) -> PartKey {
        let end = (seconds(now) / STEP_SECONDS + STEPS) * STEP_SECONDS;
        let mut key = format!("{end}.");
        if let Some(mac) = self.mac(mailbox, id, end) {
            tokens::base64url(&mac.finalize().into_bytes(), &mut key);
        }
        PartKey { key, edition: format!("{}-{end:x}", self.edition) }
    }

    /// Whether `key` opens the attachments of this message now. Takes the same time for any wrong one.
    #[must_use]
    pub fn opens(&self, key: &str, mailbox: &MailboxKey, id: DeliveryId, now: Timestamp) -> bool {
        let Some((end, code)) = key.split_once('.') else { return false };
        let (Ok(end), Some(code)) = (end.parse::<u64>(), tokens::from_base64url(code)) else { return false };
        let is_ours = self.mac(mailbox, id, end).is_some_and(|mac| mac.verify_slice(&code).is_ok());
        is_ours && seconds(now) < end
    }

    /// Over fields of fixed length, the one of any length last. None is a failure that HMAC, which takes keys of any
    /// length, does not have.
    fn mac(&self, mailbox: &MailboxKey, id: DeliveryId, end: u64) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(PURPOSE);
        mac.update(&end.to_be_bytes());
        mac.update(id.0.as_bytes());
        mac.update(mailbox.as_str().as_bytes());
        Some(mac)
    }
}

fn seconds(at: Timestamp) -> u64 {
    at.0.max(0).unsigned_abs() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const NOW: Timestamp = Timestamp(500_000 * HOUR + 1);

    fn at(hours: i64) -> Timestamp {
        Timestamp(NOW.0 + hours * HOUR)
    }

    #[test]
    fn a_key_opens_its_own_message_for_an_hour() {
        let keys = PartKeys::new([1; 32]);
        let (own, other) = (MailboxKey::from_stored("a@x.test"), MailboxKey::from_stored("b@x.test"));
        let (id, later) = (DeliveryId::new(NOW), DeliveryId::new(NOW));
        let made = keys.make(&own, id, NOW);
        assert!(keys.opens(&made.key, &own, id, NOW));
        assert!(keys.opens(&made.key, &own, id, at(1)));
        assert!(!keys.opens(&made.key, &own, id, at(2)), "it ends");
        assert!(!keys.opens(&made.key, &other, id, NOW), "another mailbox");
        assert!(!keys.opens(&made.key, &own, later, NOW), "another message");
        assert!(PartKeys::new([1; 32]).opens(&made.key, &own, id, NOW), "another node");
        assert!(!PartKeys::new([2; 32]).opens(&made.key, &own, id, NOW), "another installation");
    }

    #[test]
    fn a_key_cannot_be_altered() {
        let keys = PartKeys::new([1; 32]);
        let (own, id) = (MailboxKey::from_stored("a@x.test"), DeliveryId::new(NOW));
        let key = keys.make(&own, id, NOW).key;
        assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{key}");
        for at in 0..key.len() {
            let mut altered = key.clone().into_bytes();
            altered[at] = if altered[at] == b'1' { b'2' } else { b'1' };
            assert!(!keys.opens(std::str::from_utf8(&altered).unwrap(), &own, id, NOW), "byte {at}");
        }
        let (end, code) = key.split_once('.').unwrap();
        for other in ["", ".", end, code, &format!("{end}."), &format!("{end}.A"), &format!("{end}.{code}A"), "9.é"] {
            assert!(!keys.opens(other, &own, id, NOW), "{other:?}");
        }
        assert!(!keys.opens(&format!("{}.{code}", end.parse::<u64>().unwrap() + 1_800), &own, id, NOW));
    }

    #[test]
    fn a_page_stays_the_same_for_half_an_hour() {
        let keys = PartKeys::new([1; 32]);
        let (own, id) = (MailboxKey::from_stored("a@x.test"), DeliveryId::new(NOW));
        let soon = Timestamp(NOW.0 + 60_000_000);
        assert_eq!(keys.make(&own, id, NOW), keys.make(&own, id, soon));
        assert_ne!(keys.make(&own, id, NOW).edition, keys.make(&own, id, at(1)).edition);
        assert_ne!(keys.make(&own, id, NOW).edition, PartKeys::new([2; 32]).make(&own, id, NOW).edition);
        assert_eq!(keys.make(&own, id, NOW), PartKeys::new([1; 32]).make(&own, id, NOW));
    }
}
