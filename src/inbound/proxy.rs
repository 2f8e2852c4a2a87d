//! The PROXY protocol, versions 1 and 2: what a proxy in front says of the client before the client speaks. Pure.
//!
//! Called by [`super::listener`] for peers of `[smtp] proxy_protocol_from`, and for no others. A header may come in any
//! pieces; [`read`] is asked again with all that came so far. It looks at no more than [`LONGEST`] bytes. The crate `ppp`
//! reads whole headers; where one ends is decided here, because that crate takes a cut version 1 header for a wrong one.

use std::net::IpAddr;

use ppp::{v1, v2};

/// No header is longer than this. Version 1 has 107 bytes at most; version 2 could have 64 KiB of additions, of which
/// proxies send a few hundred bytes.
pub const LONGEST: usize = 4_096;

/// With its line end (version 1).
const LONGEST_LINE: usize = 107;
/// What a version 2 header begins with, before the length of the rest.
const FIXED: usize = 16;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The beginning of a header.
    Part,
    /// A header of `length` bytes.
    Whole { length: usize, client: Option<IpAddr> },
}

/// The bytes are no header, or one that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it does not begin with a PROXY header")]
    Missing,
    #[error("its PROXY header (version 1) cannot be read")]
    Line,
    #[error("its PROXY header (version 2) cannot be read")]
    Binary,
    #[error("its PROXY header is too long")]
    TooLong,
    #[error("its PROXY header is of a datagram, not of a connection")]
    Datagram,
}

/// Reads the header at the beginning of `input`. No client (LOCAL, UNKNOWN, UNSPEC, a UNIX socket) means that the
/// connection is the proxy's own, a health check for example: its peer is the client.
///
/// # Errors
/// [`Malformed`], as soon as no further bytes can mend it.
pub fn read(input: &[u8]) -> Result<Heard, Malformed> {
    if begins(input, v2::PROTOCOL_PREFIX) {
        binary(input)
    } else if begins(input, b"PROXY ") {
        line(input)
    } else {
        Err(Malformed::Missing)
    }
}

/// Whether `input` begins with `prefix`, as far as it goes.
fn begins(input: &[u8], prefix: &[u8]) -> bool {
    input.iter().zip(prefix).all(|(have, want)| have == want)
}

fn line(input: &[u8]) -> Result<Heard, Malformed> {
    let head = input.get(..LONGEST_LINE).unwrap_or(input);
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() < LONGEST_LINE { Ok(Heard::Part) } else { Err(Malformed::TooLong) };
    };
    let length = end + 2;
    let text = head.get(..end).unwrap_or_default();
    // Whatever else stands in it is to be ignored.
    if text == b"PROXY UNKNOWN" || text.starts_with(b"PROXY UNKNOWN ") {
        return Ok(Heard::Whole { length, client: None });
    }
    let header = v1::Header::try_from(head.get(..length).unwrap_or_default()).map_err(|_| Malformed::Line)?;
    let client = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => Some(IpAddr::from(ip.source_address)),
        v1::Addresses::Tcp6(ip) => Some(IpAddr::from(ip.source_address).to_canonical()),
    };
    Ok(Heard::Whole { length, client })
}

fn binary(input: &[u8]) -> Result<Heard, Malformed> {
    let (Some(high), Some(low)) = (input.get(FIXED - 2), input.get(FIXED - 1)) else { return Ok(Heard::Part) };
    let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONGEST {
        return Err(Malformed::TooLong);
    }
    let Some(whole) = input.get(..length) else { return Ok(Heard::Part) };
    let header = v2::Header::try_from(whole).map_err(|_| Malformed::Binary)?;
    if header.command == v2::Command::Local {
        return Ok(Heard::Whole { length, client: None });
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err(Malformed::Datagram);
    }
    let client = match header.addresses {
        v2::Addresses::IPv4(ip) => Some(IpAddr::from(ip.source_address)),
        v2::Addresses::IPv6(ip) => Some(IpAddr::from(ip.source_address).to_canonical()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    Ok(Heard::Whole { length, client })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        header.extend(addresses);
        header
    }

    fn v6(addresses: [&str; 2]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for address in addresses {
            bytes.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
        }
        bytes.extend([0x1f, 0x90, 0, 25]);
        bytes
    }

    /// Headers and the clients they name.
    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 25];
        let with_tlv = [&v4[..], &[0x03, 0, 4, 1, 2, 3, 4, 0x04, 0, 1, 0]].concat();
        vec![
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 25\r\n".to_vec(), Some("203.0.113.9")),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 8080 25\r\n".to_vec(), Some("2001:db8::9")),
            (b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 8080 25\r\n".to_vec(), Some("203.0.113.9")),
            (
                b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
                    .to_vec(),
                Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (b"PROXY UNKNOWN a b c d e f g h\r\n".to_vec(), None),
            (v2(1, 0x11, &v4), Some("203.0.113.9")),
            (v2(1, 0x11, &with_tlv), Some("203.0.113.9")),
            (v2(1, 0x21, &v6(["2001:db8::9", "2001:db8::1"])), Some("2001:db8::9")),
            (v2(1, 0x21, &v6(["::ffff:203.0.113.9", "::1"])), Some("203.0.113.9")),
            (v2(0, 0x00, &[]), None),
            (v2(0, 0x11, &v4), None),
            (v2(1, 0x00, b"anything"), None),
            (v2(1, 0x31, &[b'/'; 216]), None),
        ]
    }

    #[test]
    fn a_header_is_read_whole_and_known_as_a_part_at_every_byte_before() {
        for (header, client) in headers() {
            let whole = Ok(Heard::Whole { length: header.len(), client: client.map(|ip| ip.parse().unwrap()) });
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(Heard::Part), "{cut} of {:?}", header.escape_ascii().to_string());
            }
            assert_eq!(read(&header), whole, "{:?}", header.escape_ascii().to_string());
            let more = [&header[..], b"EHLO client.test\r\n"].concat();
            assert_eq!(read(&more), whole, "what follows is the client's");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_plain() {
        for (input, why) in [
            (&b"E"[..], Malformed::Missing),
            (b"EHLO client.test\r\n", Malformed::Missing),
            (b"PROXX", Malformed::Missing),
            (b"\r\n\r\n\r", Malformed::Missing),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080\r\n", Malformed::Line),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 25 \r\n", Malformed::Line),
            (b"PROXY TCP4 203.0.113.999 10.0.0.1 8080 25\r\n", Malformed::Line),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 08080 25\r\n", Malformed::Line),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 80800 25\r\n", Malformed::Line),
            (b"PROXY TCP4 2001:db8::9 2001:db8::1 8080 25\r\n", Malformed::Line),
            (b"PROXY TCP6 203.0.113.9 10.0.0.1 8080 25\r\n", Malformed::Line),
            (b"PROXY UDP4 203.0.113.9 10.0.0.1 8080 25\r\n", Malformed::Line),
            (b"PROXY UNKNOWNS\r\n", Malformed::Line),
            (b"PROXY \r\n", Malformed::Line),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 25\xff\r\n", Malformed::Line),
        ] {
            assert_eq!(read(input), Err(why), "{:?}", input.escape_ascii().to_string());
        }
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        assert_eq!(read(&endless), Err(Malformed::TooLong));
        assert_eq!(read(&endless[..LONGEST_LINE - 1]), Ok(Heard::Part));
        assert_eq!(read(&v2(1, 0x12, &[0; 12])), Err(Malformed::Datagram));
        assert_eq!(read(&v2(2, 0x11, &[0; 12])), Err(Malformed::Binary));
        assert_eq!(read(&v2(1, 0x11, &[0; 11])), Err(Malformed::Binary));
        assert_eq!(read(&v2(1, 0x41, &[0; 12])), Err(Malformed::Binary));
        let mut version = v2(1, 0x11, &[0; 12]);
        version[12] = 0x31;
        assert_eq!(read(&version), Err(Malformed::Binary));
        // Said to be long, before the rest came.
        assert_eq!(read(&v2(1, 0x11, &[0; LONGEST])[..FIXED]), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic_and_never_beyond_what_is_there(
            kind in 0..3_usize, tail in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let start = [&b""[..], b"PROXY TCP4 ", v2::PROTOCOL_PREFIX][kind];
            let input = [start, &tail].concat();
            match read(&input) {
                Ok(Heard::Whole { length, .. }) => prop_assert!(length <= input.len() && length <= LONGEST),
                Ok(Heard::Part) => prop_assert!(input.len() < LONGEST),
                Err(_) => {}
            }
        }

        #[test]
        fn what_was_decided_stays_so_with_more_bytes(
            kind in 0..3_usize, tail in prop::collection::vec(any::<u8>(), 0..120), cut in 0..132_usize
        ) {
            let start = [&b""[..], b"PROXY UNKNOWN", v2::PROTOCOL_PREFIX][kind];
            let input = [start, &tail].concat();
            let less = read(&input[..cut.min(input.len())]);
            if less != Ok(Heard::Part) {
                prop_assert_eq!(read(&input), less);
            }
        }
    }
}
