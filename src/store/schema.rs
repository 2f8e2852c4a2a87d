//! Brings the tables to this version's schema, beside nodes that use them.
//!
//! On PostgreSQL a migration is one transaction. Whoever waits for a table keeps out everybody who comes after, so it waits for
//! a moment only, is taken back, and begins again; the same when it and a delivery waited for each other. MySQL commits each
//! statement by itself, one table at a time, and there is nothing to begin again with.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr};

use super::trouble;

/// How long it waits for a table.
const PATIENCE: &str = "SET lock_timeout = '1s'";
/// Between two tries, for those who waited meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// From then on it is an error.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs what is missing. Gives the names of what newer versions did before. One node at a time calls this, over one connection.
///
/// # Errors
/// What the database says, or that a newer version took away what this one needs.
pub async fn prepare(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return migration::up(db).await;
    }
    db.execute_unprepared(PATIENCE).await?;
    let done = persist(db).await;
    let reset = db.execute_unprepared("RESET lock_timeout").await;
    let newer = done?;
    reset.map(|_| newer)
}

async fn persist(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let begun = Instant::now();
    loop {
        match migration::up(db).await {
            Err(error) if trouble::is_conflict(&error) && begun.elapsed() < LONGEST => {
                tracing::warn!(%error, "the tables are in use; their change is tried again");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}
