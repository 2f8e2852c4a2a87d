//! One round: what was begun and not finished goes, what is dead goes, what is sparse is written anew, what is old moves.
//!
//! `Store::archive` makes one now; a task of the store makes one every `[cold] every`, and ends with the store. A round that
//! ends early, by an error or with the process, leaves at most an object that the next one removes.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::MutexGuard;
use sea_orm::DatabaseConnection;

use super::config::ColdConfig;
use super::lock::Lock;
use super::pack::away;
use super::waiting::{Hot, Position};
use super::{Cold, metrics as names};
use crate::mail::time::Timestamp;
use crate::store::writer::requests::{Cold as Change, Request};
use crate::store::{Inner, Store, StoreError, columns, unavailable};

/// Bytes of records that are read at once.
const LOT: u64 = 4 << 20;
/// How long records wait for others to fill an object with.
const LINGER: i64 = 24 * 3_600 * 1_000_000;

/// What the rounds of a store know from one to the next.
#[derive(Debug, Default)]
pub struct State {
    position: Position,
    /// When everything was last looked at, in microseconds.
    looked: i64,
    /// The last object that was counted.
    pub counted: i64,
    /// Objects that were written anew, and what was needed of them then.
    pub tried: HashMap<i64, i64>,
}

impl State {
    /// Begins at the front once a day, for what was passed over: compaction had just moved it, or it could not be read.
    fn look_again(&mut self, which: Which) {
        let now = crate::clock::now_micros();
        if which == Which::All || self.looked < now.saturating_sub(LINGER) {
            (self.position, self.looked) = (Position::default(), now);
        }
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    pub records: u64,
    pub bytes: u64,
    pub objects: u64,
}

/// Which records a round moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// As many as fill objects, and those that waited for a day.
    Full,
    All,
}

/// A round on its way.
pub struct Pass<'a> {
    pub store: &'a Store,
    pub cold: &'a Cold,
    pub lock: &'a Lock,
}

impl Store {
    /// Moves the bodies of what came before `before` to object storage, after tidying up there. `told` hears of each object.
    /// None when another node is at it.
    ///
    /// # Errors
    /// `Unavailable` when the database or the storage is, or this clock is far ahead of the database server's; what moved
    /// until then has moved.
    pub async fn archive(
        &self,
        before: Timestamp,
        which: Which,
        told: &mut (dyn FnMut(Archived) + Send),
    ) -> Result<Option<Archived>, StoreError> {
        let cold = self.inner.cold.cold();
        let cold = cold.ok_or_else(|| StoreError::Unavailable("[cold] url names no object storage".into()))?;
        if let Some(ahead) = self.compare_clocks().await? {
            let ahead = ahead.as_secs();
            let why = format!("this clock is {ahead} s ahead of the database's: nothing is old by it; set the clock");
            return Err(StoreError::Unavailable(why));
        }
        let _round = self.inner.cold_round.lock().await;
        let lock = Lock::take(self.inner.source.as_ref()).await.map_err(unavailable)?;
        let Some(lock) = lock else { return Ok(None) };
        let done = Pass { store: self, cold, lock: &lock }.round(before, which, told).await;
        lock.release().await;
        if done.is_err() {
            ::metrics::counter!(names::FAILURES).increment(1);
        }
        done.map(Some)
    }

    /// Makes this store the one that removes what is not needed of all objects: those who made them are gone.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn adopt_objects(&self) -> Result<u64, StoreError> {
        self.ask(|reply| Request::Cold(Change::Adopt, reply)).await.map(columns::unsigned)
    }

    /// Why bodies that moved to object storage cannot be read; the outer is none where none moved and none can.
    #[must_use]
    pub fn cold_trouble(&self) -> Option<Option<String>> {
        self.inner.cold.condition()
    }

    /// Whether object storage can be written, read and removed from.
    ///
    /// # Errors
    /// `Unavailable` says what of it failed.
    pub async fn probe_cold(&self) -> Result<(), StoreError> {
        match self.inner.cold.cold() {
            Some(cold) => cold.probe().await.map_err(away),
            None => Ok(()),
        }
    }

    /// Starts to move what becomes old, if there is object storage; ends with the store. Called inside a tokio runtime.
    pub fn start_rounds(&self) {
        if self.inner.cold.cold().is_none() {
            return;
        }
        let task = tokio::spawn(rounds(Arc::downgrade(&self.inner)));
        *self.inner.rounds.lock() = Some(task.abort_handle());
    }
}

async fn rounds(store: Weak<Inner>) {
    if let Some(inner) = store.upgrade() {
        // It says itself what is wrong, and mail goes on without.
        let _ = Store { inner }.probe_cold().await;
    }
    loop {
        let Some(inner) = store.upgrade() else { return };
        let every = inner.cold_config.every.0;
        let after = inner.cold_config.after.0.map(|after| after.0);
        let store_now = Store { inner };
        if let Ok(Some(_)) = store_now.compare_clocks().await {
            // That was said, and nothing is old by this clock.
            drop(store_now);
            tokio::time::sleep(every.max(Duration::from_millis(100))).await;
            continue;
        }
        let before = after.map_or(0, |after| crate::clock::now_micros().saturating_sub(columns::micros(after)));
        if let Err(error) = store_now.archive(Timestamp(before), Which::Full, &mut |_| {}).await
            && !store_now.is_closed()
        {
            tracing::warn!(%error, "bodies could not be moved to object storage; it is tried again");
        }
        drop(store_now);
        tokio::time::sleep(every.max(Duration::from_millis(100))).await;
    }
}

impl Pass<'_> {
    pub(super) fn db(&self) -> &DatabaseConnection {
        &self.store.inner.read
    }

    pub(super) fn config(&self) -> &ColdConfig {
        &self.store.inner.cold_config
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.store.inner.cold_state.lock()
    }

    /// Ends the round when another node may be at it.
    pub(super) async fn hold(&self) -> Result<(), StoreError> {
        match self.lock.is_held().await.map_err(unavailable)? {
            true => Ok(()),
            false => Err(StoreError::Unavailable("the lock was lost, and another node may be moving mail".into())),
        }
    }

    async fn round(
        &self,
        before: Timestamp,
        which: Which,
        told: &mut (dyn FnMut(Archived) + Send),
    ) -> Result<Archived, StoreError> {
        self.sweep().await?;
        self.recount().await?;
        self.remove_dead().await?;
        while self.repack().await? {}
        let done = self.move_old(before, which, told).await;
        self.measure().await?;
        done
    }

    async fn move_old(
        &self,
        before: Timestamp,
        which: Which,
        told: &mut (dyn FnMut(Archived) + Send),
    ) -> Result<Archived, StoreError> {
        let hot = Hot { db: self.db(), bodies: &self.store.inner.bodies };
        let most = self.config().object_size.0;
        let linger = self.config().after.0.map_or(LINGER, |after| columns::micros(after.0).min(LINGER));
        let mut done = Archived::default();
        self.state().look_again(which);
        loop {
            let mut position = self.state().position;
            let waiting = hot.next(&mut position, before, most).await?;
            let Some(first) = waiting.first() else { return Ok(done) };
            let bytes: u64 = waiting.iter().map(|waiting| columns::unsigned(waiting.from.length)).sum();
            let old = first.at < before.0.saturating_sub(linger);
            if which == Which::Full && bytes < most / 2 && !old {
                return Ok(done);
            }
            let mut pack = self.begin().await?;
            for lot in lots(&waiting) {
                let mut out = std::mem::take(&mut pack.bytes);
                let read = hot.records(lot, &mut out).await?;
                pack.bytes = out;
                pack.add(read);
            }
            let (records, bytes) = self.finish(pack).await?;
            self.state().position = position;
            done.records += records;
            done.bytes += bytes;
            done.objects += u64::from(records > 0);
            told(done);
        }
    }
}

/// Parts of `waiting` of bounded bytes.
fn lots(waiting: &[super::waiting::Waiting]) -> impl Iterator<Item = &[super::waiting::Waiting]> {
    let mut bytes = 0;
    waiting.chunk_by(move |before, _| {
        bytes += columns::unsigned(before.from.length);
        let on = bytes < LOT;
        if !on {
            bytes = 0;
        }
        on
    })
}
