//! What was measured: counts, latencies, failures by kind. One meter a thread, read by the live line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The longest latency that is told apart, in microseconds: five minutes.
const LONGEST: u64 = 300_000_000;

/// Latencies in microseconds to three digits.
pub type Latencies = Histogram<u64>;

/// An empty histogram.
#[expect(clippy::expect_used, reason = "the bounds are constants that the crate accepts")]
pub fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds")
}

/// Counts of one thread; the live line empties `recent` each second.
pub struct Meter {
    done: AtomicU64,
    bytes: AtomicU64,
    open: AtomicU64,
    recent: Mutex<Latencies>,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Meter {
    pub fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            open: AtomicU64::new(0),
            recent: Mutex::new(latencies()),
            failures: Mutex::new(BTreeMap::new()),
        }
    }

    /// One unit of work came to a good end.
    pub fn done(&self, latency: Duration, bytes: u64) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.latency(latency);
    }

    /// A latency that is no unit of work of its own.
    pub fn latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST).max(1);
        self.recent.lock().saturating_record(micros);
    }

    /// One unit of work failed; `kind` is short and of a small set.
    pub fn failed(&self, kind: &str) {
        let mut failures = self.failures.lock();
        match failures.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(failures.insert(kind.to_owned(), 1)),
        }
    }

    /// A connection opened.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection closed.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sums over all meters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub done: u64,
    pub bytes: u64,
    pub open: u64,
    pub failures: BTreeMap<String, u64>,
}

impl Totals {
    /// Adds up `meters`.
    pub fn of<'a>(meters: impl IntoIterator<Item = &'a Meter>) -> Self {
        let mut totals = Self::default();
        for meter in meters {
            totals.done += meter.done.load(Ordering::Relaxed);
            totals.bytes += meter.bytes.load(Ordering::Relaxed);
            totals.open += meter.open.load(Ordering::Relaxed);
            for (kind, count) in meter.failures.lock().iter() {
                *totals.failures.entry(kind.clone()).or_default() += count;
            }
        }
        totals
    }

    /// Failures of every kind.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// Moves what was recorded since the last call out of `meters`.
pub fn take_recent<'a>(meters: impl IntoIterator<Item = &'a Meter>) -> Latencies {
    let mut all = latencies();
    for meter in meters {
        let mut recent = meter.recent.lock();
        // Same bounds on both sides, so that adding cannot fail.
        let _ = all.add(&*recent);
        recent.reset();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_threads_and_keeps_kinds_of_failure_apart() {
        let meters = [Meter::new(), Meter::new()];
        meters[0].done(Duration::from_millis(1), 10);
        meters[1].done(Duration::from_millis(3), 10);
        meters[0].failed("421");
        meters[1].failed("421");
        meters[1].failed("452");
        let totals = Totals::of(&meters);
        assert_eq!((totals.done, totals.bytes, totals.failed()), (2, 20, 3));
        assert_eq!(totals.failures["421"], 2);
        let recent = take_recent(&meters);
        assert_eq!(recent.len(), 2);
        assert!((recent.mean() - 2_000.0).abs() < 10.0, "{}", recent.mean());
        assert_eq!(take_recent(&meters).len(), 0);
    }
}
