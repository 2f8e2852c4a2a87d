//! What is to move: bodies that lie in segment files or in the table, the oldest first, and how to read their records.
//!
//! What follows the place where the last look ended is looked at; once a day, and after a restart, a look begins at the front
//! again (`pass::State`), for what could not be moved.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use entity::{body, mailbox, message};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseConnection, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::mail::time::Timestamp;
use crate::store::bodies::{self, record};
use crate::store::incoming::{Body, Part};
use crate::store::messages::BodyLocation;
use crate::store::writer::server::first_of;
use crate::store::writer::statements::chunks;
use crate::store::{Bodies, StoreError, columns, unavailable};

/// Rows looked at together.
const ROWS: u64 = 500;
/// About what a record has beside the body.
const AROUND: i64 = 256;

/// A record that may move.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub id: DeliveryId,
    /// Where rows find it now. In a table of the database that is place zero, and the length about that of the
    /// record to be.
    pub from: BodyLocation,
    /// About when it came, in microseconds.
    pub at: i64,
}

/// Where the last look ended: a stamp, or an id.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    stamp: i64,
    id: Uuid,
}

/// Hot bodies.
pub struct Hot<'a> {
    pub db: &'a DatabaseConnection,
    pub bodies: &'a Bodies,
}

impl Hot<'_> {
    /// The oldest records after `position` that came before `before`, at least one and no more than fit into `bytes`; then
    /// `position` is behind them.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn next(
        &self,
        position: &mut Position,
        before: Timestamp,
        bytes: u64,
    ) -> Result<Vec<Waiting>, StoreError> {
        let (mut found, mut length) = (Vec::new(), 0);
        let mut known = HashSet::new();
        loop {
            let rows = match self.bodies {
                Bodies::Files(_) => self.rows(*position, before).await?,
                Bodies::Table => self.table(*position, before).await?,
            };
            let last_lot = (rows.len() as u64) < ROWS;
            for (waiting, place) in rows {
                let at = (waiting.from.segment, waiting.from.offset, waiting.id.0);
                if known.insert(at) {
                    let more = columns::unsigned(waiting.from.length);
                    if length > 0 && length + more > bytes {
                        return Ok(found);
                    }
                    length += more;
                    found.push(waiting);
                }
                *position = place;
            }
            if last_lot {
                return Ok(found);
            }
        }
    }

    /// By the stamps of rows, which are microseconds there.
    async fn rows(&self, after: Position, before: Timestamp) -> Result<Vec<(Waiting, Position)>, StoreError> {
        use message::Column;
        let rows: Vec<(i64, Uuid, i64, i64, i64)> = message::Entity::find()
            .select_only()
            .columns([Column::Stamp, Column::Id, Column::Segment, Column::Offset, Column::Length])
            .filter(Column::Stamp.gt(after.stamp))
            .filter(Column::Stamp.lte(before.0))
            .filter(Column::Segment.gt(0))
            .order_by_asc(Column::Stamp)
            .limit(ROWS)
            .into_tuple()
            .all(self.db)
            .await
            .map_err(unavailable)?;
        let waiting = |(stamp, id, segment, offset, length)| {
            let from = BodyLocation { segment, offset, length };
            (Waiting { id: DeliveryId(id), from, at: stamp }, Position { stamp, ..after })
        };
        Ok(rows.into_iter().map(waiting).collect())
    }

    /// By ids, which begin with their time.
    async fn table(&self, after: Position, before: Timestamp) -> Result<Vec<(Waiting, Position)>, StoreError> {
        use body::Column;
        let length = match self.db.get_database_backend() {
            DbBackend::Postgres => "CAST(OCTET_LENGTH(contents) AS BIGINT)",
            _ => "CAST(OCTET_LENGTH(contents) AS SIGNED)",
        };
        let rows: Vec<(Uuid, i64)> = body::Entity::find()
            .select_only()
            .column(Column::Id)
            .expr(Expr::cust(length))
            .filter(Column::Id.gt(after.id))
            .filter(Column::Id.lt(first_of(before.0)))
            .filter(Column::Object.is_null())
            .order_by_asc(Column::Id)
            .limit(ROWS)
            .into_tuple()
            .all(self.db)
            .await
            .map_err(unavailable)?;
        let waiting = |(id, length): (Uuid, i64)| {
            let millis = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
            let from = BodyLocation { segment: 0, offset: 0, length: length.saturating_add(AROUND) };
            (Waiting { id: DeliveryId(id), from, at: millis.saturating_mul(1_000) }, Position { id, ..after })
        };
        Ok(rows.into_iter().map(waiting).collect())
    }

    /// Appends the records of `lot` to `out`; which they are, and where in `out`. What cannot be read is left out and told of.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn records(&self, lot: &[Waiting], out: &mut Vec<u8>) -> Result<Vec<(Waiting, u64)>, StoreError> {
        match self.bodies {
            Bodies::Files(dir) => {
                let (dir, lot, mut bytes) = (dir.clone(), lot.to_vec(), std::mem::take(out));
                let read = tokio::task::spawn_blocking(move || {
                    let read = lot.into_iter().filter_map(|waiting| append(&dir, waiting, &mut bytes)).collect();
                    (read, bytes)
                });
                let (read, bytes) = read.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                *out = bytes;
                Ok(read)
            }
            Bodies::Table => self.made(lot, out).await,
        }
    }

    /// Records made of rows of the table and of the messages.
    async fn made(&self, lot: &[Waiting], out: &mut Vec<u8>) -> Result<Vec<(Waiting, u64)>, StoreError> {
        let ids: Vec<Uuid> = lot.iter().map(|waiting| waiting.id.0).collect();
        let mut parts = self.parts(&ids).await?;
        let mut read = Vec::with_capacity(lot.len());
        for ids in chunks(&ids) {
            let rows = body::Entity::find()
                .filter(body::Column::Id.is_in(ids.to_vec()))
                .filter(body::Column::Object.is_null())
                .order_by_asc(body::Column::Id);
            for row in rows.all(self.db).await.map_err(unavailable)? {
                let Some(waiting) = lot.iter().find(|waiting| waiting.id.0 == row.id) else { continue };
                // Without one its last mailbox has just lost it.
                let Some((received_at, envelope, parts)) = parts.remove(&row.id) else { continue };
                let body = Body { bytes: row.contents, compressed: row.compressed, size: columns::unsigned(row.size) };
                let start = out.len() as u64;
                let length = record::write(out, waiting.id, received_at, &envelope, &parts, &body);
                let from = BodyLocation { length: columns::signed(length), ..waiting.from };
                read.push((Waiting { from, ..*waiting }, start));
            }
        }
        Ok(read)
    }

    /// What the rows of messages say of each: when it came, from whom, and for which mailboxes.
    async fn parts(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, (Timestamp, crate::mail::envelope::Envelope, Vec<Part>)>, StoreError> {
        use message::Column;
        let mut found = HashMap::with_capacity(ids.len());
        for ids in chunks(ids) {
            let rows: Vec<(Uuid, i64, i64, String)> = message::Entity::find()
                .select_only()
                .columns([Column::Id, Column::MailboxId, Column::ReceivedAt, Column::Envelope])
                .filter(Column::Id.is_in(ids.to_vec()))
                .order_by_asc(Column::MailboxId)
                .into_tuple()
                .all(self.db)
                .await
                .map_err(unavailable)?;
            let mut owners: Vec<i64> = rows.iter().map(|(_, owner, ..)| *owner).collect();
            owners.sort_unstable();
            owners.dedup();
            let mut addresses = HashMap::new();
            for owners in chunks(&owners) {
                let rows = mailbox::Entity::find().filter(mailbox::Column::Id.is_in(owners.to_vec())).all(self.db);
                let rows = rows.await.map_err(unavailable)?;
                addresses.extend(rows.into_iter().filter_map(|row| Some((row.id, row.address?))));
            }
            for (id, owner, received_at, column) in rows {
                let Some((envelope, recipients)) = columns::envelope(&column) else { continue };
                let (_, _, parts) = found.entry(id).or_insert_with(|| (Timestamp(received_at), envelope, Vec::new()));
                if let Some(address) = addresses.get(&owner) {
                    let mailbox = MailboxKey::from_stored(address);
                    parts.push(Part { mailbox, recipients, create: true });
                }
            }
        }
        Ok(found)
    }
}

/// Reads and checks a record of a segment file, and appends it.
fn append(dir: &Path, waiting: Waiting, out: &mut Vec<u8>) -> Option<(Waiting, u64)> {
    let bytes = match bodies::segment::read(dir, waiting.from) {
        Ok(bytes) => bytes,
        // Compaction moved it: it is found there the next time.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(segment = waiting.from.segment, offset = waiting.from.offset, %error, "a record cannot move");
            return None;
        }
    };
    if let Err(error) = bodies::message_of(&bytes, waiting.id) {
        // It stays where it is, for `check` to name.
        tracing::error!(segment = waiting.from.segment, offset = waiting.from.offset, %error, "a record cannot move");
        return None;
    }
    let start = out.len() as u64;
    out.extend_from_slice(&bytes);
    Some((waiting, start))
}
