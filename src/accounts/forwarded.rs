//! What a proxy in front says of a request, in `X-Forwarded-For`, `-Host` and `-Proto`: believed only when the
//! connection comes from one of `[http] trusted_proxies`. Called by `web` and by `sockets`. Pure.
//!
//! Anyone can write these fields, and proxies pass on what they were sent. So the client is the right-most address that is
//! not itself a trusted proxy: what stands left of it, the client wrote. And `X-Forwarded-Host` never takes the place of
//! Host: both must be names of this server, which keeps DNS rebinding out even where a proxy hands the field through.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::settings::Network;

pub(super) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Stands for a value that is not text: a name that nobody has.
const NO_NAME: &str = "\u{fffd}";

/// A request that came through a trusted proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Where it comes from.
    pub client: IpAddr,
    /// The names by which the client asked for this server.
    hosts: Vec<&'a str>,
    /// How the client asked: `http` or `https`.
    scheme: Option<&'a str>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned<'a> {
    /// By the name given, as it was sent.
    Host(Option<&'a str>),
    Origin,
}

/// What the proxy says; none when the peer is no trusted proxy.
#[must_use]
pub fn read<'a>(peer: Option<SocketAddr>, headers: &'a HeaderMap, trusted: &[Network]) -> Option<Forwarded<'a>> {
    let peer = peer?.ip().to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return None;
    }
    let mut client = peer;
    for item in items(headers, &FOR).collect::<Vec<_>>().into_iter().rev() {
        // Who wrote what cannot be read is the one before it.
        let Some(address) = address(item) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    let hosts = items(headers, &HOST).collect();
    let mut schemes = items(headers, &PROTO);
    let scheme = schemes.next().filter(|scheme| matches!(*scheme, "http" | "https"));
    let scheme = scheme.filter(|_| schemes.next().is_none());
    Some(Forwarded { client, hosts, scheme })
}

/// Where a request comes from: its peer, or whom a trusted proxy names.
#[must_use]
pub fn client(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    read(peer, headers, trusted).map(|forwarded| forwarded.client).or(peer.map(|peer| peer.ip()))
}

/// Whether every name that the request has for this server is one of its own, and its Origin one of its pages: `check` says
/// so for one name (`accounts::origin`). An Origin of another scheme than the client asked by is another site.
///
/// # Errors
/// The name that is not ours, or that the Origin is not.
pub fn check<'a>(
    names: &[Option<&'a str>],
    origin: Option<&str>,
    forwarded: Option<&Forwarded<'a>>,
    own: impl Fn(Option<&'a str>, Option<&str>) -> bool,
) -> Result<(), Turned<'a>> {
    let hosts = forwarded.map_or(&[][..], |forwarded| &forwarded.hosts);
    let all = || names.iter().copied().chain(hosts.iter().map(|host| Some(*host)));
    if let Some(foreign) = all().find(|name| !own(*name, None)) {
        return Err(Turned::Host(foreign));
    }
    let Some(origin) = origin else { return Ok(()) };
    let scheme = forwarded.and_then(|forwarded| forwarded.scheme);
    let same_scheme = scheme.is_none_or(|scheme| origin.split_once("://").is_some_and(|(its, _)| its == scheme));
    // A proxy that says how it was asked may itself ask by another name.
    let same_host = match hosts {
        [] => names.iter().all(|name| own(*name, Some(origin))),
        _ => all().any(|name| own(name, Some(origin))),
    };
    if same_scheme && same_host { Ok(()) } else { Err(Turned::Origin) }
}

/// The items of a list that may come in several fields (RFC 9110 §5.3), in order.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).map(|value| value.to_str().unwrap_or(NO_NAME));
    values.flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// An address, as proxies write it: perhaps with a port, IPv6 perhaps in brackets.
fn address(item: &str) -> Option<IpAddr> {
    let bare = item.strip_prefix('[').and_then(|item| item.strip_suffix(']')).unwrap_or(item);
    let address = bare.parse().or_else(|_| item.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::super::origin;
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn trusted() -> Vec<Network> {
        ["10.0.0.0/8", "::1"].iter().map(|text| text.parse().unwrap()).collect()
    }

    fn client_of(peer: &str, pairs: &[(&'static str, &str)]) -> String {
        let peer = SocketAddr::new(peer.parse().unwrap(), 4_000);
        client(Some(peer), &headers(pairs), &trusted()).unwrap().to_string()
    }

    #[test]
    fn the_client_is_the_right_most_that_no_trusted_proxy_is() {
        const FOR: &str = "x-forwarded-for";
        for (peer, values, client) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("::1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9 , 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.9", "10.0.0.2,10.0.0.3"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9:51000"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::9]:51000"], "2001:db8::9"),
            ("10.0.0.1", &["[2001:db8::9]"], "2001:db8::9"),
            ("10.0.0.1", &["2001:db8::9"], "2001:db8::9"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.7, 10.0.0.2"], "10.0.0.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, b\u{fc}cher"], "10.0.0.1"),
            ("10.0.0.1", &["unknown, 10.0.0.2"], "10.0.0.2"),
            // Nobody else is believed.
            ("203.0.113.9", &["10.0.0.1"], "203.0.113.9"),
            ("203.0.113.9", &["127.0.0.1, 10.0.0.1"], "203.0.113.9"),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| (FOR, *value)).collect();
            assert_eq!(client_of(peer, &pairs), client, "{peer} {values:?}");
        }
        assert_eq!(client(None, &headers(&[(FOR, "203.0.113.9")]), &trusted()), None);
    }

    /// What is said to a request from `10.0.0.1`, which is trusted or not.
    fn verdict(is_trusted: bool, host: &str, origin: Option<&str>, pairs: &[(&'static str, &str)]) -> String {
        let (headers, allowed) = (headers(pairs), ["mail.example.com".to_owned(), "node".to_owned()]);
        let trusted = if is_trusted { trusted() } else { Vec::new() };
        let forwarded = read(Some("10.0.0.1:4000".parse().unwrap()), &headers, &trusted);
        let own = |name: Option<&str>, origin: Option<&str>| origin::check(name, origin, &allowed).is_ok();
        match check(&[Some(host)], origin, forwarded.as_ref(), own) {
            Ok(()) => "ok".into(),
            Err(Turned::Host(name)) => format!("host {}", name.unwrap()),
            Err(Turned::Origin) => "origin".into(),
        }
    }

    #[test]
    fn every_name_must_be_ours() {
        const HOST: &str = "x-forwarded-host";
        assert_eq!(verdict(true, "node", None, &[(HOST, "mail.example.com")]), "ok");
        // A page that came by DNS rebinding can write the field, and its proxy hands it through.
        assert_eq!(verdict(true, "evil.test", None, &[(HOST, "mail.example.com")]), "host evil.test");
        assert_eq!(verdict(true, "node", None, &[(HOST, "evil.test")]), "host evil.test");
        assert_eq!(verdict(true, "node", None, &[(HOST, "mail.example.com, evil.test")]), "host evil.test");
        assert_eq!(verdict(true, "node", None, &[(HOST, "mail.example.com"), (HOST, "evil.test")]), "host evil.test");
        assert_eq!(verdict(true, "node", None, &[(HOST, "b\u{fc}cher")]), format!("host {NO_NAME}"));
        // What others than proxies say is not looked at.
        assert_eq!(verdict(false, "node", None, &[(HOST, "evil.test")]), "ok");
    }

    #[test]
    fn an_origin_is_measured_by_how_the_client_asked() {
        const HOST: (&str, &str) = ("x-forwarded-host", "10.9.9.9:8443");
        const PROTO: &str = "x-forwarded-proto";
        let own = Some("https://10.9.9.9:8443");
        assert_eq!(verdict(true, "node", own, &[HOST]), "ok");
        assert_eq!(verdict(true, "node", own, &[HOST, (PROTO, "https")]), "ok");
        assert_eq!(verdict(true, "node", own, &[]), "origin");
        assert_eq!(verdict(false, "node", own, &[HOST]), "origin", "only a proxy may say so");
        assert_eq!(verdict(true, "node", Some("https://evil.test"), &[HOST]), "origin");
        let plain = Some("http://mail.example.com");
        assert_eq!(verdict(true, "mail.example.com", plain, &[]), "ok");
        assert_eq!(verdict(true, "mail.example.com", plain, &[(PROTO, "http")]), "ok");
        assert_eq!(verdict(true, "mail.example.com", plain, &[(PROTO, "https")]), "origin", "the page of plain HTTP");
        for unclear in ["https, http", "", "gopher"] {
            assert_eq!(verdict(true, "mail.example.com", plain, &[(PROTO, unclear)]), "ok", "{unclear}");
        }
        assert_eq!(verdict(false, "mail.example.com", plain, &[(PROTO, "https")]), "ok");
    }
}
