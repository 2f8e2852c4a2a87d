//! A batch of deliveries: bodies go to the disk while their rows go into the transaction; it commits when both are there.

use entity::message;

use super::Writer;
use super::plan::Delivery;
use super::segments::{self, Tail};
use super::statements;
use super::transaction::Failure;
use crate::store::metrics as names;

impl Writer {
    /// Stores `deliveries` in one transaction; what each caller is to hear is left in `in_flight`.
    pub(super) async fn store(&mut self, deliveries: &[Delivery]) -> Result<(), Failure> {
        let now = crate::clock::now_micros();
        let parts = || deliveries.iter().flat_map(|delivery| &delivery.parts);
        self.mailboxes.load(&self.db, parts().map(|part| &part.mailbox)).await?;
        let tail = match deliveries.iter().any(|delivery| delivery.at.is_none()) {
            true => Some(self.segments.tail(&self.bodies, now)?),
            false => None,
        };
        let plan = self.plan(deliveries, tail.as_ref(), now);
        self.in_flight.stored = (plan.deliveries, plan.rows.len() as u64);
        metrics::histogram!(names::BATCH).record(u32::try_from(deliveries.len()).unwrap_or(u32::MAX));
        if let Some(tail) = tail {
            self.append(tail, plan.bodies).await?;
        }
        let tx = self.transaction().await?;
        self.in_flight.rows = plan.rows.len() as u64;
        statements::insert::<message::Entity, _>(&tx, plan.rows).await?;
        for key in plan.over {
            self.drop_oldest(&tx, &key).await?;
        }
        self.commit(tx).await
    }

    /// Starts writing `bytes` at `tail`; the commit waits for their sync.
    pub(super) async fn append(&mut self, tail: Tail, bytes: Vec<u8>) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(before) = self.in_flight.append.take() {
            before.await.map_err(|error| Failure::Bodies(std::io::Error::other(error)))??;
        }
        metrics::counter!(names::BYTES).increment(bytes.len() as u64);
        self.segments.appended(tail.number, bytes.len() as u64);
        let faults = self.faults.clone();
        self.in_flight.append = Some(tokio::task::spawn_blocking(move || segments::append(&tail, &bytes, &faults)));
        Ok(())
    }
}
