//! Whether the time of day can be trusted to end mail: not when it ran ahead of the time that passed. Pure.
//!
//! A clock that is set days ahead by mistake would remove, for good, whatever it jumps over. So after a jump retention
//! waits until the clock is set back or has stayed ahead for [`PATIENCE`]. At a start the store's last commit (each pass
//! of retention is one) stands for the time before: a server that was off for days and one whose clock is wrong look
//! alike, and waiting costs the first only room on the disk. What cannot be told: a jump of less than [`PAUSE`] while the
//! server was off, and a wrong clock by which mail was stored before a restart.

const MINUTE: i64 = 60_000_000;
/// How far the clock may run ahead of the time that passed between two looks: more than any clock is slewed.
pub const TOLERANCE: i64 = 5 * MINUTE;
/// As [`TOLERANCE`] for the time since the last commit before a start.
pub const PAUSE: i64 = 24 * 60 * MINUTE;
/// How long a clock must have stayed ahead to be believed: whoever corrects it has done so by then.
pub const PATIENCE: i64 = 60 * MINUTE;

/// What the time of day and the clock that nobody sets said at one moment, both in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub time: i64,
    pub passed: i64,
}

/// What is new about the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It jumped ahead, or is far ahead of the last commit at a start.
    Ahead,
    /// It is back.
    Back,
    /// It has stayed ahead for so long that it is believed.
    Believed,
}

/// What a look at the clock gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Microseconds that the clock is ahead of the time that passed; zero while it is trusted.
    pub ahead: i64,
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Jump {
    by: i64,
    /// [`Reading::passed`] when it was first seen.
    since: i64,
}

/// See the module. Look at it at each pass.
#[derive(Debug)]
pub struct Trusted {
    base: Reading,
    jump: Option<Jump>,
}

impl Trusted {
    /// At a start; `last_commit` in microseconds, or zero for a store without one.
    #[must_use]
    pub const fn new(last_commit: i64, reading: Reading) -> Self {
        let paused = last_commit > 0 && reading.time.saturating_sub(last_commit) > PAUSE;
        let time = if paused { last_commit } else { reading.time };
        Self { base: Reading { time, passed: reading.passed }, jump: None }
    }

    /// Whether to trust this reading.
    pub fn look(&mut self, reading: Reading) -> Look {
        let expected = self.base.time.saturating_add(reading.passed.saturating_sub(self.base.passed));
        let ahead = reading.time.saturating_sub(expected);
        if ahead <= TOLERANCE {
            // A clock that is set back ends nothing early.
            let change = self.jump.take().map(|_| Change::Back);
            return self.trust(reading, change);
        }
        let known = self.jump.filter(|jump| jump.by.saturating_sub(ahead).abs() <= TOLERANCE);
        let jump = known.unwrap_or(Jump { by: ahead, since: reading.passed });
        if reading.passed.saturating_sub(jump.since) >= PATIENCE {
            self.jump = None;
            return self.trust(reading, Some(Change::Believed));
        }
        self.jump = Some(jump);
        let change = known.is_none().then_some(Change::Ahead);
        Look { ahead, change }
    }

    const fn trust(&mut self, reading: Reading, change: Option<Change>) -> Look {
        self.base = reading;
        Look { ahead: 0, change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const BEGAN: i64 = 1_000 * DAY;

    /// After `passed`, with a clock that is ahead by `ahead`.
    fn at(passed: i64, ahead: i64) -> Reading {
        Reading { time: BEGAN + passed + ahead, passed }
    }

    fn look(trusted: &mut Trusted, passed: i64, ahead: i64) -> (i64, Option<Change>) {
        let Look { ahead, change } = trusted.look(at(passed, ahead));
        (ahead, change)
    }

    #[test]
    fn a_clock_that_goes_as_time_passes_is_trusted() {
        let mut trusted = Trusted::new(BEGAN - HOUR, at(0, 0));
        // Slewed by four minutes at each look, and set back by a day.
        for (passed, ahead) in [(0, 0), (DAY, 4 * MINUTE), (2 * DAY, 8 * MINUTE), (3 * DAY, -DAY), (4 * DAY, -DAY)] {
            assert_eq!(look(&mut trusted, passed, ahead), (0, None));
        }
    }

    #[test]
    fn a_jump_is_not_trusted_until_it_has_stayed_for_an_hour() {
        let mut trusted = Trusted::new(0, at(0, 0));
        assert_eq!(look(&mut trusted, MINUTE, 8 * DAY), (8 * DAY, Some(Change::Ahead)));
        assert_eq!(look(&mut trusted, HOUR, 8 * DAY + MINUTE), (8 * DAY + MINUTE, None));
        assert_eq!(look(&mut trusted, HOUR + MINUTE, 8 * DAY), (0, Some(Change::Believed)));
        assert_eq!(look(&mut trusted, HOUR + 2 * MINUTE, 8 * DAY), (0, None));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_nothing_behind() {
        let mut trusted = Trusted::new(0, at(0, 0));
        look(&mut trusted, MINUTE, 8 * DAY);
        assert_eq!(look(&mut trusted, 2 * MINUTE, 0), (0, Some(Change::Back)));
        assert_eq!(look(&mut trusted, 3 * MINUTE, 8 * DAY), (8 * DAY, Some(Change::Ahead)));
        // Another jump begins another hour.
        assert_eq!(look(&mut trusted, HOUR, 20 * DAY), (20 * DAY, Some(Change::Ahead)));
        assert_eq!(look(&mut trusted, HOUR + 4 * MINUTE, 20 * DAY), (20 * DAY, None));
    }

    #[test]
    fn a_start_long_after_the_last_commit_waits_for_an_hour() {
        let mut trusted = Trusted::new(BEGAN - 8 * DAY, at(0, 0));
        assert_eq!(look(&mut trusted, 0, 0), (8 * DAY, Some(Change::Ahead)));
        assert_eq!(look(&mut trusted, MINUTE, 0), (8 * DAY, None));
        assert_eq!(look(&mut trusted, HOUR, 0), (0, Some(Change::Believed)));
        for last_commit in [0, BEGAN - 23 * HOUR, BEGAN + DAY] {
            let mut trusted = Trusted::new(last_commit, at(0, 0));
            assert_eq!(look(&mut trusted, MINUTE, 0), (0, None));
        }
    }
}
