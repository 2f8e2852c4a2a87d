//! What a transaction promises, and how it is settled.
//!
//! Each transaction writes its last stamp into `meta`. So a commit whose outcome is not known (an error after COMMIT was
//! sent, a panic) is looked up on a new connection: the stamp is there, or nothing of the transaction is. Until that is
//! known nobody is answered and no body is cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use entity::{change, mailbox, meta};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, TransactionTrait};

use super::Writer;
use super::plan::Delivery;
use super::rows::{self, Mailboxes};
use super::statements;
use crate::mail::address::MailboxKey;
use crate::mail::cursor::StreamCursor;
use crate::mail::event::{Announced, Event};
use crate::store::faults::Fault;
use crate::store::incoming::{Incoming, WriteFailed};
use crate::store::{StoreError, columns, connect, metrics as names};

/// The longest pause between two looks for a database that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where the whole store stands: the row of `meta`.
#[derive(Clone, Debug)]
pub struct Head {
    pub row: meta::Model,
}

impl Head {
    /// The next stamp: strictly increasing, near the clock.
    pub fn stamp(&mut self) -> i64 {
        self.row.stamp = self.row.stamp.saturating_add(1).max(crate::clock::now_micros());
        self.row.stamp
    }

    pub fn mailbox_id(&mut self) -> i64 {
        let id = self.row.next_mailbox;
        self.row.next_mailbox += 1;
        id
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
}

impl Failure {
    /// The disk is full.
    fn no_space(&self) -> bool {
        match self {
            Self::Database(error) => error.to_string().contains("database or disk is full"),
            Self::Bodies(error) | Self::Sync(error) => {
                matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
        }
    }
}

type Done = Box<dyn FnOnce(Result<(), WriteFailed>) + Send>;
type Reply = Box<dyn FnOnce(bool) + Send>;

/// Everything that must outlive a panic in the middle of a transaction.
#[derive(Default)]
pub struct InFlight {
    /// Set just before COMMIT: from here on the outcome may have to be looked up.
    stamp: Option<i64>,
    began: Option<Instant>,
    /// The deliveries' callers and what they hear if the commit succeeds, in the order of the batch.
    deliveries: Vec<(Done, Result<(), WriteFailed>)>,
    /// The other callers: true when it was committed.
    replies: Vec<Reply>,
    events: Vec<Arc<Announced>>,
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
                at: None,
            });
        }
        deliveries
    }

    /// What the caller of delivery `index` hears once the commit succeeded.
    pub fn verdict(&mut self, index: usize, verdict: Result<(), WriteFailed>) {
        if let Some((_, slot)) = self.deliveries.get_mut(index) {
            *slot = verdict;
        }
    }

    /// Answers `reply` after the commit.
    pub fn reply<T: Send + 'static>(
        &mut self,
        reply: tokio::sync::oneshot::Sender<Result<T, StoreError>>,
        result: Result<T, StoreError>,
    ) {
        self.replies.push(Box::new(move |committed| {
            let lost = || Err(StoreError::Unavailable("the change could not be committed".into()));
            // A caller that went away does not want the answer.
            let _ = reply.send(if committed { result } else { lost() });
        }));
    }

    /// The pages of this mailbox are to be dropped although there is no event.
    pub fn touched(&mut self, key: MailboxKey) {
        self.quiet.push(key);
    }
}

impl Writer {
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
        self.segments.write(&tx).await?;
        let stamp = self.head.stamp();
        rows::write_meta(&tx, self.head.row.clone()).await?;
        if let Some(append) = self.in_flight.append.as_mut() {
            let appended = append.await;
            self.in_flight.append = None;
            appended.map_err(|error| Failure::Bodies(std::io::Error::other(error)))??;
        }
        assert!(!self.faults.take(Fault::PanicBeforeCommit), "asked to panic before the commit");
        if self.faults.take(Fault::Commit) {
            return Err(DbErr::Custom("asked to fail the commit".into()).into());
        }
        self.in_flight.stamp = Some(stamp);
        tx.commit().await?;
        assert!(!self.faults.take(Fault::PanicAfterCommit), "asked to panic after the commit");
        if self.faults.take(Fault::CommitUnknown) {
            return Err(DbErr::Custom("asked to lose the answer to the commit".into()).into());
        }
        Ok(())
    }

    /// Opens the transaction that [`Writer::commit`] ends.
    pub(super) async fn transaction(&self) -> Result<DatabaseTransaction, Failure> {
        Ok(self.db.begin().await?)
    }

    /// Tells everyone how the transaction ended. `Err(())` is a panic.
    pub(super) async fn settle(&mut self, outcome: Result<Result<(), Failure>, ()>) {
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
        if let Some(append) = self.in_flight.append.take() {
            // It must not write behind the truncation.
            let _ = append.await;
        }
        let no_space = failure.as_ref().is_some_and(Failure::no_space);
        if no_space {
            self.space.ran_out(&self.shared.space);
        }
        if self.find_out().await {
            return self.publish();
        }
        if matches!(failure, Some(Failure::Sync(_))) {
            self.segments.abandon();
        }
        self.refuse(if no_space { WriteFailed::NoSpace } else { WriteFailed::Failed });
    }

    /// Connects anew, reads the state again and tells whether the transaction in flight was committed. Without a stamp
    /// it was not. Tries until the database answers or the store is closed.
    async fn find_out(&mut self) -> bool {
        let mut pause = Duration::from_millis(10);
        loop {
            match self.ascertain().await {
                Ok(()) => break,
                Err(error) => tracing::error!(%error, "the database does not answer"),
            }
            if self.closing() {
                // The answer is not known and nobody is promised anything; the next start takes in what is whole. What
                // is known of mailboxes may be wrong, so nothing else is stored either.
                self.segments.leave();
                self.dead = true;
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let committed = self.in_flight.stamp == Some(self.head.row.stamp);
        if !committed {
            self.segments.truncate();
        }
        committed
    }

    /// Reads anew where everything stands. If a commit was tried and is not there, its frames may still lie in the WAL,
    /// whole, beyond the end that is known: the next start would find them and the bodies gone. A small commit
    /// overwrites their beginning, which makes all of them void.
    async fn ascertain(&mut self) -> Result<(), DbErr> {
        self.reload().await?;
        let tried = self.in_flight.stamp.filter(|stamp| *stamp != self.head.row.stamp);
        if let Some(stamp) = tried {
            let mut head = self.head.clone();
            // Never the one that tells whether the commit happened.
            head.row.stamp = head.row.stamp.max(stamp);
            head.stamp();
            rows::write_meta(&self.db, head.row.clone()).await?;
            self.head = head;
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), DbErr> {
        let db = connect::writing(&self.path).await?;
        let old = std::mem::replace(&mut self.db, db);
        let _ = tokio::time::timeout(Duration::from_secs(5), old.close()).await;
        let row = meta::Entity::find_by_id(1).one(&self.db).await?;
        self.head.row = row.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
        self.segments.reload(&self.db).await?;
        self.mailboxes = Mailboxes::default();
        Ok(())
    }

    fn publish(&mut self) {
        let done = std::mem::take(&mut self.in_flight);
        self.shared.healthy.store(true, Ordering::Relaxed);
        self.shared.cache.changed(done.events.iter().map(|event| &event.mailbox).chain(&done.quiet));
        self.shared.tokens.ended(done.events.iter().map(AsRef::as_ref));
        self.shared.stamp.store(self.head.row.stamp, Ordering::Release);
        self.checkpointer.wrote(done.rows);
        metrics::counter!(names::DELIVERIES).increment(done.stored.0);
        metrics::counter!(names::ROWS).increment(done.stored.1);
        if let Some(began) = done.began {
            metrics::histogram!(names::COMMIT).record(began.elapsed());
        }
        if !done.events.is_empty() {
            self.shared.index.committed(done.events.len());
            guarded(|| self.announce.announce(done.events));
        }
        self.segments.committed();
        self.segments.forget(&done.forgotten);
        self.segments.remove_files(&done.dead);
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
