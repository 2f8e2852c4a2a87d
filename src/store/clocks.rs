//! This machine's clock against the database server's, which is the one that all nodes share.
//!
//! What has ended is removed by the clock of the node that looks: one that is hours ahead would remove for good what the
//! others still show. So the server is asked for the time when a store is opened and before each pass of what goes by age
//! ([`Store::compare_clocks`]). While this clock is more than [`TOLERANCE`] ahead nothing goes here, and mailboxes end by
//! the server's. SQLite's clock is this one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::{Store, StoreError, metrics as names};
use crate::clock;
use crate::mail::time::Timestamp;

/// How far clocks may be apart, in microseconds: more than any time service lets them, less than any lifetime that matters.
pub const TOLERANCE: i64 = 5 * 60 * 1_000_000;

/// What a look at the server's clock gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Microseconds that this clock is ahead of the server's; below 0 it is behind. Wrong by half the round trip at most.
    pub ahead: i64,
    pub round_trip: Duration,
}

/// Asks the server of `db` for the time. Not for SQLite, which has none of its own.
///
/// # Errors
/// When the server is away.
pub async fn compare<C: ConnectionTrait>(db: &C) -> Result<Compared, DbErr> {
    let backend = db.get_database_backend();
    // As text, so that its width does not matter. Not by the zone of the session, in which an hour may come twice.
    let text = match backend {
        DbBackend::Postgres => "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS TEXT)",
        _ => "SELECT CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) AS CHAR)",
    };
    let (began, before) = (Instant::now(), clock::now_micros());
    let row = db.query_one_raw(Statement::from_string(backend, text)).await?;
    let round_trip = began.elapsed();
    let said: String = row.ok_or_else(|| DbErr::RecordNotFound(text.to_owned()))?.try_get_by_index(0)?;
    let theirs: i64 = said.parse().map_err(|_| DbErr::Custom(format!("{said:?} is no time: {text}")))?;
    let half = i64::try_from(round_trip.as_micros() / 2).unwrap_or(i64::MAX);
    // What a test lets pass passes for the server, too.
    let ahead = before.saturating_add(half).saturating_sub(theirs.saturating_add(clock::shifted()));
    Ok(Compared { ahead, round_trip })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Agrees,
    Ahead,
    Behind,
}

impl Standing {
    const fn of(ahead: i64) -> Self {
        match ahead {
            _ if ahead > TOLERANCE => Self::Ahead,
            _ if ahead < -TOLERANCE => Self::Behind,
            _ => Self::Agrees,
        }
    }
}

/// What the last look gave; says it when that is another thing than before.
#[derive(Debug, Default)]
pub struct Skew {
    ahead: AtomicI64,
    said: Mutex<Standing>,
}

impl Skew {
    /// A look gave this.
    pub fn found(&self, Compared { ahead, .. }: Compared) {
        self.ahead.store(ahead, Ordering::Relaxed);
        metrics::gauge!(names::CLOCK_SKEW).set(ahead as f64 / 1_000_000.0);
        let now = Standing::of(ahead);
        let before = std::mem::replace(&mut *self.said.lock(), now);
        if now == before {
            return;
        }
        let seconds = ahead.unsigned_abs() / 1_000_000;
        match now {
            Standing::Ahead => tracing::error!(
                ahead_seconds = seconds,
                "this clock is ahead of the database's: nothing that has expired is removed here, and mail that comes in here \
                 is listed with a wrong time, until they agree again; set the clock"
            ),
            Standing::Behind => tracing::warn!(
                behind_seconds = seconds,
                "this clock is behind the database's: mail that comes in here is listed with a wrong time and ends early by as \
                 much; set the clock"
            ),
            Standing::Agrees => tracing::info!("this clock and the database's agree again"),
        }
    }

    /// How far this clock is ahead of the server's, in microseconds.
    pub fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// The same where it is so much that nothing may go by this clock.
    pub fn lead(&self) -> Option<Duration> {
        let ahead = self.ahead();
        (Standing::of(ahead) == Standing::Ahead).then(|| Duration::from_micros(ahead.unsigned_abs()))
    }

    /// The time of day by which mailboxes and messages end: the server's where this clock is far ahead of it.
    pub fn now(&self) -> i64 {
        let ahead = self.ahead();
        let over = if Standing::of(ahead) == Standing::Ahead { ahead } else { 0 };
        clock::now_micros().saturating_sub(over)
    }
}

impl Store {
    /// When something was committed for the last time before the store was opened, in microseconds; zero if never.
    #[must_use]
    pub fn last_commit(&self) -> i64 {
        self.inner.last_commit
    }

    /// Looks at the database server's clock. How far this one is ahead, if it is so much that nothing may go by it: then
    /// [`Store::expire`] and [`Store::archive`] do nothing.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn compare_clocks(&self) -> Result<Option<Duration>, StoreError> {
        if !self.is_shared() {
            return Ok(None);
        }
        self.inner.shared.skew.found(self.timely(compare(&self.inner.read)).await?);
        Ok(self.clock_lead())
    }

    /// What the last look at it gave.
    pub(super) fn clock_lead(&self) -> Option<Duration> {
        self.inner.shared.skew.lead()
    }

    /// The time of day by which mailboxes and messages end: this clock's, or the database server's where this one is far ahead.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.inner.shared.skew.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_ahead_gives_way_to_the_servers() {
        let minutes = |minutes: i64| Compared { ahead: minutes * 60_000_000, round_trip: Duration::ZERO };
        let skew = Skew::default();
        for (found, lead) in
            [(0, None), (5, None), (6, Some(360)), (-600, None), (8 * 1_440, Some(8 * 86_400)), (1, None)]
        {
            skew.found(minutes(found));
            assert_eq!(skew.lead(), lead.map(Duration::from_secs), "{found} minutes");
            let off = clock::now_micros() - skew.now();
            let wanted = lead.map_or(0, |seconds| i64::try_from(seconds).unwrap() * 1_000_000);
            assert!((off - wanted).abs() < 10_000_000, "{found} minutes: {off}");
        }
    }
}
