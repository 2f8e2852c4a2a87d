//! What a database server says of itself: for `doctor`, and for the one limit without which mail would be lost sight of.

pub mod replica;

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TryGetable};

use super::clocks::{self, Compared};
use super::config::Config;
use super::directory::OpenError;
use super::open::WRITERS;
use super::source::{Source, WRITING};
use crate::mail::units::Bytes;

/// What a statement with a body has beside it.
const BESIDE: u64 = 64 << 10;
/// Bodies that go together, and the rows of a batch.
const TOGETHER: u64 = 8 << 20;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
    MySql,
}

/// What was found; what an engine does not have is none.
#[derive(Clone, Debug)]
pub struct Engine {
    pub kind: Kind,
    /// As the server says it.
    pub version: String,
    /// Major and minor.
    pub number: (u32, u32),
    /// Settings that a commit's durability rests on, each with its value.
    pub durable: Vec<(&'static str, String)>,
    pub max_connections: u64,
    pub connected: u64,
    /// Connections that this node makes.
    pub needed: u64,
    /// MySQL's `max_allowed_packet`.
    pub packet: Option<u64>,
    /// What it must be for the messages that may come.
    pub packet_needed: u64,
    /// Its clock against this machine's, in microseconds: above 0 it is ahead.
    pub skew: i64,
    pub round_trip: Duration,
    /// Whether `migrate` or `serve` was here.
    pub migrated: bool,
}

/// The database server of `config`, by its URL without the password; none where it is SQLite.
#[must_use]
pub fn name(config: &Config) -> Option<String> {
    Source::server(&config.database.url).ok().flatten().map(|source| source.to_string())
}

/// Asks the database server of `config`; none where it is SQLite. Blocks; makes a runtime of its own.
///
/// # Errors
/// The server cannot be reached, or does not let this user in.
pub fn ask(config: &Config) -> Result<Option<Engine>, OpenError> {
    let Some(source) = Source::server(&config.database.url).map_err(OpenError::Url)? else { return Ok(None) };
    let failed = |error| OpenError::Server { place: source.to_string(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(DbErr::Custom(error.to_string())))?;
    runtime.block_on(async {
        source.attempt(PATIENCE).await.map_err(failed)?;
        let db = source.session().await.map_err(failed)?;
        let engine = look(&db, config).await.map_err(failed)?;
        db.close().await.map_err(failed)?;
        Ok(Some(engine))
    })
}

/// Refuses a server that could not take the messages that may come.
pub(super) async fn check_packet(db: &DatabaseConnection, source: &Source, config: &Config) -> Result<(), OpenError> {
    let failed = |error| OpenError::Server { place: source.to_string(), error };
    let Some(packet) = packet(db).await.map_err(failed)? else { return Ok(()) };
    let needed = packet_needed(config);
    if packet >= needed { Ok(()) } else { Err(OpenError::Packet { packet: Bytes(packet), needed: Bytes(needed) }) }
}

/// One statement holds one large body, or many small ones.
fn packet_needed(config: &Config) -> u64 {
    config.largest.0.saturating_add(BESIDE).max(TOGETHER)
}

async fn packet(db: &DatabaseConnection) -> Result<Option<u64>, DbErr> {
    match db.get_database_backend() {
        DbBackend::MySql => whole(db, "SELECT CAST(@@max_allowed_packet AS CHAR)").await.map(Some),
        _ => Ok(None),
    }
}

async fn look(db: &DatabaseConnection, config: &Config) -> Result<Engine, DbErr> {
    let postgres = db.get_database_backend() == DbBackend::Postgres;
    let version: String =
        one(db, if postgres { "SELECT current_setting('server_version')" } else { "SELECT @@version" }).await?;
    let kind = match postgres {
        true => Kind::Postgres,
        false if version.contains("MariaDB") => Kind::MariaDb,
        false => Kind::MySql,
    };
    let Compared { ahead, round_trip } = clocks::compare(db).await?;
    let limit = match postgres {
        true => "SELECT current_setting('max_connections')",
        false => "SELECT CAST(@@max_connections AS CHAR)",
    };
    let tables = match postgres {
        true => {
            "SELECT CAST(count(*) AS TEXT) FROM pg_tables WHERE tablename = 'meta' AND schemaname = current_schema()"
        }
        false => {
            "SELECT CAST(count(*) AS CHAR) FROM information_schema.tables WHERE table_name = 'meta' \
             AND table_schema = database()"
        }
    };
    Ok(Engine {
        kind,
        number: number(&version),
        version,
        durable: durable(db, kind).await?,
        max_connections: whole(db, limit).await?,
        connected: connected(db).await?,
        needed: u64::from(config.database.read_connections) + WRITERS as u64 * u64::from(WRITING),
        packet: packet(db).await?,
        packet_needed: packet_needed(config),
        skew: ahead.saturating_neg(),
        round_trip,
        migrated: whole(db, tables).await? > 0,
    })
}

/// Connections of everybody: a list of them would show a user without further rights its own alone on MySQL.
async fn connected(db: &DatabaseConnection) -> Result<u64, DbErr> {
    let (text, column) = match db.get_database_backend() {
        DbBackend::Postgres => ("SELECT CAST(count(*) AS TEXT) FROM pg_stat_activity", 0),
        _ => ("SHOW GLOBAL STATUS LIKE 'Threads_connected'", 1),
    };
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await?;
    let said: String = row.ok_or_else(|| DbErr::RecordNotFound(text.to_owned()))?.try_get_by_index(column)?;
    said.parse().map_err(|_| DbErr::Custom(format!("{said:?} is no number: {text}")))
}

async fn durable(db: &DatabaseConnection, kind: Kind) -> Result<Vec<(&'static str, String)>, DbErr> {
    let mut found = Vec::new();
    if kind == Kind::Postgres {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            found.push((name, one(db, &format!("SELECT current_setting('{name}')")).await?));
        }
        return Ok(found);
    }
    let mut names = vec!["innodb_flush_log_at_trx_commit", "innodb_doublewrite"];
    if one::<String>(db, "SELECT CAST(@@log_bin AS CHAR)").await? == "1" {
        names.push("sync_binlog");
    }
    for name in names {
        found.push((name, one(db, &format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)")).await?));
    }
    Ok(found)
}

/// `15.18 (Debian …)`, `10.11.19-MariaDB-…`, `8.0.36` as major and minor.
fn number(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

async fn one<T: TryGetable>(db: &DatabaseConnection, text: &str) -> Result<T, DbErr> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound(text.to_owned()))?.try_get_by_index(0)
}

/// A number that the server gives as text, so that its width does not matter.
async fn whole(db: &DatabaseConnection, text: &str) -> Result<u64, DbErr> {
    let said: String = one(db, text).await?;
    said.parse().map_err(|_| DbErr::Custom(format!("{said:?} is no number: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        assert_eq!(number("15.18 (Debian 15.18-0+deb12u1)"), (15, 18));
        assert_eq!(number("10.11.19-MariaDB-0+deb12u1"), (10, 11));
        assert_eq!(number("17devel"), (17, 0));
        assert_eq!(number("8.0.36"), (8, 0));
    }

    #[test]
    fn a_packet_holds_the_largest_message() {
        let config = |largest| Config { largest: Bytes(largest), ..Config::default() };
        assert_eq!(packet_needed(&config(0)), TOGETHER);
        assert_eq!(packet_needed(&config(10 << 20)), (10 << 20) + BESIDE);
    }
}
