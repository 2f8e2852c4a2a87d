//! How much the indexer takes at once, and how long it rests for deliveries in between.
//!
//! A batch is as large as takes about [`SPAN`]: few large ones are less work than many small ones, and while one is worked
//! on nothing else is. The rest ends early once the index is far behind: a search reads what is not indexed message by
//! message.
//!
//! FTS5 gathers the words of one INSERT in a hash table whose hash repeats after 16 letters: chosen words make one chain of
//! it, and a mebibyte of them costs seconds. So an INSERT that took long is followed by a smaller one: a quarter of the words
//! is a sixteenth of such work, and what hostile mail costs stays near what other mail does.

use std::time::Duration;

/// What a batch should take.
const SPAN: Duration = Duration::from_millis(250);
/// Events in one batch.
const LEAST: usize = 16;
const FIRST: usize = 1_000;
const MOST: usize = 4_000;
/// How often longer than a batch took the indexer rests, by the events that wait.
const RESTS: [(u64, u32); 3] = [(5_000, 3), (20_000, 2), (50_000, 1)];

/// Adapts from batch to batch.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Events that the next batch may have.
    pub most: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { most: FIRST }
    }
}

impl Pace {
    /// A batch of `events` took so long.
    pub fn took(&mut self, events: usize, time: Duration) {
        if time > 2 * SPAN {
            self.most = (events.min(self.most) / 2).max(LEAST);
        } else if time < SPAN / 2 && events >= self.most {
            self.most = (self.most * 2).min(MOST);
        }
    }
}

/// Bytes of words in one INSERT, at most and at least.
pub const WORDS: usize = 1 << 20;
const FEW_WORDS: usize = 32 << 10;
/// What they should take; ten times what they do.
const INSERT: Duration = Duration::from_millis(250);

/// How many bytes of words the next INSERT has, after one of up to `bytes` took so long.
#[must_use]
pub fn words(bytes: usize, time: Duration) -> usize {
    let should = INSERT.mul_f64(bytes as f64 / WORDS as f64);
    if time > should { (bytes / 4).max(FEW_WORDS) } else { (bytes * 2).min(WORDS) }
}

/// The longest rest after a batch that took `worked`, while `waiting` events are not indexed.
#[must_use]
pub fn rest(worked: Duration, waiting: u64) -> Duration {
    RESTS.iter().find(|(below, _)| waiting < *below).map_or(Duration::ZERO, |(_, times)| worked * *times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_large_as_takes_a_moment() {
        // What an event costs, in microseconds, and where that leads.
        for (cost, least, most) in [(80, 1_500, 4_000), (1_000, 125, 500), (100_000, LEAST, LEAST)] {
            let mut pace = Pace::default();
            for _ in 0..20 {
                pace.took(pace.most, Duration::from_micros(cost * pace.most as u64));
            }
            assert!((least..=most).contains(&pace.most), "{cost}: {}", pace.most);
        }
        let mut pace = Pace::default();
        pace.took(10, Duration::from_millis(1));
        assert_eq!(pace.most, FIRST, "a batch that was not full says little");
    }

    #[test]
    fn words_that_make_a_chain_cost_no_square() {
        // Of a chain of that many bytes, in nanoseconds: 13 s a mebibyte at once.
        let chain = |bytes: usize| Duration::from_nanos((bytes as u64).pow(2) / 84);
        let (mut bytes, mut done, mut took) = (WORDS, 0, Duration::ZERO);
        while done < 64 << 20 {
            took += chain(bytes);
            done += bytes;
            bytes = words(bytes, chain(bytes));
        }
        assert!(took < Duration::from_secs(60), "{took:?}");
        let mut bytes = FEW_WORDS;
        for _ in 0..10 {
            bytes = words(bytes, Duration::from_millis(30).mul_f64(bytes as f64 / WORDS as f64));
        }
        assert_eq!(bytes, WORDS);
    }

    #[test]
    fn who_is_far_behind_does_not_rest() {
        let worked = Duration::from_millis(100);
        let rests: Vec<u128> = [0, 5_000, 20_000, 50_000].map(|waiting| rest(worked, waiting).as_millis()).into();
        assert_eq!(rests, [300, 200, 100, 0]);
    }
}
