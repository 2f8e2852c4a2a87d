//! What the indexer does next: events after its position, in the order of their stamps, as documents to add and ranges
//! to remove. Read in one snapshot of the store; the text of a message is read when its turn comes, so that a batch of
//! large ones is never in memory together.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use entity::{change, mailbox, message, meta};
use sea_orm::{
    ColumnTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    TransactionTrait,
};

use super::index::{Document, Removal};
use super::metrics as names;
use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::mail::query::{Seen, index_columns};
use crate::mail::summary;
use crate::mail::time::Timestamp;
use crate::store::bodies;
use crate::store::cold::reader::{Patience, Reader, object_of};
use crate::store::columns;
use crate::store::config::Defaults;
use crate::store::list::living_by_id;
use crate::store::messages::BodyLocation;
use crate::store::writer::plan::{DELETED, EXPIRED, MAILBOX_DELETED};

/// A part of the stream.
pub struct Batch<'a> {
    pub arrivals: Arrivals<'a>,
    pub removals: Vec<Removal>,
    pub events: usize,
    /// The position after it.
    pub end: i64,
    /// Nothing lay beyond it.
    pub head: bool,
}

/// The messages of a batch that are still there.
pub struct Arrivals<'a> {
    rows: std::vec::IntoIter<message::Model>,
    owners: HashMap<i64, (MailboxKey, mailbox::Model)>,
    lineage: u32,
    defaults: &'a Defaults,
    texts: Texts<'a>,
}

/// What one batch may have.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub events: usize,
    /// Of messages; a larger one goes alone.
    pub bytes: i64,
}

/// Reads the next batch after `position`.
///
/// # Errors
/// When the store cannot be read; a message that cannot be is indexed without its text.
pub async fn read<'a>(
    store: &DatabaseConnection,
    bodies: (&'a Path, &'a Reader),
    (position, most): (i64, Bounds),
    lineage: u32,
    defaults: &'a Defaults,
) -> Result<Batch<'a>, DbErr> {
    let tx = store.begin().await?;
    let head = meta::Entity::find_by_id(1).one(&tx).await?.map_or(position, |row| row.stamp);
    let limit = most.events as u64 + 1;
    let mut arrivals = message::Entity::find()
        .filter(message::Column::Stamp.gt(position))
        .order_by_asc(message::Column::Stamp)
        .limit(limit)
        .all(&tx)
        .await?;
    let mut changes = change::Entity::find()
        .filter(change::Column::Stamp.gt(position))
        .order_by_asc(change::Column::Stamp)
        .limit(limit)
        .all(&tx)
        .await?;
    let cut = cut(&arrivals, &changes, most);
    if let Some(end) = cut {
        arrivals.retain(|row| row.stamp <= end);
        changes.retain(|row| row.stamp <= end);
    }
    let mut removals = Vec::new();
    for change in &changes {
        removals.extend(removal(&tx, change).await?);
    }
    let owners =
        living_by_id(&tx, arrivals.iter().map(|row| row.mailbox_id), Timestamp(crate::clock::now_micros())).await?;
    tx.commit().await?;
    let events = arrivals.len() + changes.len();
    Ok(Batch {
        arrivals: Arrivals {
            rows: arrivals.into_iter(),
            owners,
            lineage,
            defaults,
            texts: Texts { dir: bodies.0, cold: bodies.1, last: None },
        },
        removals,
        events,
        end: cut.unwrap_or(head).max(position),
        head: cut.is_none(),
    })
}

impl Arrivals<'_> {
    /// What the index stores of each. Of a message that cannot be read it is what the row says.
    pub fn documents(mut self, seen: &mut Seen) -> impl Iterator<Item = Document> {
        self.rows.filter_map(move |row| {
            // One whose mailbox was deleted meanwhile: its change is still to come, and nothing of it is wanted.
            let (key, owner) = self.owners.get(&row.mailbox_id)?;
            let text = self.texts.of(&row);
            let (stamp, mailbox) = (row.stamp, row.mailbox_id);
            let listed = columns::listed(row, owner, key, self.lineage, self.defaults);
            Some(Document { stamp, mailbox, columns: index_columns(&listed, &text, seen) })
        })
    }
}

/// The last stamp of a batch of these rows, when they are more than one.
fn cut(arrivals: &[message::Model], changes: &[change::Model], most: Bounds) -> Option<i64> {
    let mut stamps: Vec<i64> =
        arrivals.iter().map(|row| row.stamp).chain(changes.iter().map(|row| row.stamp)).collect();
    stamps.sort_unstable();
    let by_count = if stamps.len() > most.events { stamps.get(most.events - 1).copied() } else { None };
    let mut bytes = 0;
    let fits = |row: &&message::Model| {
        let first = bytes == 0;
        bytes += row.size;
        first || bytes <= most.bytes
    };
    let kept = arrivals.iter().take_while(fits).count();
    let by_bytes = if kept < arrivals.len() { arrivals.get(kept.saturating_sub(1)).map(|row| row.stamp) } else { None };
    by_count.into_iter().chain(by_bytes).min()
}

/// What a change takes out of the index: all between the messages that live on beside it. UIDs and stamps of a mailbox have
/// one order.
async fn removal(tx: &DatabaseTransaction, change: &change::Model) -> Result<Option<Removal>, DbErr> {
    use message::Column;
    let mailbox = change.mailbox_id;
    let beside =
        || message::Entity::find().select_only().column(Column::Stamp).filter(Column::MailboxId.eq(mailbox)).limit(1);
    let after = match change.kind {
        DELETED => {
            let older = beside().filter(Column::Uid.lt(change.uid)).order_by_desc(Column::Uid);
            older.into_tuple::<i64>().one(tx).await?.unwrap_or(0)
        }
        EXPIRED | MAILBOX_DELETED => 0,
        _ => return Ok(None),
    };
    let before = if change.kind == MAILBOX_DELETED {
        change.stamp
    } else {
        let newer = beside().filter(Column::Uid.gt(change.uid)).order_by_asc(Column::Uid);
        newer.into_tuple::<i64>().one(tx).await?.unwrap_or(change.stamp)
    };
    Ok(Some(Removal { mailbox, after, before }))
}

/// Reads texts; a message of several mailboxes once.
struct Texts<'a> {
    dir: &'a Path,
    cold: &'a Reader,
    last: Option<(BodyLocation, Arc<str>)>,
}

impl Texts<'_> {
    fn of(&mut self, row: &message::Model) -> Arc<str> {
        let at = BodyLocation { segment: row.segment, offset: row.offset, length: row.length };
        if let Some((last, text)) = &self.last
            && *last == at
        {
            return text.clone();
        }
        let text = text((self.dir, self.cold), at, DeliveryId(row.id), Patience::index()).unwrap_or_else(|why| {
            metrics::counter!(names::UNREADABLE).increment(1);
            tracing::warn!(message.id = %row.id, mailbox = row.mailbox_id, uid = row.uid, %why, "indexed without its text");
            Arc::default()
        });
        self.last = Some((at, text.clone()));
        text
    }
}

/// The readable text of the message at `at`. In object storage it is waited for until `patience` ends.
///
/// # Errors
/// What is wrong with its record, that the parser failed on it, or that object storage does not give it in time.
pub fn text(
    (dir, cold): (&Path, &Reader),
    at: BodyLocation,
    id: DeliveryId,
    patience: Patience,
) -> Result<Arc<str>, String> {
    match object_of(at) {
        Some(number) => text_of(&cold.text((number, (at.offset, at.length)), id, patience)?),
        None => text_of(&bodies::read(dir, at, id).map_err(|error| error.to_string())?),
    }
}

/// The readable text of a message.
///
/// # Errors
/// The parser failed on it.
pub fn text_of(raw: &[u8]) -> Result<Arc<str>, String> {
    let read = catch_unwind(AssertUnwindSafe(|| summary::summarize(raw).text));
    read.map_err(|_| "the parser failed on it".to_owned())
}

/// How many events a snapshot has after `position`.
///
/// # Errors
/// When the store cannot be read.
pub async fn count(store: &DatabaseConnection, position: i64) -> Result<u64, DbErr> {
    use sea_orm::PaginatorTrait;
    let arrivals = message::Entity::find().filter(message::Column::Stamp.gt(position)).count(store).await?;
    Ok(arrivals + change::Entity::find().filter(change::Column::Stamp.gt(position)).count(store).await?)
}
