//! How SQLite is opened: one connection that writes, a few that only read.

use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, SqlxSqliteConnector};

/// Measured against 1,024 to 8,192 bytes: `docs/storage.md`.
const PAGE_SIZE: u32 = 2_048;
/// The WAL is overwritten from its beginning after each whole checkpoint and cut to this only when it grew beyond.
const JOURNAL_SIZE_LIMIT: &str = "67108864";
/// Other processes (`backup`, `check`) hold locks for moments only.
const BUSY: Duration = Duration::from_secs(10);

fn base(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .statement_cache_capacity(200)
        .disable_statement_logging()
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(30))
}

/// The connection that writes: WAL, `synchronous=FULL` (the WAL is synced by every commit), space given back in steps.
/// Checkpoints are the [`super::writer::checkpoint`]'s, not this connection's.
///
/// # Errors
/// When the file cannot be opened or made.
pub async fn writing(path: &Path) -> Result<DatabaseConnection, DbErr> {
    // Said to a database that is there, the second writes to it, which a full disk would not let it.
    let options = match std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        true => base(path),
        false => base(path).page_size(PAGE_SIZE).auto_vacuum(SqliteAutoVacuum::Incremental),
    };
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        .pragma("cache_size", "-32768");
    let pool = pool(1).connect_with(options).await.map_err(connect_error)?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// The connection that writes the search index: nothing is synced, since it can be made again.
///
/// # Errors
/// When the file cannot be opened or made.
pub async fn index(path: &Path) -> Result<DatabaseConnection, DbErr> {
    let options = base(path)
        // Its large statements have as many rows as there were; few of them come again.
        .statement_cache_capacity(8)
        .create_if_missing(true)
        .page_size(2 * PAGE_SIZE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        .pragma("cache_size", "-16384");
    let pool = pool(1).connect_with(options).await.map_err(connect_error)?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// Connections that search the index. Each is opened by who first needs it, so that none inherits the indexer's priority.
#[must_use]
pub fn searching(path: &Path, connections: u32) -> DatabaseConnection {
    let options = base(path).read_only(true).pragma("cache_size", "-4096");
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool(connections).connect_lazy_with(options))
}

/// Connections that only read.
///
/// # Errors
/// When the file cannot be opened.
pub async fn reading(path: &Path, connections: u32) -> Result<DatabaseConnection, DbErr> {
    let options = base(path).read_only(true).pragma("cache_size", "-8192");
    let pool = pool(connections.max(1)).connect_with(options).await.map_err(connect_error)?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

fn connect_error(error: sea_orm::sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}
