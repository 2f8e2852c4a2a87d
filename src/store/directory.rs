//! The data directory: who may use it, what format it has, where things lie.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bodies::segment::sync_directory;
use super::config::Config;
use crate::mail::units::Bytes;
use crate::settings::url::shown;

/// The format that this version writes. A newer one is refused, an older one is migrated at start.
pub const FORMAT: u32 = 1;
/// What `[database] url` may be.
pub const DATABASES: &str =
    "\"sqlite:PATH\", \"postgres://…\", \"mysql://…\", or \"\" for mailroom.db in the data directory";
/// How often the lock is tried, and the pause in between.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(30);

/// Why the store could not be opened. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another mailroom; stop that one or give this one another --data")]
    InUse { path: PathBuf },
    #[error("{path} was written by a newer mailroom (format {found}, this one knows {FORMAT})")]
    Newer { path: PathBuf, found: u32 },
    #[error("{path} is not a directory; choose another with --data")]
    NotADirectory { path: PathBuf },
    #[error("{path} cannot be made: {error}; mend that, or choose another directory with --data")]
    Make { path: PathBuf, error: io::Error },
    #[error("{path} cannot be used: {error}; mend that, or choose another directory with --data")]
    Io { path: PathBuf, error: io::Error },
    #[error("[database] url {0:?} names no file; possible: {DATABASES}")]
    Unsupported(String),
    #[error("[database] url cannot be used: {0}")]
    Url(String),
    #[error("the database at {place} cannot be used: {error}")]
    Server { place: String, error: sea_orm::DbErr },
    #[error(
        "the database takes at most {packet} in one statement, and [smtp] max_message_size needs {needed}: set \
         max_allowed_packet in the server, or a smaller max_message_size"
    )]
    Packet { packet: Bytes, needed: Bytes },
    #[error("[cold] url {url:?} cannot be used: {why}")]
    Cold { url: String, why: String },
    #[error("the database {path} cannot be opened: {error}")]
    Database { path: PathBuf, error: sea_orm::DbErr },
}

/// An opened data directory.
#[derive(Clone, Debug)]
pub struct Directory {
    pub root: PathBuf,
    pub database: PathBuf,
    pub bodies: PathBuf,
    /// The search index.
    pub search: PathBuf,
}

impl Directory {
    /// Says where things lie; touches nothing.
    ///
    /// # Errors
    /// `Unsupported` for a database that is not SQLite.
    pub fn new(config: &Config) -> Result<Self, OpenError> {
        let url = config.database.url.as_str();
        let database = database_path(url, &config.data).ok_or_else(|| OpenError::Unsupported(shown(url)))?;
        Ok(Self {
            root: config.data.clone(),
            database,
            bodies: config.data.join("bodies"),
            search: config.data.join("search.db"),
        })
    }

    /// Makes what is missing, takes the lock and checks the format. The lock is held as long as the file is open.
    ///
    /// # Errors
    /// `InUse`, `Newer`, or what the system says of a path.
    pub fn claim(&self) -> Result<File, OpenError> {
        make(&self.bodies)?;
        let path = self.root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
        let mut tries = 0;
        loop {
            tries += 1;
            match lock.try_lock() {
                Ok(()) => break,
                // One that is just stopping, or a child of it that has not begun its own program yet.
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: self.root.clone() }),
                Err(TryLockError::Error(error)) => return Err(OpenError::Io { path, error }),
            }
        }
        self.check_format()?;
        Ok(lock)
    }

    /// Makes the names of new files and directories durable, as the first 250 needs them to be.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> Result<(), OpenError> {
        for directory in [Some(self.root.as_path()), self.database.parent()].into_iter().flatten() {
            sync_directory(named(directory)).map_err(at(directory))?;
        }
        match self.root.parent().map(|parent| sync_directory(named(parent))) {
            // Someone else made the directory for this user and keeps its surroundings to himself.
            Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Some(Err(error)) => Err(at(&self.root)(error)),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// `Newer`, or an unreadable file.
    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.root.join("format");
        let found = match std::fs::read_to_string(&path) {
            // Empty is a power cut before it was written: the directory was new.
            Ok(text) if text.is_empty() => 0,
            Ok(text) => text.trim().parse().map_err(|_| {
                let error = io::Error::new(io::ErrorKind::InvalidData, "does not hold a number");
                OpenError::Io { path: path.clone(), error }
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(OpenError::Io { path, error }),
        };
        if found > FORMAT {
            return Err(OpenError::Newer { path: self.root.clone(), found });
        }
        if found < FORMAT {
            write_synced(&path, &format!("{FORMAT}\n")).map_err(at(&path))?;
        }
        Ok(())
    }
}

/// The file that `[database] url` names; `None` when it names none that this version knows.
pub fn database_path(url: &str, data: &Path) -> Option<PathBuf> {
    let path = match url.strip_prefix("sqlite:") {
        Some(path) => path.strip_prefix("//").unwrap_or(path),
        None if url.is_empty() => return Some(data.join("mailroom.db")),
        None if url.starts_with('/') || url.starts_with("./") => url,
        None => return None,
    };
    // SQLite takes the second for a database in memory: nothing would be durable.
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
}

/// Makes a directory and what is missing above it, for nobody but its owner: it holds other people's mail. Each new name
/// is synced: without it all that is in there is lost with a power cut, however well it was synced itself.
fn make(directory: &Path) -> Result<(), OpenError> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = named(directory.parent().unwrap_or(Path::new("")));
    make(parent)?;
    let path = directory.to_owned();
    match private().create(directory) {
        Err(error) if !directory.is_dir() => Err(match error.kind() {
            io::ErrorKind::AlreadyExists => OpenError::NotADirectory { path },
            _ => OpenError::Make { path, error },
        }),
        _ => sync_directory(parent).map_err(at(parent)),
    }
}

/// Makes directories that only their owner can look into.
pub fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// The parent of a relative path is empty: the working directory.
fn named(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |error| OpenError::Io { path: path.to_owned(), error }
}
