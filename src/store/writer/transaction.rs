//! What a transaction promises, and how it is settled.
//!
//! Each transaction writes its last stamp into `meta`. So a commit whose outcome is not known (an error after COMMIT was
//! sent, a panic) is looked up on a new connection: the stamp is there, or nothing of the transaction is. Until that is
//! known nobody is answered and no body is cut.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use entity::{change, mailbox, meta};
use sea_orm::{DatabaseTransaction, DbErr, TransactionTrait};

use super::Writer;
use super::ground::Ground;
use super::plan::Delivery;
use super::requests::Reply;
use super::statements;
use crate::mail::address::MailboxKey;
use crate::mail::cursor::StreamCursor;
use crate::mail::event::{Announced, Event};
use crate::store::faults::Fault;
use crate::store::incoming::{Incoming, WriteFailed};
use crate::store::{StoreError, columns, metrics as names, trouble};

/// Where the whole store stands: the row of `meta`.
#[derive(Clone, Debug)]
pub struct Head {
    pub row: meta::Model,
    /// On a database server: what tells this writer's stamps from those of the others there.
    pub writer: Option<i64>,
}

/// Writers whose stamps are told apart.
const WRITERS: i64 = 1 << 10;

impl Head {
    /// The next stamp: strictly increasing, near the clock. Microseconds with one writer; where there are several the lowest
    /// ten bits are the writer's, and the place in the stream is given later (`writer::server`).
    pub fn stamp(&mut self) -> i64 {
        let now = crate::clock::now_micros();
        let last = self.row.stamp;
        self.row.stamp = match self.writer {
            None => last.saturating_add(1).max(now),
            Some(writer) => {
                let own = now.saturating_mul(WRITERS) + writer.rem_euclid(WRITERS);
                if own > last { own } else { last.saturating_add(WRITERS) }
            }
        };
        self.row.stamp
    }

    /// The stamp of a moment, in microseconds.
    pub fn at(&self, moment: i64) -> i64 {
        if self.writer.is_some() { moment.saturating_mul(WRITERS) } else { moment }
    }

    pub fn lineage(&self) -> u32 {
        u32::try_from(self.row.lineage).unwrap_or(0)
    }
}

/// Why a transaction was not made.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("database: {0}")]
    Database(#[from] DbErr),
    #[error("segment file: {0}")]
    Bodies(std::io::Error),
    #[error("sync of the segment file: {0}")]
    Sync(std::io::Error),
    #[error("the database did not answer within {0:?}")]
    Late(std::time::Duration),
    #[error("the database has another history than this node believes")]
    History,
}

impl Failure {
    /// The server has become one that is only read.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Database(error) if trouble::is_read_only(error))
    }

    /// The disk is full.
    pub fn no_space(&self) -> bool {
        match self {
            Self::Database(error) => trouble::is_full(error),
            Self::Late(_) | Self::History => false,
            Self::Bodies(error) | Self::Sync(error) => {
                matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
        }
    }
}

type Done = Box<dyn FnOnce(Result<(), WriteFailed>) + Send>;
type Settled = Box<dyn FnOnce(bool) + Send>;

/// Everything that must outlive a panic in the middle of a transaction.
#[derive(Default)]
pub struct InFlight {
    /// Set just before COMMIT: from here on the outcome may have to be looked up.
    pub(super) stamp: Option<i64>,
    began: Option<Instant>,
    /// The deliveries' callers and what they hear if the commit succeeds, in the order of the batch.
    deliveries: Vec<(Done, Result<(), WriteFailed>)>,
    /// The other callers: true when it was committed.
    replies: Vec<Settled>,
    pub(super) events: Vec<Arc<Announced>>,
    /// Mailbox and mod-sequence of each.
    pub(super) places: Vec<(i64, i64)>,
    /// Mailboxes that changed without an event.
    quiet: Vec<MailboxKey>,
    /// Bodies on their way to the disk.
    pub(super) append: Option<tokio::task::JoinHandle<Result<(), Failure>>>,
    /// Rows written or removed, for the checkpoints.
    pub(super) rows: u64,
    /// Deliveries and message rows that the commit makes visible.
    pub(super) stored: (u64, u64),
    /// Written with the commit.
    pub(super) changes: Vec<change::Model>,
    /// Segments whose files are to be removed after the commit, because nothing lives in them.
    pub(super) dead: Vec<i64>,
    /// Segments whose rows it removes, because their files are gone.
    pub(super) forgotten: Vec<i64>,
}

impl InFlight {
    /// Starts anew and keeps the callers of `batch`.
    pub fn begin(&mut self, batch: Vec<Incoming>) -> Vec<Delivery> {
        *self = Self { began: Some(Instant::now()), ..Self::default() };
        let mut deliveries = Vec::with_capacity(batch.len());
        for incoming in batch {
            self.deliveries.push((incoming.done, Err(WriteFailed::Failed)));
            deliveries.push(Delivery {
                id: incoming.id,
                received_at: incoming.received_at,
                envelope: incoming.envelope,
                body: incoming.body,
                summary: incoming.summary,
                parts: incoming.parts,
                repeat: incoming.repeat,
                at: None,
            });
        }
        deliveries
    }

    /// Starts the same again: its callers wait on.
    pub fn again(&mut self) {
        let deliveries = std::mem::take(&mut self.deliveries);
        let deliveries = deliveries.into_iter().map(|(done, _)| (done, Err(WriteFailed::Failed))).collect();
        *self = Self { began: self.began, deliveries, ..Self::default() };
    }

    /// What the caller of delivery `index` hears once the commit succeeded.
    pub fn verdict(&mut self, index: usize, verdict: Result<(), WriteFailed>) {
        if let Some((_, slot)) = self.deliveries.get_mut(index) {
            *slot = verdict;
        }
    }

    /// Answers `reply` after the commit.
    pub fn reply<T: Send + 'static>(&mut self, reply: &Reply<T>, result: Result<T, StoreError>) {
        let reply = reply.clone();
        self.replies.push(Box::new(move |committed| {
            let lost = || Err(StoreError::Unavailable("the change could not be committed".into()));
            reply.send(if committed { result } else { lost() });
        }));
    }

    /// The pages of this mailbox are to be dropped although there is no event.
    pub fn touched(&mut self, key: MailboxKey) {
        self.quiet.push(key);
    }
}

impl<G: Ground> Writer<G> {
    /// Gives `row` its next mod-sequence and the stream its next stamp, for an event that `make` builds.
    pub(super) fn event(
        &mut self,
        row: &mut mailbox::Model,
        key: &MailboxKey,
        text: Option<Arc<str>>,
        make: impl FnOnce(i64) -> Event,
    ) -> Place {
        row.modseq += 1;
        let place = Place { modseq: row.modseq, stamp: self.head.stamp() };
        let lineage = self.head.lineage();
        self.in_flight.places.push((row.id, place.modseq));
        self.in_flight.events.push(Arc::new(Announced::new(
            key.clone(),
            columns::cursor(row, lineage, row.modseq),
            StreamCursor { lineage, stamp: place.stamp },
            make(row.modseq),
            text,
        )));
        place
    }

    /// Writes what the transaction changed in memory, and commits.
    pub(super) async fn commit(&mut self, tx: DatabaseTransaction) -> Result<(), Failure> {
        statements::insert::<change::Entity, _>(&tx, std::mem::take(&mut self.in_flight.changes)).await?;
        self.mailboxes.write(&tx).await?;
        G::commit(self, tx).await
    }

    /// Opens the transaction that [`Writer::commit`] ends.
    pub(super) async fn transaction(&self) -> Result<DatabaseTransaction, Failure> {
        if self.faults.lasts(Fault::Away) {
            return Err(DbErr::Custom("asked to be away".into()).into());
        }
        Ok(self.db.begin().await?)
    }

    /// Tells everyone how the transaction ended. `Err(())` is a panic. `meanwhile` runs while that is not known.
    pub(super) async fn settle(
        &mut self,
        outcome: Result<Result<(), Failure>, ()>,
        meanwhile: impl Future<Output = Infallible>,
    ) {
        let failure = match outcome {
            Ok(Ok(())) => return self.publish(),
            Ok(Err(failure)) => {
                metrics::counter!(names::FAILURES).increment(1);
                tracing::error!(error = %failure, "a batch was not committed");
                Some(failure)
            }
            Err(()) => {
                metrics::counter!(names::RESTARTS).increment(1);
                tracing::error!("the writer panicked and starts again");
                None
            }
        };
        self.shared.healthy.store(false, Ordering::Relaxed);
        let committed = tokio::select! {
            committed = G::committed(self, failure.as_ref()) => committed,
            never = meanwhile => match never {},
        };
        if committed {
            return self.publish();
        }
        let no_space = failure.as_ref().is_some_and(Failure::no_space);
        self.refuse(if no_space { WriteFailed::NoSpace } else { WriteFailed::Failed });
    }

    fn publish(&mut self) {
        let mut done = std::mem::take(&mut self.in_flight);
        let stamp = G::settled(self, &mut done);
        self.shared.healthy.store(true, Ordering::Relaxed);
        self.shared.cache.changed(done.events.iter().map(|event| &event.mailbox).chain(&done.quiet));
        self.shared.tokens.ended(done.events.iter().map(AsRef::as_ref));
        let before = self.shared.stamp.fetch_max(stamp, Ordering::AcqRel);
        // Several nodes give stamps without gaps; one alone knows what came before.
        let after = if G::ALONE { before } else { stamp - columns::signed(done.events.len() as u64) };
        metrics::counter!(names::DELIVERIES).increment(done.stored.0);
        metrics::counter!(names::ROWS).increment(done.stored.1);
        if let Some(began) = done.began {
            metrics::histogram!(names::COMMIT).record(began.elapsed());
        }
        if !done.events.is_empty() {
            self.shared.index.committed(done.events.len());
            guarded(|| self.announce.announce(after, done.events));
        }
        for (answer, verdict) in done.deliveries {
            count_refusal(verdict);
            guarded(|| answer(verdict));
        }
        for reply in done.replies {
            reply(true);
        }
    }

    pub(super) fn refuse(&mut self, why: WriteFailed) {
        let lost = std::mem::take(&mut self.in_flight);
        for (answer, verdict) in lost.deliveries {
            // Who was refused by a rule hears that; the others hear why the batch failed.
            let verdict = Err(verdict.err().filter(|verdict| *verdict != WriteFailed::Failed).unwrap_or(why));
            count_refusal(verdict);
            guarded(|| answer(verdict));
        }
        for reply in lost.replies {
            reply(false);
        }
    }
}

/// A panic in someone else's code must not end the writer, nor keep the others from their answers.
fn guarded(call: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err() {
        tracing::error!("a panic in what the writer called after a commit");
    }
}

fn count_refusal(verdict: Result<(), WriteFailed>) {
    let reason = match verdict {
        Ok(()) => return,
        Err(WriteFailed::MailboxGone) => "mailbox_gone",
        Err(WriteFailed::MailboxFull) => "mailbox_full",
        Err(WriteFailed::NoSpace) => "no_space",
        Err(WriteFailed::TooLarge) => "too_large",
        Err(WriteFailed::Failed) => "failed",
    };
    metrics::counter!(names::REFUSED, "reason" => reason).increment(1);
}

/// Where an event stands in its mailbox and in the stream.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub modseq: i64,
    pub stamp: i64,
}
