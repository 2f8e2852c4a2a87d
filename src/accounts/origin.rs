//! Which requests come from this server's own pages. A browser can be led here by a foreign page in two ways: a
//! name of the attacker's that resolves to this address (DNS rebinding; its Host gives it away), and a request
//! across origins (its Origin gives it away). Pure; called by `web` and by `sockets` before anything else.

use std::net::{IpAddr, Ipv6Addr};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The Host names another server: 421 (RFC 9110 §15.5.20).
    #[error("this server is not known under that host name")]
    Host,
    /// The Origin is another site's page: 403.
    #[error("requests from pages of other sites are not answered")]
    Origin,
}

/// Accepts a Host that is an IP literal, `localhost` or below it, or in `allowed`; and an Origin that is the same
/// authority as the Host, or in `allowed`. No Origin is fine: browsers send one with whatever could do harm.
///
/// An entry of `allowed` is `name` or `name:port`. For the Host its port does not matter. For an Origin that differs
/// from the Host (a proxy in front rewrote the Host) it does: `name` stands for the scheme's own port.
///
/// # Errors
/// [`Foreign`], the Host first. A request without a Host is foreign.
pub fn check(host: Option<&str>, origin: Option<&str>, allowed: &[String]) -> Result<(), Foreign> {
    let authority = host.ok_or(Foreign::Host)?;
    let name = host_name(authority).ok_or(Foreign::Host)?;
    if !is_local(name) && !allowed.iter().any(|entry| same_name(host_name(entry), name)) {
        return Err(Foreign::Host);
    }
    match origin {
        None => Ok(()),
        Some(origin) if is_own(origin, authority, allowed) => Ok(()),
        Some(_) => Err(Foreign::Origin),
    }
}

/// What an operator does about a refused Host. The name is a stranger's: only what a name may be made of is repeated, and
/// no more of it than a name may have.
#[must_use]
pub fn advice(authority: Option<&str>) -> String {
    const LONGEST: usize = 253;
    let Some(authority) = authority.filter(|authority| !authority.is_empty()) else {
        return "the request names no host".to_owned();
    };
    let name = host_name(authority).unwrap_or(authority);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let name: String = name.chars().take(LONGEST).map(|c| if plain(c) { c } else { '?' }).collect();
    format!("add \"{name}\" to [http] allowed_hosts (MAILROOM__HTTP__ALLOWED_HOSTS)")
}

/// The name of `name[:port]`, without the port and a final dot; `[v6]` keeps its brackets.
fn host_name(authority: &str) -> Option<&str> {
    let name = if let Some(rest) = authority.strip_prefix('[') {
        let end = rest.find(']')?;
        authority.get(..end + 2)?
    } else {
        match authority.split_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) => return None,
            None => authority,
        }
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// No foreign DNS answers for these names.
fn is_local(name: &str) -> bool {
    if let Some(literal) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().is_ok();
    }
    let below =
        |n: &str| n.len() > 10 && n.get(n.len() - 10..).is_some_and(|end| end.eq_ignore_ascii_case(".localhost"));
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() || below(name)
}

fn same_name(entry: Option<&str>, name: &str) -> bool {
    entry.is_some_and(|entry| entry.eq_ignore_ascii_case(name))
}

fn is_own(origin: &str, host: &str, allowed: &[String]) -> bool {
    // "null" (a sandboxed frame, a file) has no scheme and is nobody's; `web::host` makes an exception for pictures.
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |a: &str| a.strip_suffix(port).unwrap_or(a).to_ascii_lowercase();
    let own = bare(authority);
    own == bare(host) || allowed.iter().any(|entry| own == bare(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        vec!["Mail.example.com".to_owned(), "dev.example.com:8443".to_owned()]
    }

    #[test]
    fn accepts_literals_localhost_and_the_configured() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.1.2.3",
            "[::1]",
            "[::1]:8080",
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:1",
            "mail.EXAMPLE.com",
            "mail.example.com:444",
            "dev.example.com",
        ] {
            assert_eq!(check(Some(host), None, &allowed()), Ok(()), "{host}");
        }
    }

    #[test]
    fn refuses_foreign_and_malformed_hosts() {
        for host in [
            "",
            ":80",
            "evil.test",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "evillocalhost",
            ".localhost",
            "[::1",
            "[::g]",
            "::1",
            "mail.example.com.evil.test",
            "a@127.0.0.1",
            "127.0.0.1:80@evil.test",
            "x:y",
        ] {
            assert_eq!(check(Some(host), None, &allowed()), Err(Foreign::Host), "{host}");
        }
        assert_eq!(check(None, None, &allowed()), Err(Foreign::Host));
    }

    #[test]
    fn a_refused_name_is_repeated_without_what_no_name_has() {
        let end = " to [http] allowed_hosts (MAILROOM__HTTP__ALLOWED_HOSTS)";
        for (host, name) in [
            ("mailroom:8080", "mailroom"),
            ("MX.example.", "MX.example"),
            ("a\"<script>\u{1b}[2J", "a??script??[2J"),
            ("bücher", "b?cher"),
            ("x:y", "x:y"),
        ] {
            assert_eq!(advice(Some(host)), format!("add \"{name}\"{end}"), "{host}");
        }
        assert!(advice(Some(&"x".repeat(9_000))).len() < 400);
        assert_eq!(advice(None), "the request names no host");
        assert_eq!(advice(Some("")), "the request names no host");
    }

    #[test]
    fn an_origin_must_be_this_server() {
        let own = [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("localhost", "http://localhost"),
            ("localhost:80", "http://localhost"),
            ("localhost", "http://localhost:80"),
            ("mail.example.com", "https://mail.example.com"),
            ("127.0.0.1:8080", "https://mail.example.com"),
            ("127.0.0.1", "https://dev.example.com:8443"),
        ];
        for (host, origin) in own {
            assert_eq!(check(Some(host), Some(origin), &allowed()), Ok(()), "{host} {origin}");
        }
        let foreign = [
            ("127.0.0.1:8080", "http://127.0.0.1:3000"),
            ("127.0.0.1:8080", "http://localhost:8080"),
            ("localhost", "null"),
            ("localhost", "http://evil.test"),
            ("localhost", ""),
            ("localhost", "file://localhost"),
            ("mail.example.com", "https://dev.example.com"),
            ("localhost", "http://localhost@evil.test"),
            ("mail.example.com", "http://mail.example.com:3000"),
        ];
        for (host, origin) in foreign {
            assert_eq!(check(Some(host), Some(origin), &allowed()), Err(Foreign::Origin), "{host} {origin}");
        }
    }
}
