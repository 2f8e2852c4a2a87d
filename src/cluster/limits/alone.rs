//! A limit that this process counts by itself (`governor`): without Redis, and while it is away.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::Refused;
use super::bucket::Bucket;

/// Clients that have their whole share again are forgotten after so many calls.
const SWEEP: u32 = 1_000;

/// See the module.
pub struct Alone {
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    calls: AtomicU32,
}

impl Alone {
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        // Both are at least 1.
        let one =
            Quota::with_period(Duration::from_micros(bucket.interval)).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let quota = one.allow_burst(NonZeroU32::new(bucket.burst).unwrap_or(NonZeroU32::MIN));
        Self { limiter: RateLimiter::hashmap(quota), calls: AtomicU32::new(0) }
    }

    /// Takes one of the client's.
    ///
    /// # Errors
    /// How long to wait for the next.
    pub fn take(&self, client: IpAddr) -> Result<(), Refused> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let wait =
            |refused: governor::NotUntil<_>| Refused { wait: refused.wait_time_from(self.limiter.clock().now()) };
        self.limiter.check_key(&client).map_err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_comes_back_and_who_has_it_is_forgotten() {
        let alone = Alone::new(Bucket { interval: 10_000, burst: 2, share: 1 });
        for n in 0..SWEEP - 1 {
            alone.take(IpAddr::from((10 << 24 | n).to_be_bytes())).unwrap();
        }
        assert_eq!(alone.limiter.len(), SWEEP as usize - 1);
        std::thread::sleep(Duration::from_millis(50));
        alone.take(IpAddr::from([10, 9, 9, 9])).unwrap();
        assert_eq!(alone.limiter.len(), 1);
    }
}
