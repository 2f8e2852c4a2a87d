//! Objects of which nothing is needed go, those of which little is are written anew.
//!
//! An object goes in steps, each begun when the one before is durable: its row is marked, after `[cold] keep` the object is
//! removed, then the row. What was read of a row is a guess, since another node may be at it: each step asks the writer, and
//! goes on only if that found it so. Only the history that made an object removes it: a copy of the database that was
//! restored beside its original leaves the original's objects alone, and knows nothing of what became of those that were
//! just being written.

use std::collections::HashMap;

use ::metrics::{counter, gauge};
use entity::{body, message, object};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use super::metrics as names;
use super::pass::Pass;
use super::waiting::Waiting;
use crate::mail::id::DeliveryId;
use crate::store::bodies::{recover, segment};
use crate::store::messages::BodyLocation;
use crate::store::writer::objects::lengths;
use crate::store::writer::requests::{Cold as Change, Request, Unneeded};
use crate::store::writer::statements::chunks;
use crate::store::{StoreError, columns, unavailable};

/// Objects that are counted together, and how many in a round.
const COUNTED: u64 = 64;
const COUNTED_IN_ROUND: usize = 1_024;

impl Pass<'_> {
    /// Objects that were begun and to which nothing points: who began them did not come to the end.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let orphans = object::Entity::find().filter(object::Column::Total.eq(0)).all(self.db());
        for row in orphans.await.map_err(unavailable)? {
            let buried = row.dead_at.is_some() || self.bury(row.number, Unneeded::Ever).await?;
            if !buried {
                continue;
            }
            if !self.made(&row) {
                // Whoever began it may have come to the end since.
                self.ask(Change::Forget { number: row.number }).await?;
                tracing::info!(
                    object = row.name,
                    "forgot an object that is another store's and holds nothing of this one"
                );
                continue;
            }
            self.remove(row.number, &row.name).await?;
            counter!(names::REMOVED, "reason" => "orphan").increment(1);
            tracing::info!(object = row.name, "removed an object that no row points to");
        }
        Ok(())
    }

    /// Whether this history made it.
    fn made(&self, row: &object::Model) -> bool {
        row.lineage == i64::from(self.store.lineage())
    }

    /// Marks those of which nothing is needed, removes those that were marked long enough ago.
    pub(super) async fn remove_dead(&self) -> Result<(), StoreError> {
        use object::Column;
        let dead = object::Entity::find().filter(Column::Live.lte(0)).filter(Column::Total.gt(0));
        let now = crate::clock::now_micros();
        let kept = columns::micros(self.config().keep.0);
        for row in dead.all(self.db()).await.map_err(unavailable)? {
            let number = row.number;
            let Some(dead_at) = row.dead_at else {
                if self.bury(number, Unneeded::Now).await? && kept == 0 {
                    self.remove_object(&row).await?;
                }
                continue;
            };
            if dead_at.saturating_add(kept) <= now {
                self.remove_object(&row).await?;
            }
        }
        Ok(())
    }

    async fn remove_object(&self, row: &object::Model) -> Result<(), StoreError> {
        if self.ask(Change::Condemn { number: row.number }).await? == 0 || !self.made(row) {
            return Ok(());
        }
        self.remove(row.number, &row.name).await?;
        counter!(names::REMOVED, "reason" => "dead").increment(1);
        Ok(())
    }

    /// On a database server: counts what is needed of some objects, others in each round.
    pub(super) async fn recount(&self) -> Result<(), StoreError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let mut counted = 0;
        while counted < COUNTED_IN_ROUND {
            let after = self.state().counted;
            let rows = object::Entity::find()
                .filter(object::Column::Number.gt(after))
                .filter(object::Column::Total.gt(0))
                .order_by_asc(object::Column::Number)
                .limit(COUNTED)
                .all(self.db())
                .await
                .map_err(unavailable)?;
            let Some(last) = rows.last() else {
                self.state().counted = 0;
                return Ok(());
            };
            self.state().counted = last.number;
            counted += rows.len();
            let numbers: Vec<i64> = rows.iter().map(|row| row.number).collect();
            let live = lengths(self.db(), &numbers).await.map_err(unavailable)?;
            let live = |number: i64| live.get(&number).copied().unwrap_or(0);
            let changed = rows.iter().filter(|row| row.live != live(row.number));
            let changed: Vec<(i64, i64)> = changed.map(|row| (row.number, live(row.number))).collect();
            if !changed.is_empty() {
                self.ask(Change::Counted(changed)).await?;
            }
        }
        Ok(())
    }

    /// Moves what is needed of the sparsest objects into a new one; false when none is sparse enough.
    pub(super) async fn repack(&self) -> Result<bool, StoreError> {
        use object::Column;
        let below = i64::from(self.config().repack_below);
        let percent = |row: &object::Model| row.live.saturating_mul(100) / std::cmp::max(row.total, 1);
        let tried = self.state().tried.clone();
        let rows = object::Entity::find()
            .filter(Column::Live.gt(0))
            .filter(Column::DeadAt.is_null())
            .filter(Expr::col(Column::Live).mul(100).lt(Expr::col(Column::Total).mul(below)))
            .all(self.db());
        let mut sparse = rows.await.map_err(unavailable)?;
        sparse.retain(|row| tried.get(&row.number) != Some(&row.live));
        sparse.sort_unstable_by_key(percent);
        if sparse.is_empty() {
            return Ok(false);
        }
        let mut pack = self.begin().await?;
        let most = self.config().object_size.as_usize();
        for row in &sparse {
            if pack.bytes.len() >= most {
                break;
            }
            // One that cannot be emptied is not tried again until less of it is needed.
            self.state().tried.insert(row.number, row.live);
            let whole = match self.cold.whole(&row.name, columns::unsigned(row.bytes)).await {
                Ok(whole) => whole,
                Err(error) => {
                    tracing::error!(object = row.name, %error, "an object of which little is needed cannot be read");
                    continue;
                }
            };
            let mut read = Vec::new();
            for waiting in self.living(row.number, &whole).await? {
                let from = usize::try_from(waiting.from.offset).unwrap_or(usize::MAX);
                let length = usize::try_from(waiting.from.length).unwrap_or(usize::MAX);
                let record = from.checked_add(length).and_then(|end| whole.get(from..end));
                let record = record.filter(|bytes| crate::store::bodies::message_of(bytes, waiting.id).is_ok());
                let Some(record) = record else {
                    tracing::error!(object = row.name, offset = from, "a record could not be moved");
                    continue;
                };
                read.push((waiting, pack.bytes.len() as u64));
                pack.bytes.extend_from_slice(record);
            }
            pack.add(read);
        }
        let (_, bytes) = self.finish(pack).await?;
        counter!(names::REPACKED).increment(bytes);
        Ok(bytes > 0)
    }

    /// The records of an object that are needed, in their order.
    async fn living(&self, number: i64, whole: &[u8]) -> Result<Vec<Waiting>, StoreError> {
        let mut found = HashMap::new();
        let mut take = |id, offset, length| {
            let from = BodyLocation { segment: -number, offset, length };
            found.insert(offset, Waiting { id: DeliveryId(id), from, at: 0 });
        };
        if self.store.is_shared() {
            use body::Column;
            let rows: Vec<(uuid::Uuid, Option<i64>, Option<i64>)> = body::Entity::find()
                .select_only()
                .columns([Column::Id, Column::ObjectOffset, Column::ObjectLength])
                .filter(Column::Object.eq(number))
                .into_tuple()
                .all(self.db())
                .await
                .map_err(unavailable)?;
            for (id, offset, length) in rows {
                take(id, offset.unwrap_or(0), length.unwrap_or(0));
            }
        } else {
            use message::Column;
            let header = usize::try_from(segment::HEADER).unwrap_or(0);
            let ids = recover::ids(whole.get(header..).unwrap_or_default());
            for ids in chunks(&ids) {
                let rows: Vec<(uuid::Uuid, i64, i64)> = message::Entity::find()
                    .select_only()
                    .columns([Column::Id, Column::Offset, Column::Length])
                    .filter(Column::Id.is_in(ids.to_vec()))
                    .filter(Column::Segment.eq(-number))
                    .into_tuple()
                    .all(self.db())
                    .await
                    .map_err(unavailable)?;
                rows.into_iter().for_each(|(id, offset, length)| take(id, offset, length));
            }
        }
        let mut living: Vec<Waiting> = found.into_values().collect();
        living.sort_unstable_by_key(|waiting| waiting.from.offset);
        Ok(living)
    }

    /// Tells how much there is.
    pub(super) async fn measure(&self) -> Result<(), StoreError> {
        let sizes: Vec<i64> = object::Entity::find()
            .select_only()
            .column(object::Column::Bytes)
            .into_tuple()
            .all(self.db())
            .await
            .map_err(unavailable)?;
        gauge!(names::OBJECTS).set(u32::try_from(sizes.len()).unwrap_or(u32::MAX));
        let bytes = columns::unsigned(sizes.iter().sum());
        gauge!(names::BYTES).set(u32::try_from(bytes >> 20).unwrap_or(u32::MAX) as f64 * 1_048_576.0);
        Ok(())
    }

    /// Whether this marked it, so that no row will ever be pointed there.
    pub(super) async fn bury(&self, number: i64, when: Unneeded) -> Result<bool, StoreError> {
        Ok(self.ask(Change::Bury { number, when }).await? > 0)
    }

    pub(super) async fn ask(&self, change: Change) -> Result<i64, StoreError> {
        self.store.ask(|reply| Request::Cold(change, reply)).await
    }
}

/// Whether anything lies in object storage.
///
/// # Errors
/// When the database is away.
pub async fn any(db: &sea_orm::DatabaseConnection) -> Result<bool, sea_orm::DbErr> {
    Ok(object::Entity::find().filter(object::Column::Live.gt(0)).limit(1).one(db).await?.is_some())
}
