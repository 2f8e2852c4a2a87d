//! `[limits]`: how much one client network may do, over all nodes.

use super::rate::Rate;
use crate::settings::{Check, Network, Wrong};

crate::settings! {
    /// How much one client network may ask of all nodes together: an IPv4 address (or a network of `ipv4_prefix`), a /64 of IPv6.
    /// What is over it is refused for now. With Redis nodes count together; without it, and while it is away, each counts alone.
    /// A node takes some of what a client may do ahead, so that not each request asks Redis: a client may be over its burst
    /// by a quarter of it for each node.
    pub struct LimitsConfig {
        /// HTTP requests: `"100/s"`, `"3000/m"` or `"10000/h"`; `"0"` is no limit. Over it: 429 with Retry-After.
        pub requests: Rate = Rate::NONE,
        /// How many requests may come at once; 0 is as many as in one second, at least 10.
        pub requests_burst: u32 = 0,
        /// New connections over SMTP and over HTTP (WebSockets among them). Over it: 421 4.7.0 at SMTP, 429 at HTTP.
        pub connections: Rate = Rate::NONE,
        /// How many connections may come at once; 0 is as many as in one second, at least 10.
        pub connections_burst: u32 = 0,
        /// Messages over SMTP. Over it: 451 4.7.1 at DATA.
        pub messages: Rate = Rate::NONE,
        /// How many messages may come at once; 0 is as many as in one second, at least 10.
        pub messages_burst: u32 = 0,
        /// Bits of an IPv4 address that make a client: 32 is each address by itself, 24 is 256 of them together.
        pub ipv4_prefix: u8 = 32,
        /// Networks without limits, as in `["127.0.0.0/8", "10.0.0.0/8"]`.
        pub exempt: Vec<Network> = Vec::new(),
    }
}

impl Check for LimitsConfig {
    fn check(&self, wrong: &mut Wrong) {
        wrong.within("ipv4_prefix", self.ipv4_prefix, 8, 32);
        for (name, rate, burst) in [
            ("requests_burst", self.requests, self.requests_burst),
            ("connections_burst", self.connections, self.connections_burst),
            ("messages_burst", self.messages, self.messages_burst),
        ] {
            if burst > 0 && rate == Rate::NONE {
                wrong.refuse(name, burst, "0, where there is no limit to go beyond");
            }
            wrong.within(name, burst, 0, 1_000_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::settings::Section;

    #[test]
    fn what_would_not_do_is_refused() {
        let mut config = LimitsConfig::default();
        assert!(Wrong::of(&config).is_empty());
        config.set("requests", Value::from("100/s")).unwrap();
        config.set("requests_burst", Value::from(200)).unwrap();
        config.set("exempt", Value::from(vec!["127.0.0.0/8", "::1"])).unwrap();
        assert!(Wrong::of(&config).is_empty());
        assert!(config.exempt[1].contains("::1".parse().unwrap()));
        assert!(config.set("exempt", Value::from(vec!["here"])).is_err());
        config.set("messages_burst", Value::from(5)).unwrap();
        config.set("ipv4_prefix", Value::from(33)).unwrap();
        assert_eq!(Wrong::of(&config).len(), 2);
        assert!(config.set("requests", Value::from("100")).is_err());
    }
}
