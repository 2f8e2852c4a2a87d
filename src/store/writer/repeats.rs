//! Which deliveries of a batch were stored before. Only those that say they may have been are looked up: by their id, inside the
//! transaction that would store them, so that nothing is counted twice whoever else has the same one. A mailbox that had it and
//! was deleted since is known as long as its messages are not all removed.

use std::collections::{HashMap, HashSet};

use entity::{body, change, message};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::ground::Ground;
use super::plan::{Delivery, MAILBOX_DELETED};
use super::statements::chunks;
use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::store::incoming::Repeat;

/// See the module.
#[derive(Debug, Default)]
pub struct Repeats {
    /// The mailboxes (by number) that have a message of these deliveries.
    stored: HashMap<Uuid, HashSet<i64>>,
    /// Addresses of those that were deleted since.
    deleted: HashMap<i64, String>,
    /// For each delivery of the batch: it is stored, or came before in the same batch.
    again: Vec<bool>,
}

impl Repeats {
    /// Looks up those of `deliveries` that may be repeats.
    pub async fn find<G: Ground, C: ConnectionTrait>(db: &C, deliveries: &[Delivery]) -> Result<Self, DbErr> {
        let possible = |delivery: &&Delivery| matches!(delivery.repeat, Repeat::Possible(_));
        let mut ids: Vec<Uuid> = deliveries.iter().filter(possible).map(|delivery| delivery.id.0).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        if !G::ALONE {
            // One small table instead of sixteen partitions: hardly any of them is there.
            ids = bodies(db, &ids).await?;
        }
        let stored = places(db, &ids).await?;
        let deleted = deleted(db, stored.values().flatten().copied().collect()).await?;
        let mut seen = HashSet::new();
        let again = deliveries
            .iter()
            .map(|delivery| {
                let id = delivery.id.0;
                possible(&delivery) && (stored.contains_key(&id) || !seen.insert(id))
            })
            .collect();
        Ok(Self { stored, deleted, again })
    }

    /// Whether the delivery at this place of the batch is one.
    pub fn is_repeat(&self, index: usize) -> bool {
        self.again.get(index).copied().unwrap_or(false)
    }

    /// Whether the mailbox with this number has it.
    pub fn had(&self, id: DeliveryId, mailbox: i64) -> bool {
        self.stored.get(&id.0).is_some_and(|mailboxes| mailboxes.contains(&mailbox))
    }

    /// Whether a mailbox of this address had it, and was deleted.
    pub fn had_until_deleted(&self, id: DeliveryId, key: &MailboxKey) -> bool {
        let mut mailboxes = self.stored.get(&id.0).into_iter().flatten();
        mailboxes.any(|mailbox| self.deleted.get(mailbox).is_some_and(|address| address == key.as_str()))
    }
}

/// Which of these mailboxes were deleted, with their addresses.
async fn deleted<C: ConnectionTrait>(db: &C, mailboxes: Vec<i64>) -> Result<HashMap<i64, String>, DbErr> {
    use change::Column;
    let mut found = HashMap::new();
    for mailboxes in chunks(&mailboxes) {
        let rows = change::Entity::find().select_only().columns([Column::MailboxId, Column::Address]);
        let rows = rows.filter(Column::MailboxId.is_in(mailboxes.to_vec())).filter(Column::Kind.eq(MAILBOX_DELETED));
        for (mailbox, address) in rows.into_tuple::<(i64, Option<String>)>().all(db).await? {
            found.extend(address.map(|address| (mailbox, address)));
        }
    }
    Ok(found)
}

async fn bodies<C: ConnectionTrait>(db: &C, ids: &[Uuid]) -> Result<Vec<Uuid>, DbErr> {
    let mut found = Vec::new();
    for ids in chunks(ids) {
        let rows = body::Entity::find().select_only().column(body::Column::Id);
        found.extend(rows.filter(body::Column::Id.is_in(ids.to_vec())).into_tuple::<Uuid>().all(db).await?);
    }
    Ok(found)
}

async fn places<C: ConnectionTrait>(db: &C, ids: &[Uuid]) -> Result<HashMap<Uuid, HashSet<i64>>, DbErr> {
    use message::Column;
    let mut found: HashMap<Uuid, HashSet<i64>> = HashMap::new();
    for ids in chunks(ids) {
        let rows = message::Entity::find().select_only().columns([Column::Id, Column::MailboxId]);
        let rows = rows.filter(Column::Id.is_in(ids.to_vec())).into_tuple::<(Uuid, i64)>();
        for (id, mailbox) in rows.all(db).await? {
            found.entry(id).or_default().insert(mailbox);
        }
    }
    Ok(found)
}
