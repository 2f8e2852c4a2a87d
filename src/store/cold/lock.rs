//! One node at a time moves bodies. On SQLite there is one; a database server has a lock for it, held by a connection of its
//! own, and free as soon as that is gone.
//!
//! It spares work and is no promise: a node that lost it without noticing goes on, and what it moves is still right, since
//! names of objects are never given twice and rows move only from where they are.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use crate::store::source::Source;

/// Free when it is dropped or released.
pub struct Lock(Option<DatabaseConnection>);

impl Lock {
    /// Takes the lock; none when another node has it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn take(source: Option<&Source>) -> Result<Option<Self>, DbErr> {
        let Some(source) = source else { return Ok(Some(Self(None))) };
        let db = source.writing().await?;
        let backend = db.get_database_backend();
        let sql = match backend {
            DbBackend::Postgres => "SELECT CASE WHEN pg_try_advisory_lock(7233452) THEN 1 ELSE 0 END",
            // Its names hold for all databases of the server.
            _ => "SELECT GET_LOCK(CONCAT('mailroom-cold-', DATABASE()), 0)",
        };
        let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
        // MySQL has another integer than PostgreSQL.
        let has = row.is_some_and(|row| {
            row.try_get_by_index::<i64>(0).or_else(|_| row.try_get_by_index::<i32>(0).map(i64::from)) == Ok(1)
        });
        if has {
            return Ok(Some(Self(Some(db))));
        }
        db.close().await?;
        Ok(None)
    }

    /// Gives it back.
    pub async fn release(mut self) {
        if let Some(db) = self.0.take() {
            // The server would notice the end of the connection a moment later.
            let unlock = match db.get_database_backend() {
                DbBackend::Postgres => "SELECT pg_advisory_unlock(7233452)",
                _ => "SELECT RELEASE_LOCK(CONCAT('mailroom-cold-', DATABASE()))",
            };
            let _ = db.execute_unprepared(unlock).await;
            let _ = db.close().await;
        }
    }
}
