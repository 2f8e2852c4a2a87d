//! The mailbox rows that the writer knows, and the row of `meta`.
//!
//! On SQLite the writer is the only one that changes them, so what it has read or written stays true. On a database server
//! they are locked and hold for one transaction.

use std::collections::{HashMap, HashSet};

use entity::{mailbox, meta};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::statements::{Counters, chunks_for, count_mailboxes, insert, replace_mailboxes};
use crate::mail::address::MailboxKey;

/// Mailboxes remembered: at most twice this.
const REMEMBERED: usize = 50_000;

/// How much of a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The counter and the totals: no index is touched.
    Counters,
    Whole,
    /// It is not in the database yet.
    New,
}

/// Rows by address: what was used lately is young, the older half is dropped at once.
#[derive(Debug)]
pub struct Mailboxes {
    /// From so many young ones on they are the old ones.
    remembered: usize,
    young: HashMap<MailboxKey, mailbox::Model>,
    old: HashMap<MailboxKey, mailbox::Model>,
    changed: HashMap<MailboxKey, Part>,
    /// Rows that lost their address in this transaction.
    detached: Vec<mailbox::Model>,
    /// The same of those that it had made.
    stillborn: Vec<mailbox::Model>,
    /// Their addresses, which the database still knows.
    freed: HashSet<MailboxKey>,
    /// Others write too: rows are locked as they are read, and hold for one transaction.
    locking: bool,
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl Mailboxes {
    fn remembering(remembered: usize) -> Self {
        let (young, old, changed) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (detached, freed) = (Vec::new(), HashSet::new());
        Self { remembered, young, old, changed, detached, stillborn: Vec::new(), freed, locking: false }
    }

    /// For a database that others write to as well.
    pub fn locking() -> Self {
        Self { locking: true, ..Self::remembering(usize::MAX) }
    }

    /// A transaction begins anew.
    pub fn forget(&mut self) {
        *self = Self { locking: self.locking, ..Self::remembering(self.remembered) };
    }

    /// Reads those of `keys` that are not known. Afterwards [`Mailboxes::get`] is the truth for them.
    pub async fn load<C: ConnectionTrait>(
        &mut self,
        db: &C,
        keys: impl Iterator<Item = &MailboxKey>,
    ) -> Result<(), DbErr> {
        // Not amid a transaction: what it changed is written from the young ones.
        if self.young.len() >= self.remembered && self.changed.is_empty() && self.freed.is_empty() {
            self.old = std::mem::take(&mut self.young);
        }
        let mut missing = HashSet::new();
        for key in keys {
            if self.young.contains_key(key) || self.freed.contains(key) {
                continue;
            }
            match self.old.remove(key) {
                Some(row) => drop(self.young.insert(key.clone(), row)),
                None => drop(missing.insert(key.as_str())),
            }
        }
        let mut missing: Vec<&str> = missing.into_iter().collect();
        if self.locking {
            // In one order for everyone, so that two that wait for each other are rare.
            missing.sort_unstable();
        }
        for keys in chunks_for(db.get_database_backend(), &missing) {
            let rows = mailbox::Entity::find().filter(mailbox::Column::Address.is_in(keys.to_vec()));
            let rows = if self.locking { rows.order_by_asc(mailbox::Column::Address).lock_exclusive() } else { rows };
            for row in rows.all(db).await? {
                if let Some(address) = &row.address {
                    self.young.insert(MailboxKey::from_stored(address), row);
                }
            }
        }
        Ok(())
    }

    pub fn get(&self, key: &MailboxKey) -> Option<&mailbox::Model> {
        self.young.get(key)
    }

    /// Takes a row out, to be put back changed.
    pub fn take(&mut self, key: &MailboxKey) -> Option<mailbox::Model> {
        self.young.remove(key)
    }

    /// Remembers `row` as it will be after the transaction.
    pub fn put(&mut self, key: MailboxKey, row: mailbox::Model, part: Part) {
        let changed = self.changed.entry(key.clone()).or_insert(part);
        *changed = (*changed).max(part);
        self.young.insert(key, row);
    }

    /// Frees the address of a row.
    pub fn detach(&mut self, key: &MailboxKey, row: mailbox::Model) {
        self.young.remove(key);
        self.old.remove(key);
        self.freed.insert(key.clone());
        let row = mailbox::Model { address: None, token_hash: None, due: Some(0), ..row };
        match self.changed.remove(key) {
            Some(Part::New) => self.stillborn.push(row),
            _ => self.detached.push(row),
        }
    }

    /// Writes what changed; rows in the order of their ids, so that pages are touched in order.
    pub async fn write<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), DbErr> {
        // First these: another row may have taken the address.
        replace_mailboxes(db, std::mem::take(&mut self.detached)).await?;
        insert::<mailbox::Entity, _>(db, std::mem::take(&mut self.stillborn)).await?;
        self.freed.clear();
        let (mut counters, mut whole, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (key, part) in self.changed.drain() {
            let Some(row) = self.young.get(&key) else {
                return Err(DbErr::Custom(format!("what changed in the mailbox {key} is not known any more")));
            };
            match part {
                Part::Counters => counters.push(Counters::of(row)),
                Part::Whole => whole.push(row.clone()),
                Part::New => new.push(row.clone()),
            }
        }
        new.sort_unstable_by(|one: &mailbox::Model, other| one.address.cmp(&other.address));
        insert::<mailbox::Entity, _>(db, new).await?;
        counters.sort_unstable_by_key(|row: &Counters| row.id);
        whole.sort_unstable_by_key(|row: &mailbox::Model| row.id);
        count_mailboxes(db, counters).await?;
        replace_mailboxes(db, whole).await
    }
}

/// Writes the row of `meta`.
pub async fn write_meta<C: ConnectionTrait>(db: &C, row: meta::Model) -> Result<(), DbErr> {
    meta::Entity::update(row.into_active_model().reset_all()).validate()?.exec_without_returning(db).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, address: &str) -> mailbox::Model {
        mailbox::Model {
            id,
            address: Some(address.to_owned()),
            incarnation: id,
            modseq: 1,
            replay_floor: 0,
            origin: 1,
            created_at: 0,
            expires_at: None,
            message_ttl: None,
            max_messages: None,
            max_bytes: None,
            when_full: None,
            token_hash: None,
            messages: 0,
            unread: 0,
            bytes: 0,
            due: None,
        }
    }

    #[tokio::test]
    async fn what_a_transaction_changed_is_written_however_many_mailboxes_it_looks_at() {
        let db = sea_orm::Database::connect("sqlite::memory:").await.unwrap();
        migration::up(&db).await.unwrap();
        let mut mailboxes = Mailboxes::remembering(3);
        let keys: Vec<MailboxKey> = (1..=10).map(|n| MailboxKey::from_stored(&format!("{n}@x"))).collect();
        for round in 1..=2 {
            for (n, key) in (1..).zip(&keys) {
                mailboxes.load(&db, std::iter::once(key)).await.unwrap();
                let known = mailboxes.get(key).cloned();
                let part = if known.is_some() { Part::Whole } else { Part::New };
                let changed = known.unwrap_or_else(|| row(n, key.as_str()));
                mailboxes.put(key.clone(), mailbox::Model { modseq: round, ..changed }, part);
            }
            mailboxes.write(&db).await.unwrap();
            let rows = mailbox::Entity::find().all(&db).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.modseq).collect::<Vec<_>>(), [round; 10]);
        }
    }
}
