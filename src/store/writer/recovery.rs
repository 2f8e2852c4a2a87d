//! At start: what lies in the segment files beyond their committed ends.
//!
//! A whole record there belongs to a delivery that was not answered, or to a commit that the database lost: it is taken in
//! as if just received, unless its id is there. What follows the last whole record is cut off. A file that a row
//! points to and that is missing is reported; reading from it is an error that names it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use entity::message;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::Writer;
use super::files::Files;
use super::ground::Ground;
use super::plan::Delivery;
use super::statements::chunks;
use super::transaction::Failure;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Summary;
use crate::store::bodies::recover::{Found, scan};
use crate::store::bodies::{self, segment};
use crate::store::columns::{signed, unsigned};
use crate::store::incoming::{Body, Repeat};
use crate::store::messages::BodyLocation;
use crate::store::metrics as names;

/// Deliveries taken in at once.
const BATCH: usize = 200;

impl Writer<Files> {
    /// Takes in what is whole, cuts what is torn.
    pub async fn recover(&mut self) -> Result<(), DbErr> {
        let dir = self.ground.segments.dir().to_owned();
        let files = segment::numbers(&dir).map_err(custom)?;
        let known: Vec<(i64, u64)> =
            self.ground.segments.rows().map(|row| (row.number, unsigned(row.committed))).collect();
        for (number, committed) in &known {
            if !segment::path(&dir, *number).exists() && self.ground.segments.was_removed(*number) {
                continue;
            }
            match std::fs::metadata(segment::path(&dir, *number)) {
                Ok(file) if file.len() >= *committed => {}
                Ok(file) => tracing::error!(
                    segment = number,
                    committed,
                    length = file.len(),
                    "a segment file is shorter than what was committed: run `mailroom check`"
                ),
                Err(error) => {
                    tracing::error!(segment = number, %error, "a segment file is missing: run `mailroom check`");
                }
            }
        }
        self.ground.segments.resume();
        for number in files {
            let committed = known.iter().find(|(known, _)| *known == number).map(|(_, committed)| *committed);
            self.recover_segment(&dir, number, committed.unwrap_or(segment::HEADER)).await?;
        }
        Ok(())
    }

    async fn recover_segment(&mut self, dir: &Path, number: i64, committed: u64) -> Result<(), DbErr> {
        let length = std::fs::metadata(segment::path(dir, number)).map_err(custom)?.len();
        if length <= committed {
            return Ok(());
        }
        let bytes = segment::read_from(dir, number, committed).map_err(custom)?;
        let scan = scan(&bytes, committed);
        drop(bytes);
        let known = self.known(scan.found.iter().map(|found| found.record.head.id)).await?;
        let (old, mut new): (Vec<Found>, Vec<Found>) =
            scan.found.into_iter().partition(|found| known.contains(&found.record.head.id));
        let mut seen = HashSet::new();
        new.retain(|found| seen.insert(found.record.head.id));
        tracing::warn!(
            segment = number,
            found = new.len(),
            known = old.len(),
            damaged = scan.damaged.len(),
            torn_bytes = scan.torn,
            "a segment file goes on beyond its committed end"
        );
        let end = if old.is_empty() && new.is_empty() { committed } else { scan.end };
        let file = std::fs::File::options().write(true).open(segment::path(dir, number)).map_err(custom)?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(custom)?;
        if end == committed {
            return Ok(());
        }
        metrics::counter!(names::RECOVERED).increment(new.len() as u64);
        // First these: the next start looks beyond the committed end only.
        if !old.is_empty() {
            self.take_in(dir, (number, committed), &[], &old).await?;
        }
        for found in new.chunks(BATCH) {
            // No further than what its transaction takes in: the next start finds the rest, should this one end here.
            let end = found.last().map_or(committed, |last| last.offset + last.length);
            self.take_in(dir, (number, end), found, &[]).await?;
        }
        self.take_in(dir, (number, end), &[], &[]).await
    }

    /// In one transaction: stores records that lie on the disk already up to `end`, points the rows of `moved` at theirs.
    async fn take_in(
        &mut self,
        dir: &Path,
        (number, end): (i64, u64),
        found: &[Found],
        moved: &[Found],
    ) -> Result<(), DbErr> {
        let mut deliveries = Vec::with_capacity(found.len());
        for found in found {
            deliveries.push(delivery(number, found).await);
        }
        let _ = self.in_flight.begin(Vec::new());
        self.ground.segments.adopt(number, end, crate::clock::now_micros());
        let outcome = if moved.is_empty() {
            Files::store(self, &deliveries).await
        } else {
            self.relocate(dir, number, moved).await
        };
        let failed = outcome.as_ref().err().map(ToString::to_string);
        self.settle(Ok(outcome), std::future::pending()).await;
        failed.map_or(Ok(()), |failed| Err(DbErr::Custom(failed)))
    }

    /// Those of `ids` that have rows.
    async fn known(&self, ids: impl Iterator<Item = DeliveryId>) -> Result<HashSet<DeliveryId>, DbErr> {
        let ids: Vec<uuid::Uuid> = ids.map(|id| id.0).collect();
        let mut known = HashSet::new();
        for ids in chunks(&ids) {
            let rows: Vec<uuid::Uuid> = message::Entity::find()
                .select_only()
                .column(message::Column::Id)
                .filter(message::Column::Id.is_in(ids.to_vec()))
                .into_tuple()
                .all(&self.db)
                .await?;
            known.extend(rows.into_iter().map(DeliveryId));
        }
        Ok(known)
    }

    /// A commit that was lost may have moved these here and removed the file they came from: then their rows are
    /// pointed here again.
    async fn relocate(&mut self, dir: &Path, number: i64, found: &[Found]) -> Result<(), Failure> {
        use message::Column;
        let tx = self.transaction().await?;
        for found in found {
            let id = found.record.head.id.0;
            let rows = message::Entity::find().filter(Column::Id.eq(id)).all(&tx).await?;
            // What lies in an object is not lost.
            let elsewhere = |row: &message::Model| row.segment > 0 && row.segment != number;
            let lost = |row: &&message::Model| elsewhere(row) && !segment::path(dir, row.segment).exists();
            for row in rows.iter().filter(lost) {
                message::Entity::update_many()
                    .col_expr(Column::Segment, Expr::value(number))
                    .col_expr(Column::Offset, Expr::value(signed(found.offset)))
                    .filter(Column::MailboxId.eq(row.mailbox_id))
                    .filter(Column::Uid.eq(row.uid))
                    .exec(&tx)
                    .await?;
                self.ground.segments.died(row.segment, row.length);
                self.ground.segments.born(number, row.length);
            }
        }
        self.commit(tx).await
    }
}

async fn delivery(number: i64, found: &Found) -> Delivery {
    let record = &found.record;
    Delivery {
        id: record.head.id,
        received_at: record.head.received_at,
        envelope: record.envelope.clone(),
        summary: summary(found).await,
        body: Body { bytes: Vec::new(), compressed: record.head.compressed, size: record.head.size },
        parts: record.parts.clone(),
        repeat: Repeat::Never,
        at: Some(BodyLocation { segment: number, offset: signed(found.offset), length: signed(found.length) }),
    }
}

/// The list columns made again from the body. The parser may panic on it; the message is stored all the same.
async fn summary(found: &Found) -> Arc<Summary> {
    let record = found.record.clone();
    let read = tokio::task::spawn_blocking(move || {
        let raw = bodies::unpack(record.head.compressed, record.head.size, record.body).ok()?;
        Some(crate::mail::summary::summarize(&raw))
    });
    Arc::new(read.await.ok().flatten().unwrap_or_else(Summary::unreadable))
}

fn custom(error: std::io::Error) -> DbErr {
    DbErr::Custom(error.to_string())
}
