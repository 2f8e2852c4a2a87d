//! Many rows in one statement, at the least cost for the thread that writes: the text of a statement is made once for
//! each table and number of rows, values are moved into it, and while the database works on one the next is made.
//!
//! Statements have one of a few fixed sizes, so that the database finds each of them prepared. Measured against SeaORM's
//! `insert_many`, which makes the text anew each time, in `docs/storage.md`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::mem::{Discriminant, discriminant};
use std::task::Poll;

use entity::mailbox;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, IdenStatic, IntoActiveModel, Iterable, Statement,
    Value,
};

/// Rows (or keys) in one statement.
const SIZES: [usize; 4] = [64, 16, 4, 1];
/// The same where each statement is a message to a server and its answer: a small batch is one statement.
const FAR_SIZES: [usize; 20] = [64, 48, 32, 24, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

fn sizes(backend: DbBackend) -> &'static [usize] {
    if backend == DbBackend::Sqlite { &SIZES } else { &FAR_SIZES }
}

/// Engine, table or purpose, and number of rows of a text.
type Which = (Discriminant<DbBackend>, &'static str, usize);

thread_local! {
    static TEXTS: RefCell<HashMap<Which, String>> = RefCell::default();
}

/// Inserts rows of any table.
pub async fn insert<E, C>(db: &C, rows: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + Send,
    C: ConnectionTrait,
{
    run(db, sizes(db.get_database_backend()), rows, |backend, rows| {
        let text = text(backend, E::default().table_name(), rows.len(), || insert_text::<E>(backend, rows.len()));
        (text, rows.into_iter().flat_map(values::<E>).collect())
    })
    .await
}

/// Replaces every column of mailboxes that are there.
pub async fn replace_mailboxes<C: ConnectionTrait>(db: &C, rows: Vec<mailbox::Model>) -> Result<(), DbErr> {
    // MySQL has no list of values to join with that may hold nulls.
    let backend = db.get_database_backend();
    run(db, if backend == DbBackend::MySql { &[1] } else { sizes(backend) }, rows, |backend, rows| {
        let text = text(backend, "mailboxes whole", rows.len(), || replace_text(backend, rows.len()));
        let one = |row: mailbox::Model| {
            let id = row.id;
            let mut values = values::<mailbox::Entity>(row);
            if backend == DbBackend::MySql {
                values.push(id.into());
            }
            values
        };
        (text, rows.into_iter().flat_map(one).collect())
    })
    .await
}

/// Counter and totals of a mailbox.
pub struct Counters {
    pub id: i64,
    modseq: i64,
    messages: i64,
    unread: i64,
    bytes: i64,
}

impl Counters {
    pub const fn of(row: &mailbox::Model) -> Self {
        Self { id: row.id, modseq: row.modseq, messages: row.messages, unread: row.unread, bytes: row.bytes }
    }
}

/// Sets counter and totals of mailboxes that are there: no index is touched.
pub async fn count_mailboxes<C: ConnectionTrait>(db: &C, rows: Vec<Counters>) -> Result<(), DbErr> {
    run(db, sizes(db.get_database_backend()), rows, |backend, rows| {
        let text = text(backend, "mailboxes counters", rows.len(), || counters_text(backend, rows.len()));
        let values = rows.into_iter().flat_map(|row| [row.id, row.modseq, row.messages, row.unread, row.bytes]);
        (text, values.map(Value::from).collect())
    })
    .await
}

fn values<E>(row: E::Model) -> Vec<Value>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E>,
{
    let mut row = row.into_active_model();
    E::Column::iter().filter_map(|column| row.take(column).into_value()).collect()
}

/// Runs a statement for each chunk of rows; the next is made while the database is busy with the one before.
async fn run<T, C: ConnectionTrait>(
    db: &C,
    sizes: &[usize],
    mut rows: Vec<T>,
    make: impl Fn(DbBackend, Vec<T>) -> (String, Vec<Value>),
) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let mut make = |rows| make(backend, rows);
    let mut next = take_chunk(sizes, &mut rows).map(&mut make);
    while let Some((text, values)) = next {
        let statement = Statement::from_sql_and_values(backend, text, values);
        let mut running = std::pin::pin!(db.execute_raw(statement));
        // The first poll hands the statement over.
        let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
        next = take_chunk(sizes, &mut rows).map(&mut make);
        match first {
            Poll::Ready(done) => done?,
            Poll::Pending => running.await?,
        };
    }
    Ok(())
}

fn text(backend: DbBackend, table: &'static str, rows: usize, make: impl FnOnce() -> String) -> String {
    TEXTS.with_borrow_mut(|texts| texts.entry((discriminant(&backend), table, rows)).or_insert_with(make).clone())
}

fn quoted(backend: DbBackend, name: &str) -> String {
    if backend == DbBackend::MySql { format!("`{name}`") } else { format!("\"{name}\"") }
}

/// The name of each column of a table, quoted.
fn columns<E: EntityTrait>(backend: DbBackend) -> Vec<String> {
    E::Column::iter().map(|column| quoted(backend, column.as_str())).collect()
}

fn insert_text<E: EntityTrait>(backend: DbBackend, rows: usize) -> String {
    let columns = columns::<E>(backend);
    let table = quoted(backend, E::default().table_name());
    let mut text = format!("INSERT INTO {table} ({}) VALUES ", columns.join(", "));
    push_tuples(&mut text, backend, rows, columns.len(), "");
    text
}

fn replace_text(backend: DbBackend, rows: usize) -> String {
    let columns = columns::<mailbox::Entity>(backend);
    if backend == DbBackend::MySql {
        let sets: Vec<String> = columns.iter().map(|column| format!("{column} = ?")).collect();
        return format!("UPDATE mailboxes SET {} WHERE id = ?", sets.join(", "));
    }
    // Both name the columns of VALUES themselves. PostgreSQL takes their types from the first row.
    let sets: Vec<String> =
        (1..).zip(&columns).map(|(n, column)| format!("{column} = v.column{n}{}", cast(backend, column))).collect();
    let mut text = format!("UPDATE mailboxes SET {} FROM (VALUES ", sets.join(", "));
    push_tuples(&mut text, backend, rows, columns.len(), "");
    let id = columns.iter().position(|column| column == "\"id\"").unwrap_or_default() + 1;
    let _ = write!(text, ") AS v WHERE mailboxes.id = v.column{id}{}", cast(backend, "\"id\""));
    text
}

/// PostgreSQL takes a parameter without a type for text.
fn cast(backend: DbBackend, column: &str) -> &'static str {
    match (backend, column) {
        (DbBackend::Postgres, "\"address\"") => "::text",
        (DbBackend::Postgres, "\"token_hash\"") => "::bytea",
        (DbBackend::Postgres, "\"origin\"" | "\"when_full\"") => "::smallint",
        (DbBackend::Postgres, _) => "::bigint",
        _ => "",
    }
}

fn counters_text(backend: DbBackend, rows: usize) -> String {
    if backend == DbBackend::MySql {
        let first = "SELECT ? AS c1, ? AS c2, ? AS c3, ? AS c4, ? AS c5";
        let more = " UNION ALL SELECT ?, ?, ?, ?, ?".repeat(rows - 1);
        return format!(
            "UPDATE mailboxes JOIN ({first}{more}) AS v ON mailboxes.id = v.c1 \
             SET modseq = v.c2, messages = v.c3, unread = v.c4, bytes = v.c5"
        );
    }
    let mut text = String::from(
        "UPDATE mailboxes SET modseq = v.column2, messages = v.column3, unread = v.column4, bytes = v.column5 \
         FROM (VALUES ",
    );
    let kind = if backend == DbBackend::Postgres { "::bigint" } else { "" };
    push_tuples(&mut text, backend, rows, 5, kind);
    text.push_str(") AS v WHERE mailboxes.id = v.column1");
    text
}

/// `(?, ?), (?, ?)`, or with numbers, each followed by `kind`.
fn push_tuples(text: &mut String, backend: DbBackend, rows: usize, columns: usize, kind: &str) {
    let mut number = 0;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            number += 1;
            text.push_str(if column == 0 { "" } else { ", " });
            match backend {
                DbBackend::Postgres => drop(write!(text, "${number}{kind}")),
                _ => text.push('?'),
            }
        }
        text.push(')');
    }
}

/// The next rows for one statement, from the front.
fn take_chunk<T>(sizes: &[usize], rows: &mut Vec<T>) -> Option<Vec<T>> {
    let size = sizes.iter().copied().find(|size| *size <= rows.len())?;
    let rest = rows.split_off(size);
    Some(std::mem::replace(rows, rest))
}

/// Slices of the fixed sizes that make up `all`.
pub fn chunks<T>(all: &[T]) -> impl Iterator<Item = &[T]> {
    chunks_for(DbBackend::Sqlite, all)
}

/// The same in the sizes of an engine.
pub fn chunks_for<T>(backend: DbBackend, all: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let size = sizes(backend).iter().copied().find(|size| *size <= rest.len())?;
        let (chunk, tail) = rest.split_at_checked(size)?;
        rest = tail;
        Some(chunk)
    })
}
