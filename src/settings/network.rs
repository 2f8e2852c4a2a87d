//! A network of addresses, as an operator writes it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `"10.0.0.0/8"`, `"2001:db8::/32"`, or one address: `"127.0.0.1"`, `"::1"`. Bits beyond the prefix are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// What was found is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {EXPECTED}")]
pub struct NetworkError(String);

const EXPECTED: &str =
    r#"a network such as "10.0.0.0/8" or "2001:db8::/32", or an address such as "127.0.0.1" (names are not looked up)"#;

impl Network {
    /// Whether the address is in it; an IPv4 address that came in IPv6 (`::ffff:10.0.0.1`) counts as what it is.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// How many bits of an address it leaves open: 0 for a single one.
    #[must_use]
    pub fn host_bits(self) -> u32 {
        u32::from(self.0.max_prefix_len() - self.0.prefix_len())
    }

    /// Whether it is every address of its family.
    #[must_use]
    pub fn is_everyone(self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let trimmed = text.trim();
        let single = || trimmed.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        let net = trimmed.parse::<IpNet>().or_else(|_| single()).map_err(|_| NetworkError(text.to_owned()))?;
        Ok(Self(net.trunc()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_networks_and_single_addresses() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            (" 127.0.0.1 ", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Network>().map(|network| network.to_string()), Ok(shown.into()), "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.1:25", "10.0.0.0/-1", "*"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_in_its_network_in_either_notation() {
        let network: Network = "10.0.0.0/8".parse().unwrap();
        for (address, is_in) in
            [("10.9.9.9", true), ("::ffff:10.9.9.9", true), ("11.0.0.1", false), ("::1", false), ("a00::1", false)]
        {
            assert_eq!(network.contains(address.parse().unwrap()), is_in, "{address}");
        }
        assert!(!network.is_everyone() && "::/0".parse::<Network>().unwrap().is_everyone());
    }
}
