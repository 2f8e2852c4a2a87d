//! SQLite with segment files beside it: one writer, which remembers the mailboxes it has seen. Bodies go to the disk while
//! their rows go into the transaction; it commits when both are there.
//!
//! Each transaction writes its last stamp into `meta`. So a commit whose outcome is not known (an error after COMMIT was
//! sent, a panic) is looked up on a new connection: the stamp is there, or nothing of the transaction is. Until that is
//! known nobody is answered and no body is cut.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use entity::{mailbox, message, meta};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::Writer;
use super::checkpoint::Checkpointer;
use super::ground::Ground;
use super::objects::Objects;
use super::plan::Delivery;
use super::removal::Old;
use super::repeats::Repeats;
use super::requests::{Moving, Request};
use super::rows::{self, Mailboxes};
use super::segments::{self, Segments, Tail};
use super::statements::{self, chunks};
use super::transaction::{Failure, InFlight};
use crate::mail::address::MailboxKey;
use crate::store::bodies::record;
use crate::store::columns::signed;
use crate::store::config::BodiesConfig;
use crate::store::faults::Fault;
use crate::store::incoming::Part;
use crate::store::messages::BodyLocation;
use crate::store::metrics as names;
use crate::store::space::Space;

/// The longest pause between two looks for a database that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// See the module.
pub struct Files {
    pub segments: Segments,
    pub objects: Objects,
    pub config: BodiesConfig,
    pub space: Space,
    pub checkpointer: Checkpointer,
}

impl Ground for Files {
    const ALONE: bool = true;
    const LIMIT: Option<Duration> = None;

    async fn store(writer: &mut Writer<Self>, deliveries: &[Delivery]) -> Result<(), Failure> {
        let now = crate::clock::now_micros();
        let parts = || deliveries.iter().flat_map(|delivery| &delivery.parts);
        let repeats = Repeats::find::<Self, _>(&writer.db, deliveries).await?;
        writer.mailboxes.load(&writer.db, parts().map(|part| &part.mailbox)).await?;
        let tail = match deliveries.iter().any(|delivery| delivery.at.is_none()) {
            true => Some(writer.ground.segments.tail(&writer.ground.config, now)?),
            false => None,
        };
        let place =
            |delivery: &Delivery, parts: &[Part], bodies: &mut Vec<u8>| place((delivery, parts), tail.as_ref(), bodies);
        let plan = writer.plan((deliveries, &repeats), place, now);
        if let Some(tail) = tail {
            writer.append(tail, plan.bodies).await?;
        }
        let tx = writer.transaction().await?;
        statements::insert::<message::Entity, _>(&tx, plan.rows).await?;
        for key in plan.over {
            writer.drop_oldest(&tx, &key).await?;
        }
        writer.commit(tx).await
    }

    async fn open(writer: &mut Writer<Self>, _: &[Request]) -> Result<DatabaseTransaction, Failure> {
        writer.transaction().await
    }

    async fn apply(writer: &mut Writer<Self>, tx: &DatabaseTransaction, request: &Request) -> Result<(), Failure> {
        match request {
            Request::Move(records, reply) => {
                writer.move_records(tx, records).await?;
                writer.in_flight.reply(reply, Ok(()));
            }
            Request::DropDead(reply) => {
                let done = writer.drop_dead(tx).await?;
                writer.in_flight.reply(reply, Ok(done));
            }
            Request::Cold(change, reply) => writer.cold(tx, change, reply).await?,
            // Whether there is room for bodies is in `Space`.
            Request::Probe(_, reply) => writer.in_flight.reply(reply, Ok(())),
            _ => {}
        }
        Ok(())
    }

    async fn commit(writer: &mut Writer<Self>, tx: DatabaseTransaction) -> Result<(), Failure> {
        writer.ground.segments.write(&tx).await?;
        writer.ground.objects.write(&tx).await?;
        let stamp = writer.head.stamp();
        rows::write_meta(&tx, writer.head.row.clone()).await?;
        if let Some(append) = writer.in_flight.append.as_mut() {
            let appended = append.await;
            writer.in_flight.append = None;
            appended.map_err(|error| Failure::Bodies(std::io::Error::other(error)))??;
        }
        assert!(!writer.faults.take(Fault::PanicBeforeCommit), "asked to panic before the commit");
        if writer.faults.take(Fault::Commit) {
            return Err(DbErr::Custom("asked to fail the commit".into()).into());
        }
        writer.in_flight.stamp = Some(stamp);
        tx.commit().await?;
        assert!(!writer.faults.take(Fault::PanicAfterCommit), "asked to panic after the commit");
        if writer.faults.take(Fault::CommitUnknown) {
            return Err(DbErr::Custom("asked to lose the answer to the commit".into()).into());
        }
        Ok(())
    }

    /// Connects anew, reads the state again and compares the stamp; without one nothing was committed. Tries until the
    /// database answers or the store is closed.
    async fn committed(writer: &mut Writer<Self>, failure: Option<&Failure>) -> bool {
        if let Some(append) = writer.in_flight.append.take() {
            // It must not write behind the truncation.
            let _ = append.await;
        }
        if failure.is_some_and(Failure::no_space) {
            writer.ground.space.ran_out(&writer.shared.space);
        }
        let committed = writer.find_out().await;
        if !committed && matches!(failure, Some(Failure::Sync(_))) {
            writer.ground.segments.abandon();
        }
        committed
    }

    fn repeats(_: &Failure) -> bool {
        false
    }

    fn settled(writer: &mut Writer<Self>, done: &mut InFlight) -> i64 {
        let Self { segments, checkpointer, .. } = &mut writer.ground;
        checkpointer.wrote(done.rows);
        segments.committed();
        segments.forget(&done.forgotten);
        segments.remove_files(&done.dead);
        writer.head.row.stamp
    }

    fn born(&mut self, at: BodyLocation) {
        self.segments.born(at.segment, at.length);
    }

    fn died(&mut self, old: &Old) {
        match old.segment < 0 {
            true => self.objects.died(-old.segment, old.length),
            false => self.segments.died(old.segment, old.length),
        }
    }

    fn is_short(writer: &mut Writer<Self>) -> bool {
        writer.ground.space.check(&writer.shared.space)
    }

    async fn tend(writer: &mut Writer<Self>, idle: bool) {
        if idle {
            return writer.ground.checkpointer.idle(&writer.db).await;
        }
        let short = Self::is_short(writer);
        writer.ground.checkpointer.look(&writer.db, short).await;
    }

    fn rests(_: &mut Writer<Self>) {}

    fn patience(&self) -> Duration {
        self.checkpointer.patience()
    }

    async fn finish(writer: &mut Writer<Self>) {
        writer.ground.checkpointer.finish(&writer.db).await;
    }

    fn incarnation(writer: &mut Writer<Self>, _: &MailboxKey) -> i64 {
        writer.head.stamp()
    }

    fn ended(&mut self, _: &MailboxKey, _: &mailbox::Model) {}

    fn mailbox_id(writer: &mut Writer<Self>) -> i64 {
        let id = writer.head.row.next_mailbox;
        writer.head.row.next_mailbox += 1;
        id
    }

    async fn forget(writer: &mut Writer<Self>, _: &DatabaseTransaction, through: i64, _: i64) -> Result<bool, DbErr> {
        writer.head.row.stream_floor = writer.head.row.stream_floor.max(through);
        Ok(false)
    }
}

impl Writer<Files> {
    /// Starts writing `bytes` at `tail`; the commit waits for their sync.
    async fn append(&mut self, tail: Tail, bytes: Vec<u8>) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(before) = self.in_flight.append.take() {
            before.await.map_err(|error| Failure::Bodies(std::io::Error::other(error)))??;
        }
        metrics::counter!(names::BYTES).increment(bytes.len() as u64);
        self.ground.segments.appended(tail.number, bytes.len() as u64);
        let faults = self.faults.clone();
        self.in_flight.append = Some(tokio::task::spawn_blocking(move || segments::append(&tail, &bytes, &faults)));
        Ok(())
    }

    async fn find_out(&mut self) -> bool {
        let mut pause = Duration::from_millis(10);
        loop {
            match self.ascertain().await {
                Ok(()) => break,
                Err(error) => tracing::error!(%error, "the database does not answer"),
            }
            if self.closing() {
                // The answer is not known and nobody is promised anything; the next start takes in what is whole. What
                // is known of mailboxes may be wrong, so nothing else is stored either.
                self.ground.segments.leave();
                self.dead = true;
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let committed = self.in_flight.stamp == Some(self.head.row.stamp);
        if !committed {
            self.ground.segments.truncate();
        }
        committed
    }

    /// Reads anew where everything stands. If a commit was tried and is not there, its frames may still lie in the WAL,
    /// whole, beyond the end that is known: the next start would find them and the bodies gone. A small commit
    /// overwrites their beginning, which makes all of them void.
    async fn ascertain(&mut self) -> Result<(), DbErr> {
        self.reload().await?;
        let tried = self.in_flight.stamp.filter(|stamp| *stamp != self.head.row.stamp);
        if let Some(stamp) = tried {
            let mut head = self.head.clone();
            // Never the one that tells whether the commit happened.
            head.row.stamp = head.row.stamp.max(stamp);
            head.stamp();
            rows::write_meta(&self.db, head.row.clone()).await?;
            self.head = head;
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), DbErr> {
        let db = self.source.writing().await?;
        let old = std::mem::replace(&mut self.db, db);
        let _ = tokio::time::timeout(Duration::from_secs(5), old.close()).await;
        let row = meta::Entity::find_by_id(1).one(&self.db).await?;
        self.head.row = row.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
        self.ground.segments.reload(&self.db).await?;
        self.ground.objects.clear();
        self.mailboxes = Mailboxes::default();
        Ok(())
    }

    /// A step of giving segments back; how much there was to do. The next step goes on with what this one committed: a
    /// file goes once its row says that nothing lives in it, the row once the file is gone for good. So a file without
    /// a row is always one whose commit was lost.
    async fn drop_dead(&mut self, tx: &DatabaseTransaction) -> Result<usize, Failure> {
        let short = self.shared.space.no_space.load(Ordering::Relaxed);
        let closed = self.ground.segments.close_spent(&self.ground.config, crate::clock::now_micros(), short);
        let forgotten = self.ground.segments.forget_removed(tx).await?;
        let dead = self.ground.segments.dead(short);
        let done = usize::from(closed) + forgotten.len() + dead.len();
        self.in_flight.forgotten.extend(forgotten);
        self.in_flight.dead.extend(dead);
        Ok(done)
    }

    /// Copies records to the tail and points their rows there. What was deleted since it was read is left out: at the
    /// next start a copy without a row would be taken for mail that came in.
    async fn move_records(&mut self, tx: &DatabaseTransaction, records: &[Moving]) -> Result<(), Failure> {
        use message::Column;
        let needed = places(tx, records).await?;
        let is_needed = |record: &&Moving| needed.contains(&(record.id.0, record.from.segment, record.from.offset));
        let tail = self.ground.segments.tail(&self.ground.config, crate::clock::now_micros())?;
        let mut places = Vec::with_capacity(records.len());
        let mut bytes = Vec::new();
        for record in records.iter().filter(is_needed) {
            places.push((record.id, record.from, signed(tail.offset + bytes.len() as u64)));
            bytes.extend_from_slice(&record.bytes);
        }
        metrics::counter!(names::COMPACTED).increment(bytes.len() as u64);
        let number = tail.number;
        self.append(tail, bytes).await?;
        for (id, from, offset) in places {
            let moved = message::Entity::update_many()
                .col_expr(Column::Segment, Expr::value(number))
                .col_expr(Column::Offset, Expr::value(offset))
                .filter(Column::Id.eq(id.0))
                .filter(Column::Segment.eq(from.segment))
                .filter(Column::Offset.eq(from.offset))
                .exec(tx)
                .await?
                .rows_affected;
            self.ground.segments.moved(from.segment, from.length * signed(moved));
            self.ground.segments.born(number, from.length * signed(moved));
            self.in_flight.rows += moved;
        }
        Ok(())
    }
}

/// Where the rows of these messages point.
async fn places(tx: &DatabaseTransaction, records: &[Moving]) -> Result<HashSet<(uuid::Uuid, i64, i64)>, Failure> {
    use message::Column;
    let ids: Vec<uuid::Uuid> = records.iter().map(|record| record.id.0).collect();
    let mut places = HashSet::new();
    for ids in chunks(&ids) {
        let rows = message::Entity::find()
            .select_only()
            .columns([Column::Id, Column::Segment, Column::Offset])
            .filter(Column::Id.is_in(ids.to_vec()))
            .into_tuple::<(uuid::Uuid, i64, i64)>();
        places.extend(rows.all(tx).await?);
    }
    Ok(places)
}

/// Where the delivery's record lies or will lie.
fn place((delivery, parts): (&Delivery, &[Part]), tail: Option<&Tail>, bodies: &mut Vec<u8>) -> Option<BodyLocation> {
    if let Some(at) = delivery.at {
        return Some(at);
    }
    let tail = tail?;
    let offset = tail.offset + bodies.len() as u64;
    let Delivery { id, received_at, envelope, body, .. } = delivery;
    let length = record::write(bodies, *id, *received_at, envelope, parts, body);
    Some(BodyLocation { segment: tail.number, offset: signed(offset), length: signed(length) })
}
