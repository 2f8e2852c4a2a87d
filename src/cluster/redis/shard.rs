//! Which channel tells of a mailbox. Every node must reckon alike, whatever its version: the hash is part of the protocol.

use crate::mail::address::MailboxKey;

/// The channel of a mailbox, of `shards`.
#[must_use]
pub fn shard(mailbox: &MailboxKey, shards: u16) -> u16 {
    let hash = crc32fast::hash(mailbox.as_str().as_bytes());
    u16::try_from(hash % u32::from(shards.max(1))).unwrap_or(0)
}

/// Its name in Redis.
#[must_use]
pub fn channel(prefix: &str, shard: u16) -> String {
    format!("{prefix}:bus:{shard}")
}

/// The slot of a channel in a Redis Cluster: CRC-16/XMODEM of its name (which has no braces) modulo 16,384.
#[must_use]
pub fn slot(channel: &str) -> u16 {
    let mut crc = 0_u16;
    for byte in channel.bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_part_of_the_protocol() {
        let shard = |name| shard(&MailboxKey::from_stored(name), 64);
        assert_eq!([shard("ann@mailroom.test"), shard("bob@mailroom.test"), shard("")], [6, 55, 0]);
    }

    #[test]
    fn slots_are_those_of_redis() {
        // From the specification of the cluster: CRC16 of "123456789" is 0x31C3.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
    }
}
