//! Many rows in one statement, at the least cost for the thread that writes: the text of a statement is made once for
//! each table and number of rows, values are moved into it, and while the database works on one the next is made.
//!
//! Statements have one of a few fixed sizes, so that SQLite finds each of them prepared. Measured against SeaORM's
//! `insert_many`, which makes the text anew each time, in `docs/storage.md`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::task::Poll;

use entity::mailbox;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IdenStatic, IntoActiveModel, Iterable, Statement, Value,
};

/// Rows (or keys) in one statement.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// What happens to a row that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Known {
    Fails,
    /// Every column but the `id` is replaced.
    Replaced,
}

thread_local! {
    static TEXTS: RefCell<HashMap<(&'static str, usize), String>> = RefCell::default();
}

/// Inserts rows of any table.
pub async fn insert<E, C>(db: &C, rows: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + Send,
    C: ConnectionTrait,
{
    write::<E, C>(db, rows, Known::Fails).await
}

/// Inserts mailboxes, or replaces those whose id is there.
pub async fn put_mailboxes<C: ConnectionTrait>(db: &C, rows: Vec<mailbox::Model>) -> Result<(), DbErr> {
    write::<mailbox::Entity, C>(db, rows, Known::Replaced).await
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
    run(db, rows, |rows| {
        let text = text("mailboxes counters", rows.len(), || counters_text(rows.len()));
        let values = rows.into_iter().flat_map(|row| [row.id, row.modseq, row.messages, row.unread, row.bytes]);
        (text, values.map(Value::from).collect())
    })
    .await
}

async fn write<E, C>(db: &C, rows: Vec<E::Model>, known: Known) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + Send,
    C: ConnectionTrait,
{
    run(db, rows, |rows| {
        let text = text(E::default().table_name(), rows.len(), || insert_text::<E>(rows.len(), known));
        let mut values = Vec::with_capacity(rows.len() * E::Column::iter().count());
        for row in rows {
            let mut row = row.into_active_model();
            values.extend(E::Column::iter().filter_map(|column| row.take(column).into_value()));
        }
        (text, values)
    })
    .await
}

/// Runs a statement for each chunk of rows; the next is made while the database is busy with the one before.
async fn run<T, C: ConnectionTrait>(
    db: &C,
    mut rows: Vec<T>,
    mut make: impl FnMut(Vec<T>) -> (String, Vec<Value>),
) -> Result<(), DbErr> {
    let mut next = take_chunk(&mut rows).map(&mut make);
    while let Some((text, values)) = next {
        let statement = Statement::from_sql_and_values(db.get_database_backend(), text, values);
        let mut running = std::pin::pin!(db.execute_raw(statement));
        // The first poll hands the statement over.
        let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
        next = take_chunk(&mut rows).map(&mut make);
        match first {
            Poll::Ready(done) => done?,
            Poll::Pending => running.await?,
        };
    }
    Ok(())
}

fn text(table: &'static str, rows: usize, make: impl FnOnce() -> String) -> String {
    TEXTS.with_borrow_mut(|texts| texts.entry((table, rows)).or_insert_with(make).clone())
}

fn insert_text<E: EntityTrait>(rows: usize, known: Known) -> String {
    let columns: Vec<&str> = E::Column::iter().map(|column| column.as_str()).collect();
    let quoted: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let mut text = format!("INSERT INTO \"{}\" ({}) VALUES ", E::default().table_name(), quoted.join(", "));
    push_tuples(&mut text, rows, columns.len());
    if known == Known::Replaced {
        let sets: Vec<String> = quoted
            .iter()
            .filter(|column| *column != "\"id\"")
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let _ = write!(text, " ON CONFLICT (\"id\") DO UPDATE SET {}", sets.join(", "));
    }
    text
}

/// SQLite names the columns of VALUES itself.
fn counters_text(rows: usize) -> String {
    let mut text = String::from(
        "UPDATE \"mailboxes\" SET \"modseq\" = v.column2, \"messages\" = v.column3, \"unread\" = v.column4, \
         \"bytes\" = v.column5 FROM (VALUES ",
    );
    push_tuples(&mut text, rows, 5);
    text.push_str(") AS v WHERE \"mailboxes\".\"id\" = v.column1");
    text
}

fn push_tuples(text: &mut String, rows: usize, columns: usize) {
    let tuple = format!("({})", vec!["?"; columns].join(", "));
    text.push_str(&vec![tuple; rows].join(", "));
}

/// The next rows for one statement, from the front.
fn take_chunk<T>(rows: &mut Vec<T>) -> Option<Vec<T>> {
    let size = SIZES.into_iter().find(|size| *size <= rows.len())?;
    let rest = rows.split_off(size);
    Some(std::mem::replace(rows, rest))
}

/// Slices of the fixed sizes that make up `all`.
pub fn chunks<T>(all: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rest.len())?;
        let (chunk, tail) = rest.split_at_checked(size)?;
        rest = tail;
        Some(chunk)
    })
}
