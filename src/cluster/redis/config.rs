//! `[redis]`: the server that nodes share, and how they use it.

use std::fmt;

use deadpool_redis::redis::IntoConnectionInfo;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::mail::units::Period;
use crate::settings::{Check, Wrong};

crate::settings! {
    /// The Redis that several nodes share: events of one reach the sockets of another at once, list pages are cached for all,
    /// limits count over all nodes. Without it nodes find what others did in the database.
    pub struct RedisConfig {
        /// `redis://user:password@host:6379/0`; empty is none. A list of URLs is a Redis Cluster (7.0 or newer), of which these
        /// are some nodes.
        pub url: Servers = Servers::default(),
        /// What names of channels and keys begin with: the same on all nodes, another for each installation.
        pub prefix: String = "mailroom".into(),
        /// Channels that events are spread over, the same on all nodes. More make a node hear less of what its sockets do
        /// not follow.
        pub shards: u16 = 64,
        /// Connections for commands; the bus has one of its own for each server.
        pub connections: usize = 8,
        /// How long a command may take. Then Redis counts as away, and nobody waits for it until it answers again.
        pub timeout: Period = Period::millis(100),
        /// How often a node compares what it told its sockets with the database: what the bus lost comes this much later. It
        /// is every second while Redis is away, and where a database server is shared without Redis.
        pub reconcile: Period = Period::secs(10),
        /// How long a page of a list stays in Redis after it was read.
        pub page_life: Period = Period::hours(1),
    }
}

impl Check for RedisConfig {
    fn check(&self, wrong: &mut Wrong) {
        const POSSIBLE: &str = "redis://user:password@host:port/number, or a list of such for a cluster";
        for url in &self.url.urls {
            // The reason and not the text, which may have a password.
            match url.as_str().into_connection_info() {
                Ok(_) if url.starts_with("redis://") || url.starts_with("unix:") => {}
                Ok(_) => wrong.refuse_text("url", "another scheme", POSSIBLE),
                Err(error) => wrong.refuse_text("url", error.to_string(), POSSIBLE),
            }
        }
        if self.prefix.is_empty() || self.prefix.contains(|c: char| c.is_whitespace() || "{}*?[]".contains(c)) {
            wrong.refuse_text("prefix", &self.prefix, "a short name without blanks, as in prefix = \"mailroom\"");
        }
        wrong.within("shards", self.shards, 1, 4_096);
        wrong.within("connections", self.connections, 1, 1_024);
        wrong.within("timeout", self.timeout, Period::millis(5), Period::secs(5));
        wrong.within("reconcile", self.reconcile, Period::millis(100), Period::secs(30));
        wrong.within("page_life", self.page_life, Period::secs(5), Period::days(7));
    }
}

/// No server, one, or some nodes of a cluster.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Servers {
    urls: Vec<String>,
    cluster: bool,
}

impl Servers {
    /// One server.
    #[must_use]
    pub fn one(url: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], cluster: false }
    }

    /// Nodes of a cluster.
    #[must_use]
    pub fn cluster(urls: impl IntoIterator<Item = String>) -> Self {
        Self { urls: urls.into_iter().collect(), cluster: true }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        self.cluster
    }

    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Text of the configuration: commas divide the nodes of a cluster, since the environment has no lists here.
    fn parse(text: &str) -> Self {
        let urls: Vec<_> = text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        Self { cluster: urls.len() > 1, urls }
    }
}

impl fmt::Debug for Servers {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Servers {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.urls.iter().map(|url| place(url)).collect();
        f.write_str(&shown.join(", "))
    }
}

/// Where a URL leads, without who asks.
#[must_use]
pub fn place(url: &str) -> String {
    url.into_connection_info().map_or_else(|_| "?".to_owned(), |info| info.addr().to_string())
}

impl Serialize for Servers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.urls.as_slice() {
            [] => serializer.serialize_str(""),
            [one] if !self.cluster => serializer.serialize_str(one),
            nodes => serializer.collect_seq(nodes),
        }
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Servers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL such as \"redis://127.0.0.1:6379\", or a list of them for a cluster")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Servers, E> {
        Ok(Servers::parse(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Servers, A::Error> {
        let mut urls = Vec::new();
        while let Some(url) = list.next_element::<String>()? {
            urls.push(url);
        }
        Ok(Servers { cluster: !urls.is_empty(), urls })
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::settings::Section;

    fn set(value: impl Into<Value>) -> RedisConfig {
        let mut config = RedisConfig::default();
        config.set("url", value.into()).unwrap();
        config
    }

    #[test]
    fn a_text_is_one_server_and_a_list_is_a_cluster() {
        assert!(set("").url.is_empty());
        let one = set("redis://a:1").url;
        assert_eq!((one.is_cluster(), one.urls().len()), (false, 1));
        assert!(set(vec!["redis://a:1"]).url.is_cluster());
        let listed = set("redis://a:1, redis://b:2").url;
        assert_eq!(listed, Servers::cluster(["redis://a:1".into(), "redis://b:2".into()]));
    }

    #[test]
    fn no_password_is_shown() {
        let config = set("redis://ann:s3cret@cache.test:6380/1");
        assert_eq!(config.url.to_string(), "cache.test:6380");
        assert!(!format!("{config:?}").contains("s3cret"));
        let wrong = format!("{:?}", Wrong::of(&set("rediss://ann:s3cret@cache.test")));
        assert!(wrong.contains("url") && !wrong.contains("s3cret"), "{wrong}");
    }

    #[test]
    fn what_would_not_do_is_refused() {
        assert!(Wrong::of(&set("redis://127.0.0.1:6379")).is_empty());
        assert_eq!(Wrong::of(&set("http://127.0.0.1")).len(), 1);
        let config = RedisConfig { prefix: "a b".into(), shards: 0, ..RedisConfig::default() };
        assert_eq!(Wrong::of(&config).len(), 2);
    }
}
