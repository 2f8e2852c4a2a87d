//! Proxies that speak the PROXY protocol and that `[smtp] proxy_protocol_from` does not name: told apart and told of.
//!
//! Such a header is no command. A session that went on after it would answer the client's every command one too late, so it is
//! ended at the first bytes, with a reply that makes the client try again later. Called by [`super::session`].

use std::net::IpAddr;
use std::time::Duration;

use ppp::v2;
use tokio::net::TcpStream;

use crate::seldom::Seldom;
use crate::settings::Network;

static TOLD: Seldom = Seldom::every(Duration::from_secs(60));

/// Whether the first bytes of a session begin a PROXY header. Whoever sends one sends it in one piece, before anything else.
#[must_use]
pub fn is_header(first: &[u8]) -> bool {
    first.starts_with(b"PROXY ") || first.starts_with(v2::PROTOCOL_PREFIX)
}

/// Says whose header was not taken. Behind a proxy that is named it is what its client said, and nothing to set.
pub fn tell(stream: &TcpStream, proxies: &[Network]) {
    let Ok(peer) = stream.peer_addr().map(|peer| peer.ip().to_canonical()) else { return };
    if !is_named(peer, proxies)
        && let Some(left_out) = TOLD.turn()
    {
        tracing::warn!(
            %peer,
            left_out,
            "cut off: it begins with a PROXY header, and [smtp] proxy_protocol_from does not name it; if it is a proxy of \
             yours, name it there"
        );
    }
}

fn is_named(peer: IpAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|network| network.contains(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_either_version_is_known_by_its_beginning() {
        for first in
            [&b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n"[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"]
        {
            assert!(is_header(first), "{}", first.escape_ascii());
        }
        for first in [&b""[..], b"EHLO a\r\n", b"PROXY", b"PROXYING\r\n", b"proxy tcp4\r\n", b"\r\n\r\nEHLO a\r\n"] {
            assert!(!is_header(first), "{}", first.escape_ascii());
        }
    }
}
