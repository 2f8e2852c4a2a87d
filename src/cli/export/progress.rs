//! How far an export is, on standard error.

use std::path::Path;
use std::time::Instant;

use crate::cli::meter::Meter;

pub struct Progress {
    meter: Meter,
    began: Instant,
    of: u64,
    looked: u64,
    written: u64,
    bytes: u64,
}

impl Progress {
    pub fn new() -> Self {
        Self { meter: Meter::new(), began: Instant::now(), of: 0, looked: 0, written: 0, bytes: 0 }
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
        let Self { looked, of, written, bytes, .. } = self;
        let mebibytes = *bytes >> 20;
        self.meter.show(|| format!("{looked} of {of} messages looked at, {written} written, {mebibytes} MiB"));
    }

    pub fn clear(&mut self) {
        self.meter.clear();
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
