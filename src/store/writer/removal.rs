//! What goes: expired messages, those beyond a quota, ended mailboxes, old tombstones. What goes from a mailbox is always a
//! prefix of its UIDs, in steps of [`STEP`] rows; each step leaves one tombstone.

use std::collections::BTreeMap;

use entity::{change, mailbox, message};
use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Writer;
use super::ground::Ground;
use super::plan::EXPIRED;
use super::rows::Part;
use super::statements::chunks;
use super::transaction::Failure;
use crate::mail::address::MailboxKey;
use crate::mail::event::Event;
use crate::store::columns::{self, unsigned};
use crate::store::metrics as names;

/// Rows that one step removes.
pub const STEP: u64 = 500;
/// How long tombstones and updates are kept for readers to catch up, in microseconds.
pub const KEPT: i64 = 24 * 3_600 * 1_000_000;

/// What removing a message needs to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Old {
    pub uid: i64,
    pub received_at: i64,
    pub id: uuid::Uuid,
    pub size: i64,
    pub segment: i64,
    pub length: i64,
    pub is_read: bool,
}

impl Old {
    pub const fn of(row: &message::Model) -> Self {
        let message::Model { uid, received_at, id, size, segment, length, is_read, .. } = *row;
        Self { uid, received_at, id, size, segment, length, is_read }
    }
}

impl<G: Ground> Writer<G> {
    /// One step of retention: mailboxes that are due, then old changes. True when more is due.
    pub(super) async fn expire(&mut self, tx: &DatabaseTransaction, now: i64) -> Result<bool, Failure> {
        // What this transaction did before is in memory only, and the queries here read rows.
        self.mailboxes.write(tx).await?;
        let mut budget = STEP;
        let due = mailbox::Entity::find()
            .filter(mailbox::Column::Due.lte(now))
            .order_by_asc(mailbox::Column::Due)
            .limit(STEP);
        // Another node may be at some of them.
        let due = if G::ALONE { due } else { due.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked) };
        let due = due.all(tx).await?;
        let mut more = due.len() as u64 == STEP;
        for row in due {
            if budget == 0 {
                more = true;
                break;
            }
            budget = budget.saturating_sub(self.expire_mailbox(tx, row, now, budget).await?.max(1));
        }
        more |= budget == 0;
        self.mailboxes.write(tx).await?;
        Ok(self.prune(tx, now).await? || more)
    }

    /// Removes up to `budget` messages of one mailbox that is due; returns how many.
    async fn expire_mailbox(
        &mut self,
        tx: &DatabaseTransaction,
        mut row: mailbox::Model,
        now: i64,
        budget: u64,
    ) -> Result<u64, Failure> {
        let Some(key) = row.address.as_deref().map(MailboxKey::from_stored) else {
            return self.purge(tx, row, budget).await;
        };
        if columns::ended(&row, now) {
            self.end_mailbox(&key, row);
            return Ok(0);
        }
        let mut gone = 0;
        if let Some(ttl) = columns::message_ttl(&row, &self.defaults) {
            let mut old = oldest(tx, row.id, budget).await?;
            old.truncate(old.iter().take_while(|old| old.received_at.saturating_add(ttl) <= now).count());
            gone = old.len() as u64;
            self.remove(tx, &key, &mut row, &old).await?;
        }
        if row.messages == 0 && row.origin == 0 {
            self.end_mailbox(&key, row);
            return Ok(gone);
        }
        if gone < budget {
            row.due = self.next_due(tx, &row).await?;
        }
        self.mailboxes.put(key, row, Part::Whole);
        Ok(gone)
    }

    /// Removes messages of a mailbox that has ended, at last its row.
    async fn purge(&mut self, tx: &DatabaseTransaction, row: mailbox::Model, budget: u64) -> Result<u64, Failure> {
        let old = oldest(tx, row.id, budget).await?;
        self.delete_rows(tx, row.id, &old).await?;
        if (old.len() as u64) < budget {
            mailbox::Entity::delete_by_id(row.id).exec(tx).await?;
        }
        Ok(old.len() as u64)
    }

    /// Makes room in a mailbox that drops its oldest messages when it is full. The newest stays in any case: one that was
    /// promised may be more than the quota allows.
    pub(super) async fn drop_oldest(&mut self, tx: &DatabaseTransaction, key: &MailboxKey) -> Result<(), Failure> {
        while let Some(mut row) = self.mailboxes.get(key).cloned() {
            if !self.full(unsigned(row.messages), unsigned(row.bytes), Some(&row)) {
                break;
            }
            let mut old = oldest(tx, row.id, STEP).await?;
            let (mut messages, mut bytes) = (row.messages, row.bytes);
            let needed = old
                .iter()
                .take(usize::try_from(row.messages - 1).unwrap_or(0))
                .take_while(|old| {
                    let full = self.full(unsigned(messages), unsigned(bytes), Some(&row));
                    messages -= 1;
                    bytes -= old.size;
                    full
                })
                .count();
            old.truncate(needed);
            if old.is_empty() {
                break;
            }
            self.remove(tx, key, &mut row, &old).await?;
            row.due = self.next_due(tx, &row).await?;
            self.mailboxes.put(key.clone(), row, Part::Whole);
        }
        Ok(())
    }

    /// Removes `old`, the first messages of the mailbox, and says so with one tombstone.
    pub(super) async fn remove(
        &mut self,
        tx: &DatabaseTransaction,
        key: &MailboxKey,
        row: &mut mailbox::Model,
        old: &[Old],
    ) -> Result<(), Failure> {
        let Some(last) = old.last() else { return Ok(()) };
        self.delete_rows(tx, row.id, old).await?;
        row.messages -= i64::try_from(old.len()).unwrap_or(i64::MAX);
        row.unread -= i64::try_from(old.iter().filter(|old| !old.is_read).count()).unwrap_or(i64::MAX);
        row.bytes -= old.iter().map(|old| old.size).sum::<i64>();
        let through_uid = unsigned(last.uid);
        let place = self.event(row, key, None, |_| Event::Expired { through_uid });
        self.in_flight.changes.push(change::Model {
            mailbox_id: row.id,
            modseq: place.modseq,
            stamp: place.stamp,
            kind: EXPIRED,
            uid: last.uid,
            id: None,
            address: None,
            incarnation: row.incarnation,
        });
        Ok(())
    }

    async fn delete_rows(&mut self, tx: &DatabaseTransaction, mailbox: i64, old: &[Old]) -> Result<(), Failure> {
        let Some(last) = old.last() else { return Ok(()) };
        message::Entity::delete_many()
            .filter(message::Column::MailboxId.eq(mailbox))
            .filter(message::Column::Uid.lte(last.uid))
            .exec(tx)
            .await?;
        old.iter().for_each(|old| self.ground.died(old));
        self.in_flight.rows += old.len() as u64;
        metrics::counter!(names::EXPIRED).increment(old.len() as u64);
        Ok(())
    }

    /// When retention next has something to do in this mailbox. An empty one made by mail goes at the next pass.
    pub(super) async fn next_due(&self, tx: &DatabaseTransaction, row: &mailbox::Model) -> Result<Option<i64>, DbErr> {
        if row.messages == 0 {
            return Ok(if row.origin == 0 { Some(self.now()) } else { row.expires_at }.map(columns::round_up));
        }
        let first = oldest(tx, row.id, 1).await?;
        let end = first.first().and_then(|old| columns::message_end(row, old.received_at, &self.defaults));
        Ok(end.or(row.expires_at).map(columns::round_up))
    }

    /// Forgets changes that are older than [`KEPT`]; readers from before start over.
    async fn prune(&mut self, tx: &DatabaseTransaction, now: i64) -> Result<bool, Failure> {
        let old = change::Entity::find()
            .filter(change::Column::Stamp.lt(self.head.at(now.saturating_sub(KEPT))))
            .order_by_asc(change::Column::Stamp)
            .limit(STEP)
            .all(tx)
            .await?;
        let more = G::forget(self, tx, old.last().map_or(0, |last| last.stamp), now).await?;
        if old.is_empty() {
            return Ok(more);
        }
        // The clocks of several nodes say nothing about the order within a mailbox, nor what is written meanwhile: exactly
        // these go, and none of them is above its mailbox's floor.
        let mut floors: BTreeMap<i64, i64> = BTreeMap::new();
        for change in &old {
            let floor = floors.entry(change.mailbox_id).or_insert(change.modseq);
            *floor = std::cmp::max(*floor, change.modseq);
        }
        for old in chunks(&old) {
            let key = |change: &change::Model| {
                let of = change::Column::MailboxId.eq(change.mailbox_id);
                Condition::all().add(of).add(change::Column::Modseq.eq(change.modseq))
            };
            let these = old.iter().map(key).fold(Condition::any(), Condition::add);
            change::Entity::delete_many().filter(these).exec(tx).await?;
        }
        let ids: Vec<i64> = floors.keys().copied().collect();
        for ids in chunks(&ids) {
            self.raise_floors(tx, ids, &floors).await?;
        }
        Ok(more || old.len() as u64 == STEP)
    }

    async fn raise_floors(
        &mut self,
        tx: &DatabaseTransaction,
        ids: &[i64],
        floors: &BTreeMap<i64, i64>,
    ) -> Result<(), Failure> {
        let rows = mailbox::Entity::find().filter(mailbox::Column::Id.is_in(ids.to_vec())).all(tx).await?;
        let named = rows.into_iter().filter_map(|row| Some((MailboxKey::from_stored(row.address.as_deref()?), row.id)));
        let named: Vec<(MailboxKey, i64)> = named.collect();
        // This transaction may have changed some of them already; the others are locked in the order of their addresses.
        self.mailboxes.load(tx, named.iter().map(|(key, _)| key)).await?;
        for (key, id) in named {
            let Some(mut row) = self.mailboxes.get(&key).filter(|known| known.id == id).cloned() else { continue };
            let floor = floors.get(&row.id).copied().unwrap_or(0);
            row.replay_floor = row.replay_floor.max(floor);
            self.mailboxes.put(key, row, Part::Whole);
        }
        Ok(())
    }
}

/// The first messages of a mailbox.
pub async fn oldest(tx: &DatabaseTransaction, mailbox: i64, limit: u64) -> Result<Vec<Old>, DbErr> {
    use message::Column;
    let rows: Vec<(i64, i64, uuid::Uuid, i64, i64, i64, bool)> = message::Entity::find()
        .select_only()
        .columns([Column::Uid, Column::ReceivedAt, Column::Id, Column::Size, Column::Segment])
        .columns([Column::Length, Column::IsRead])
        .filter(Column::MailboxId.eq(mailbox))
        .order_by_asc(Column::Uid)
        .limit(limit)
        .into_tuple()
        .all(tx)
        .await?;
    let old = |(uid, received_at, id, size, segment, length, is_read)| Old {
        uid,
        received_at,
        id,
        size,
        segment,
        length,
        is_read,
    };
    Ok(rows.into_iter().map(old).collect())
}
