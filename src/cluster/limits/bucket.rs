//! The numbers of one limit, as GCRA has them. Pure.

use super::rate::Rate;

/// The least burst where none is given.
const LEAST_BURST: u32 = 10;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Microseconds from one to the next.
    pub interval: u64,
    /// How many may come at once, at least 1.
    pub burst: u32,
    /// How many a node takes ahead, at least 1.
    pub share: u32,
}

impl Bucket {
    /// None where there is no limit; a burst of 0 is what comes in a second, at least 10.
    #[must_use]
    pub fn new(rate: Rate, burst: u32) -> Option<Self> {
        if rate.is_none() {
            return None;
        }
        let burst = if burst == 0 { rate.per_second().max(LEAST_BURST) } else { burst };
        // As much as comes in 50 ms, so that Redis hears of a busy client twenty times a second, but no more than a quarter
        // of the burst, which bounds what a client may have beyond it.
        let share = (rate.per_second() / 20).min(burst / 4).max(1);
        Some(Self { interval: rate.interval(), burst, share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: &str, burst: u32) -> Bucket {
        Bucket::new(rate.parse().unwrap(), burst).unwrap()
    }

    #[test]
    fn a_share_is_small_beside_rate_and_burst() {
        assert_eq!(bucket("100/s", 0), Bucket { interval: 10_000, burst: 100, share: 5 });
        assert_eq!(bucket("1000/s", 8), Bucket { interval: 1_000, burst: 8, share: 2 });
        assert_eq!(bucket("6/m", 0), Bucket { interval: 10_000_000, burst: 10, share: 1 });
        assert_eq!(bucket("6/m", 1).share, 1);
        assert_eq!(Bucket::new(Rate::NONE, 5), None);
    }
}
