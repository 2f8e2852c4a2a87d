//! The only place that asks the system for the time of day. Tests may shift it; nothing else may.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static SHIFT_MICROS: AtomicI64 = AtomicI64::new(0);
static JUMP_MICROS: AtomicI64 = AtomicI64::new(0);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the Unix epoch, UTC.
#[must_use]
pub fn now_micros() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let moved = SHIFT_MICROS.load(Ordering::Relaxed).saturating_add(JUMP_MICROS.load(Ordering::Relaxed));
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX).saturating_add(moved)
}

/// Microseconds that passed since some moment, whoever sets the clock meanwhile; those that the machine slept too where
/// the system says (Linux).
#[must_use]
pub fn passed_micros() -> i64 {
    let passed = uptime().unwrap_or_else(|| BEGAN.elapsed());
    let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
    passed.saturating_add(SHIFT_MICROS.load(Ordering::Relaxed))
}

/// Since the machine was started; `Instant` leaves out its sleep.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// What [`shift`] lets pass beyond what any other clock says.
#[must_use]
pub fn shifted() -> i64 {
    SHIFT_MICROS.load(Ordering::Relaxed)
}

/// Sets this process's clock ahead of the system's by `micros` without any time passing, for tests of a wrong clock.
pub fn jump(micros: i64) {
    JUMP_MICROS.store(micros, Ordering::Relaxed);
}

/// Lets `micros` pass in this process beyond what the system says, for tests of lifetimes; zero takes it back.
pub fn shift(micros: i64) {
    SHIFT_MICROS.store(micros, Ordering::Relaxed);
}
