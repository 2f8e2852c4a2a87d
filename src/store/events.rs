//! Replay: what happened after a position, read from the rows of messages (arrivals) and of changes (all else), merged in
//! the order in which it was committed.
//!
//! A cursor can be continued as long as no change after it was forgotten (`replay_floor`). The zero cursor stands for an
//! empty view, to which forgotten changes mean nothing.

use std::collections::HashMap;
use std::sync::Arc;

use entity::{change, mailbox, message};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::columns::{self, signed, unsigned};
use super::list::living_by_id;
use super::messages::Scope;
use super::replay::{Position, Replay};
use super::writer::plan::{DELETED, EXPIRED, MAILBOX_DELETED, UPDATED};
use super::writer::statements::chunks;
use super::{Store, StoreError, head, history, stream, unavailable};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::{Cursor, StreamCursor};
use crate::mail::event::{Announced, Event};
use crate::mail::id::DeliveryId;

/// A row that is an event.
pub(super) enum Row {
    Arrival(message::Model),
    Change(change::Model),
}

type Owners = HashMap<i64, (MailboxKey, mailbox::Model)>;

impl Store {
    /// Events of one mailbox after `since`, at most `limit`. An address without a row has the zero cursor.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn replay(&self, key: &MailboxKey, since: Cursor, limit: u32) -> Result<Replay, StoreError> {
        let scope = Scope::Mailbox(key.clone());
        self.somewhere(async |place| {
            let lineage = self.lineage();
            let tx = self.snapshot(place, &scope).await?;
            let replay = self.replay_mailbox((&tx, lineage), key, since, limit).await.map_err(unavailable)?;
            tx.commit().await.map_err(unavailable)?;
            Ok(replay)
        })
        .await
    }

    async fn replay_mailbox(
        &self,
        (tx, lineage): (&DatabaseTransaction, u32),
        key: &MailboxKey,
        since: Cursor,
        limit: u32,
    ) -> Result<Replay, DbErr> {
        let zero = since == Cursor::default();
        let Some(row) = self.mailbox_row(tx, key).await? else {
            let at = Position::Mailbox(Cursor::default());
            return Ok(if zero { Replay::Page { events: Vec::new(), at, head: true } } else { Replay::Reset { at } });
        };
        let present = columns::cursor(&row, lineage, row.modseq);
        let reset = Replay::Reset { at: Position::Mailbox(present) };
        let same = since.lineage == present.lineage && since.incarnation == present.incarnation;
        let floor = unsigned(row.replay_floor);
        if !zero && (!same || since.modseq > present.modseq || since.modseq < floor) {
            return Ok(reset);
        }
        let after = signed(since.modseq);
        let arrivals = message::Entity::find()
            .filter(message::Column::MailboxId.eq(row.id))
            .filter(message::Column::Uid.gt(after))
            .order_by_asc(message::Column::Uid)
            .limit(u64::from(limit) + 1)
            .all(tx)
            .await?;
        let changes = change::Entity::find()
            .filter(change::Column::MailboxId.eq(row.id))
            .filter(change::Column::Modseq.gt(after))
            .order_by_asc(change::Column::Modseq)
            .limit(u64::from(limit) + 1)
            .all(tx)
            .await?;
        let (rows, head) = merge(arrivals, changes, limit);
        let at = match rows.last() {
            Some(last) if !head => Cursor { modseq: unsigned(last.modseq()), ..present },
            _ => present,
        };
        if at.modseq < floor {
            // The next page could not be continued: say so before the first is used.
            return Ok(reset);
        }
        let owners = HashMap::from([(row.id, (key.clone(), row))]);
        let events = self.events((tx, lineage), rows, &owners).await?;
        Ok(Replay::Page { events, at: Position::Mailbox(at), head })
    }

    /// Events of all mailboxes after `since`, at most `limit`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn replay_all(&self, since: StreamCursor, limit: u32) -> Result<Replay, StoreError> {
        self.somewhere(async |place| {
            let tx = self.snapshot(place, &Scope::All).await?;
            let replay = self.replay_stream(&tx, since, limit).await.map_err(unavailable)?;
            tx.commit().await.map_err(unavailable)?;
            Ok(replay)
        })
        .await
    }

    async fn replay_stream(&self, tx: &DatabaseTransaction, since: StreamCursor, limit: u32) -> Result<Replay, DbErr> {
        let row = head::row(tx).await?;
        let present = history::position(&row);
        let reset = Replay::Reset { at: Position::Stream(present) };
        let zero = since == StreamCursor::default();
        let same = since.lineage == present.lineage;
        if !zero && (!same || since.stamp > present.stamp || since.stamp < row.stream_floor) {
            return Ok(reset);
        }
        let (rows, last) = match tx.get_database_backend() {
            DbBackend::Sqlite => stamped_after(tx, since.stamp, limit).await?,
            // Marks are kept for a day; the empty view, too, can be continued only from what they tell.
            _ if since.stamp < row.stream_floor => return Ok(reset),
            _ => {
                let (places, all) = stream::after(tx, since.stamp, limit as usize).await?;
                let last = places.last().filter(|_| !all).map(|place| place.stamp);
                (stream::rows(tx, &places).await?, last)
            }
        };
        let (at, head) = match last {
            Some(stamp) => (StreamCursor { stamp, ..present }, false),
            None => (present, true),
        };
        if at.stamp < row.stream_floor {
            return Ok(reset);
        }
        let owners = living_by_id(tx, rows.iter().map(Row::mailbox_id), self.now()).await?;
        let events = self.events((tx, present.lineage), rows, &owners).await?;
        Ok(Replay::Page { events, at: Position::Stream(at), head })
    }

    /// Rows as events. What has ended meanwhile, and what happened in mailboxes that are gone, is left out; that they
    /// are gone is not.
    async fn events(
        &self,
        (tx, lineage): (&DatabaseTransaction, u32),
        rows: Vec<Row>,
        owners: &Owners,
    ) -> Result<Vec<Arc<Announced>>, DbErr> {
        let updated = updated_messages(tx, &rows).await?;
        let now = self.now().0;
        Ok(rows.into_iter().filter_map(|row| self.event(row, owners, &updated, (lineage, now))).map(Arc::new).collect())
    }

    fn event(
        &self,
        row: Row,
        owners: &Owners,
        updated: &HashMap<(i64, i64), message::Model>,
        (lineage, now): (u32, i64),
    ) -> Option<Announced> {
        let (modseq, stream) = (row.modseq(), StreamCursor { lineage, stamp: row.stamp() });
        if let Row::Change(change::Model { kind: MAILBOX_DELETED, address, incarnation, .. }) = &row {
            let cursor = Cursor { lineage, incarnation: unsigned(*incarnation), modseq: unsigned(modseq) };
            let key = MailboxKey::from_stored(address.as_deref()?);
            return Some(Announced::new(key, cursor, stream, Event::MailboxDeleted {}, None));
        }
        let (key, owner) = owners.get(&row.mailbox_id())?;
        let listed = |message: message::Model| {
            let end = columns::message_end(owner, message.received_at, &self.inner.defaults);
            let lives = end.is_none_or(|end| end > now);
            lives.then(|| Arc::new(columns::listed(message, owner, key, lineage, &self.inner.defaults)))
        };
        let event = match row {
            Row::Arrival(message) => Event::Received { message: listed(message)? },
            Row::Change(change) => match change.kind {
                UPDATED => {
                    let message = updated.get(&(change.mailbox_id, change.uid))?.clone();
                    Event::Updated { message: listed(message)? }
                }
                DELETED => Event::Deleted { id: DeliveryId(change.id?), uid: unsigned(change.uid) },
                EXPIRED => Event::Expired { through_uid: unsigned(change.uid) },
                _ => return None,
            },
        };
        Some(Announced::new(key.clone(), columns::cursor(owner, lineage, modseq), stream, event, None))
    }
}

impl Row {
    fn mailbox_id(&self) -> i64 {
        match self {
            Self::Arrival(row) => row.mailbox_id,
            Self::Change(row) => row.mailbox_id,
        }
    }

    /// The same where the stream has it at `stamp`.
    pub fn stamped(mut self, stamp: i64) -> Self {
        match &mut self {
            Self::Arrival(row) => row.stamp = stamp,
            Self::Change(row) => row.stamp = stamp,
        }
        self
    }

    fn modseq(&self) -> i64 {
        match self {
            Self::Arrival(row) => row.uid,
            Self::Change(row) => row.modseq,
        }
    }

    fn stamp(&self) -> i64 {
        match self {
            Self::Arrival(row) => row.stamp,
            Self::Change(row) => row.stamp,
        }
    }
}

/// The first `limit` rows after a stamp, and the last stamp among them if there are more.
async fn stamped_after(tx: &DatabaseTransaction, since: i64, limit: u32) -> Result<(Vec<Row>, Option<i64>), DbErr> {
    let arrivals = message::Entity::find()
        .filter(message::Column::Stamp.gt(since))
        .order_by_asc(message::Column::Stamp)
        .limit(u64::from(limit) + 1)
        .all(tx)
        .await?;
    let changes = change::Entity::find()
        .filter(change::Column::Stamp.gt(since))
        .order_by_asc(change::Column::Stamp)
        .limit(u64::from(limit) + 1)
        .all(tx)
        .await?;
    let (rows, head) = merge(arrivals, changes, limit);
    let last = rows.last().filter(|_| !head).map(Row::stamp);
    Ok((rows, last))
}

/// The first `limit` of both by stamp, which within a mailbox is the order of the mod-sequence too; and whether that is all.
fn merge(arrivals: Vec<message::Model>, changes: Vec<change::Model>, limit: u32) -> (Vec<Row>, bool) {
    let mut rows: Vec<Row> =
        arrivals.into_iter().map(Row::Arrival).chain(changes.into_iter().map(Row::Change)).collect();
    rows.sort_unstable_by_key(Row::stamp);
    let head = rows.len() <= limit as usize;
    rows.truncate(limit as usize);
    (rows, head)
}

/// The messages that changes say were updated, as they are now.
async fn updated_messages(
    tx: &DatabaseTransaction,
    rows: &[Row],
) -> Result<HashMap<(i64, i64), message::Model>, DbErr> {
    let ids: Vec<uuid::Uuid> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Change(change) if change.kind == UPDATED => change.id,
            _ => None,
        })
        .collect();
    let mut found = HashMap::new();
    for ids in chunks(&ids) {
        for row in message::Entity::find().filter(message::Column::Id.is_in(ids.to_vec())).all(tx).await? {
            found.insert((row.mailbox_id, row.uid), row);
        }
    }
    Ok(found)
}
