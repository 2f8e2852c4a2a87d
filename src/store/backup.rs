//! `mailroom backup`: a copy of a data directory, of one moment, while mail flows.
//!
//! Segment files are hard-linked (copied, where the copy lies on another file system), so that nothing the server removes
//! meanwhile is lost; then the database is written out as of one moment; then links are made again for segments begun in
//! between. What that moment needs is then there, or one more moment is tried. Links may only stay for files that are
//! never written again: a segment that is still open, or longer than its committed part, becomes a copy of its own, cut
//! there. The copy is marked, so that the first `serve` on it begins a new history and no cursor of the old one is taken
//! for one of its own. The database gets its name last: a copy that was broken off has none.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use entity::{meta, object, segment};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, Statement};

use super::bodies::segment as files;
use super::columns::unsigned;
use super::config::Config;
use super::connect;
use super::directory::{Directory, FORMAT, OpenError, private};
use super::trouble;

/// Moments that are tried until one finds all its segments.
const TRIES: usize = 5;

/// What a copy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub segments: u64,
    /// Of them, those that share their space with the original.
    pub linked: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Objects in object storage that the copy needs and that were not copied.
    pub objects: u64,
    /// Bytes of messages in them.
    pub cold_bytes: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0}: there is no database")]
    Missing(PathBuf),
    #[error("{0} is not empty: a backup begins with an empty directory, or none")]
    NotEmpty(PathBuf),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("the database {path}: {error}")]
    Database { path: PathBuf, error: DbErr },
    /// Named by its URL without the password.
    #[error("{0} is copied with the tools of its server, pg_dump or mariadb-dump: docs/operations.md says how")]
    Server(String),
    #[error("segment {0} is missing: run `mailroom check`")]
    Segment(i64),
}

/// Copies the data directory of `config` into `target`, synced. Blocks; makes a runtime of its own. What it made is removed
/// again when it fails.
///
/// # Errors
/// What is in the way, in one line.
pub fn backup(config: &Config, target: &Path) -> Result<Copied, BackupError> {
    let source = Directory::new(config)?;
    if !source.database.exists() {
        return Err(BackupError::Missing(source.database));
    }
    let made = claim(target)?;
    let copied = copy(&source, target);
    if copied.is_err() {
        clear(target, made);
    }
    copied
}

/// The settings with which [`super::check::check`] looks at a copy.
#[must_use]
pub fn config_of(target: &Path, config: &Config) -> Config {
    let database = super::DatabaseConfig { url: String::new(), ..config.database.clone() };
    Config { data: target.to_owned(), database, ..config.clone() }
}

/// Makes the directory, or finds it empty; true when it was made.
fn claim(target: &Path) -> Result<bool, BackupError> {
    match target.read_dir() {
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(BackupError::NotEmpty(target.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private().recursive(true).create(target).map_err(at(target)).map(|()| true)
        }
        Err(error) => Err(at(target)(error)),
    }
}

/// Removes what a broken copy made; the directory was empty before.
fn clear(target: &Path, made: bool) {
    let _ = std::fs::remove_dir_all(target.join("bodies"));
    for name in ["mailroom.db.part", "mailroom.db", "format"] {
        let _ = std::fs::remove_file(target.join(name));
    }
    if made {
        let _ = std::fs::remove_dir(target);
    }
}

fn copy(source: &Directory, target: &Path) -> Result<Copied, BackupError> {
    let bodies = target.join("bodies");
    std::fs::create_dir(&bodies).map_err(at(&bodies))?;
    let part = target.join("mailroom.db.part");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(at(target))?;
    let mut tries = 0;
    let (needed, objects) = loop {
        tries += 1;
        link_all(&source.bodies, &bodies)?;
        let (needed, objects) = runtime.block_on(write_out(&source.database, &part))?;
        link_all(&source.bodies, &bodies)?;
        let is_needed = |row: &&segment::Model| !row.closed || row.live > 0;
        let missing = needed.iter().filter(is_needed).find(|row| !files::path(&bodies, row.number).exists());
        match missing {
            None => break (needed, objects),
            Some(row) if tries == TRIES => return Err(BackupError::Segment(row.number)),
            // Begun after the first links and removed before the second.
            Some(_) => std::fs::remove_file(&part).map_err(at(&part))?,
        }
    };
    let copied = settle(&source.bodies, &bodies, &needed)?;
    let copied = Copied { objects: objects.0, cold_bytes: objects.1, ..copied };
    let format = target.join("format");
    std::fs::write(&format, format!("{FORMAT}\n")).map_err(at(&format))?;
    for path in [&format, &part, &bodies] {
        File::open(path).and_then(|file| file.sync_all()).map_err(at(path))?;
    }
    let database = target.join("mailroom.db");
    std::fs::rename(&part, &database).map_err(at(&database))?;
    files::sync_directory(target).map_err(at(target))?;
    if let Some(parent) = target.canonicalize().ok().as_deref().and_then(Path::parent) {
        files::sync_directory(parent).map_err(at(parent))?;
    }
    Ok(copied)
}

/// Links every segment that is there and not linked yet.
fn link_all(from: &Path, to: &Path) -> Result<(), BackupError> {
    for number in files::numbers(from).map_err(at(from))? {
        let (old, new) = (files::path(from, number), files::path(to, number));
        if new.exists() {
            continue;
        }
        match std::fs::hard_link(&old, &new) {
            // The server removed it a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another file system, one without links, or too many of them: copied now, before it can be removed.
            Err(_) => match std::fs::copy(&old, &new) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => drop(copied.map_err(at(&new))?),
            },
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Writes the database as of one moment to `to`, marked as a copy; returns the segments that it needs, and objects
/// and bytes in object storage.
async fn write_out(from: &Path, to: &Path) -> Result<(Vec<segment::Model>, (u64, u64)), BackupError> {
    let failed = |error| BackupError::Database { path: from.to_owned(), error };
    let source = connect::reading(from, 1).await.map_err(failed)?;
    let name = to.to_string_lossy().into_owned();
    let vacuum = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [name.into()]);
    source.execute_raw(vacuum).await.map_err(failed)?;
    source.close().await.map_err(failed)?;

    let failed = |error| BackupError::Database { path: to.to_owned(), error };
    let copy = connect::writing(to).await.map_err(failed)?;
    let mark = meta::Entity::update_many().col_expr(meta::Column::Restored, Expr::value(true));
    mark.exec(&copy).await.map_err(failed)?;
    let needed = segment::Entity::find().all(&copy).await.map_err(failed)?;
    let objects = match object::Entity::find().filter(object::Column::Live.gt(0)).all(&copy).await {
        Ok(objects) => objects,
        // A database of before there were objects.
        Err(error) if trouble::is_no_such_table(&error) => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let objects = (objects.len() as u64, unsigned(objects.iter().map(|object| object.live).sum()));
    // One file, without a WAL beside it.
    copy.execute_unprepared("PRAGMA journal_mode = DELETE").await.map_err(failed)?;
    copy.close().await.map_err(failed)?;
    Ok((needed, objects))
}

/// Makes the segments what the database says: those that the server may still write become copies, what is not needed
/// goes.
fn settle(from: &Path, to: &Path, needed: &[segment::Model]) -> Result<Copied, BackupError> {
    let mut copied = Copied::default();
    for number in files::numbers(to).map_err(at(to))? {
        let path = files::path(to, number);
        let Some(row) = needed.iter().find(|row| row.number == number) else {
            std::fs::remove_file(&path).map_err(at(&path))?;
            continue;
        };
        let committed = unsigned(row.committed);
        let length = std::fs::metadata(&path).map_err(at(&path))?.len();
        if length < committed && linked(from, to, number) {
            return Err(BackupError::Segment(number));
        }
        copied.segments += 1;
        copied.bytes += committed;
        if row.closed && length == committed && linked(from, to, number) {
            copied.linked += 1;
        } else {
            cut(from, &path, number, row)?;
        }
    }
    Ok(copied)
}

/// Whether the file in `to` is the one in `from`. One that was removed there since is nobody's but ours.
fn linked(from: &Path, to: &Path, number: i64) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |dir| std::fs::metadata(files::path(dir, number)).map(|file| (file.dev(), file.ino())).ok();
    match inode(from) {
        Some(original) => inode(to) == Some(original),
        None => false,
    }
}

/// Replaces a segment by a copy of its committed part, synced. One that the server could still write to is copied from
/// there: what was copied early may end too soon, or with a batch that failed and was overwritten since.
fn cut(from: &Path, path: &Path, number: i64, row: &segment::Model) -> Result<(), BackupError> {
    let (original, committed) = (files::path(from, number), unsigned(row.committed));
    let whole = std::fs::metadata(path).map_err(at(path))?.len() >= committed;
    let source = if whole && (row.closed || !original.exists()) { path.to_owned() } else { original };
    let fresh = path.with_extension("part");
    let copied = || {
        let mut to = File::create(&fresh)?;
        let length = io::copy(&mut File::open(&source)?.take(committed), &mut to)?;
        to.sync_all()?;
        std::fs::rename(&fresh, path)?;
        Ok(length)
    };
    match copied().map_err(at(path))? {
        length if length == committed => Ok(()),
        _ => Err(BackupError::Segment(number)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |error| BackupError::Io { path: path.to_owned(), error }
}
