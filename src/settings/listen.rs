//! An address to listen on, as an operator writes it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `"127.0.0.1:2525"`, `"[::1]:2525"`, `"localhost:2525"`, `":2525"` or `"2525"`. Without an address it is loopback: nobody
/// opens a port to a network by leaving something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

/// What was found is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address to listen on, {EXPECTED}{tls}", tls = tls(.0))]
pub struct ListenError(String);

const EXPECTED: &str = r#"such as "127.0.0.1:2525", "localhost:2525", "[::1]:2525" or "2525" (a port of 127.0.0.1)"#;

fn tls(text: &str) -> &'static str {
    if text.starts_with("https:") { "; this build leaves TLS to nginx before it (docs/deployment.md)" } else { "" }
}

impl Listen {
    /// A port of 127.0.0.1.
    #[must_use]
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let trimmed = text.trim();
        if let Ok(addr) = trimmed.parse() {
            return Ok(Self(addr));
        }
        let (host, port) = trimmed.rsplit_once(':').unwrap_or(("", trimmed));
        // `parse` would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && (host.is_empty() || host.eq_ignore_ascii_case("localhost")) => {
                Ok(Self::loopback(port))
            }
            _ => Err(ListenError(text.to_owned())),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

/// A text, or a port as a bare number.
struct Text;

impl de::Visitor<'_> for Text {
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an address to listen on, {EXPECTED}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, port: i64) -> Result<Listen, E> {
        port.to_string().parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_an_operator_writes() {
        for (text, addr) in [
            ("127.0.0.1:2525", "127.0.0.1:2525"),
            ("0.0.0.0:25", "0.0.0.0:25"),
            ("[::1]:2525", "[::1]:2525"),
            ("localhost:2525", "127.0.0.1:2525"),
            ("LOCALHOST:0", "127.0.0.1:0"),
            (":2525", "127.0.0.1:2525"),
            ("2525", "127.0.0.1:2525"),
            (" 2525 ", "127.0.0.1:2525"),
        ] {
            assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()), Ok(addr.into()), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else_with_examples() {
        for text in ["", ":", "localhost", "localhost:", "65536", "-1", "+25", "mail.example:25", "::1:25x", "1.2.3.4"]
        {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not")) && error.contains("localhost:2525"), "{error}");
        }
        let error = "https://0.0.0.0:443".parse::<Listen>().unwrap_err().to_string();
        assert!(error.ends_with("this build leaves TLS to nginx before it (docs/deployment.md)"), "{error}");
    }
}
