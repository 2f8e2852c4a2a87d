//! The rows of objects: begun before anything is written to object storage, pointed at once it is there, gone after the
//! object.
//!
//! Several nodes may be at it at the same time, and none believes what it read before. An object is marked dead only while
//! nothing points there, rows are pointed at it only while it is not, and both take the lock of its row first: whichever
//! comes second finds out. What is dead and not needed stays so.

use std::collections::{BTreeMap, HashMap};

use entity::{body, message, object};
use sea_orm::sea_query::{CaseStatement, Expr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, ExprTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::Writer;
use super::files::Files;
use super::ground::Ground;
use super::requests::{Cold, Placed, Reply, Unneeded};
use super::server::Server;
use super::transaction::Failure;
use crate::store::StoreError;

/// What points rows at an object, on either ground.
pub trait Places: Ground {
    /// Points the rows of these records at object `number`; bytes of records by rows that point there now.
    fn place(
        writer: &mut Writer<Self>,
        tx: &DatabaseTransaction,
        number: i64,
        records: &[Placed],
    ) -> impl Future<Output = Result<i64, Failure>>;

    /// Bytes of object `number` that are needed, now that its row is locked.
    fn needed(tx: &DatabaseTransaction, object: &object::Model) -> impl Future<Output = Result<i64, DbErr>>;
}

impl<G: Places> Writer<G> {
    pub(super) async fn cold(
        &mut self,
        tx: &DatabaseTransaction,
        change: &Cold,
        reply: &Reply<i64>,
    ) -> Result<(), Failure> {
        self.in_flight.rows += 1;
        let done = match change {
            Cold::Begin { name } => Ok(begin(tx, name, self.head.row.lineage).await?),
            Cold::Place { number, bytes, records } => self.place_records(tx, (*number, *bytes), records).await?,
            Cold::Bury { number, when } => Ok(bury(tx, *number, *when).await?),
            Cold::Condemn { number } => Ok(condemn::<G>(tx, *number).await?),
            Cold::Forget { number } => {
                object::Entity::delete_by_id(*number).exec(tx).await?;
                Ok(*number)
            }
            Cold::Adopt => Ok(adopt(tx, self.head.row.lineage).await?),
            Cold::Counted(counts) => {
                for (number, live) in counts {
                    let counted = object::Entity::update_many()
                        .col_expr(object::Column::Live, Expr::value(*live))
                        .filter(object::Column::Number.eq(*number));
                    counted.exec(tx).await?;
                }
                Ok(0)
            }
        };
        self.in_flight.reply(reply, done);
        Ok(())
    }

    async fn place_records(
        &mut self,
        tx: &DatabaseTransaction,
        (number, bytes): (i64, i64),
        records: &[Placed],
    ) -> Result<Result<i64, StoreError>, Failure> {
        use object::Column;
        let claimed = object::Entity::update_many()
            .col_expr(Column::Bytes, Expr::value(bytes))
            .filter(Column::Number.eq(number))
            .filter(Column::DeadAt.is_null())
            .exec(tx)
            .await?;
        if claimed.rows_affected == 0 {
            return Ok(Err(StoreError::NotFound));
        }
        let live = G::place(self, tx, number, records).await?;
        object::Entity::update_many()
            .col_expr(Column::Live, Expr::col(Column::Live).add(live))
            .col_expr(Column::Total, Expr::col(Column::Total).add(live))
            .filter(Column::Number.eq(number))
            .exec(tx)
            .await?;
        Ok(Ok(live))
    }
}

/// Above every number that is there and, while clocks are near each other, above every one that ever was.
async fn begin(tx: &DatabaseTransaction, name: &str, lineage: i64) -> Result<i64, DbErr> {
    let last = object::Entity::find().order_by_desc(object::Column::Number).limit(1).one(tx).await?;
    let now = crate::clock::now_micros();
    let number = std::cmp::max(last.map_or(0, |last| last.number).saturating_add(1), now);
    let row = object::Model {
        number,
        name: name.to_owned(),
        lineage,
        created_at: now,
        bytes: 0,
        live: 0,
        total: 0,
        dead_at: None,
    };
    object::Entity::insert(row.into_active_model()).exec_without_returning(tx).await?;
    Ok(number)
}

/// See [`Cold::Bury`]. On a database server `live` is as of the last count, and what it says is asked again by [`condemn`].
async fn bury(tx: &DatabaseTransaction, number: i64, when: Unneeded) -> Result<i64, DbErr> {
    use object::Column;
    let unneeded = match when {
        Unneeded::Ever => Column::Total.eq(0),
        Unneeded::Now => Column::Live.lte(0),
    };
    let marked = object::Entity::update_many()
        .col_expr(Column::DeadAt, Expr::value(Some(crate::clock::now_micros())))
        .filter(Column::Number.eq(number))
        .filter(Column::DeadAt.is_null())
        .filter(unneeded)
        .exec(tx)
        .await?;
    Ok(i64::try_from(marked.rows_affected).unwrap_or(i64::MAX))
}

/// See [`Cold::Condemn`]. Rows only leave a dead object: once none points there, none will.
async fn condemn<G: Places>(tx: &DatabaseTransaction, number: i64) -> Result<i64, DbErr> {
    use object::Column;
    // Locks the row: whoever was pointing rows there has committed, or finds the mark.
    let locked = object::Entity::update_many()
        .col_expr(Column::DeadAt, Expr::col(Column::DeadAt))
        .filter(Column::Number.eq(number))
        .filter(Column::DeadAt.is_not_null())
        .exec(tx)
        .await?;
    if locked.rows_affected == 0 {
        return Ok(0);
    }
    let Some(object) = object::Entity::find_by_id(number).one(tx).await? else { return Ok(0) };
    let needed = G::needed(tx, &object).await?;
    if needed <= 0 {
        return Ok(1);
    }
    object::Entity::update_many()
        .col_expr(Column::DeadAt, Expr::value(None::<i64>))
        .col_expr(Column::Live, Expr::value(needed))
        .filter(Column::Number.eq(number))
        .exec(tx)
        .await?;
    Ok(0)
}

/// Makes this history the one that made all objects.
async fn adopt(tx: &DatabaseTransaction, lineage: i64) -> Result<i64, DbErr> {
    let adopted = object::Entity::update_many()
        .col_expr(object::Column::Lineage, Expr::value(lineage))
        .filter(object::Column::Lineage.ne(lineage))
        .exec(tx)
        .await?;
    Ok(i64::try_from(adopted.rows_affected).unwrap_or(i64::MAX))
}

impl Places for Files {
    async fn place(
        writer: &mut Writer<Self>,
        tx: &DatabaseTransaction,
        number: i64,
        records: &[Placed],
    ) -> Result<i64, Failure> {
        use message::Column;
        let mut live = 0;
        for Placed { id, from, offset } in records {
            let moved = message::Entity::update_many()
                .col_expr(Column::Segment, Expr::value(-number))
                .col_expr(Column::Offset, Expr::value(*offset))
                .filter(Column::Id.eq(id.0))
                .filter(Column::Segment.eq(from.segment))
                .filter(Column::Offset.eq(from.offset))
                .exec(tx)
                .await?
                .rows_affected;
            let bytes = from.length * i64::try_from(moved).unwrap_or(0);
            match from.segment < 0 {
                true => writer.ground.objects.died(-from.segment, bytes),
                false => writer.ground.segments.moved(from.segment, bytes),
            }
            live += bytes;
            writer.in_flight.rows += moved;
        }
        Ok(live)
    }

    /// Every transaction that takes something from it says so in the row.
    async fn needed(_: &DatabaseTransaction, object: &object::Model) -> Result<i64, DbErr> {
        Ok(object.live)
    }
}

impl Places for Server {
    async fn place(
        _: &mut Writer<Self>,
        tx: &DatabaseTransaction,
        number: i64,
        records: &[Placed],
    ) -> Result<i64, Failure> {
        use body::Column;
        let mut live = 0;
        let mut by_source: BTreeMap<i64, Vec<&Placed>> = BTreeMap::new();
        for record in records {
            by_source.entry(record.from.segment).or_default().push(record);
        }
        for (source, mut records) in by_source {
            // In the order in which everyone locks them.
            records.sort_unstable_by_key(|record| record.id.0);
            let ids: Vec<uuid::Uuid> = records.iter().map(|record| record.id.0).collect();
            let (mut offsets, mut lengths) = (CaseStatement::new(), CaseStatement::new());
            for record in &records {
                offsets = offsets.case(Column::Id.eq(record.id.0), record.offset);
                lengths = lengths.case(Column::Id.eq(record.id.0), record.from.length);
            }
            let here = if source < 0 { Column::Object.eq(-source) } else { Column::Object.is_null() };
            let moved = body::Entity::update_many()
                .col_expr(Column::Object, Expr::value(number))
                .col_expr(Column::ObjectOffset, offsets.into())
                .col_expr(Column::ObjectLength, lengths.into())
                .col_expr(Column::Compressed, Expr::value(true))
                .col_expr(Column::Contents, Expr::value(Vec::<u8>::new()))
                .filter(Column::Id.is_in(ids.clone()))
                .filter(here)
                .exec(tx)
                .await?;
            live += match moved.rows_affected == ids.len() as u64 {
                true => records.iter().map(|record| record.from.length).sum::<i64>(),
                false => placed(tx, number, &ids).await?,
            };
        }
        Ok(live)
    }

    async fn needed(tx: &DatabaseTransaction, object: &object::Model) -> Result<i64, DbErr> {
        Ok(lengths(tx, &[object.number]).await?.get(&object.number).copied().unwrap_or(0))
    }
}

/// On a database server: bytes of bodies in each of these objects; those in which there are none are left out.
///
/// # Errors
/// When the database is away.
pub async fn lengths<C: ConnectionTrait>(db: &C, numbers: &[i64]) -> Result<HashMap<i64, i64>, DbErr> {
    use body::Column;
    let sum = match db.get_database_backend() {
        DbBackend::Postgres => "CAST(SUM(object_length) AS BIGINT)",
        _ => "CAST(SUM(object_length) AS SIGNED)",
    };
    let sums: Vec<(i64, i64)> = body::Entity::find()
        .select_only()
        .column(Column::Object)
        .expr(Expr::cust(sum))
        .filter(Column::Object.is_in(numbers.to_vec()))
        .group_by(Column::Object)
        .into_tuple()
        .all(db)
        .await?;
    Ok(sums.into_iter().collect())
}

/// Bytes of those of `ids` that lie in object `number`.
async fn placed<C: ConnectionTrait>(db: &C, number: i64, ids: &[uuid::Uuid]) -> Result<i64, DbErr> {
    use body::Column;
    let lengths: Vec<Option<i64>> = body::Entity::find()
        .select_only()
        .column(Column::ObjectLength)
        .filter(Column::Id.is_in(ids.to_vec()))
        .filter(Column::Object.eq(number))
        .into_tuple()
        .all(db)
        .await?;
    Ok(lengths.into_iter().flatten().sum())
}

/// What a transaction on SQLite takes from objects, until it writes it.
#[derive(Debug, Default)]
pub struct Objects(BTreeMap<i64, i64>);

impl Objects {
    /// Counts `bytes` of rows that point into `number` no longer.
    pub fn died(&mut self, number: i64, bytes: i64) {
        *self.0.entry(number).or_default() += bytes;
    }

    /// Forgets what was not committed.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub async fn write<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), DbErr> {
        use object::Column;
        for (number, bytes) in std::mem::take(&mut self.0) {
            object::Entity::update_many()
                .col_expr(Column::Live, Expr::col(Column::Live).sub(bytes))
                .filter(Column::Number.eq(number))
                .exec(db)
                .await?;
        }
        Ok(())
    }
}
