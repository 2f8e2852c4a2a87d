//! The thread that keeps the index up to date: it opens the file or makes it anew, follows the events of the store in
//! batches, and gives way to receiving.
//!
//! The thread runs at the lowest priority, and while deliveries wait for the writer it rests after each batch, the less the
//! further it is behind ([`super::pace`]). What goes wrong with the file begins a new one; what goes wrong with the store is
//! tried again. Closing or dropping the [`Search`] ends it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::mpsc;

use super::batch::Bounds;
use super::index::{Index, Origin, Unfit, is_damage};
use super::pace::Pace;
use super::thread::{self, PAUSE, Turns};
use super::{Kept, Progress, Reading, Run, Search, batch, metrics as names};
use crate::mail::query::Seen;
use crate::store::cold::reader::Reader;
use crate::store::config::Defaults;
use crate::store::connect;
use crate::store::directory::Directory;
use crate::store::head;
use crate::store::incoming::Incoming;
use crate::store::space;
use crate::store::writer::Shared;

/// After a batch of less than [`FULL`] events: more in one batch are less work each.
const LINGER: Duration = Duration::from_millis(100);
const FULL: usize = 200;
/// The lowest priority there is.
const NICE: i32 = 19;
/// Searches at once.
const READERS: u32 = 4;
/// What a batch has at most.
const BYTES: i64 = 64 << 20;
/// With less than this left on the disk, batches are small and the WAL is given back after each.
const TIGHT: u64 = 64 << 20;
const SMALL: Bounds = Bounds { events: 16, bytes: 1 << 20 };

/// What the indexer needs of the store.
pub struct Surroundings {
    pub directory: Directory,
    pub lineage: u32,
    pub defaults: Defaults,
    pub progress: Arc<Progress>,
    pub shared: Arc<Shared>,
    pub cold: Reader,
}

impl Surroundings {
    fn has_space(&self) -> bool {
        !self.shared.space.no_space.load(Ordering::Relaxed)
    }

    /// Whether so little is left that a batch under way could take what deletions need.
    fn is_tight(&self) -> bool {
        space::free(&self.directory.root).is_some_and(|free| free < TIGHT)
    }
}

/// Starts the indexer; `queues` has the deliveries that wait for the writer.
///
/// # Errors
/// When the system gives no thread.
pub fn start(around: Surroundings, queues: Vec<mpsc::WeakSender<Incoming>>) -> std::io::Result<Search> {
    let reading = Reading::default();
    let kept = Kept::File(reading.clone());
    thread::start(queues, around.progress.clone(), kept, move |turns| {
        // On Linux this is the priority of the thread, and of those it makes: SQLite's is one of them.
        let _ = rustix::process::setpriority_process(None, NICE);
        Indexer { around, reading, turns, pace: Pace::default(), seen: Seen::default() }.run()
    })
}

struct Indexer {
    around: Surroundings,
    reading: Reading,
    turns: Turns,
    pace: Pace,
    seen: Seen,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the store: {0}")]
    Store(DbErr),
    #[error("the search index: {0}")]
    Index(DbErr),
}

/// What there is to do after a step.
enum Next {
    /// More waits.
    On,
    /// Nothing waits; so many events were taken in.
    Head(usize),
}

impl Indexer {
    async fn run(mut self) {
        while self.turns.on() {
            match AssertUnwindSafe(self.follow()).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the search index falls behind; it is tried again"),
                Err(_) => tracing::error!("the indexer panicked and starts again"),
            }
            *self.reading.write() = None;
            self.turns.rest(PAUSE).await;
        }
    }

    /// Opens both sides and follows the store until told to stop or something fails.
    async fn follow(&mut self) -> Result<(), Failure> {
        let store = connect::reading(&self.around.directory.database, 1).await.map_err(Failure::Store)?;
        let mut index = self.open(&store).await?;
        let outcome = loop {
            let began = Instant::now();
            if !self.turns.on() {
                break Ok(());
            }
            if self.around.progress.damaged.swap(false, Ordering::AcqRel) {
                index = self.renew(&store, index).await?;
            }
            if !self.around.has_space() {
                // What is left of the disk is for deletions. Searches read what is not indexed.
                index.give_back().await;
                self.turns.rest(PAUSE).await;
                continue;
            }
            match self.step(&store, &mut index).await {
                Ok(Next::On) => self.turns.give_way(began.elapsed()).await,
                Ok(Next::Head(events)) => self.wait(events).await,
                Err(Failure::Index(error)) if is_damage(&error) => {
                    tracing::error!(%error, "the search index is damaged");
                    index = self.renew(&store, index).await?;
                }
                Err(failure) => break Err(failure),
            }
        };
        let reading = self.reading.write().take();
        let _ = store.close().await;
        let sealed = outcome.is_ok() && self.turns.told() == Run::Seal;
        if let Some(reading) = reading.filter(|_| sealed) {
            // A search that takes longer leaves a file without a seal. Without `Seal` nobody is waited for: who drops
            // the store may be the one that would have to give a connection back.
            let _ = tokio::time::timeout(PAUSE, reading.close()).await;
        }
        index.close(sealed).await;
        outcome
    }

    /// The file that is there, or a new one; from here on it is asked.
    async fn open(&self, store: &DatabaseConnection) -> Result<Index, Failure> {
        let origin = self.origin(store).await?;
        match Index::open(&self.around.directory.search, origin).await {
            Ok(index) => self.publish(store, index).await,
            Err(unfit) => self.create(store, origin, &unfit).await,
        }
    }

    async fn renew(&self, store: &DatabaseConnection, damaged: Index) -> Result<Index, Failure> {
        *self.reading.write() = None;
        damaged.close(false).await;
        let origin = self.origin(store).await?;
        self.create(store, origin, &Unfit::Damaged("a page could not be read".into())).await
    }

    async fn create(&self, store: &DatabaseConnection, origin: Origin, why: &Unfit) -> Result<Index, Failure> {
        metrics::counter!(names::REBUILDS, "reason" => why.reason()).increment(1);
        let path = &self.around.directory.search;
        let index = Index::create(path, origin).await.map_err(Failure::Index)?;
        let index = self.publish(store, index).await?;
        let (path, messages) = (path.display(), self.around.progress.lag());
        match (why, messages) {
            (Unfit::Missing, 0) => tracing::debug!(%path, "a first search index"),
            (Unfit::Damaged(_), _) => tracing::warn!(%path, %why, messages, "the search index is made anew"),
            _ => tracing::info!(%path, %why, messages, "the search index is made anew"),
        }
        Ok(index)
    }

    /// Reckons the lag and lets searches see the index.
    async fn publish(&self, store: &DatabaseConnection, index: Index) -> Result<Index, Failure> {
        let progress = &self.around.progress;
        let committed = progress.committed.load(Ordering::Acquire);
        let waiting = batch::count(store, index.position).await.map_err(Failure::Store)?;
        let (committed, waiting) = (i64::try_from(committed), i64::try_from(waiting));
        progress.done.store(committed.unwrap_or(0) - waiting.unwrap_or(0), Ordering::Release);
        *self.reading.write() = Some(connect::searching(&self.around.directory.search, READERS));
        Ok(index)
    }

    async fn origin(&self, store: &DatabaseConnection) -> Result<Origin, Failure> {
        let row = head::row(store).await.map_err(Failure::Store)?;
        Ok(Origin { lineage: self.around.lineage, head: row.stamp, floor: row.stream_floor })
    }

    /// Takes the next batch in.
    async fn step(&mut self, store: &DatabaseConnection, index: &mut Index) -> Result<Next, Failure> {
        let progress = &self.around.progress;
        let began = Instant::now();
        // Read before the snapshot: all of these are in it.
        let committed = progress.committed.load(Ordering::Acquire);
        let Surroundings { directory, lineage, defaults, cold, .. } = &self.around;
        let tight = self.around.is_tight();
        let most = if tight { SMALL } else { Bounds { events: self.pace.most, bytes: BYTES } };
        let read = batch::read(store, (&directory.bodies, cold), (index.position, most), *lineage, defaults);
        let batch = read.await.map_err(Failure::Store)?;
        for removal in &batch.removals {
            let mut more = true;
            while more {
                let (gone, left) = index.remove(removal).await.map_err(Failure::Index)?;
                metrics::counter!(names::REMOVED).increment(gone);
                more = left;
            }
        }
        let (mut added, adds) = (0, Instant::now());
        if batch.end > index.position {
            let documents = batch.arrivals.documents(&mut self.seen);
            let adding = index.add(documents, batch.end, || self.around.has_space()).await;
            let Some(count) = adding.map_err(Failure::Index)? else { return Ok(Next::On) };
            added = count;
            if tight {
                index.give_back().await;
            } else {
                self.pace.took(batch.events, adds.elapsed());
            }
        }
        if batch.head {
            progress.done.store(i64::try_from(committed).unwrap_or(i64::MAX), Ordering::Release);
        } else {
            progress.done.fetch_add(i64::try_from(batch.events).unwrap_or(0), Ordering::AcqRel);
        }
        metrics::gauge!(names::LAG).set(u32::try_from(progress.lag()).unwrap_or(u32::MAX));
        if batch.events > 0 {
            metrics::counter!(names::INDEXED).increment(added);
            metrics::histogram!(names::BATCH).record(began.elapsed());
        }
        Ok(if batch.head { Next::Head(batch.events) } else { Next::On })
    }

    /// Waits for the next commit; first a moment for more of them, unless a whole batch came at once.
    async fn wait(&mut self, events: usize) {
        if events < FULL {
            self.turns.rest(LINGER).await;
        }
        self.turns.committed().await;
    }
}
