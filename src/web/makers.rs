//! How many mailboxes one client may make. Where mailboxes ask for a token, making one needs none: without a limit anyone
//! who reaches the port fills the database with rows that stay.
//!
//! Called by [`super::mailboxes`]. A client is an IPv4 address or a /64 of IPv6, as for connections. Each may make as many at
//! once as in a minute, then one whenever its share of a minute has passed (GCRA).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::inbound::gate::network;

/// Clients that have their whole share again are forgotten after so many calls.
const SWEEP: u32 = 1_000;

type Limiter = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

/// See the module.
pub struct Makers {
    /// None is no limit.
    limiter: Option<Limiter>,
    calls: AtomicU32,
}

impl Makers {
    /// So many a minute for each client; 0 is no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|count| RateLimiter::hashmap(Quota::per_minute(count)));
        Self { limiter, calls: AtomicU32::new(0) }
    }

    /// Takes one of the client's share.
    ///
    /// # Errors
    /// How long to wait for the next, when there is none left.
    pub fn admit(&self, client: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&network(client)).map_err(|refused| refused.wait_time_from(limiter.clock().now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_a_share_of_its_own() {
        let makers = Makers::new(3);
        for _ in 0..3 {
            makers.admit(client("10.0.0.1")).unwrap();
        }
        let wait = makers.admit(client("10.0.0.1")).unwrap_err();
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        assert!(makers.admit(client("::ffff:10.0.0.1")).is_err());
        makers.admit(client("10.0.0.2")).unwrap();
        for n in 0..3 {
            makers.admit(client(&format!("2001:db8::{n}"))).unwrap();
        }
        assert!(makers.admit(client("2001:db8::ffff")).is_err(), "one customer has a /64");
        makers.admit(client("2001:db8:0:1::1")).unwrap();
    }

    #[test]
    fn a_share_comes_back_and_who_has_it_is_forgotten() {
        let makers = Makers::new(6_000);
        for n in 0..SWEEP - 1 {
            makers.admit(IpAddr::from((10 << 24 | n).to_be_bytes())).unwrap();
        }
        assert_eq!(makers.limiter.as_ref().unwrap().len(), SWEEP as usize - 1);
        std::thread::sleep(Duration::from_millis(30));
        makers.admit(client("10.9.9.9")).unwrap();
        assert_eq!(makers.limiter.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn nothing_is_no_limit() {
        let makers = Makers::new(0);
        assert!((0..10_000).all(|_| makers.admit(client("10.0.0.1")).is_ok()));
    }
}
