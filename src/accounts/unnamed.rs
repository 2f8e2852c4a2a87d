//! Proxies that say for whom they ask and that `[http] trusted_proxies` does not name: told of in the log, and counted.
//!
//! All their clients are one, for limits and in the log, and nothing else shows it. Called by `web` and `sockets` for each
//! request. Anyone may write the field: from an address of the internet that is a stranger's fancy as long as no proxy is
//! named at all, so nothing is said of it then.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use actix_web::http::header::HeaderMap;

use super::forwarded::FOR;
use super::metrics::UNNAMED;
use crate::seldom::Seldom;
use crate::settings::Network;

static TOLD: Seldom = Seldom::every(Duration::from_secs(600));

/// Looks at one request.
pub fn look(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[Network]) {
    if !headers.contains_key(FOR) {
        return;
    }
    let Some(peer) = peer.map(|peer| peer.ip().to_canonical()).filter(|peer| is_unnamed(*peer, trusted)) else {
        return;
    };
    ::metrics::counter!(UNNAMED).increment(1);
    if let Some(left_out) = TOLD.turn() {
        tracing::warn!(
            %peer,
            left_out,
            "it sends X-Forwarded-For, and [http] trusted_proxies does not name it: its clients count as one; if it is a \
             proxy of yours, name it there"
        );
    }
}

/// Whether a peer that sends the field looks like a proxy that somebody forgot.
fn is_unnamed(peer: IpAddr, trusted: &[Network]) -> bool {
    let is_near = match peer {
        IpAddr::V4(peer) => peer.is_loopback() || peer.is_private() || peer.is_link_local(),
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local() || peer.is_unicast_link_local(),
    };
    (is_near || !trusted.is_empty()) && !trusted.iter().any(|network| network.contains(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_looks_like_a_proxy_is_told_apart_from_a_stranger() {
        let is = |peer: &str, trusted: &[&str]| {
            let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
            is_unnamed(peer.parse().unwrap(), &trusted)
        };
        for near in ["127.0.0.1", "10.0.0.2", "192.168.1.1", "172.18.0.5", "169.254.1.1", "::1", "fd00::1", "fe80::1"] {
            assert!(is(near, &[]) && is(near, &["10.9.9.9"]) && !is(near, &[near]), "{near}");
        }
        for far in ["203.0.113.9", "2001:db8::9"] {
            assert!(!is(far, &[]) && is(far, &["10.0.0.0/8"]) && !is(far, &["10.0.0.0/8", far]), "{far}");
        }
    }
}
