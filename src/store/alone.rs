//! What one node at a time does on a database server: a lock of the session that the server gives, free as soon as the
//! connection is gone.
//!
//! PostgreSQL counts such locks by database. MySQL has one set of names for the whole server: the database is part of the
//! name there, hashed, since a name may have 64 letters and a database's has as many.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement};

/// What the lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To make the tables, and to read where the store stands.
    Open,
    /// To move bodies to object storage.
    Cold,
}

/// How long one question for a lock of MySQL waits, in seconds; then it is said, and asked again.
const PATIENCE: u32 = 60;

impl Purpose {
    const fn number(self) -> u32 {
        match self {
            Self::Open => 7_233_451,
            Self::Cold => 7_233_452,
        }
    }

    /// The name on MySQL, as an expression.
    fn name(self) -> String {
        let what = match self {
            Self::Open => "open",
            Self::Cold => "cold",
        };
        format!("CONCAT('mailroom-{what}-', LEFT(SHA2(DATABASE(), 256), 40))")
    }

    fn unlock(self, backend: DbBackend) -> String {
        match backend {
            DbBackend::Postgres => format!("SELECT pg_advisory_unlock({})", self.number()),
            _ => format!("SELECT RELEASE_LOCK({})", self.name()),
        }
    }
}

/// Does `work` when no other node does, and waits for that as long as it takes.
///
/// # Errors
/// What the work gives, or the database.
pub async fn locked<T>(
    db: &DatabaseConnection,
    purpose: Purpose,
    work: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    match db.get_database_backend() {
        DbBackend::Postgres => {
            db.execute_unprepared(&format!("SELECT pg_advisory_lock({})", purpose.number())).await?;
        }
        _ => {
            while !get(db, purpose, PATIENCE).await? {
                tracing::warn!("another node prepares the database; this one waits for it");
            }
        }
    }
    let done = work.await;
    unlock(db, purpose).await?;
    done
}

/// Takes the lock for the session of `db`, which must have one connection; false when another has it.
///
/// # Errors
/// When the database is away.
pub async fn try_lock(db: &DatabaseConnection, purpose: Purpose) -> Result<bool, DbErr> {
    match db.get_database_backend() {
        DbBackend::Postgres => {
            let text = format!("SELECT CASE WHEN pg_try_advisory_lock({}) THEN 1 ELSE 0 END", purpose.number());
            let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, text)).await?;
            Ok(row.is_some_and(|row| is_one(&row)))
        }
        _ => get(db, purpose, 0).await,
    }
}

/// Whether the session of `db` has the lock. It may be another session than the one that took it: a pool puts a connection in
/// the place of a broken one without a word.
///
/// # Errors
/// When the database is away.
pub async fn is_held(db: &DatabaseConnection, purpose: Purpose) -> Result<bool, DbErr> {
    let backend = db.get_database_backend();
    let text = match backend {
        // A session sees only its own locks by its own number, and is in one database.
        DbBackend::Postgres => format!(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = {} \
             AND objsubid = 1 AND granted AND pid = pg_backend_pid()) THEN 1 ELSE 0 END",
            purpose.number()
        ),
        _ => format!("SELECT IS_USED_LOCK({}) = CONNECTION_ID()", purpose.name()),
    };
    let row = db.query_one_raw(Statement::from_string(backend, text)).await?;
    Ok(row.is_some_and(|row| is_one(&row)))
}

/// Gives it back.
///
/// # Errors
/// When the database is away; then it is free.
pub async fn unlock(db: &DatabaseConnection, purpose: Purpose) -> Result<(), DbErr> {
    db.execute_unprepared(&purpose.unlock(db.get_database_backend())).await.map(drop)
}

async fn get(db: &DatabaseConnection, purpose: Purpose, seconds: u32) -> Result<bool, DbErr> {
    let text = format!("SELECT GET_LOCK({}, {seconds})", purpose.name());
    let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, text)).await?;
    Ok(row.is_some_and(|row| is_one(&row)))
}

/// The engines have integers of different widths here.
fn is_one(row: &QueryResult) -> bool {
    row.try_get_by_index::<i64>(0).or_else(|_| row.try_get_by_index::<i32>(0).map(i64::from)) == Ok(1)
}
