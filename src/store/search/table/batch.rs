//! One step of the indexer, in one transaction that holds the state: events after the position, or the next messages of a
//! walk over all of them.
//!
//! A message that is there when it is read is added; what removes it comes later in the stream. A walk makes a range of the
//! index equal to the same range of the messages, whatever lay there, so that it also makes an index of another layout
//! anew, while the events of the stream are followed beside it.

use std::collections::HashMap;
use std::sync::Arc;

use entity::{body, change, message};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::blocks::places;
use super::state::State;
use super::words::{self, Row};
use crate::mail::id::DeliveryId;
use crate::mail::query::{Seen, Spelling, index_columns};
use crate::mail::time::Timestamp;
use crate::store::cold::reader::{Patience, Reader};
use crate::store::config::Defaults;
use crate::store::events;
use crate::store::list::living_by_id;
use crate::store::search::batch::text_of;
use crate::store::search::metrics as names;
use crate::store::writer::plan::{DELETED, EXPIRED, MAILBOX_DELETED};
use crate::store::writer::statements::chunks;
use crate::store::{bodies, columns, stream};

/// Bytes of bodies that are in memory together; a larger one is alone.
const BODIES: i64 = 4 << 20;
/// Bytes of messages in one step.
const BYTES: i64 = 16 << 20;

/// What messages are made into rows with.
pub struct Maker {
    pub spelling: Spelling,
    pub lineage: u32,
    pub defaults: Defaults,
    pub seen: Seen,
    /// Reads bodies that moved to object storage.
    pub cold: Reader,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub events: usize,
    pub added: u64,
    pub removed: u64,
    /// Nothing lay beyond it.
    pub head: bool,
}

/// Takes in up to `most` events after the position of `state`, which moves on. The stream was seen to stand at `stamp`.
pub async fn follow(
    tx: &DatabaseTransaction,
    maker: &mut Maker,
    state: &mut State,
    (stamp, most): (i64, usize),
) -> Result<Done, DbErr> {
    let (places, head) = stream::after(tx, state.position, most).await?;
    let mut done = Done { events: places.len(), head, ..Done::default() };
    // A new history begins far above the last event before it.
    let mut end = places.last().map_or(stamp, |place| if head { stamp.max(place.stamp) } else { place.stamp });
    let (mut arrivals, mut bytes) = (Vec::new(), 0);
    // As they lie in the table: the stream has them with stamps of its own, lists with the ones they were planned with.
    let rows = stream::originals(tx, &places).await?;
    for (stamp, row) in rows {
        match row {
            events::Row::Arrival(row) => {
                bytes += row.size;
                if bytes > BYTES && !arrivals.is_empty() {
                    // Stamps are dense: the one before this is the last that is taken in.
                    end = stamp - 1;
                    done.head = false;
                    break;
                }
                arrivals.push(row);
            }
            events::Row::Change(change) => {
                let (gone, more) = removed(tx, &change).await?;
                done.removed += gone;
                if more {
                    // What was removed is gone for good; this change is taken in again.
                    end = stamp - 1;
                    done.head = false;
                    break;
                }
            }
        }
    }
    done.added = add(tx, maker, state, arrivals).await?;
    state.removed += columns::signed(done.removed);
    state.position = end.max(state.position);
    Ok(done)
}

/// Takes in up to `most` messages after the place of the walk, which moves on or ends.
pub async fn walk(tx: &DatabaseTransaction, maker: &mut Maker, state: &mut State, most: usize) -> Result<Done, DbErr> {
    use message::Column;
    let Some((mailbox, uid)) = state.walk else { return Ok(Done { head: true, ..Done::default() }) };
    let rest = message::Entity::find().filter(Column::MailboxId.eq(mailbox)).filter(Column::Uid.gt(uid));
    let mut rows = rest.order_by_asc(Column::Uid).limit(most as u64).all(tx).await?;
    if rows.len() < most {
        let beyond = message::Entity::find().filter(Column::MailboxId.gt(mailbox));
        let beyond = beyond.order_by_asc(Column::MailboxId).order_by_asc(Column::Uid);
        rows.extend(beyond.limit((most - rows.len()) as u64).all(tx).await?);
    }
    let mut bytes = 0;
    let fits = |row: &&message::Model| {
        let first = bytes == 0;
        bytes += row.size.max(1);
        first || bytes <= BYTES
    };
    let kept = rows.iter().take_while(fits).count();
    let last = kept == rows.len() && rows.len() < most;
    rows.truncate(kept);
    let end = match rows.last() {
        Some(row) if !last => (row.mailbox_id, row.uid),
        _ => (i64::MAX, i64::MAX),
    };
    let (removed, more) = clear(tx, (mailbox, uid), end).await?;
    if more {
        return Ok(Done { removed, ..Done::default() });
    }
    let events = rows.len();
    let added = add(tx, maker, state, rows).await?;
    state.removed += columns::signed(removed);
    state.walk = (!last).then_some(end);
    Ok(Done { events, added, removed, head: last })
}

/// Removes the rows after one place up to another; true when there is more of them than one step removes.
async fn clear(tx: &DatabaseTransaction, after: (i64, i64), through: (i64, i64)) -> Result<(u64, bool), DbErr> {
    const MAILBOXES: u64 = 256;
    let first_end = if after.0 == through.0 { through.1 } else { i64::MAX };
    let (mut gone, more) = words::remove(tx, after.0, (after.1, first_end)).await?;
    if more || after.0 == through.0 {
        return Ok((gone, more));
    }
    let others = words::mailboxes(tx, (after.0, through.0), MAILBOXES).await?;
    for mailbox in &others {
        let end = if *mailbox == through.0 { through.1 } else { i64::MAX };
        let (count, more) = words::remove(tx, *mailbox, (0, end)).await?;
        gone += count;
        if more {
            return Ok((gone, true));
        }
    }
    Ok((gone, others.len() as u64 == MAILBOXES))
}

/// Removes what a change took away, one step of it; true when more is left.
async fn removed(tx: &DatabaseTransaction, change: &change::Model) -> Result<(u64, bool), DbErr> {
    match change.kind {
        DELETED => words::remove(tx, change.mailbox_id, (change.uid - 1, change.uid)).await,
        EXPIRED => words::remove(tx, change.mailbox_id, (0, change.uid)).await,
        MAILBOX_DELETED => words::remove(tx, change.mailbox_id, (0, i64::MAX)).await,
        _ => Ok((0, false)),
    }
}

/// Adds messages; those of mailboxes that are gone are left out: nothing would remove them again.
async fn add(
    tx: &DatabaseTransaction,
    maker: &mut Maker,
    state: &mut State,
    rows: Vec<message::Model>,
) -> Result<u64, DbErr> {
    // Whatever this node's clock says: a mailbox that has its address tells of its end.
    let owners = living_by_id(tx, rows.iter().map(|row| row.mailbox_id), Timestamp(i64::MIN)).await?;
    let (mut added, mut rows) = (0, rows.into_iter().peekable());
    while rows.peek().is_some() {
        let mut bytes = 0;
        let lot: Vec<message::Model> = std::iter::from_fn(|| {
            let row = rows.next_if(|row| bytes == 0 || bytes + row.size <= BODIES)?;
            bytes += row.size.max(1);
            Some(row)
        })
        .collect();
        let texts = texts(tx, &maker.cold, &lot).await?;
        let mut made = Vec::with_capacity(lot.len());
        for row in lot {
            let Some((key, owner)) = owners.get(&row.mailbox_id) else { continue };
            let text = texts.get(&row.id).cloned().unwrap_or_default();
            let (mailbox, uid, stamp) = (row.mailbox_id, row.uid, row.stamp);
            let listed = columns::listed(row, owner, key, maker.lineage, &maker.defaults);
            let columns = index_columns(&listed, &text, &mut maker.seen);
            let tokens = maker.spelling.tokens(&columns, places(maker.spelling, mailbox, uid, stamp));
            state.partial += i64::from(!tokens.whole);
            made.push(Row { mailbox, uid, stamp, whole: tokens.whole, words: tokens.text });
        }
        added += made.len() as u64;
        words::insert(tx, made).await?;
    }
    Ok(added)
}

/// The readable texts of messages, by delivery. Of one that cannot be read there is none, as a search that reads it has it.
async fn texts(
    tx: &DatabaseTransaction,
    cold: &Reader,
    rows: &[message::Model],
) -> Result<HashMap<uuid::Uuid, Arc<str>>, DbErr> {
    let mut ids: Vec<uuid::Uuid> = rows.iter().map(|row| row.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut texts = HashMap::with_capacity(ids.len());
    for ids in chunks(&ids) {
        let found = body::Entity::find().filter(body::Column::Id.is_in(ids.to_vec())).all(tx).await?;
        for body in found {
            let raw = match body.object {
                Some(number) => {
                    let at = (body.object_offset.unwrap_or(0), body.object_length.unwrap_or(0));
                    cold.text((number, at), DeliveryId(body.id), Patience::index())
                }
                None => bodies::unpack(body.compressed, columns::unsigned(body.size), body.contents)
                    .map(Into::into)
                    .map_err(|what| what.to_string()),
            };
            let text = raw.and_then(|raw| text_of(&raw));
            let text = text.unwrap_or_else(|why| {
                metrics::counter!(names::UNREADABLE).increment(1);
                tracing::warn!(message.id = %body.id, %why, "indexed without its text");
                Arc::default()
            });
            texts.insert(body.id, text);
        }
    }
    Ok(texts)
}
