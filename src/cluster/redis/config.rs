//! `[redis]`: the server that nodes share, and how they use it.

use std::fmt;

use deadpool_redis::cluster::{ClusterClient, ClusterClientBuilder};
use deadpool_redis::redis::{ClientTlsConfig, IntoConnectionInfo, TlsCertificates};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::topology::Server;
use crate::mail::units::Period;
use crate::settings::url::parameter;
use crate::settings::{Check, Wrong};
use crate::tls::{Files, Pem};

crate::settings! {
    /// The Redis that several nodes share: events of one reach the sockets of another at once, list pages are cached for all,
    /// limits count over all nodes. Without it nodes find what others did in the database.
    pub struct RedisConfig {
        /// `redis://user:password@host:6379/0`, or `rediss://` with TLS; empty is none. A list of URLs is a Redis Cluster (7.0
        /// or newer), of which these are some nodes.
        pub url: Servers = Servers::default(),
        /// With `rediss://`: a file with the certificates (PEM) of the authorities that are believed, and no others. Empty: the
        /// public ones. This and the next two are read at the start.
        pub ca_file: String = String::new(),
        /// A certificate (PEM) that this node shows, for a Redis with `tls-auth-clients yes`, which is its default.
        pub cert_file: String = String::new(),
        /// The private key (PEM) of `cert_file`.
        pub key_file: String = String::new(),
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
        for url in &self.url.urls {
            // The reason and not the text, which may have a password.
            if let Err(why) = readable(url, self.url.cluster) {
                wrong.refuse_text("url", why, POSSIBLE);
            }
        }
        let tls = self.url.urls.iter().filter(|url| is_tls(url)).count();
        if tls > 0 && tls < self.url.urls.len() {
            wrong.refuse_text("url", "some nodes with TLS and some without", "redis:// for all of them, or rediss://");
        }
        self.files().check(wrong, tls > 0, "rediss://");
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

const POSSIBLE: &str = "redis://user:password@host:port/number, rediss:// with TLS, or a list of such for a cluster";

fn is_tls(url: &str) -> bool {
    url.starts_with("rediss://")
}

fn readable(url: &str, cluster: bool) -> Result<(), String> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if scheme.contains("sentinel") {
        return Err("this build asks no sentinels".into());
    }
    url.into_connection_info().map_err(|error| error.to_string())?;
    match scheme {
        "unix" if cluster => Err("a node of a cluster cannot be a path".into()),
        "rediss" if url.contains('#') => {
            Err("TLS without looking at certificates (#insecure) is not in this build".into())
        }
        "redis" | "rediss" => url.split_once('?').map_or(Ok(()), |(_, parameters)| unknown(parameters)),
        "unix" => Ok(()),
        _ => Err("another scheme".into()),
    }
}

/// What is not looked at must not be believed to matter: `protocol=resp3` is the one that a URL may have.
fn unknown(parameters: &str) -> Result<(), String> {
    let names = parameters.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    match names.into_iter().find(|name| *name != "protocol") {
        Some(name) => Err(format!("this build knows no parameter {} of a URL", parameter(name, parameters))),
        None => Ok(()),
    }
}

impl RedisConfig {
    /// What is believed and shown where the URL asks for TLS.
    #[must_use]
    pub fn files(&self) -> Files<'_> {
        Files { authority: &self.ca_file, certificate: &self.cert_file, key: &self.key_file }
    }

    /// The servers of the settings, with what it takes to reach them.
    ///
    /// # Errors
    /// A URL that is none, or a file that does not serve.
    pub fn servers(&self) -> Result<Vec<Server>, String> {
        let tls = match self.url.urls.iter().any(|url| is_tls(url)) {
            true => Some(certificates(self.files().read()?)),
            false => None,
        };
        let each = self.url.urls.iter().map(|url| Server::new(url, tls.as_ref()));
        each.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// Nodes of a cluster to begin with; the authorities hold for those that they name, too.
    ///
    /// # Errors
    /// As [`RedisConfig::servers`].
    pub fn cluster(&self) -> Result<ClusterClient, String> {
        let infos = self.servers()?.into_iter().map(|server| server.info);
        let mut builder = ClusterClientBuilder::new(infos);
        if self.url.urls.iter().any(|url| is_tls(url)) {
            builder = builder.certs(certificates(self.files().read()?));
        }
        builder.build().map_err(|error| error.to_string())
    }
}

fn certificates(pem: Pem) -> TlsCertificates {
    let client_tls = pem.client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    TlsCertificates { client_tls, root_cert: pem.authority }
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
        let wrong = format!("{:?}", Wrong::of(&set("rediss://ann:s3cret@cache.test#insecure")));
        assert!(wrong.contains("url") && !wrong.contains("s3cret"), "{wrong}");
    }

    #[test]
    fn what_would_not_do_is_refused() {
        assert!(Wrong::of(&set("redis://127.0.0.1:6379")).is_empty());
        assert_eq!(Wrong::of(&set("http://127.0.0.1")).len(), 1);
        assert!(Wrong::of(&set("rediss://cache.test")).is_empty());
        assert!(Wrong::of(&set("redis://cache.test?protocol=resp3")).is_empty());
        let why = |value: Value| Wrong::of(&set(value)).remove(0).1;
        let why = |value: &str| why(Value::from(value)).split(" will not do").next().unwrap().to_owned();
        assert_eq!(why("redis+sentinel://a:26379/mymaster"), r#""this build asks no sentinels""#);
        assert_eq!(
            why("rediss://a#insecure"),
            r##""TLS without looking at certificates (#insecure) is not in this build""##
        );
        assert_eq!(why("redis://a?timeout=5"), r#""this build knows no parameter \"timeout\" of a URL""#);
        assert_eq!(why("redis://a, unix:/run/redis"), r#""a node of a cluster cannot be a path""#);
        assert_eq!(why("redis://a, rediss://b"), r#""some nodes with TLS and some without""#);
        assert_eq!(why("valkeys://a"), r#""another scheme""#);
        let config = RedisConfig { prefix: "a b".into(), shards: 0, ..RedisConfig::default() };
        assert_eq!(Wrong::of(&config).len(), 2);
        let config = RedisConfig { ca_file: "/ca.pem".into(), ..set("redis://127.0.0.1") };
        assert_eq!(Wrong::of(&config)[0].0, "ca_file");
        assert!(Wrong::of(&RedisConfig { url: set("rediss://127.0.0.1").url, ..config }).is_empty());
    }
}
