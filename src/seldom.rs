//! A log line that many could cause: written once in a while, with how often it was left out meanwhile.
//!
//! For what strangers or a wrong setting bring about with every connection, and one line tells as well as a thousand. Called
//! by whoever writes the line; knows no clock but the one that nobody sets.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// See the module. One a line, `static` where no more than the process is needed.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    said: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    #[must_use]
    pub const fn every(every: Duration) -> Self {
        Self { every, last: Mutex::new(Last { said: None, left_out: 0 }) }
    }

    /// Whether to write the line now; if so, how often it was left out since it was written last.
    pub fn turn(&self) -> Option<u64> {
        self.turn_at(Instant::now())
    }

    fn turn_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if last.said.is_some_and(|said| now.saturating_duration_since(said) < self.every) {
            last.left_out += 1;
            return None;
        }
        last.said = Some(now);
        Some(std::mem::take(&mut last.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_once_in_a_while_and_tells_of_those_in_between() {
        let seldom = Seldom::every(Duration::from_secs(60));
        let began = Instant::now();
        let turn = |seconds| seldom.turn_at(began + Duration::from_secs(seconds));
        assert_eq!(turn(0), Some(0));
        assert_eq!([turn(0), turn(30), turn(59)], [None; 3]);
        assert_eq!(turn(60), Some(3));
        assert_eq!(turn(119), None);
        assert_eq!(turn(500), Some(1));
        assert_eq!(turn(600), Some(0));
    }
}
