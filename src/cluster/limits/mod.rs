//! Limits for each client network, shared by all nodes where there is Redis.
//!
//! Asked by `inbound` (SMTP connections, messages), by `sockets` (HTTP connections) and by `web` (requests, new mailboxes).
//! Each kind has a rate and a burst (GCRA, [`bucket`]). With Redis a node takes a share of what a client may do ahead
//! ([`shared`]), and asks again when that is used up; without it, or while it is away, [`alone`] counts in this process.
//!
//! Invariant: an answer takes `[redis] timeout` at the longest. A client gets at most its burst, and its rate after that,
//! over all nodes, and beside that at most a share for each node; while Redis is away all that for each node.

pub mod alone;
pub mod bucket;
pub mod config;
pub mod rate;
pub mod shared;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use config::LimitsConfig;
pub use rate::Rate;

use self::alone::Alone;
use self::bucket::Bucket;
use self::shared::Shared;
use super::metrics as names;
use super::redis::Redis;
use crate::settings::Network;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Requests,
    Connections,
    Messages,
    /// Mailboxes that are made by calls.
    Mailboxes,
}

/// Over the limit; how long until the next is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over the limit")]
pub struct Refused {
    pub wait: Duration,
}

impl Refused {
    /// Whole seconds for Retry-After, at least 1.
    #[must_use]
    pub fn retry_after(self) -> u64 {
        self.wait.as_secs().saturating_add(1)
    }
}

/// A cheap handle.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    /// By [`Kind`]; none is no limit.
    kinds: [Option<Limit>; 4],
    ipv4_prefix: u8,
    exempt: Vec<Network>,
}

struct Limit {
    kind: Kind,
    alone: Alone,
    shared: Option<Shared>,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Requests, Self::Connections, Self::Messages, Self::Mailboxes];

    /// As in metrics and names of keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::Messages => "messages",
            Self::Mailboxes => "mailboxes",
        }
    }
}

impl Limits {
    /// `mailboxes_per_minute` is how many each client may make, as many of them at once; 0 is no limit.
    #[must_use]
    pub fn new(config: &LimitsConfig, mailboxes_per_minute: u32, redis: Option<(Redis, &str)>) -> Self {
        let kinds = Kind::ALL.map(|kind| {
            let (rate, burst) = match kind {
                Kind::Requests => (config.requests, config.requests_burst),
                Kind::Connections => (config.connections, config.connections_burst),
                Kind::Messages => (config.messages, config.messages_burst),
                Kind::Mailboxes => (Rate::per_minute(mailboxes_per_minute), mailboxes_per_minute),
            };
            let bucket = Bucket::new(rate, burst)?;
            let shared = redis.as_ref().map(|(redis, prefix)| Shared::new(redis.clone(), prefix, kind, bucket));
            Some(Limit { kind, alone: Alone::new(bucket), shared })
        });
        Self(Arc::new(Inner { kinds, ipv4_prefix: config.ipv4_prefix, exempt: config.exempt.clone() }))
    }

    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::new(&LimitsConfig::default(), 0, None)
    }

    /// Takes one of what the client may do.
    ///
    /// # Errors
    /// How long to wait, when there is none left.
    pub async fn admit(&self, kind: Kind, client: IpAddr) -> Result<(), Refused> {
        match self.admit_now(kind, client) {
            Some(answer) => answer,
            None => self.ask(kind, client).await,
        }
    }

    /// The same where the answer is here; none where Redis is to be asked.
    #[must_use]
    pub fn admit_now(&self, kind: Kind, client: IpAddr) -> Option<Result<(), Refused>> {
        let Some(limit) = self.limit(kind) else { return Some(Ok(())) };
        let Some(network) = self.network(client) else { return Some(Ok(())) };
        let answer = match &limit.shared {
            Some(shared) if shared.is_up() => shared.take(network)?,
            _ => limit.alone.take(network),
        };
        Some(limit.counted(answer))
    }

    async fn ask(&self, kind: Kind, client: IpAddr) -> Result<(), Refused> {
        let (Some(limit), Some(network)) = (self.limit(kind), self.network(client)) else { return Ok(()) };
        let answer = match &limit.shared {
            Some(shared) => shared.ask(network).await.unwrap_or_else(|_| limit.alone.take(network)),
            None => limit.alone.take(network),
        };
        limit.counted(answer)
    }

    fn limit(&self, kind: Kind) -> Option<&Limit> {
        self.0.kinds.get(kind as usize)?.as_ref()
    }

    /// The client's network; none when it is exempt.
    fn network(&self, client: IpAddr) -> Option<IpAddr> {
        if self.0.exempt.iter().any(|network| network.contains(client)) {
            return None;
        }
        Some(network(client.to_canonical(), self.0.ipv4_prefix))
    }
}

impl Limit {
    fn counted(&self, answer: Result<(), Refused>) -> Result<(), Refused> {
        if answer.is_err() {
            metrics::counter!(names::REFUSED, "kind" => self.kind.name()).increment(1);
        }
        answer
    }
}

/// One client: so many bits of an IPv4 address, or the /64 that one customer has of IPv6.
fn network(client: IpAddr, ipv4_prefix: u8) -> IpAddr {
    match client {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(ipv4_prefix))).unwrap_or(0);
            std::net::Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Limits {
        let mut config =
            LimitsConfig { requests: "60/m".parse().unwrap(), requests_burst: 3, ..LimitsConfig::default() };
        change(&mut config);
        Limits::new(&config, 2, None)
    }

    #[tokio::test]
    async fn each_network_has_a_share_of_its_own() {
        let limits = limits(|_| {});
        let admit = async |text| limits.admit(Kind::Requests, client(text)).await;
        for _ in 0..3 {
            admit("10.0.0.1").await.unwrap();
        }
        let refused = admit("10.0.0.1").await.unwrap_err();
        assert!(refused.wait <= Duration::from_secs(1) && refused.retry_after() >= 1, "{refused:?}");
        assert!(admit("::ffff:10.0.0.1").await.is_err(), "the same address");
        admit("10.0.0.2").await.unwrap();
        for n in 0..3 {
            admit(["2001:db8::1", "2001:db8::2", "2001:db8::3"][n]).await.unwrap();
        }
        assert!(admit("2001:db8::ffff").await.is_err(), "one customer has a /64");
        admit("2001:db8:0:1::1").await.unwrap();
    }

    #[tokio::test]
    async fn kinds_count_apart_and_what_has_no_rate_has_no_limit() {
        let limits = limits(|_| {});
        for _ in 0..2 {
            limits.admit(Kind::Mailboxes, client("10.0.0.1")).await.unwrap();
        }
        let refused = limits.admit(Kind::Mailboxes, client("10.0.0.1")).await.unwrap_err();
        assert!(refused.wait > Duration::from_secs(25) && refused.wait <= Duration::from_secs(30), "{refused:?}");
        limits.admit(Kind::Requests, client("10.0.0.1")).await.unwrap();
        for _ in 0..10_000 {
            assert_eq!(limits.admit_now(Kind::Messages, client("10.0.0.1")), Some(Ok(())));
        }
        assert!((0..100).all(|_| Limits::none().admit_now(Kind::Mailboxes, client("10.0.0.1")) == Some(Ok(()))));
    }

    #[tokio::test]
    async fn networks_may_be_wider_and_some_are_exempt() {
        let limits = limits(|config| {
            config.ipv4_prefix = 24;
            config.exempt = ["127.0.0.0/8", "::1"].map(|text| text.parse().unwrap()).into();
        });
        for n in 1..4 {
            limits.admit(Kind::Requests, IpAddr::from([10, 0, 0, n])).await.unwrap();
        }
        assert!(limits.admit(Kind::Requests, client("10.0.0.200")).await.is_err());
        limits.admit(Kind::Requests, client("10.0.1.1")).await.unwrap();
        for _ in 0..10 {
            limits.admit(Kind::Requests, client("127.0.0.9")).await.unwrap();
            limits.admit(Kind::Requests, client("::1")).await.unwrap();
        }
    }
}
