//! A database server: several writers here and on other nodes, told apart by row locks; bodies in a table.
//!
//! A transaction puts its bodies first, then locks its mailboxes in the order of their addresses, so that the long part
//! waits for nobody. Its last statement takes the next stamps of the stream, leaves a mark in `commits` and commits, all
//! in one message to the server: stamps are in commit order over all nodes, and a node that stops holds up nobody there.
//!
//! A commit whose outcome is not known is looked up by its mark, which is put if it is not there: then a commit that is
//! still on its way finds it and fails.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use entity::{commit, mailbox, message, meta};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect, SqlErr, TransactionTrait,
};
use uuid::Uuid;

use super::Writer;
use super::ground::Ground;
use super::plan::Delivery;
use super::removal::Old;
use super::repeats::Repeats;
use super::requests::Request;
use super::statements::{self, chunks};
use super::table;
use super::transaction::{Failure, InFlight};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::StreamCursor;
use crate::store::columns::{self, signed};
use crate::store::faults::Fault;
use crate::store::history::{self, Belief};
use crate::store::incoming::Part;
use crate::store::messages::BodyLocation;
use crate::store::source::COMMITTING;
use crate::store::trouble;

/// Numbers for mailboxes that a writer takes at once.
const NUMBERS: i64 = 10_000;
/// Marks removed in one step.
const STEP: u64 = 500;
const NEVER: Duration = Duration::from_secs(3_600);

/// See the module.
pub struct Server {
    /// For new mailboxes.
    numbers: Range<i64>,
    /// Lives that ended in this transaction.
    ended: HashMap<MailboxKey, i64>,
    /// A stamp of the stream, from after it was seen which mailboxes are not there.
    stream: i64,
    /// Messages that lost a row in this transaction.
    gone: Vec<Uuid>,
    /// The mark of this transaction, once its commit was sent.
    batch: Option<Uuid>,
    /// The stamp of its last event.
    last: Option<i64>,
    /// The transaction that the message of the last commit has opened; nothing was done in it.
    opened: Option<DatabaseTransaction>,
    /// A commit found that the database is not as it is believed to be.
    doubts: bool,
}

impl Server {
    /// One for each writer of a node.
    pub fn new() -> Self {
        let (ended, gone) = (HashMap::new(), Vec::new());
        Self { numbers: 0..0, ended, stream: 0, gone, batch: None, last: None, opened: None, doubts: false }
    }

    /// The transaction was committed, with this stamp as its last.
    pub(super) fn last(&mut self, stamp: Option<i64>) {
        self.last = stamp;
    }

    fn begin(&mut self) {
        self.gone.clear();
        self.ended.clear();
        (self.batch, self.last) = (None, None);
    }
}

impl Ground for Server {
    const ALONE: bool = false;
    const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

    async fn store(writer: &mut Writer<Self>, deliveries: &[Delivery]) -> Result<(), Failure> {
        let now = writer.now();
        let parts = || deliveries.iter().flat_map(|delivery| &delivery.parts);
        let tx = writer.begin(parts().count()).await?;
        let repeats = Repeats::find::<Self, _>(&tx, deliveries).await?;
        let new = deliveries.iter().enumerate().filter(|(index, _)| !repeats.is_repeat(*index));
        table::put(&tx, new.map(|(_, delivery)| delivery)).await?;
        writer.load(&tx, parts().map(|part| &part.mailbox)).await?;
        let place = |delivery: &Delivery, _: &[Part], _: &mut Vec<u8>| {
            Some(BodyLocation { segment: 0, offset: 0, length: signed(delivery.body.bytes.len() as u64) })
        };
        let plan = writer.plan((deliveries, &repeats), place, now);
        table::correct(&tx, &plan.refused, plan.fewer).await?;
        statements::insert::<message::Entity, _>(&tx, plan.rows).await?;
        for key in plan.over {
            writer.drop_oldest(&tx, &key).await?;
        }
        writer.commit(tx).await
    }

    async fn open(writer: &mut Writer<Self>, changes: &[Request]) -> Result<DatabaseTransaction, Failure> {
        let tx = writer.begin(changes.len()).await?;
        // In the order of their addresses, as everyone does.
        writer.load(&tx, changes.iter().filter_map(Request::mailbox)).await?;
        Ok(tx)
    }

    async fn apply(writer: &mut Writer<Self>, tx: &DatabaseTransaction, request: &Request) -> Result<(), Failure> {
        match request {
            Request::Cold(change, reply) => writer.cold(tx, change, reply).await?,
            Request::Move(_, reply) => writer.in_flight.reply(reply, Ok(())),
            Request::DropDead(reply) => writer.in_flight.reply(reply, Ok(0)),
            Request::Probe(size, reply) => {
                let room = table::probe(tx, *size).await?;
                writer.in_flight.reply(reply, room);
            }
            _ => {}
        }
        Ok(())
    }

    async fn commit(writer: &mut Writer<Self>, tx: DatabaseTransaction) -> Result<(), Failure> {
        table::release(&tx, std::mem::take(&mut writer.ground.gone)).await?;
        assert!(!writer.faults.take(Fault::PanicBeforeCommit), "asked to panic before the commit");
        let belief = writer.shared.history.belief();
        if belief.lineage != writer.head.lineage() {
            return Err(Failure::History);
        }
        let batch = Uuid::now_v7();
        let text = commit_text(tx.get_database_backend(), batch, &writer.in_flight.places, &belief);
        writer.ground.batch = Some(batch);
        if writer.faults.take(Fault::Commit) {
            return Err(DbErr::Custom("asked to fail the commit".into()).into());
        }
        match tx.execute_unprepared(&text).await {
            // Nobody else has this mark: it was put twice.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                writer.ground.doubts = true;
                return Err(Failure::History);
            }
            done => done?,
        };
        writer.ground.last = last_of(&tx, batch).await?;
        assert!(!writer.faults.take(Fault::PanicAfterCommit), "asked to panic after the commit");
        if writer.faults.take(Fault::CommitUnknown) {
            return Err(DbErr::Custom("asked to lose the answer to the commit".into()).into());
        }
        writer.ground.opened = Some(tx);
        Ok(())
    }

    async fn committed(writer: &mut Writer<Self>, failure: Option<&Failure>) -> bool {
        writer.ground.opened = None;
        match failure {
            // Refused by the server, so it is not in doubt. Another is the primary now, or this one will be again.
            Some(failure) if failure.is_read_only() => {
                writer.source.forsake();
                return false;
            }
            // Nothing more is asked on a connection that has not answered.
            Some(Failure::Late(_)) => writer.connect_anew(),
            _ => {}
        }
        match writer.ground.batch {
            Some(batch) => writer.find_out(batch).await,
            None => false,
        }
    }

    fn repeats(failure: &Failure) -> bool {
        match failure {
            Failure::Database(error) => trouble::is_conflict(error),
            other => matches!(other, Failure::History),
        }
    }

    fn settled(writer: &mut Writer<Self>, done: &mut InFlight) -> i64 {
        let last = writer.ground.last.unwrap_or(0);
        let first = last - signed(done.events.len() as u64);
        let batch = writer.ground.batch;
        for (stamp, event) in (first + 1..).zip(&mut done.events) {
            if let Some(event) = Arc::get_mut(event) {
                event.stream = StreamCursor { stamp, ..event.stream };
                event.batch = batch;
            }
        }
        if last > 0 {
            writer.shared.history.saw(StreamCursor { lineage: writer.head.lineage(), stamp: last }, batch);
        }
        last
    }

    fn born(&mut self, _: BodyLocation) {}

    fn died(&mut self, old: &Old) {
        self.gone.push(old.id);
    }

    fn is_short(_: &mut Writer<Self>) -> bool {
        false
    }

    async fn tend(_: &mut Writer<Self>, _: bool) {}

    /// A transaction is not left open while nothing is done.
    fn rests(writer: &mut Writer<Self>) {
        writer.ground.opened = None;
    }

    fn patience(&self) -> Duration {
        NEVER
    }

    async fn finish(writer: &mut Writer<Self>) {
        writer.ground.opened = None;
    }

    /// Each end of a life takes a stamp, and was committed before it was seen that nobody lives here. So no life is above the
    /// stream by more than one.
    fn incarnation(writer: &mut Writer<Self>, key: &MailboxKey) -> i64 {
        let ground = &writer.ground;
        std::cmp::max(ground.ended.get(key).copied().unwrap_or(0), ground.stream) + 1
    }

    fn ended(&mut self, key: &MailboxKey, row: &mailbox::Model) {
        self.ended.insert(key.clone(), row.incarnation);
    }

    /// [`Writer::begin`] has made sure that there is one; should there not be, the row of this one conflicts.
    fn mailbox_id(writer: &mut Writer<Self>) -> i64 {
        writer.ground.numbers.next().unwrap_or(0)
    }

    async fn forget(writer: &mut Writer<Self>, tx: &DatabaseTransaction, _: i64, now: i64) -> Result<bool, DbErr> {
        let _ = writer;
        let old = commit::Entity::find()
            .filter(commit::Column::Batch.lt(first_of(now - super::removal::KEPT)))
            .order_by_asc(commit::Column::Batch)
            .limit(STEP)
            .all(tx)
            .await?;
        if old.is_empty() {
            return Ok(false);
        }
        // These and no others: a node whose clock is behind may be putting one below the newest of them.
        let marks: Vec<Uuid> = old.iter().map(|mark| mark.batch).collect();
        for marks in chunks(&marks) {
            commit::Entity::delete_many().filter(commit::Column::Batch.is_in(marks.to_vec())).exec(tx).await?;
        }
        if let Some(through) = old.iter().filter_map(|mark| mark.last).max() {
            meta::Entity::update_many()
                .col_expr(meta::Column::StreamFloor, Expr::value(through))
                .filter(meta::Column::StreamFloor.lt(through))
                .exec(tx)
                .await?;
        }
        Ok(old.len() as u64 == STEP)
    }
}

impl Writer<Server> {
    /// Opens a transaction that makes up to `mailboxes` of them.
    async fn begin(&mut self, mailboxes: usize) -> Result<DatabaseTransaction, Failure> {
        let opened = self.ground.opened.take();
        self.ground.begin();
        self.mailboxes.forget();
        self.believe().await?;
        self.number(mailboxes).await?;
        match opened {
            Some(tx) if !self.faults.lasts(Fault::Away) => Ok(tx),
            _ => self.transaction().await,
        }
    }

    /// Takes more numbers for mailboxes unless so many are left.
    async fn number(&mut self, mailboxes: usize) -> Result<(), DbErr> {
        let numbers = &self.ground.numbers;
        if numbers.end - numbers.start >= signed(mailboxes as u64) {
            return Ok(());
        }
        let wanted = std::cmp::max(NUMBERS, signed(mailboxes as u64));
        let tx = self.db.begin().await?;
        let next = || Expr::col(meta::Column::NextMailbox);
        meta::Entity::update_many().col_expr(meta::Column::NextMailbox, next().add(wanted)).exec(&tx).await?;
        let row = meta::Entity::find_by_id(1).one(&tx).await?.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
        tx.commit().await?;
        self.ground.numbers = row.next_mailbox - wanted..row.next_mailbox;
        // No other writer has this lot of numbers.
        self.head.writer = Some(row.next_mailbox / NUMBERS);
        Ok(())
    }

    /// Goes over to the history that this node believes in, after a doubt to the one that the database has.
    async fn believe(&mut self) -> Result<(), DbErr> {
        let shared = Arc::clone(&self.shared);
        if self.ground.doubts {
            shared.settle(&self.db).await?;
            self.ground.doubts = false;
        }
        let lineage = shared.history.lineage();
        if lineage != self.head.lineage() {
            self.head.row.lineage = i64::from(lineage);
            // They may be given again, or were never.
            self.ground.numbers = 0..0;
        }
        Ok(())
    }

    /// Locks the mailboxes of `keys` that are there. For those that are not, where the stream stands after that look.
    async fn load(
        &mut self,
        tx: &DatabaseTransaction,
        keys: impl Iterator<Item = &MailboxKey> + Clone,
    ) -> Result<(), DbErr> {
        self.mailboxes.load(tx, keys.clone()).await?;
        let now = self.now();
        if keys.into_iter().any(|key| self.mailboxes.get(key).is_none_or(|row| columns::ended(row, now))) {
            let row = meta::Entity::find_by_id(1).one(tx).await?.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
            self.ground.stream = row.stamp;
        }
        Ok(())
    }
}

/// The last stamp of the transaction with this mark.
async fn last_of<C: ConnectionTrait>(db: &C, batch: Uuid) -> Result<Option<i64>, DbErr> {
    let mark = commit::Entity::find_by_id(batch).select_only().column(commit::Column::Last);
    Ok(mark.into_tuple::<Option<i64>>().one(db).await?.flatten())
}

/// Takes the next stamps, leaves the mark, commits, and opens an empty transaction, which the driver believes this one to be.
/// The mark is put twice, which fails, where the database is not as it is believed to be: in the same message, and under the
/// lock of the row that a new history begins with.
fn commit_text(backend: DbBackend, batch: Uuid, places: &[(i64, i64)], belief: &Belief) -> String {
    let batch = history::uuid(backend, batch);
    let events: String = places.iter().map(|(mailbox, modseq)| format!("{mailbox:016x}{modseq:016x}")).collect();
    let events = match backend {
        _ if places.is_empty() => "''".to_owned(),
        DbBackend::Postgres => format!("'\\x{events}'"),
        _ => format!("X'{events}'"),
    };
    if backend == DbBackend::Postgres {
        let (count, known) = (places.len(), belief.arguments());
        return format!("EXECUTE {COMMITTING}({count}, {batch}, {events}, {known}); COMMIT; BEGIN");
    }
    let last = if places.is_empty() { "NULL" } else { "stamp" };
    format!(
        "UPDATE meta SET stamp = stamp + {count} WHERE id = 1; \
         INSERT INTO commits (batch, last, events) SELECT {batch}, {last}, {events} \
         FROM meta, (SELECT 1 AS turn UNION ALL SELECT 2) turns WHERE id = 1 AND (turn = 1 OR {doubt}); \
         COMMIT; BEGIN",
        count = places.len(),
        doubt = belief.doubt(places.len()),
    )
}

/// The least mark of this moment, in microseconds.
pub fn first_of(micros: i64) -> Uuid {
    let millis = u128::from(std::cmp::max(micros / 1_000, 0).unsigned_abs());
    Uuid::from_u128(millis << 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::history::Mark;

    #[test]
    fn a_mark_lies_between_the_moments_beside_it() {
        let mark = Uuid::now_v7();
        let now = crate::clock::now_micros();
        assert!(first_of(now - 2_000_000) < mark && mark < first_of(now + 2_000_000));
    }

    #[test]
    fn the_commit_is_one_text() {
        let batch = Uuid::from_u128(0x0123);
        let belief = Belief { lineage: 9, stamp: 40, mark: None };
        let text = commit_text(DbBackend::Postgres, batch, &[(1, 2), (0x10, 0xff)], &belief);
        assert!(text.starts_with("EXECUTE mailroom_commit(2, '00000000-0000-0000-0000-000000000123', "), "{text}");
        assert!(
            text.contains(r"'\x000000000000000100000000000000020000000000000010")
                && text.contains("00ff', 9, 40, 0, NULL)"),
            "{text}"
        );
        assert!(text.ends_with("COMMIT; BEGIN"));
        let text = commit_text(DbBackend::MySql, batch, &[(1, 2), (0x10, 0xff)], &belief);
        assert!(text.contains("(turn = 1 OR lineage <> 9 OR restored OR stamp < 42)"), "{text}");
        let belief = Belief { mark: Some(Mark { stamp: 38, batch }), ..belief };
        let text = commit_text(DbBackend::MySql, batch, &[], &belief);
        assert!(text.contains("SELECT X'00000000000000000000000000000123', NULL, '' FROM meta"), "{text}");
        assert!(text.contains("stamp < 40 OR (stream_floor < 38 AND NOT EXISTS"), "{text}");
        let text = commit_text(DbBackend::Postgres, batch, &[], &belief);
        assert!(text.contains("'', 9, 40, 38, '00000000-0000-0000-0000-000000000123')"), "{text}");
    }
}
