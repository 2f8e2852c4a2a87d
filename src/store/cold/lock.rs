//! One node at a time moves bodies. On SQLite there is one; a database server has a lock for it, held by a connection of its
//! own, and free as soon as that is gone.
//!
//! It spares work and is no promise: a node that lost it without noticing goes on, and what it moves is still right, since
//! names of objects are never given twice and rows move only from where they are.

use sea_orm::{DatabaseConnection, DbErr};

use crate::store::alone::{self, Purpose};
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
        let db = source.session().await?;
        if alone::try_lock(&db, Purpose::Cold).await? {
            return Ok(Some(Self(Some(db))));
        }
        db.close().await?;
        Ok(None)
    }

    /// Gives it back.
    pub async fn release(mut self) {
        if let Some(db) = self.0.take() {
            // The server would notice the end of the connection a moment later.
            let _ = alone::unlock(&db, Purpose::Cold).await;
            let _ = db.close().await;
        }
    }
}
