//! One line on standard error that says how far a command is: written over on a terminal, seldom and below each other in a
//! file.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines on a terminal, and in a file.
const OFTEN: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(10);
/// Takes a line of a terminal away.
const ERASE: &str = "\r\x1b[K";

/// See the module.
#[derive(Debug)]
pub struct Meter {
    terminal: bool,
    /// Between two lines; none shows no line at all.
    every: Option<Duration>,
    last: Instant,
    /// A line stands on the terminal.
    shown: bool,
}

impl Meter {
    /// The first line comes when the command has taken as long as there is between two.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let every = Some(if terminal { OFTEN } else { SELDOM });
        Self { terminal, every, last: Instant::now(), shown: false }
    }

    /// The same, which shows nothing but on a terminal.
    pub fn of_a_terminal() -> Self {
        let meter = Self::new();
        Self { every: meter.every.filter(|_| meter.terminal), ..meter }
    }

    /// Shows the line that `text` makes, if it is time for one.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        if self.every.is_none_or(|every| self.last.elapsed() < every) {
            return;
        }
        self.last = Instant::now();
        self.shown = self.terminal;
        match self.terminal {
            true => eprint!("{ERASE}{}", text()),
            false => eprintln!("{}", text()),
        }
    }

    /// Takes the line away, before something else is said.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("{ERASE}");
        }
    }
}
