//! What commands do with a store that they do not open: migrate it, look whether its database is whole.

use std::path::PathBuf;

use sea_orm::{ConnectionTrait, DbErr};

use super::alone::{Purpose, locked};
use super::config::Config;
use super::directory::{Directory, OpenError};
use super::source::Source;
use super::{Store, connect, schema};

/// How a database was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// There is none yet.
    Missing(PathBuf),
    Sound(PathBuf),
    /// What SQLite says is wrong, a line each.
    Damaged(PathBuf, Vec<String>),
}

impl Store {
    /// Brings the database to this version's schema; makes it when there is none. Says which it was, and what newer versions
    /// had done to it before.
    ///
    /// # Errors
    /// One line for the operator; `InUse` while a server runs on the directory.
    pub async fn migrate(config: &Config) -> Result<(String, Vec<String>), OpenError> {
        if let Some(source) = Source::server(&config.database.url).map_err(OpenError::Url)? {
            let error = |error| OpenError::Server { place: source.to_string(), error };
            let db = source.session().await.map_err(error)?;
            let newer = locked(&db, Purpose::Open, schema::prepare(&db)).await.map_err(error)?;
            db.close().await.map_err(error)?;
            return Ok((source.to_string(), newer));
        }
        let directory = Directory::new(config)?;
        let _lock = directory.claim()?;
        let error = |error| OpenError::Database { path: directory.database.clone(), error };
        let db = connect::writing(&directory.database).await.map_err(error)?;
        let newer = schema::prepare(&db).await.map_err(error)?;
        db.close().await.map_err(error)?;
        Ok((directory.database.display().to_string(), newer))
    }
}

/// Runs SQLite's quick check over the database, beside a server that may be running. Blocks; makes a runtime of its own.
///
/// # Errors
/// It cannot be opened or is no database.
pub fn quick_check(config: &Config) -> Result<Inspection, OpenError> {
    let path = Directory::new(config)?.database;
    if !path.exists() {
        return Ok(Inspection::Missing(path));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| OpenError::Io { path: path.clone(), error })?;
    let checked = runtime.block_on(async {
        let db = connect::reading(&path, 1).await?;
        let rows =
            db.query_all_raw(sea_orm::Statement::from_string(db.get_database_backend(), "PRAGMA quick_check")).await?;
        let lines = rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Result<Vec<_>, DbErr>>()?;
        db.close().await?;
        Ok(lines)
    });
    match checked {
        Ok(lines) if lines == ["ok"] => Ok(Inspection::Sound(path)),
        Ok(lines) => Ok(Inspection::Damaged(path, lines)),
        Err(error) => Err(OpenError::Database { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data: &std::path::Path) -> Config {
        Config { data: data.into(), ..Config::default() }
    }

    #[test]
    fn a_database_is_missing_then_sound_then_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        assert!(matches!(quick_check(&config), Ok(Inspection::Missing(_))));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Store::migrate(&config)).unwrap();
        assert!(matches!(quick_check(&config), Ok(Inspection::Sound(_))));

        let path = dir.path().join("mailroom.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4_096..8_192].fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
        assert!(!matches!(quick_check(&config), Ok(Inspection::Sound(_))));
    }

    #[test]
    fn a_store_in_use_is_not_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let _lock = Directory::new(&config).unwrap().claim().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert!(matches!(runtime.block_on(Store::migrate(&config)), Err(OpenError::InUse { .. })));
    }
}
