//! The only place that asks the system for the time of day. Tests may shift it; nothing else may.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

static SHIFT_MICROS: AtomicI64 = AtomicI64::new(0);

/// Microseconds since the Unix epoch, UTC.
#[must_use]
pub fn now_micros() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX).saturating_add(SHIFT_MICROS.load(Ordering::Relaxed))
}

/// Moves this process's clock by `micros` from the system's, for tests of lifetimes; zero puts it back.
pub fn shift(micros: i64) {
    SHIFT_MICROS.store(micros, Ordering::Relaxed);
}
