//! The full-text index: `search.db`, a file of its own that can be lost at any time without losing mail, or on a database
//! server a [`table`] there.
//!
//! With a file [`indexer`] follows the store's events on a thread of its own and writes them into the [`index`]; [`thread`] is
//! what it has in common with the one of a server. [`page`] answers lists with words: from the index up to its position, by
//! `Query::matches` beyond it, so that an index that is behind, damaged or absent makes searches slower and never wrong.
//! Every hit is joined with the rows of the store, so what was deleted or has ended is never shown. [`seal`] tells whether
//! the file is what was left; otherwise it is made again. `docs/search-index.md` says what an operator sees of it.

pub(crate) mod batch;
pub mod config;
pub(crate) mod index;
pub(crate) mod indexer;
pub mod metrics;
pub(crate) mod pace;
pub(crate) mod page;
pub(crate) mod seal;
pub(crate) mod table;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};
use tokio::sync::{Notify, watch};

use crate::mail::query::Spelling;

/// What writer, indexer and readers see of each other.
#[derive(Debug, Default)]
pub struct Progress {
    /// Events committed since the start.
    committed: AtomicU64,
    /// How many of them are indexed; negative by what was not indexed at the start.
    done: AtomicI64,
    wake: Notify,
    /// A search met damage: the file is to be made again. Of an index in the database: the server spoils its words.
    damaged: AtomicBool,
}

impl Progress {
    /// Counts committed events and wakes the indexer.
    pub fn committed(&self, events: usize) {
        self.committed.fetch_add(events as u64, Ordering::Release);
        self.wake.notify_one();
    }

    /// Committed events that are not indexed yet.
    fn lag(&self) -> u64 {
        let done = self.done.load(Ordering::Acquire);
        let committed = i64::try_from(self.committed.load(Ordering::Acquire)).unwrap_or(i64::MAX);
        u64::try_from(committed.saturating_sub(done)).unwrap_or(0)
    }
}

/// What the indexer's thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    On,
    /// Stop, and seal the file so that the next start trusts it.
    Seal,
    /// Stop at once.
    Leave,
}

/// Where readers find the index: none while it is opened or made.
type Reading = Arc<RwLock<Option<DatabaseConnection>>>;

/// Where the index is.
enum Kept {
    File(Reading),
    /// In the database itself, whose words are spelled so.
    Table(Spelling),
}

/// The index as the store holds it. Dropping it ends the indexer and waits for it, at most one batch.
pub struct Search {
    progress: Arc<Progress>,
    kept: Kept,
    run: watch::Sender<Run>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One moment of the index.
struct Snapshot {
    tx: DatabaseTransaction,
    /// Messages up to this stamp are in it.
    position: i64,
}

impl Search {
    /// Committed events that are not in the index yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.progress.lag()
    }

    /// How words are spelled in the database, if that is where the index is and it can be used.
    fn spelling(&self) -> Option<Spelling> {
        match self.kept {
            Kept::Table(spelling) if !self.progress.damaged.load(Ordering::Acquire) => Some(spelling),
            _ => None,
        }
    }

    /// The file as it is now; none while there is none to be asked.
    async fn snapshot(&self) -> Option<Snapshot> {
        let Kept::File(reading) = &self.kept else { return None };
        let reading = reading.read().clone()?;
        let snapshot = async {
            let tx = reading.begin().await?;
            let position = index::position(&tx).await?;
            Ok(Snapshot { tx, position })
        };
        snapshot.await.map_err(|error| self.failed(&error)).ok()
    }

    /// A search could not be answered from the index: damage has it made again.
    fn failed(&self, error: &DbErr) {
        tracing::warn!(%error, damaged = index::is_damage(error), "the search index did not answer; messages are read instead");
        if let Kept::File(reading) = &self.kept
            && index::is_damage(error)
        {
            *reading.write() = None;
            self.progress.damaged.store(true, Ordering::Release);
            self.progress.wake.notify_one();
        }
    }

    /// Ends the indexer after its present batch and leaves a file that the next start trusts.
    pub async fn close(&self) {
        self.run.send_replace(Run::Seal);
        let thread = self.thread.lock().take();
        // An error is a thread that panicked: then the file has no seal and is looked at when it is opened.
        let _ = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join)).await;
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get_mut().take() {
            self.run.send_replace(Run::Leave);
            let _ = thread.join();
        }
    }
}
