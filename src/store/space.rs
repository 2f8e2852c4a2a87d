//! Free disk space: below `[database] min_free` mail is refused, deletion and expiry go on.
//!
//! The writer looks at most once a second. A small reserve file lies beside the database: when the disk is full to the
//! last byte all the same, it is given up so that deletions can be written. Mail does not get that space: it is refused
//! until there is enough beside it, when the reserve is made again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::metrics as names;

/// Enough for the WAL frames of some hundred deletions.
const RESERVE: u64 = 8 << 20;
const EVERY: Duration = Duration::from_secs(1);
/// How long a failed write counts although the system claims free space (a quota, another's reserve).
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What was last seen; read by everyone.
#[derive(Debug, Default)]
pub struct Seen {
    pub no_space: AtomicBool,
    pub free: AtomicU64,
}

/// Watches the file system of the data directory. Belongs to the writer.
#[derive(Debug)]
pub struct Space {
    root: PathBuf,
    reserve: PathBuf,
    min_free: u64,
    looked: Option<Instant>,
    failed: Option<Instant>,
}

impl Space {
    pub fn new(root: &Path, min_free: u64) -> Self {
        Self { root: root.to_owned(), reserve: root.join("reserve"), min_free, looked: None, failed: None }
    }

    /// Looks if it is time to, and tells whether mail is to be refused.
    pub fn check(&mut self, seen: &Seen) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < EVERY) {
            return seen.no_space.load(Ordering::Relaxed);
        }
        self.looked = Some(Instant::now());
        let Some(free) = free(&self.root) else { return seen.no_space.load(Ordering::Relaxed) };
        let refused = self.failed.is_some_and(|at| at.elapsed() < AFTER_FAILURE);
        let kept = if self.reserve.exists() { 0 } else { RESERVE + RESERVE / 2 };
        let short = free < self.min_free.saturating_add(kept) || refused;
        seen.free.store(free, Ordering::Relaxed);
        if seen.no_space.swap(short, Ordering::Relaxed) != short {
            tracing::warn!(free_bytes = free, min_free = self.min_free, refusing = short, "free disk space");
        }
        metrics::gauge!(names::FREE).set(u32::try_from(free >> 20).unwrap_or(u32::MAX) as f64 * 1_048_576.0);
        if !short && free > self.min_free.saturating_add(2 * RESERVE) {
            self.restore();
        } else if free < RESERVE / 8 || (short && free < RESERVE) {
            self.give_up();
        }
        short
    }

    /// A write failed for want of space: refuse for a while and free the reserve.
    pub fn ran_out(&mut self, seen: &Seen) {
        self.failed = Some(Instant::now());
        seen.no_space.store(true, Ordering::Relaxed);
        self.give_up();
    }

    fn give_up(&self) {
        let _ = std::fs::remove_file(&self.reserve);
    }

    fn restore(&self) {
        if self.reserve.exists() {
            return;
        }
        let made = File::create(&self.reserve)
            .and_then(|file| Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE)?));
        if made.is_err() {
            self.give_up();
        }
    }
}

/// Bytes free for this user where `path` lies.
pub fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
