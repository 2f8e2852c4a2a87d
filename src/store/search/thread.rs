//! What the indexer of a file and that of a database server have in common: a thread, and when they work on it and when they
//! wait. Both go on until they are told to stop, rest while deliveries wait for the writers, and wake with each commit.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::{Kept, Progress, Run, Search, pace};
use crate::store::incoming::Incoming;

/// Between two looks for waiting deliveries.
const LOOK: Duration = Duration::from_millis(5);
/// Before what failed is tried again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone)]
pub struct Turns {
    told: watch::Receiver<Run>,
    /// Deliveries that wait for the writers.
    queues: Vec<mpsc::WeakSender<Incoming>>,
    progress: Arc<Progress>,
}

/// Starts an indexer, which `run` makes and runs on its thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start<F: Future<Output = ()>>(
    queues: Vec<mpsc::WeakSender<Incoming>>,
    progress: Arc<Progress>,
    kept: Kept,
    run: impl FnOnce(Turns) -> F + Send + 'static,
) -> std::io::Result<Search> {
    super::metrics::describe();
    let (stop, told) = watch::channel(Run::On);
    let turns = Turns { told, queues, progress: progress.clone() };
    let thread: JoinHandle<()> = std::thread::Builder::new().name("store-indexer".into()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(run(turns)),
            Err(error) => tracing::error!(%error, "the indexer cannot run"),
        }
    })?;
    Ok(Search { progress, kept, run: stop, thread: parking_lot::Mutex::new(Some(thread)) })
}

impl Turns {
    /// Whether to go on; not when nobody has the index any more.
    pub fn on(&self) -> bool {
        *self.told.borrow() == Run::On && self.told.has_changed().is_ok()
    }

    /// What it was told last.
    pub fn told(&self) -> Run {
        *self.told.borrow()
    }

    /// Comes back when it is to stop.
    pub async fn stopped(&mut self) {
        // An error is an index that nobody has any more.
        let _ = self.told.wait_for(|run| *run != Run::On).await;
    }

    /// Waits, unless it is to stop.
    pub async fn rest(&mut self, time: Duration) {
        // Over is what was waited for, or stopped.
        let _ = tokio::time::timeout(time, self.stopped()).await;
    }

    /// Rests while deliveries wait for the writers, after a step that took so long.
    pub async fn give_way(&mut self, worked: Duration) {
        let began = Instant::now();
        let most = pace::rest(worked, self.progress.lag());
        while self.on() && self.busy() && began.elapsed() < most {
            self.rest(LOOK).await;
        }
    }

    fn busy(&self) -> bool {
        let queues = self.queues.iter().filter_map(mpsc::WeakSender::upgrade);
        queues.into_iter().any(|queue| queue.capacity() < queue.max_capacity())
    }

    /// Waits for the next commit here; false when it is to stop first.
    pub async fn committed(&mut self) -> bool {
        let progress = self.progress.clone();
        tokio::select! {
            () = progress.wake.notified() => true,
            () = self.stopped() => false,
        }
    }
}
