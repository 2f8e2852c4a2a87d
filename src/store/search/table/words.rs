//! Rows of `search_words`: written, removed and asked for in the words of each engine.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement, Value};

use super::blocks::Axis;
use crate::store::writer::statements::chunks;

/// Bytes of words in one statement; a larger row goes alone.
const STATEMENT: usize = 1 << 20;
/// Rows removed in one step.
pub const STEP: u64 = 5_000;
/// How long one question may take before messages are read instead, in milliseconds.
const PATIENCE: u32 = 2_000;

/// A message as the index takes it.
#[derive(Clone, Debug)]
pub struct Row {
    pub mailbox: i64,
    pub uid: i64,
    pub stamp: i64,
    /// See [`crate::mail::query::Tokens`].
    pub whole: bool,
    pub words: String,
}

/// A message that the index found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub mailbox: i64,
    pub uid: i64,
    pub stamp: i64,
    pub whole: bool,
}

/// Adds rows; one that is there stays as it is.
pub async fn insert<C: ConnectionTrait>(db: &C, rows: Vec<Row>) -> Result<(), DbErr> {
    let (mut lot, mut bytes) = (Vec::new(), 0);
    for row in rows {
        if bytes + row.words.len() > STATEMENT {
            insert_lot(db, &lot).await?;
            lot.clear();
            bytes = 0;
        }
        bytes += row.words.len();
        lot.push(row);
    }
    insert_lot(db, &lot).await
}

async fn insert_lot<C: ConnectionTrait>(db: &C, lot: &[Row]) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    for rows in chunks(lot) {
        let values = rows.iter().flat_map(|row| -> [Value; 5] {
            [row.mailbox.into(), row.uid.into(), row.stamp.into(), row.whole.into(), row.words.clone().into()]
        });
        db.execute_raw(Statement::from_sql_and_values(backend, insert_text(backend, rows.len()), values)).await?;
    }
    Ok(())
}

fn insert_text(backend: DbBackend, rows: usize) -> String {
    let tuple = |row: usize| match backend {
        DbBackend::Postgres => {
            let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(|column| 5 * row + column);
            format!("(${a}, ${b}, ${c}, ${d}, array_to_tsvector(string_to_array(${e}, ' ')))")
        }
        _ => "(?, ?, ?, ?, ?)".to_owned(),
    };
    let tuples: Vec<String> = (0..rows).map(tuple).collect();
    let there = match backend {
        DbBackend::Postgres => "ON CONFLICT DO NOTHING",
        _ => "ON DUPLICATE KEY UPDATE search_words.uid = search_words.uid",
    };
    format!("INSERT INTO search_words (mailbox_id, uid, stamp, whole, words) VALUES {} {there}", tuples.join(", "))
}

/// Removes the rows of a mailbox above the UID `after` up to `through`, one step of them; true when more is left.
pub async fn remove<C: ConnectionTrait>(
    db: &C,
    mailbox: i64,
    (after, through): (i64, i64),
) -> Result<(u64, bool), DbErr> {
    let backend = db.get_database_backend();
    let span =
        |through: i64| format!("FROM search_words WHERE mailbox_id = {mailbox} AND uid > {after} AND uid <= {through}");
    let last = format!("SELECT uid {} ORDER BY uid LIMIT 1 OFFSET {}", span(through), STEP - 1);
    let last = db.query_one_raw(Statement::from_string(backend, last)).await?;
    let last: Option<i64> = last.map(|row| row.try_get_by_index(0)).transpose()?;
    let gone = db.execute_unprepared(&format!("DELETE {}", span(last.unwrap_or(through)))).await?;
    Ok((gone.rows_affected(), last.is_some()))
}

/// The last UID of a mailbox that is in the index; 0 when none is.
pub async fn newest(tx: &DatabaseTransaction, mailbox: i64) -> Result<i64, DbErr> {
    let text = format!("SELECT uid FROM search_words WHERE mailbox_id = {mailbox} ORDER BY uid DESC LIMIT 1");
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), text)).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(0))
}

/// Mailboxes above `after` up to `through` that have rows there, at most so many.
pub async fn mailboxes<C: ConnectionTrait>(
    db: &C,
    (after, through): (i64, i64),
    limit: u64,
) -> Result<Vec<i64>, DbErr> {
    let text = format!(
        "SELECT DISTINCT mailbox_id FROM search_words WHERE mailbox_id > {after} AND mailbox_id <= {through} \
         ORDER BY mailbox_id LIMIT {limit}"
    );
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// What the index finds from `start` until before `end`, at most `most`: any of them, or the newest when they are to be
/// `sorted`. The expression is of `mail::query`.
pub async fn find(
    tx: &DatabaseTransaction,
    expression: &str,
    axis: Axis,
    (start, end): (i64, i64),
    (most, sorted): (usize, bool),
) -> Result<Vec<Hit>, DbErr> {
    let backend = tx.get_database_backend();
    let (column, of) = match axis {
        Axis::Stamps => ("stamp", String::new()),
        Axis::Uids(mailbox) => ("uid", format!("mailbox_id + 0 = {mailbox} AND ")),
    };
    let order = if sorted { format!("ORDER BY {column} DESC ") } else { String::new() };
    // Sums, so that no engine reads the table in the order of its key instead of asking the index of words.
    let span = format!("{of}{column} + 0 >= {start} AND {column} + 0 < {end} {order}LIMIT {most}");
    let columns = "mailbox_id, uid, stamp, whole FROM search_words WHERE";
    let (text, value) = match backend {
        DbBackend::Postgres => (format!("SELECT {columns} words @@ $1::tsquery AND {span}"), expression),
        _ => {
            let limit = format!("/*M! SET STATEMENT max_statement_time = {} FOR */", f64::from(PATIENCE) / 1_000.0);
            let hint = format!("/*+ MAX_EXECUTION_TIME({PATIENCE}) */");
            (
                format!("{limit} SELECT {hint} {columns} MATCH (words) AGAINST (? IN BOOLEAN MODE) AND {span}"),
                expression,
            )
        }
    };
    let rows = tx.query_all_raw(Statement::from_sql_and_values(backend, text, [value.into()])).await?;
    rows.iter().map(hit).collect()
}

fn hit(row: &sea_orm::QueryResult) -> Result<Hit, DbErr> {
    Ok(Hit {
        mailbox: row.try_get_by_index(0)?,
        uid: row.try_get_by_index(1)?,
        stamp: row.try_get_by_index(2)?,
        whole: row.try_get_by_index(3)?,
    })
}

/// Prepares a transaction for [`find`]: on PostgreSQL a time limit for each question, and no reading of whole tables
/// whatever it reckons that the index would cost.
pub async fn prepare(tx: &DatabaseTransaction) -> Result<(), DbErr> {
    if tx.get_database_backend() == DbBackend::Postgres {
        let text =
            format!("SET LOCAL statement_timeout = {PATIENCE}; SET LOCAL enable_seqscan = off; SET LOCAL jit = off");
        tx.execute_unprepared(&text).await?;
    }
    Ok(())
}

/// After a batch, outside of its transaction: PostgreSQL puts what was gathered into the index itself, so that no search has to read it
/// word by word.
pub async fn settle<C: ConnectionTrait>(db: &C) -> Result<(), DbErr> {
    if db.get_database_backend() == DbBackend::Postgres {
        let text = "SELECT gin_clean_pending_list('search_words_index'::regclass)";
        db.query_one_raw(Statement::from_string(DbBackend::Postgres, text)).await?;
    }
    Ok(())
}

/// Rows that the table has, about.
pub async fn about<C: ConnectionTrait>(db: &C) -> Result<i64, DbErr> {
    let text = "SELECT CAST(COALESCE(MAX(table_rows), 0) AS SIGNED) FROM information_schema.tables \
                WHERE table_schema = DATABASE() AND table_name = 'search_words'";
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(0))
}

/// What FULLTEXT of this server would do to tokens; none when it takes them as they are.
pub async fn obstacle<C: ConnectionTrait>(db: &C) -> Result<Option<String>, DbErr> {
    if db.get_database_backend() == DbBackend::Postgres {
        return Ok(None);
    }
    let text = "SELECT CAST(@@innodb_ft_min_token_size AS SIGNED), CAST(@@innodb_ft_max_token_size AS SIGNED)";
    let Some(row) = db.query_one_raw(Statement::from_string(DbBackend::MySql, text)).await? else { return Ok(None) };
    let (least, most): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let sizes = format!("innodb_ft_min_token_size is {least} and innodb_ft_max_token_size {most}");
    Ok((least > 3 || most < 80).then(|| format!("{sizes}; words of 3 to 80 letters must be indexed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_in_the_words_of_each_engine() {
        let text = insert_text(DbBackend::Postgres, 2);
        assert!(text.contains("($6, $7, $8, $9, array_to_tsvector(string_to_array($10, ' '))) ON CONFLICT"), "{text}");
        let text = insert_text(DbBackend::MySql, 2);
        assert!(text.contains("VALUES (?, ?, ?, ?, ?), (?, ?, ?, ?, ?) ON DUPLICATE KEY"), "{text}");
    }
}
