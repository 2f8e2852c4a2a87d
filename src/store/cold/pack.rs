//! One object: its row is made, its records are gathered, it is written and looked at, rows are pointed at it.

use ::metrics::counter;
use bytes::Bytes;
use uuid::Uuid;

use super::pass::Pass;
use super::waiting::Waiting;
use super::{ColdError, metrics as names};
use crate::store::bodies::{self, segment};
use crate::store::faults::Fault;
use crate::store::writer::requests::{Cold as Change, Placed, Unneeded};
use crate::store::{StoreError, columns};

/// Rows of so many records move in one transaction, so that deliveries do not wait long behind it.
const STEP: usize = 200;

/// An object whose row is there and which nobody has written yet.
pub struct Pack {
    pub number: i64,
    name: String,
    /// Header and records.
    pub bytes: Vec<u8>,
    placed: Vec<Placed>,
}

impl Pass<'_> {
    /// Begins an object.
    pub(super) async fn begin(&self) -> Result<Pack, StoreError> {
        self.hold().await?;
        let now = crate::clock::now_micros();
        let name = format!("{:08x}/{}.mail", self.store.lineage(), Uuid::now_v7());
        let begin = Change::Begin { name: name.clone() };
        let number = self.ask(begin).await?;
        self.fault(Fault::ColdBegun)?;
        Ok(Pack { number, name, bytes: segment::header(number, now), placed: Vec::new() })
    }

    /// Writes an object and points rows at it; records and bytes that moved.
    pub(super) async fn finish(&self, pack: Pack) -> Result<(u64, u64), StoreError> {
        let Pack { number, name, bytes, placed } = pack;
        let Some(last) = placed.last().copied() else {
            if self.bury(number, Unneeded::Ever).await? {
                self.remove(number, &name).await?;
            }
            return Ok((0, 0));
        };
        let whole = columns::signed(bytes.len() as u64);
        let written = async {
            self.cold.put(&name, Bytes::from(bytes)).await?;
            let from = columns::unsigned(last.offset);
            let read = self.cold.read(&name, from..from + columns::unsigned(last.from.length)).await?;
            bodies::message_of(&read, last.id).map_err(|_| ColdError::Broken(name.clone()))
        };
        let written = written.await;
        self.cold.note(written.as_ref().err());
        written.map_err(away)?;
        self.fault(Fault::ColdWritten)?;
        let (mut records, mut moved) = (0, 0);
        for step in placed.chunks(STEP) {
            let place = Change::Place { number, bytes: whole, records: step.to_vec() };
            match self.ask(place).await {
                Ok(live) => moved += columns::unsigned(live),
                Err(StoreError::NotFound) => return Err(self.refused(&name, records == 0).await),
                Err(error) => return Err(error),
            }
            records += step.len() as u64;
            self.fault(Fault::ColdMoved)?;
        }
        counter!(names::MOVED).increment(records);
        counter!(names::MOVED_BYTES).increment(moved);
        Ok((records, moved))
    }

    /// Another node gave up an object that this one was writing. `unused`: no row ever pointed there, and none will; it was
    /// perhaps removed before it was whole.
    async fn refused(&self, name: &str, unused: bool) -> StoreError {
        if unused && let Err(error) = self.cold.remove(name).await {
            tracing::warn!(object = name, %error, "an object that no row points to stays");
        }
        StoreError::Unavailable(format!("another node gave up object {name} while it was written"))
    }

    /// Removes an object that was marked and to which nothing will ever point; then its row.
    pub(super) async fn remove(&self, number: i64, name: &str) -> Result<(), StoreError> {
        self.hold().await?;
        self.cold.remove(name).await.map_err(away)?;
        self.fault(Fault::ColdRemoved)?;
        self.ask(Change::Forget { number }).await?;
        Ok(())
    }

    fn fault(&self, fault: Fault) -> Result<(), StoreError> {
        match self.store.inner.faults.take(fault) {
            true => Err(StoreError::Unavailable(format!("asked to stop: {fault:?}"))),
            false => Ok(()),
        }
    }
}

impl Pack {
    /// Notes records that were appended to `bytes`, and where.
    pub fn add(&mut self, read: impl IntoIterator<Item = (Waiting, u64)>) {
        let placed = |(waiting, start): (Waiting, u64)| Placed {
            id: waiting.id,
            from: waiting.from,
            offset: columns::signed(start),
        };
        self.placed.extend(read.into_iter().map(placed));
    }
}

pub fn away(error: ColdError) -> StoreError {
    match error {
        ColdError::Away(_) => StoreError::Unavailable(error.to_string()),
        ColdError::Missing(_) | ColdError::Broken(_) => StoreError::Damaged(error.to_string()),
    }
}
