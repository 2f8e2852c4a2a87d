//! The thread of a node that keeps the index in the database up to date, when no other node is at it.
//!
//! It looks how far the index is whenever something was committed here and every [`GLANCE`]; who then gets the row of the
//! state works one step on and lets go of it. A node that stops lets go with its connection, one that stands still when the
//! server ends its transaction. It gives way to the receiving of its own node; closing or dropping the [`Search`] ends it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, TransactionTrait};
use tokio::sync::mpsc;

use super::batch::{self, Done, Maker};
use super::state::{Head, State, VERSION};
use super::words;
use crate::mail::query::{Seen, Spelling};
use crate::store::cold::reader::Reader;
use crate::store::config::Defaults;
use crate::store::incoming::Incoming;
use crate::store::search::pace::Pace;
use crate::store::search::thread::{self, PAUSE, Turns};
use crate::store::search::{Kept, Progress, Search, metrics as names};
use crate::store::source::Source;

/// Between two looks at what other nodes did.
const GLANCE: Duration = Duration::from_millis(250);
/// After a commit here: more events in one step are less work each.
const LINGER: Duration = Duration::from_millis(50);
/// Rows removed before FULLTEXT, which keeps their words, is made anew; and not before there are as many as are left.
const TIDY: i64 = 100_000;

/// What the indexer needs of the store.
pub struct Surroundings {
    pub source: Source,
    pub spelling: Spelling,
    pub lineage: u32,
    pub defaults: Defaults,
    pub progress: Arc<Progress>,
    /// Reads bodies that moved to object storage.
    pub cold: Reader,
}

/// Starts the indexer; `queues` has the deliveries that wait for the writers.
///
/// # Errors
/// When the system gives no thread.
pub fn start(around: Surroundings, queues: Vec<mpsc::WeakSender<Incoming>>) -> std::io::Result<Search> {
    let Surroundings { source, spelling, lineage, defaults, progress, cold } = around;
    thread::start(queues, progress.clone(), Kept::Table(spelling), move |turns| {
        let maker = Maker { spelling, lineage, defaults, seen: Seen::default(), cold };
        Indexer { source, progress, turns, pace: Pace::default(), maker }.run()
    })
}

struct Indexer {
    source: Source,
    progress: Arc<Progress>,
    turns: Turns,
    pace: Pace,
    maker: Maker,
}

/// What there is to do after a step.
enum Next {
    /// More waits.
    On,
    /// Nothing waits, or another node is at it.
    Wait,
}

impl Indexer {
    async fn run(mut self) {
        let mut turns = self.turns.clone();
        while turns.on() {
            let following = AssertUnwindSafe(self.follow()).catch_unwind();
            let outcome = tokio::select! {
                outcome = following => outcome,
                // A step that is given up leaves nothing.
                () = turns.stopped() => return,
            };
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the search index falls behind; it is tried again"),
                Err(_) => tracing::error!("the indexer panicked and starts again"),
            }
            turns.rest(PAUSE).await;
        }
    }

    /// Follows the stream until something fails.
    async fn follow(&mut self) -> Result<(), DbErr> {
        let db = self.source.writing().await?;
        if let Some(obstacle) = words::obstacle(&db).await? {
            tracing::error!(%obstacle, "messages are searched one by one");
            self.progress.damaged.store(true, Ordering::Release);
            self.turns.stopped().await;
            return Ok(());
        }
        loop {
            let began = Instant::now();
            match self.step(&db).await? {
                Next::On => self.turns.give_way(began.elapsed()).await,
                Next::Wait => self.wait().await,
            }
        }
    }

    /// Looks how far the index is, and takes the next events in if there are any.
    async fn step(&mut self, db: &DatabaseConnection) -> Result<Next, DbErr> {
        let progress = &self.progress;
        // Read before the head: all of these are in it.
        let committed = i64::try_from(progress.committed.load(Ordering::Acquire)).unwrap_or(i64::MAX);
        let (state, head) = State::beside(db).await?;
        let lag = state.lag(head);
        progress.done.store(committed - lag, Ordering::Release);
        metrics::gauge!(names::LAG).set(u32::try_from(progress.lag()).unwrap_or(u32::MAX));
        if lag == 0 || state.version > VERSION {
            return Ok(Next::Wait);
        }
        let began = Instant::now();
        let tx = db.begin().await?;
        let Some(mut state) = State::lock(&tx).await? else { return Ok(Next::Wait) };
        let (_, head) = State::beside(&tx).await?;
        if !state.fits(head) {
            begin(&mut state, head);
            state.write(&tx).await?;
            tx.commit().await?;
            return Ok(Next::On);
        }
        let done = self.take_in(&tx, &mut state, head.stamp).await?;
        state.write(&tx).await?;
        tx.commit().await?;
        words::settle(db).await?;
        self.pace.took(done.events, began.elapsed());
        metrics::counter!(names::INDEXED).increment(done.added);
        metrics::counter!(names::REMOVED).increment(done.removed);
        metrics::histogram!(names::BATCH).record(began.elapsed());
        if state.removed > TIDY {
            tidy(db, state).await?;
        }
        Ok(Next::On)
    }

    async fn take_in(&mut self, tx: &DatabaseTransaction, state: &mut State, stamp: i64) -> Result<Done, DbErr> {
        let most = self.pace.most;
        let mut done = batch::follow(tx, &mut self.maker, state, (stamp, most)).await?;
        if state.walk.is_some() {
            // Both go on: who follows only, or walks only, would never come to the end.
            let walked = batch::walk(tx, &mut self.maker, state, most).await?;
            done.events += walked.events;
            done.added += walked.added;
            done.removed += walked.removed;
            if walked.head {
                tracing::info!("the search index is complete");
            }
        }
        Ok(done)
    }

    /// Waits for a commit here, and a moment for more; or for what others may have done.
    async fn wait(&mut self) {
        if tokio::time::timeout(GLANCE, self.turns.committed()).await == Ok(true) {
            self.turns.rest(LINGER).await;
        }
    }
}

/// Begins anew: all messages are walked over, and events are followed from now on.
fn begin(state: &mut State, head: Head) {
    let reason = match state.version {
        0 => "missing",
        VERSION => "position",
        _ => "version",
    };
    metrics::counter!(names::REBUILDS, "reason" => reason).increment(1);
    tracing::info!(reason, "the search index is made anew");
    *state = State { version: VERSION, position: head.stamp, walk: Some((0, 0)), ..*state };
}

/// FULLTEXT keeps the words of what was removed and passes over them; the table is written anew once they are the larger
/// part. Searches go on meanwhile.
async fn tidy(db: &DatabaseConnection, state: State) -> Result<(), DbErr> {
    if db.get_database_backend() == DbBackend::MySql {
        if state.removed < words::about(db).await? {
            return Ok(());
        }
        db.execute_unprepared("OPTIMIZE TABLE search_words").await?;
    }
    // Elsewhere vacuum does it.
    db.execute_unprepared("UPDATE search_state SET removed = 0 WHERE id = 1").await.map(drop)
}
