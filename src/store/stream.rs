//! The stream over all mailboxes on a database server: which events it has after a position, from the marks that
//! transactions left in `commits`.
//!
//! Stamps are dense and in commit order over all nodes (`writer::server`), unlike the stamps in rows, which say when a
//! node planned them. So what follows a position is exact: no row can appear below one that was read.

use std::collections::HashMap;

use entity::{change, commit, message};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable,
    QueryFilter, QueryOrder, QuerySelect, Statement,
};

use super::events::Row;
use super::writer::statements::chunks;

/// Marks read at once; one has the events of a whole batch.
const MARKS: u64 = 64;

/// An event of the stream: where its row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub stamp: i64,
    pub mailbox: i64,
    pub modseq: i64,
}

/// The first `limit` places after the stamp `since`; true when there are no more.
pub async fn after(tx: &DatabaseTransaction, since: i64, limit: usize) -> Result<(Vec<Place>, bool), DbErr> {
    let mut places = Vec::new();
    let mut reached = since;
    loop {
        let marks = commit::Entity::find()
            .filter(commit::Column::Last.gt(reached))
            .order_by_asc(commit::Column::Last)
            .limit(MARKS)
            .all(tx)
            .await?;
        let last_lot = (marks.len() as u64) < MARKS;
        for mark in marks {
            reached = mark.last.unwrap_or(reached);
            places.extend(of(&mark).filter(|place| place.stamp > since));
            if places.len() > limit {
                places.truncate(limit);
                return Ok((places, false));
            }
        }
        if last_lot {
            return Ok((places, true));
        }
    }
}

/// The places of the stream below `before` and above `since`, newest first: at least `wanted` of them unless there are no
/// more.
pub async fn before(tx: &DatabaseTransaction, since: i64, before: i64, wanted: usize) -> Result<Vec<Place>, DbErr> {
    // The commit that `before` is part of ends at or above it.
    let holding = commit::Entity::find()
        .filter(commit::Column::Last.gte(before))
        .order_by_asc(commit::Column::Last)
        .limit(1)
        .one(tx)
        .await?;
    let (mut marks, mut below, mut places) = (Vec::from_iter(holding), before, Vec::new());
    loop {
        for mark in &marks {
            let mut found: Vec<Place> = of(mark).filter(|place| place.stamp > since && place.stamp < before).collect();
            found.reverse();
            places.extend(found);
        }
        if places.len() >= wanted {
            return Ok(places);
        }
        marks = commit::Entity::find()
            .filter(commit::Column::Last.lt(below))
            .filter(commit::Column::Last.gt(since))
            .order_by_desc(commit::Column::Last)
            .limit(MARKS)
            .all(tx)
            .await?;
        let Some(lowest) = marks.last().and_then(|mark| mark.last) else { return Ok(places) };
        below = lowest;
    }
}

/// The events of a commit, in their order.
fn of(mark: &commit::Model) -> impl Iterator<Item = Place> + '_ {
    let count = i64::try_from(mark.events.len() / 16).unwrap_or(0);
    let first = mark.last.unwrap_or(0) - count + 1;
    (first..).zip(mark.events.chunks_exact(16)).map(|(stamp, event)| {
        let (mailbox, modseq) = event.split_at(8);
        Place { stamp, mailbox: number(mailbox), modseq: number(modseq) }
    })
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// The rows at `places`, in their order, each with its stamp of the stream; those that are gone are left out.
pub async fn rows(tx: &DatabaseTransaction, places: &[Place]) -> Result<Vec<Row>, DbErr> {
    let rows = originals(tx, places).await?;
    Ok(rows.into_iter().map(|(stamp, row)| row.stamped(stamp)).collect())
}

/// The same with the rows as they lie in the table, beside the stamps of the stream.
pub async fn originals(tx: &DatabaseTransaction, places: &[Place]) -> Result<Vec<(i64, Row)>, DbErr> {
    let mut found: HashMap<(i64, i64), Row> = HashMap::with_capacity(places.len());
    for places in chunks(places) {
        for row in messages(tx, places).await? {
            found.insert((row.mailbox_id, row.uid), Row::Arrival(row));
        }
        let backend = tx.get_database_backend();
        let text = joined(backend, &columns::<change::Entity>(backend), "changes", "modseq", places.len());
        let changes =
            change::Entity::find().from_raw_sql(Statement::from_sql_and_values(backend, text, values(places)));
        for row in changes.all(tx).await? {
            found.insert((row.mailbox_id, row.modseq), Row::Change(row));
        }
    }
    let row = |place: &Place| found.remove(&(place.mailbox, place.modseq)).map(|row| (place.stamp, row));
    Ok(places.iter().filter_map(row).collect())
}

/// The messages that arrived at `places`, in any order.
pub async fn messages(tx: &DatabaseTransaction, places: &[Place]) -> Result<Vec<message::Model>, DbErr> {
    let backend = tx.get_database_backend();
    let mut found = Vec::with_capacity(places.len());
    for places in chunks(places) {
        let text = joined(backend, &columns::<message::Entity>(backend), "messages", "uid", places.len());
        let statement = Statement::from_sql_and_values(backend, text, values(places));
        found.extend(message::Entity::find().from_raw_sql(statement).all(tx).await?);
    }
    Ok(found)
}

/// The least stamp that the row of a message at `places` was planned with; none without a message.
pub async fn lowest(tx: &DatabaseTransaction, places: &[Place]) -> Result<Option<i64>, DbErr> {
    let backend = tx.get_database_backend();
    let mut lowest: Option<i64> = None;
    for places in chunks(places) {
        let text = joined(backend, "MIN(t.stamp)", "messages", "uid", places.len());
        let found = tx.query_one_raw(Statement::from_sql_and_values(backend, text, values(places))).await?;
        let found: Option<i64> = found.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
        lowest = lowest.into_iter().chain(found).min();
    }
    Ok(lowest)
}

/// The columns that this version knows. With `t.*` a statement that PostgreSQL has prepared fails from the moment on in which a
/// newer version adds another.
fn columns<E: EntityTrait>(backend: DbBackend) -> String {
    let quote = if backend == DbBackend::Postgres { '"' } else { '`' };
    let columns = E::Column::iter().map(|column| format!("t.{quote}{}{quote}", column.as_str()));
    columns.collect::<Vec<_>>().join(", ")
}

/// A join with a list of keys looks each of them up, whatever the number of partitions; a long IN of pairs does not. Nor
/// does PostgreSQL always: as long as it takes the tables for small it hashes the list and reads all partitions, and a plan
/// that was made then is kept while they grow. LATERAL with an OFFSET leaves it no choice.
fn joined(backend: DbBackend, what: &str, table: &str, column: &str, rows: usize) -> String {
    let keys = match backend {
        DbBackend::Postgres => {
            let pairs: Vec<String> =
                (0..rows).map(|row| format!("(${}::bigint, ${}::bigint)", 2 * row + 1, 2 * row + 2)).collect();
            format!("(VALUES {}) AS v (a, b)", pairs.join(", "))
        }
        _ => format!("(SELECT ? AS a, ? AS b{}) AS v", " UNION ALL SELECT ?, ?".repeat(rows.saturating_sub(1))),
    };
    if backend == DbBackend::Postgres {
        return format!(
            "SELECT {what} FROM {keys} CROSS JOIN LATERAL \
             (SELECT * FROM {table} WHERE mailbox_id = v.a AND {column} = v.b OFFSET 0) t"
        );
    }
    format!("SELECT {what} FROM {keys} JOIN {table} t ON t.mailbox_id = v.a AND t.{column} = v.b")
}

fn values(places: &[Place]) -> Vec<sea_orm::Value> {
    places.iter().flat_map(|place| [place.mailbox.into(), place.modseq.into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_its_events() {
        let mut events = Vec::new();
        for number in [7_i64, 1, 0x0102_0304_0506_0708, 300] {
            events.extend(number.to_be_bytes());
        }
        let mark = commit::Model { batch: uuid::Uuid::nil(), last: Some(41), events };
        let places: Vec<Place> = of(&mark).collect();
        let second = Place { stamp: 41, mailbox: 0x0102_0304_0506_0708, modseq: 300 };
        assert_eq!(places, [Place { stamp: 40, mailbox: 7, modseq: 1 }, second]);
    }

    #[test]
    fn keys_are_joined_in_the_words_of_each_engine() {
        let text = joined(DbBackend::Postgres, &columns::<change::Entity>(DbBackend::Postgres), "changes", "modseq", 2);
        assert!(text.contains("(VALUES ($1::bigint, $2::bigint), ($3::bigint, $4::bigint)) AS v (a, b)"), "{text}");
        assert!(text.contains("mailbox_id = v.a AND modseq = v.b OFFSET 0"), "{text}");
        let text = joined(DbBackend::MySql, "MIN(t.stamp)", "messages", "uid", 2);
        assert!(text.contains("(SELECT ? AS a, ? AS b UNION ALL SELECT ?, ?) AS v"), "{text}");
    }
}
