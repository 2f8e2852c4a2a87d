//! How far an export is, on standard error.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two lines: on a terminal, and in a file.
const OFTEN: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(10);

pub struct Progress {
    terminal: bool,
    shown: Option<Instant>,
    began: Instant,
    of: u64,
    looked: u64,
    written: u64,
    bytes: u64,
}

impl Progress {
    pub fn new() -> Self {
        let began = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, shown: None, began, of: 0, looked: 0, written: 0, bytes: 0 }
    }

    /// So many more messages are to be looked at.
    pub fn expect(&mut self, more: u64) {
        self.of += more;
    }

    /// One was looked at and is not wanted.
    pub fn passed(&mut self) {
        self.looked += 1;
        self.show();
    }

    /// One was written.
    pub fn wrote(&mut self, bytes: u64) {
        self.looked += 1;
        self.written += 1;
        self.bytes += bytes;
        self.show();
    }

    fn show(&mut self) {
        let every = if self.terminal { OFTEN } else { SELDOM };
        if self.shown.unwrap_or(self.began).elapsed() < every {
            return;
        }
        self.shown = Some(Instant::now());
        let (before, after) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let Self { looked, of, written, bytes, .. } = self;
        eprint!("{before}{looked} of {of} messages looked at, {written} written, {} MiB{after}", *bytes >> 20);
    }

    pub fn clear(&mut self) {
        if self.terminal && self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }

    pub fn say(&mut self, line: &str) {
        self.clear();
        eprintln!("{line}");
    }

    pub fn end(&mut self, failed: u64, out: &Path) {
        let Self { written, bytes, began, .. } = self;
        let out = if out.as_os_str() == "-" { "standard output".into() } else { out.display().to_string() };
        let left = if failed == 0 { String::new() } else { format!("; {failed} could not be read and were left out") };
        eprintln!(
            "wrote {written} messages ({} bytes) to {out} in {:.1} s{left}",
            bytes,
            began.elapsed().as_secs_f64()
        );
    }
}
