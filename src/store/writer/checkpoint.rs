//! Copies the WAL back into the database file without holding up the writer, and gives free pages back when idle.
//!
//! A second connection makes passive checkpoints while the writer goes on. The few frames written meanwhile are then
//! copied by the writer itself between two batches, after which SQLite begins the WAL again at its start, so that it
//! stays small and is overwritten in place.

use std::path::PathBuf;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tokio::task::JoinHandle;

use crate::store::connect;

/// Rows between two checkpoints: some 10 MB of WAL.
const EVERY: u64 = 16_000;
/// Free pages given back in one step of an idle writer, and how many may stay for reuse.
const VACUUM_STEP: i64 = 1_000;
const SPARE_PAGES: i64 = 1_000;

#[derive(Debug)]
pub struct Checkpointer {
    path: PathBuf,
    side: Option<DatabaseConnection>,
    running: Option<JoinHandle<(Option<DatabaseConnection>, Result<(), DbErr>)>>,
    /// Rows since the last checkpoint began.
    written: u64,
    /// Something was removed since the free pages were last counted.
    stirred: bool,
}

impl Checkpointer {
    pub fn new(path: PathBuf) -> Self {
        Self { path, side: None, running: None, written: 0, stirred: true }
    }

    /// Counts what a commit wrote.
    pub fn wrote(&mut self, rows: u64) {
        self.written += rows.max(1);
        self.stirred = true;
    }

    /// Starts a checkpoint when enough was written; ends one that is through.
    pub async fn look(&mut self, db: &DatabaseConnection) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end(db).await;
        }
        if self.written >= EVERY && self.running.is_none() {
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

    /// With nothing else to do: checkpoint what is left, give pages back.
    pub async fn idle(&mut self, db: &DatabaseConnection) {
        if self.written > 0 && self.running.is_none() {
            self.begin();
            return;
        }
        if self.stirred && self.running.is_none() {
            match vacuum(db).await {
                Ok(more) => self.stirred = more,
                Err(error) => tracing::warn!(%error, "free pages could not be given back"),
            }
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

/// One step of giving free pages back; true when more are free than are worth keeping.
async fn vacuum(db: &DatabaseConnection) -> Result<bool, DbErr> {
    let free = pragma(db, "PRAGMA freelist_count").await?;
    if free <= SPARE_PAGES {
        return Ok(false);
    }
    let step = VACUUM_STEP.min(free - SPARE_PAGES);
    db.execute_unprepared(&format!("PRAGMA incremental_vacuum({step})")).await?;
    Ok(true)
}

/// The first column of the first row that a pragma gives.
async fn pragma(db: &DatabaseConnection, sql: &str) -> Result<i64, DbErr> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index::<i32>(0).map(i64::from).or_else(|_| row.try_get_by_index::<i64>(0)))
}
