//! Failures on demand, for the tests that prove what happens then. Without one armed a check is one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Something that goes wrong once, at the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fault {
    /// The writer panics before it commits.
    PanicBeforeCommit = 1,
    /// The writer panics after the commit and before anyone was told.
    PanicAfterCommit = 2,
    /// Writing the bodies fails for want of space.
    NoSpace = 4,
    /// `fdatasync` of the segment fails.
    Sync = 8,
    /// COMMIT fails and did not happen.
    Commit = 16,
    /// COMMIT reports a failure although it happened.
    CommitUnknown = 32,
    /// Moving bodies to object storage ends where its object is known and not written.
    ColdBegun = 64,
    /// The same, where the object was written and no row points there.
    ColdWritten = 128,
    /// The same, where the first rows of several lots point there.
    ColdMoved = 256,
    /// The same, where an object was removed and its row was not.
    ColdRemoved = 512,
}

/// Which faults are armed; clones share them. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<AtomicU32>);

impl Faults {
    /// Lets `fault` happen once.
    pub fn arm(&self, fault: Fault) {
        self.0.fetch_or(fault as u32, Ordering::SeqCst);
    }

    /// Whether `fault` was armed; disarms it.
    pub(super) fn take(&self, fault: Fault) -> bool {
        let bit = fault as u32;
        self.0.load(Ordering::Relaxed) & bit != 0 && self.0.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}
