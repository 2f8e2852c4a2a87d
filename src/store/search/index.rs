//! The file `search.db`: one FTS5 table without content and the row that says how far it is.
//!
//! The row number of a message is its stamp, and the column `mailbox` holds a token for its mailbox and one that all
//! have. So FTS5 itself gives hits newest first, of all mail or of one mailbox, in a few pages read, and an exclusion has
//! something to be taken from. (Numbering rows by mailbox and UID makes a mailbox a range, but a search over all mail then has
//! to sort every hit there is.) Writing is not synced; [`super::seal`] says why that is enough.
//!
//! FTS5 writes what it has gathered whenever a statement of several rows begins, so some hundred messages are
//! one statement and one run in the file (`docs/performance.md`).

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Instant;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr};
use sea_orm::{Statement, TransactionTrait, Value};

use super::pace;
use super::seal::{self, Seal};
use crate::mail::query::{Columns, Fts};
use crate::store::connect;

/// To be raised when the columns or the tokens of `mail::query` change: older files are made again.
const VERSION: i64 = 2;
/// Rows in one INSERT, which FTS5 writes as one run; with six values each, far from the 32,766 that a statement may have.
const ROWS: usize = 500;
/// Rows found or removed in one statement.
const STEP: u64 = 1_000;
/// The token of the column `mailbox` that every message has; with a number after it, that of one mailbox. No text makes it.
const ALL: &str = "\u{e001}";

/// `detail`: which columns a word is in, not where. `hashsize`: a batch is written as one run. `pgsz`: as much as fits
/// into two pages of the file.
const SCHEMA: [&str; 5] = [
    "CREATE VIRTUAL TABLE messages USING fts5(mailbox, subject, sender, recipients, body, \
     tokenize = 'ascii', detail = column, content = '', contentless_delete = 1)",
    "INSERT INTO messages (messages, rank) VALUES ('hashsize', 33554432)",
    "INSERT INTO messages (messages, rank) VALUES ('pgsz', 8100)",
    "INSERT INTO messages (messages, rank) VALUES ('automerge', 8)",
    "CREATE TABLE state (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, lineage INTEGER NOT NULL, \
     begun INTEGER NOT NULL, position INTEGER NOT NULL, boot TEXT NOT NULL)",
];

/// A message as the index takes it.
#[derive(Clone, Debug)]
pub struct Document {
    pub stamp: i64,
    pub mailbox: i64,
    pub columns: Columns,
}

/// Messages of one mailbox between two stamps, both left out, that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    pub mailbox: i64,
    pub after: i64,
    pub before: i64,
}

/// Which history of which store an index must be of.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub lineage: u32,
    /// The last stamp given.
    pub head: i64,
    /// Changes up to this stamp may be forgotten.
    pub floor: i64,
}

/// Why a file is not gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("there is none")]
    Missing,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("the machine stopped before it was written out")]
    Unsynced,
    #[error("it is of another version")]
    Version,
    #[error("it is of another history of the store")]
    Lineage,
    #[error("it is ahead of the store, or so far behind that deletions were forgotten")]
    Position,
}

impl Unfit {
    /// For the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged(_) => "damaged",
            Self::Unsynced => "unsynced",
            Self::Version => "version",
            Self::Lineage => "lineage",
            Self::Position => "position",
        }
    }
}

/// The index, open for writing. The indexer alone has one.
#[derive(Debug)]
pub struct Index {
    db: DatabaseConnection,
    path: PathBuf,
    /// Events up to this stamp are in it.
    pub position: i64,
    /// Bytes of words in the next INSERT.
    bytes: usize,
}

impl Index {
    /// Opens a file that can be gone on with.
    ///
    /// # Errors
    /// Why it is to be made anew.
    pub async fn open(path: &Path, origin: Origin) -> Result<Self, Unfit> {
        let damaged = |error: &dyn std::fmt::Display| Unfit::Damaged(error.to_string());
        if !path.exists() {
            return Err(Unfit::Missing);
        }
        let seal = seal::take(path).map_err(|error| damaged(&error))?;
        if seal == Seal::Broken {
            return Err(Unfit::Damaged("its bytes changed while nobody used it".into()));
        }
        let db = connect::index(path).await.map_err(|error| damaged(&error))?;
        match fit(&db, seal, origin).await {
            Ok(position) => Ok(Self { db, path: path.to_owned(), position, bytes: pace::WORDS }),
            Err(unfit) => {
                let _ = db.close().await;
                Err(unfit)
            }
        }
    }

    /// Makes an empty one in the place of whatever is there.
    ///
    /// # Errors
    /// When the file cannot be removed or made.
    pub async fn create(path: &Path, origin: Origin) -> Result<Self, DbErr> {
        seal::remove(path).map_err(|error| DbErr::Custom(error.to_string()))?;
        let db = connect::index(path).await?;
        let tx = db.begin().await?;
        for sql in SCHEMA {
            tx.execute_unprepared(sql).await?;
        }
        let values = [VERSION.into(), i64::from(origin.lineage).into(), origin.head.into(), seal::boot().into()];
        tx.execute_raw(statement("INSERT INTO state VALUES (1, ?, ?, ?, 0, ?)", values)).await?;
        tx.commit().await?;
        Ok(Self { db, path: path.to_owned(), position: 0, bytes: pace::WORDS })
    }

    /// Adds `documents`, which are newer than what is there and in order, and moves to `position`: in one transaction,
    /// which is given up, with None, when `go_on` says no.
    ///
    /// # Errors
    /// Then nothing of it is there.
    pub async fn add(
        &mut self,
        documents: impl Iterator<Item = Document>,
        position: i64,
        go_on: impl Fn() -> bool,
    ) -> Result<Option<u64>, DbErr> {
        let tx = self.db.begin().await?;
        let mut documents = documents.fuse();
        let (mut added, mut next) = (0, lot(&mut documents, self.bytes));
        while !next.is_empty() {
            if !go_on() {
                tx.rollback().await?;
                return Ok(None);
            }
            added += next.len() as u64;
            let began = Instant::now();
            let mut running = std::pin::pin!(insert(&tx, next));
            // The first poll hands the statement to SQLite's thread; meanwhile this one reads what comes next.
            let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
            next = lot(&mut documents, self.bytes);
            match first {
                Poll::Ready(done) => done?,
                Poll::Pending => running.await?,
            }
            self.bytes = pace::words(self.bytes, began.elapsed());
        }
        tx.execute_raw(statement("UPDATE state SET position = ? WHERE id = 1", [position.into()])).await?;
        if !go_on() {
            tx.rollback().await?;
            return Ok(None);
        }
        tx.commit().await?;
        self.position = position;
        Ok(Some(added))
    }

    /// Gives back the space of the WAL, as far as searches under way and the room for what it holds allow.
    pub async fn give_back(&self) {
        let _ = self.db.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await;
    }

    /// Removes one step of what is gone; true when more is left. May be repeated.
    ///
    /// # Errors
    /// Then nothing of it was removed.
    pub async fn remove(&self, removal: &Removal) -> Result<(u64, bool), DbErr> {
        let tx = self.db.begin().await?;
        let scope = format!("\"{ALL}{}\"", removal.mailbox);
        let gone = rows(&tx, scope, removal.after, removal.before, STEP).await?;
        for stamp in &gone {
            tx.execute_raw(statement("DELETE FROM messages WHERE rowid = ?", [(*stamp).into()])).await?;
        }
        tx.commit().await?;
        Ok((gone.len() as u64, gone.len() as u64 == STEP))
    }

    /// Closes it, and seals it if `sealed`.
    pub async fn close(self, sealed: bool) {
        self.give_back().await;
        if self.db.close().await.is_ok()
            && sealed
            && let Err(error) = seal::put(&self.path)
        {
            tracing::warn!(%error, "the search index could not be sealed; the next start looks through it");
        }
    }
}

/// Looks whether an opened file can be gone on with; marks it as in use by this run of the machine.
async fn fit(db: &DatabaseConnection, seal: Seal, origin: Origin) -> Result<i64, Unfit> {
    let damaged = |error: DbErr| Unfit::Damaged(error.to_string());
    let sql = "SELECT version, lineage, begun, position, boot FROM state WHERE id = 1";
    let row = db.query_one_raw(statement(sql, [])).await.map_err(damaged)?;
    let row = row.ok_or_else(|| Unfit::Damaged("it does not say how far it is".into()))?;
    let number = |column| row.try_get_by_index::<i64>(column).map_err(damaged);
    let (version, lineage, begun, position) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let boot: String = row.try_get_by_index(4).map_err(damaged)?;
    if version != VERSION {
        return Err(Unfit::Version);
    }
    if lineage != i64::from(origin.lineage) {
        return Err(Unfit::Lineage);
    }
    if position > origin.head || position.max(begun) < origin.floor {
        return Err(Unfit::Position);
    }
    if seal == Seal::None {
        if boot != seal::boot() {
            return Err(Unfit::Unsynced);
        }
        let check = db.query_one_raw(statement("PRAGMA quick_check(1)", [])).await.map_err(damaged)?;
        let said = check.map(|row| row.try_get_by_index::<String>(0)).transpose().map_err(damaged)?.unwrap_or_default();
        if said != "ok" {
            return Err(Unfit::Damaged(said));
        }
    }
    let mark = statement("UPDATE state SET boot = ? WHERE id = 1", [seal::boot().into()]);
    db.execute_raw(mark).await.map_err(damaged)?;
    Ok(position)
}

/// Where an index stands that is open for reading.
pub async fn position(tx: &DatabaseTransaction) -> Result<i64, DbErr> {
    let row = tx.query_one_raw(statement("SELECT position FROM state WHERE id = 1", [])).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("state".into()))?.try_get_by_index(0)
}

/// Stamps of the messages that `asked` finds between two stamps, both left out, newest first, at most `limit`.
pub async fn find(
    tx: &DatabaseTransaction,
    asked: &Fts,
    mailbox: Option<i64>,
    (after, before): (i64, i64),
    limit: u64,
) -> Result<Vec<i64>, DbErr> {
    let scope = mailbox.map_or_else(|| format!("\"{ALL}\""), |id| format!("\"{ALL}{id}\""));
    let expression = match asked {
        Fts::Match(wanted) if mailbox.is_none() => wanted.clone(),
        Fts::Match(wanted) => format!("{scope} AND ({wanted})"),
        Fts::Exclude(excluded) => format!("{scope} NOT ({excluded})"),
        Fts::All => scope,
    };
    rows(tx, expression, after, before, limit).await
}

async fn rows(
    tx: &DatabaseTransaction,
    expression: String,
    after: i64,
    before: i64,
    limit: u64,
) -> Result<Vec<i64>, DbErr> {
    let sql =
        "SELECT rowid FROM messages WHERE messages MATCH ? AND rowid > ? AND rowid < ? ORDER BY rowid DESC LIMIT ?";
    let rows = tx.query_all_raw(statement(sql, [expression.into(), after.into(), before.into(), limit.into()])).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// As many as one statement takes: about `most` bytes, or one document.
fn lot(documents: &mut impl Iterator<Item = Document>, most: usize) -> Vec<Document> {
    let mut bytes = 0;
    let mut lot = Vec::new();
    while lot.len() < ROWS
        && bytes < most
        && let Some(document) = documents.next()
    {
        bytes += document.columns.len();
        lot.push(document);
    }
    lot
}

async fn insert(tx: &DatabaseTransaction, lot: Vec<Document>) -> Result<(), DbErr> {
    let mut sql = String::with_capacity(100 + lot.len() * 20);
    sql.push_str("INSERT INTO messages (rowid, mailbox, subject, sender, recipients, body) VALUES (?, ?, ?, ?, ?, ?)");
    (1..lot.len()).for_each(|_| sql.push_str(", (?, ?, ?, ?, ?, ?)"));
    let mut values: Vec<Value> = Vec::with_capacity(lot.len() * 6);
    for Document { stamp, mailbox, columns } in lot {
        let Columns { subject, sender, recipients, body } = columns;
        values.push(stamp.into());
        values.extend([format!("{ALL} {ALL}{mailbox}"), subject, sender, recipients, body].map(Value::from));
    }
    let alone = values.len() == 6;
    tx.execute_raw(statement(&sql, values)).await?;
    if alone {
        // Before a statement of one row FTS5 does not write by itself.
        tx.execute_unprepared("INSERT INTO messages (messages) VALUES ('flush')").await?;
    }
    Ok(())
}

/// Whether the file itself is broken, as against a full disk or a lock: SQLITE_CORRUPT, SQLITE_NOTADB, and
/// SQLITE_IOERR_SHORT_READ of a file that was cut.
pub fn is_damage(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return false;
    };
    let code = cause.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| code == 522 || matches!(code & 0xff, 11 | 26))
}

fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 10_000_000;

    fn document(bytes: usize) -> Document {
        Document { stamp: 1, mailbox: 1, columns: Columns { body: "x".repeat(bytes), ..Columns::default() } }
    }

    #[test]
    fn a_statement_has_a_bounded_number_of_rows_and_bytes() {
        let sizes = |bytes: usize, count: usize| {
            let mut documents = std::iter::repeat_with(|| document(bytes)).take(count);
            std::iter::from_fn(|| Some(lot(&mut documents, BYTES).len()).filter(|rows| *rows > 0)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1_000, 1_200), [500, 500, 200]);
        assert_eq!(sizes(BYTES / 4, 9), [4, 4, 1]);
        assert_eq!(sizes(3 * BYTES, 2), [1, 1]);
        assert!(sizes(0, 0).is_empty());
    }
}
