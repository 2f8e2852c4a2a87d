//! Changes by calls, by retention and by compaction: several in one transaction, each carried out in turn.

use std::sync::Arc;

use entity::{change, mailbox, message};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
};

use super::Writer;
use super::ground::Ground;
use super::plan::{DELETED, UPDATED};
use super::removal::{self, Old, oldest};
use super::requests::{Request, Step};
use super::rows::Part;
use super::transaction::Failure;
use crate::mail::address::MailboxKey;
use crate::mail::event::Event;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Listed;
use crate::store::columns::{self, signed, unsigned};
use crate::store::mailboxes::{Mailbox, MailboxPatch, NewMailbox};
use crate::store::messages::MessagePatch;
use crate::store::{StoreError, metrics as names};

/// A refusal by a rule has written nothing; a failure ends the transaction.
type Outcome<T> = Result<Result<T, StoreError>, Failure>;

impl<G: Ground> Writer<G> {
    /// Makes `batch` one transaction; the answers are left in `in_flight`.
    pub(super) async fn apply_all(&mut self, batch: &[Request]) -> Result<(), Failure> {
        metrics::counter!(names::CHANGES).increment(batch.len() as u64);
        let tx = G::open(self, batch).await?;
        for request in batch {
            self.apply(&tx, request).await?;
        }
        self.commit(tx).await
    }

    async fn apply(&mut self, tx: &DatabaseTransaction, request: &Request) -> Result<(), Failure> {
        match request {
            Request::Create(new, reply) => {
                let result = self.create(tx, new.clone()).await?;
                self.in_flight.reply(reply, result);
            }
            Request::Alter(key, patch, reply) => {
                let result = self.alter(tx, key, patch.clone()).await?;
                self.in_flight.reply(reply, result);
            }
            Request::DeleteMailbox(key, reply) => {
                let found = self.living(tx, key).await?;
                self.in_flight.reply(reply, found.as_ref().map(drop).ok_or(StoreError::NotFound));
                if let Some(row) = found {
                    self.end_mailbox(key, row);
                }
            }
            Request::Update(key, id, patch, reply) => {
                let result = self.update(tx, key, *id, patch.clone()).await?;
                self.in_flight.reply(reply, result);
            }
            Request::Delete(key, id, reply) => {
                let result = self.delete(tx, key, *id).await?;
                self.in_flight.reply(reply, result);
            }
            Request::DeleteThrough(key, uid, reply) => {
                let result = self.delete_through(tx, key, *uid).await?;
                self.in_flight.reply(reply, result);
            }
            Request::Expire(now, reply) => {
                let more = self.expire(tx, now.0).await?;
                self.in_flight.reply(reply, Ok(more));
            }
            Request::Move(..) | Request::DropDead(_) | Request::Probe(..) | Request::Cold(..) => {
                G::apply(self, tx, request).await?;
            }
            // Taken out before; dropping its sender tells the caller all the same.
            Request::Close(_) => {}
        }
        Ok(())
    }

    /// The row of a mailbox that has not ended.
    async fn living(&mut self, tx: &DatabaseTransaction, key: &MailboxKey) -> Result<Option<mailbox::Model>, Failure> {
        self.mailboxes.load(tx, std::iter::once(key)).await?;
        let now = self.now();
        Ok(self.mailboxes.get(key).filter(|row| !columns::ended(row, now)).cloned())
    }

    async fn create(&mut self, tx: &DatabaseTransaction, new: NewMailbox) -> Outcome<Mailbox> {
        let now = self.now();
        if self.living(tx, &new.key).await?.is_some() {
            return Ok(Err(StoreError::Exists));
        }
        if let Some(ended) = self.mailboxes.get(&new.key).cloned() {
            self.end_mailbox(&new.key, ended);
        }
        let expires_at = new.expires_at.map(|end| end.0);
        let row = mailbox::Model {
            expires_at,
            message_ttl: columns::ttl_column(new.message_ttl),
            max_messages: new.max_messages.map(signed),
            max_bytes: new.max_bytes.map(signed),
            when_full: new.when_full.map(columns::when_full_column),
            token_hash: Some(new.token_hash.to_vec()),
            due: expires_at.map(columns::round_up),
            ..self.new_row(&new.key, 1, now)
        };
        Ok(self.keep(&new.key, row, Part::New))
    }

    /// Puts a row without an event and shows it as it will be.
    fn keep(&mut self, key: &MailboxKey, row: mailbox::Model, part: Part) -> Result<Mailbox, StoreError> {
        self.in_flight.touched(key.clone());
        self.mailboxes.put(key.clone(), row.clone(), part);
        columns::mailbox(row, self.head.lineage()).ok_or(StoreError::NotFound)
    }

    async fn alter(&mut self, tx: &DatabaseTransaction, key: &MailboxKey, patch: MailboxPatch) -> Outcome<Mailbox> {
        let Some(mut row) = self.living(tx, key).await? else { return Ok(Err(StoreError::NotFound)) };
        if let Some(expires_at) = patch.expires_at {
            row.expires_at = expires_at.map(|end| end.0);
        }
        if let Some(ttl) = patch.message_ttl {
            row.message_ttl = columns::ttl_column(ttl);
        }
        if let Some(max) = patch.max_messages {
            row.max_messages = max.map(signed);
        }
        if let Some(max) = patch.max_bytes {
            row.max_bytes = max.map(signed);
        }
        if let Some(when) = patch.when_full {
            row.when_full = when.map(columns::when_full_column);
        }
        row.due = self.next_due(tx, &row).await?;
        Ok(self.keep(key, row, Part::Whole))
    }

    async fn find(
        &mut self,
        tx: &DatabaseTransaction,
        key: &MailboxKey,
        id: DeliveryId,
    ) -> Result<Option<(mailbox::Model, message::Model)>, Failure> {
        let Some(row) = self.living(tx, key).await? else { return Ok(None) };
        let message = message::Entity::find()
            .filter(message::Column::Id.eq(id.0))
            .filter(message::Column::MailboxId.eq(row.id))
            .one(tx)
            .await?;
        let now = self.now();
        let lives = |message: &message::Model| {
            columns::message_end(&row, message.received_at, &self.defaults).is_none_or(|end| end > now)
        };
        Ok(message.filter(lives).map(|message| (row, message)))
    }

    async fn update(
        &mut self,
        tx: &DatabaseTransaction,
        key: &MailboxKey,
        id: DeliveryId,
        patch: MessagePatch,
    ) -> Outcome<Listed> {
        let Some((mut row, old)) = self.find(tx, key, id).await? else { return Ok(Err(StoreError::NotFound)) };
        let mut new = old.clone();
        if let Some(is_read) = patch.is_read {
            new.is_read = is_read;
        }
        if let Some(tags) = patch.tags {
            new.tags = columns::tags_column(&tags);
        }
        let listed = Arc::new(columns::listed(new.clone(), &row, key, self.head.lineage(), &self.defaults));
        if new == old {
            return Ok(Ok(Arc::unwrap_or_clone(listed)));
        }
        row.unread += i64::from(old.is_read) - i64::from(new.is_read);
        let mut changed = old.into_active_model();
        changed.is_read = ActiveValue::Set(new.is_read);
        changed.tags = ActiveValue::Set(new.tags);
        changed.update(tx).await?;
        let message = listed.clone();
        self.tell(&mut row, key, UPDATED, new.uid, id, move |_| Event::Updated { message });
        self.mailboxes.put(key.clone(), row, Part::Counters);
        Ok(Ok(Arc::unwrap_or_clone(listed)))
    }

    /// An event of one message and its line in `changes`.
    fn tell(
        &mut self,
        row: &mut mailbox::Model,
        key: &MailboxKey,
        kind: i16,
        uid: i64,
        id: DeliveryId,
        make: impl FnOnce(i64) -> Event,
    ) {
        let place = self.event(row, key, None, make);
        self.in_flight.rows += 1;
        self.in_flight.changes.push(change::Model {
            mailbox_id: row.id,
            modseq: place.modseq,
            stamp: place.stamp,
            kind,
            uid,
            id: Some(id.0),
            address: None,
            incarnation: row.incarnation,
        });
    }

    async fn delete(&mut self, tx: &DatabaseTransaction, key: &MailboxKey, id: DeliveryId) -> Outcome<()> {
        let Some((mut row, old)) = self.find(tx, key, id).await? else { return Ok(Err(StoreError::NotFound)) };
        message::Entity::delete_by_id((old.mailbox_id, old.uid)).exec(tx).await?;
        self.ground.died(&Old::of(&old));
        row.messages -= 1;
        row.unread -= i64::from(!old.is_read);
        row.bytes -= old.size;
        let uid = unsigned(old.uid);
        self.tell(&mut row, key, DELETED, old.uid, id, |_| Event::Deleted { id, uid });
        let part = if row.messages == 0 {
            row.due = self.next_due(tx, &row).await?;
            Part::Whole
        } else {
            // `due` may now be too early: retention looks and sets it right.
            Part::Counters
        };
        self.mailboxes.put(key.clone(), row, part);
        Ok(Ok(()))
    }

    async fn delete_through(&mut self, tx: &DatabaseTransaction, key: &MailboxKey, uid: i64) -> Outcome<Step> {
        let Some(mut row) = self.living(tx, key).await? else { return Ok(Err(StoreError::NotFound)) };
        let mut old = oldest(tx, row.id, removal::STEP).await?;
        let full = old.len() as u64 == removal::STEP;
        old.retain(|old| old.uid <= uid);
        let more = full && old.len() as u64 == removal::STEP;
        self.remove(tx, key, &mut row, &old).await?;
        if !more {
            row.due = self.next_due(tx, &row).await?;
        }
        self.mailboxes.put(key.clone(), row, Part::Whole);
        Ok(Ok(Step { gone: old.len() as u64, more }))
    }
}
