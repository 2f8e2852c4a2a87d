//! One node at a time moves bodies. On SQLite there is one; a database server has a lock for it, held by a connection of its
//! own, and free as soon as that is gone.
//!
//! A round asks before each object whether the lock is still its own, and ends when it is not. Nothing rests on that: between
//! the question and what follows another node may begin, and so each step of `writer::objects` looks for itself, under the
//! lock of the object's row, whether it may still be made.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr};

use crate::store::alone::{self, Purpose};
use crate::store::source::Source;

/// How long the server may take to say whose the lock is.
const ANSWER: Duration = Duration::from_secs(10);

/// Free when it is dropped or released.
pub struct Lock(Option<DatabaseConnection>);

impl Lock {
    /// Takes the lock; none when another node has it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn take(source: Option<&Source>) -> Result<Option<Self>, DbErr> {
        let Some(source) = source else { return Ok(Some(Self(None))) };
        let db = source.session().await?;
        // Writing a large object takes longer than some servers leave a silent connection.
        let stay = match db.get_database_backend() {
            DbBackend::Postgres => "SET idle_session_timeout = 0",
            _ => "SET SESSION wait_timeout = 28800",
        };
        db.execute_unprepared(stay).await?;
        if alone::try_lock(&db, Purpose::Cold).await? {
            return Ok(Some(Self(Some(db))));
        }
        db.close().await?;
        Ok(None)
    }

    /// Whether it is still held. The pool may have put another connection in the place of a broken one.
    ///
    /// # Errors
    /// When the database does not say.
    pub async fn is_held(&self) -> Result<bool, DbErr> {
        let Some(db) = &self.0 else { return Ok(true) };
        match tokio::time::timeout(ANSWER, alone::is_held(db, Purpose::Cold)).await {
            Ok(held) => held,
            Err(_) => Err(DbErr::Custom(format!("no answer within {ANSWER:?}"))),
        }
    }

    /// Gives it back.
    pub async fn release(mut self) {
        if let Some(db) = self.0.take() {
            // The server would notice the end of the connection a moment later.
            let _ = tokio::time::timeout(ANSWER, alone::unlock(&db, Purpose::Cold)).await;
            let _ = db.close().await;
        }
    }
}
