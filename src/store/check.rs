//! `mailroom check`: whether everything in a data directory is what was written, message by message.
//!
//! Reads one snapshot of the database, beside a server that may go on, and every record that a row points at, in the order
//! of their arrival, so that the files are read from front to back. [`bodies`] looks at messages, [`totals`] at mailboxes,
//! changes and segments, [`around`] at the files beside, [`mod@objects`] at object storage, [`table`] at the bodies on a database server. Memory does not grow with the mail. Changes nothing.

mod around;
mod bodies;
mod objects;
mod table;
mod totals;

use std::collections::HashMap;
use std::path::PathBuf;

use entity::{message, meta, segment};
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait, TransactionTrait};
use serde::Serialize;

use self::objects::Objects;
use super::cold::Cold;
use super::config::Config;
use super::directory::{Directory, OpenError};
use super::source::{self, Source};
use super::{connect, head};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something that was promised is not there or is not what it was.
    Damage,
    /// It could not be looked at, for a setting that is wanting; whether it is whole is not known.
    Unread,
    /// Worth knowing; the server deals with it by itself.
    Notice,
}

/// One thing that was found; what does not apply is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    pub why: String,
}

impl Finding {
    fn damage(why: impl Into<String>) -> Self {
        let (mailbox, uid, id, segment, offset) = (None, None, None, None, None);
        Self { severity: Severity::Damage, mailbox, uid, id, segment, offset, why: why.into() }
    }

    fn notice(why: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, ..Self::damage(why) }
    }

    fn unread(why: impl Into<String>) -> Self {
        Self { severity: Severity::Unread, ..Self::damage(why) }
    }

    fn of_segment(self, number: i64) -> Self {
        Self { segment: Some(number), ..self }
    }

    fn of_mailbox(self, address: impl Into<String>) -> Self {
        Self { mailbox: Some(address.into()), ..self }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.severity {
            Severity::Damage => "damaged: ",
            Severity::Unread => "not looked at: ",
            Severity::Notice => "notice: ",
        })?;
        let places = [
            self.mailbox.as_ref().map(|mailbox| format!("mailbox {mailbox}")),
            self.uid.map(|uid| format!("uid {uid}")),
            self.id.map(|id| format!("message {id}")),
            self.segment.map(|segment| format!("segment {segment}")),
            self.offset.map(|offset| format!("offset {offset}")),
        ];
        let place: Vec<String> = places.into_iter().flatten().collect();
        if place.is_empty() { f.write_str(&self.why) } else { write!(f, "{}: {}", place.join(", "), self.why) }
    }
}

/// What was looked at, and how it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rows of messages, each in one mailbox.
    pub messages: u64,
    /// Those whose body is there, byte for byte.
    pub whole: u64,
    /// Those that were deleted while the check ran.
    pub gone: u64,
    pub mailboxes: u64,
    pub segments: u64,
    /// Objects in object storage.
    pub objects: u64,
    /// Messages whose body lies there and was not looked at, as asked or because `[cold] url` names no storage.
    pub skipped: u64,
    /// Bytes of records that were read.
    pub bytes: u64,
    /// Findings of [`Severity::Damage`].
    pub damaged: u64,
}

/// Hears of what the check does; called from its own thread.
pub trait Watch {
    fn found(&mut self, finding: &Finding);
    /// Messages looked at, of how many.
    fn progress(&mut self, done: u64, of: u64);
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0}: there is no database")]
    Missing(PathBuf),
    #[error("{path} cannot be read: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    /// The database is so broken that rows cannot be read.
    #[error("{path} cannot be read to its end: {error}")]
    Database { path: PathBuf, error: DbErr },
}

/// Looks at everything in the data directory of `config`. Blocks; makes a runtime of its own.
///
/// # Errors
/// When there is nothing to look at, or the database breaks off; what was found until then was told.
pub fn check(config: &Config, watch: &mut dyn Watch) -> Result<Summary, CheckError> {
    check_but(config, false, watch)
}

/// The same; with `without_cold` nothing is asked of object storage.
///
/// # Errors
/// As [`check`].
pub fn check_but(config: &Config, without_cold: bool, watch: &mut dyn Watch) -> Result<Summary, CheckError> {
    let io = |error| CheckError::Io { path: config.data.clone(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    if let Some(source) = Source::server(&config.database.url).map_err(OpenError::Url)? {
        return runtime.block_on(run_on_server(config, &source, without_cold, watch));
    }
    let directory = Directory::new(config)?;
    // Another user's database is there, though it cannot be seen.
    if let Err(error) = std::fs::File::open(&directory.database) {
        let path = directory.database;
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound => CheckError::Missing(path),
            _ => CheckError::Io { path, error },
        });
    }
    runtime.block_on(run(config, directory, without_cold, watch))
}

async fn run(
    config: &Config,
    directory: Directory,
    without_cold: bool,
    watch: &mut dyn Watch,
) -> Result<Summary, CheckError> {
    let cold = if without_cold { None } else { Cold::open(&config.cold)? };
    let path = directory.database.clone();
    let broken = |error| CheckError::Database { path: path.clone(), error };
    // Before the snapshot: a file that is there now and unknown then is not needed.
    let files = around::files(&directory.bodies).map_err(|error| CheckError::Io { path: path.clone(), error })?;
    let db = connect::reading(&directory.database, 2).await.map_err(broken)?;
    let tx = db.begin().await.map_err(broken)?;
    let segments = segment::Entity::find().all(&tx).await.map_err(broken)?;
    let objects = Objects::load(&tx, cold, without_cold).await.map_err(broken)?;
    let mut check = Check::new(config, directory, (db, tx), objects, watch).await.map_err(broken)?;
    check.summary.segments = segments.len() as u64;
    check.segments = segments.into_iter().map(|row| (row.number, Used::new(row))).collect();
    check.all(&files).await.map_err(broken)?;
    check.end().await.map_err(broken)
}

async fn run_on_server(
    config: &Config,
    source: &Source,
    without_cold: bool,
    watch: &mut dyn Watch,
) -> Result<Summary, CheckError> {
    let cold = if without_cold { None } else { Cold::open(&config.cold)? };
    let path = PathBuf::from(source.to_string());
    let broken = |error| CheckError::Database { path: path.clone(), error };
    let db = source.reading(1).await.map_err(broken)?;
    let tx = source::snapshot(&db).await.map_err(broken)?;
    // Nothing lies in it; only messages name it.
    let bodies = config.data.join("bodies");
    let search = config.data.join("search.db");
    let directory = Directory { root: config.data.clone(), database: path.clone(), bodies, search };
    let objects = Objects::load(&tx, cold, without_cold).await.map_err(broken)?;
    let mut check = Check::new(config, directory, (db, tx), objects, watch).await.map_err(broken)?;
    check.all_in_tables().await.map_err(broken)?;
    check.end().await.map_err(broken)
}

/// A segment as the database has it, and what the rows use of it.
#[derive(Clone, Debug)]
struct Used {
    row: segment::Model,
    /// Bytes of records by the rows that point at them.
    live: i64,
}

impl Used {
    fn new(row: segment::Model) -> Self {
        Self { row, live: 0 }
    }
}

/// A check on its way.
struct Check<'a> {
    directory: Directory,
    /// For what happened after the snapshot.
    db: DatabaseConnection,
    /// The snapshot.
    tx: DatabaseTransaction,
    meta: meta::Model,
    defaults: super::Defaults,
    segments: HashMap<i64, Used>,
    objects: Objects,
    summary: Summary,
    watch: &'a mut dyn Watch,
}

impl<'a> Check<'a> {
    async fn new(
        config: &Config,
        directory: Directory,
        (db, tx): (DatabaseConnection, DatabaseTransaction),
        objects: Objects,
        watch: &'a mut dyn Watch,
    ) -> Result<Self, DbErr> {
        let meta = head::row(&tx).await?;
        let defaults = head::defaults(&meta, config);
        let summary = Summary { messages: message::Entity::find().count(&tx).await?, ..Summary::default() };
        Ok(Self { directory, db, tx, meta, defaults, segments: HashMap::new(), objects, summary, watch })
    }

    async fn end(self) -> Result<Summary, DbErr> {
        self.tx.commit().await?;
        self.db.close().await?;
        Ok(self.summary)
    }
}

impl Check<'_> {
    async fn all_in_tables(&mut self) -> Result<(), DbErr> {
        self.commits().await?;
        self.messages_in_tables().await?;
        self.bodies_in_table().await?;
        self.bodies_in_objects().await?;
        self.objects();
        self.mailboxes().await?;
        self.unowned().await?;
        self.changes().await
    }

    async fn all(&mut self, files: &[i64]) -> Result<(), DbErr> {
        self.database().await?;
        self.messages().await?;
        self.mailboxes().await?;
        self.unowned().await?;
        self.changes().await?;
        self.segments().await?;
        self.objects();
        self.files(files).await?;
        self.search().await;
        Ok(())
    }

    fn found(&mut self, finding: &Finding) {
        if finding.severity == Severity::Damage {
            self.summary.damaged += 1;
        }
        self.watch.found(finding);
    }
}
