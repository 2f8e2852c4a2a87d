//! Copies the WAL back into the database file without holding up the writer, and gives free pages back when idle.
//!
//! A second connection makes passive checkpoints while the writer goes on. The few frames written meanwhile are then
//! copied by the writer itself between two batches, after which SQLite begins the WAL again at its start, so that it
//! stays small and is overwritten in place.

use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tokio::task::JoinHandle;

use crate::store::columns::unsigned;
use crate::store::connect;

/// Rows between two checkpoints: some 10 MB of WAL.
const EVERY: u64 = 16_000;
/// What the pages that each commit writes again are worth, in rows: most of the WAL when mail comes one by one.
const COMMIT: u64 = 50;
/// Free pages given back in one step of an idle writer, and how many may stay for reuse.
const VACUUM_STEP: i64 = 500;
const SPARE_PAGES: i64 = 1_000;
/// The writer is idle when nothing came for so long; between two steps of giving pages back it looks for work again.
const IDLE: Duration = Duration::from_millis(500);
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// The side connection, if it is still good, and how the checkpoint went.
type Ended = (Option<DatabaseConnection>, Result<(), DbErr>);

#[derive(Debug)]
pub struct Checkpointer {
    path: PathBuf,
    side: Option<DatabaseConnection>,
    running: Option<JoinHandle<Ended>>,
    /// Rows since the last checkpoint began.
    written: u64,
    /// Something was removed since the free pages were last counted.
    stirred: bool,
    /// The last step gave pages back, so there may be more.
    vacuuming: bool,
}

impl Checkpointer {
    pub fn new(path: PathBuf) -> Self {
        Self { path, side: None, running: None, written: 0, stirred: true, vacuuming: false }
    }

    /// Counts what a commit wrote.
    pub fn wrote(&mut self, rows: u64) {
        self.written += rows + COMMIT;
        self.stirred = true;
    }

    /// Starts a checkpoint when enough was written; ends one that is through.
    ///
    /// While the disk is `short` that is sooner: the WAL of deletions is not to fill it.
    pub async fn look(&mut self, db: &DatabaseConnection, short: bool) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end(db).await;
        }
        if self.written >= if short { EVERY / 8 } else { EVERY } && self.running.is_none() {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.written = 0;
        let (path, side) = (self.path.clone(), self.side.take());
        self.running = Some(tokio::spawn(async move {
            let side = match side {
                Some(side) => side,
                None => match connect::writing(&path).await {
                    Ok(side) => side,
                    Err(error) => return (None, Err(error)),
                },
            };
            let result = passive(&side).await;
            (Some(side), result)
        }));
    }

    async fn end(&mut self, db: &DatabaseConnection) {
        let Some(running) = self.running.take() else { return };
        let result = match running.await {
            Ok((side, result)) => {
                self.side = side;
                result
            }
            Err(error) => Err(DbErr::Custom(error.to_string())),
        };
        let result = match result {
            Ok(()) => passive(db).await,
            failed => failed,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the WAL could not be checkpointed");
        }
    }

    /// How long the writer may find nothing to do before [`Checkpointer::idle`] is its turn.
    pub fn patience(&self) -> Duration {
        if self.vacuuming { STEP_PAUSE } else { IDLE }
    }

    /// With nothing else to do: give pages back, step by step, and checkpoint what is left.
    pub async fn idle(&mut self, db: &DatabaseConnection) {
        if self.running.is_some() {
            return;
        }
        if self.stirred {
            let freed = vacuum(db).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "free pages could not be given back");
                0
            });
            self.vacuuming = freed > 0;
            self.stirred = self.vacuuming;
            self.written += freed;
        }
        if self.written > 0 && !self.vacuuming {
            self.begin();
        }
    }

    /// The last checkpoint, at the end.
    pub async fn finish(&mut self, db: &DatabaseConnection) {
        self.end(db).await;
        if let Some(side) = self.side.take() {
            let _ = side.close().await;
        }
    }
}

async fn passive(db: &DatabaseConnection) -> Result<(), DbErr> {
    pragma(db, "PRAGMA wal_checkpoint(PASSIVE)").await.map(drop)
}

/// One step of giving free pages back; how many went. Some are kept for what comes next.
async fn vacuum(db: &DatabaseConnection) -> Result<u64, DbErr> {
    let free = pragma(db, "PRAGMA freelist_count").await?;
    let step = VACUUM_STEP.min(free - SPARE_PAGES);
    if step <= 0 {
        return Ok(0);
    }
    db.execute_unprepared(&format!("PRAGMA incremental_vacuum({step})")).await?;
    Ok(unsigned(step))
}

/// The first column of the first row that a pragma gives.
async fn pragma(db: &DatabaseConnection, sql: &str) -> Result<i64, DbErr> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index::<i32>(0).map(i64::from).or_else(|_| row.try_get_by_index::<i64>(0)))
}
