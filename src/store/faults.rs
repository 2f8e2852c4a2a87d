//! Failures on demand, for the tests that prove what happens then. Without one armed a check is one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Something that goes wrong: once, at the next batch, where nothing else is said.
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
    /// No transaction can be opened, until it is disarmed.
    Away = 64,
    /// Moving bodies to object storage ends where its object is known and not written.
    ColdBegun = 128,
    /// The same, where the object was written and no row points there.
    ColdWritten = 256,
    /// The same, where the first rows of several lots point there.
    ColdMoved = 512,
    /// The same, where an object was removed and its row was not.
    ColdRemoved = 1024,
}

/// Which faults are armed; clones share them. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<AtomicU32>);

impl Faults {
    /// Lets `fault` happen.
    pub fn arm(&self, fault: Fault) {
        self.0.fetch_or(fault as u32, Ordering::SeqCst);
    }

    /// Ends what lasts.
    pub fn disarm(&self, fault: Fault) {
        self.0.fetch_and(!(fault as u32), Ordering::SeqCst);
    }

    /// Whether `fault` is armed; leaves it so.
    pub(super) fn lasts(&self, fault: Fault) -> bool {
        self.0.load(Ordering::Relaxed) & fault as u32 != 0
    }

    /// Whether `fault` was armed; disarms it.
    pub(super) fn take(&self, fault: Fault) -> bool {
        let bit = fault as u32;
        self.0.load(Ordering::Relaxed) & bit != 0 && self.0.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}
