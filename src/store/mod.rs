//! Durable storage: what was answered 250 is here. The only user of SeaORM.
//!
//! Callers see [`Store`]: `append` and the changes go through a [`writer`] (of several on a database server, by [`lanes`]),
//! reads through a pool of their own. Every committed change is told to the [`Announce`] given at start, before its caller
//! hears of it.
//!
//! Map: [`open`], [`directory`], [`head`] and [`source`] start it, [`history`] notices that a server went back, [`connect`] is SQLite's side of that, [`engine`] a server's;
//! [`bodies`] are the segment files, [`cold`] is object storage; [`lookup`], [`list`] and [`events`] read, with [`replicas`],
//! [`recent`] and [`stream`] on a server; [`cache`] keeps first pages, [`pages`] where other nodes write too, [`tokens`] what
//! tokens open; [`clocks`] whose time of day holds; [`compaction`] and [`space`] mind the disk; [`columns`] translates rows. `docs/storage.md` has the formats.

mod alone;
pub mod backup;
pub mod bodies;
mod bounds;
pub mod cache;
pub mod check;
pub mod clocks;
pub mod cold;
pub(crate) mod columns;
pub mod compaction;
pub mod config;
pub mod connect;
pub mod directory;
pub mod engine;
mod error;
pub mod events;
pub mod export;
pub mod faults;
mod floor;
mod head;
mod history;
pub mod incoming;
pub(crate) mod lanes;
pub mod list;
pub mod lookup;
pub mod mailboxes;
pub mod maintenance;
pub mod messages;
pub mod metrics;
pub mod open;
pub mod pages;
mod parameters;
mod recent;
pub mod replay;
pub(crate) mod replicas;
mod schema;
pub mod search;
mod secret;
pub(crate) mod source;
pub(crate) mod space;
mod stream;
pub mod tokens;
pub(crate) mod trouble;
pub(crate) mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use parking_lot::Mutex;
use sea_orm::DatabaseConnection;
use tokio::sync::Semaphore;

pub use cold::config::ColdConfig;
pub use config::{BodiesConfig, Config, DatabaseConfig, Defaults};
pub use directory::OpenError;
pub use error::StoreError;
use error::unavailable;
pub use faults::{Fault, Faults};
pub use incoming::{Announce, Body, Gone, Incoming, Outlet, Part, Repeat, WriteFailed};
pub use mailboxes::{Mailbox, MailboxPatch, NewMailbox, Origin, Ttl, WhenFull};
pub use maintenance::{Inspection, quick_check};
pub use messages::{Deletion, ListRequest, MessagePage, MessagePatch, Scope, StoredMessage};
pub use replay::{Position, Replay};
pub use search::config::SearchConfig;

use crate::mail::address::MailboxKey;
use crate::mail::cursor::StreamCursor;
use crate::mail::event::Announced;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Listed;
use crate::mail::time::Timestamp;
use lanes::Lanes;
use writer::Shared;
use writer::requests::{Reply, Request};

/// The store, open: a cheap handle that every stage may clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// Connections that only read.
    read: DatabaseConnection,
    replicas: replicas::Replicas,
    lanes: Lanes,
    /// Turns of those who search.
    searching: Semaphore,
    shared: Arc<Shared>,
    /// None when it is turned off.
    search: Option<search::Search>,
    bodies: Bodies,
    /// Where other nodes write too, in place of `shared.cache`.
    pages: pages::Pages,
    defaults: Defaults,
    compact_below: u32,
    /// Segments that were compacted and what still lived in them then.
    tried: Mutex<HashMap<i64, i64>>,
    /// Bodies that moved to object storage.
    cold: cold::reader::Reader,
    cold_config: ColdConfig,
    cold_state: Mutex<cold::pass::State>,
    /// Held by a round that moves bodies there.
    cold_round: tokio::sync::Mutex<()>,
    /// The task that makes such rounds.
    rounds: Mutex<Option<tokio::task::AbortHandle>>,
    /// Where connections come from, on a database server.
    source: Option<source::Source>,
    /// As it was when the store was opened.
    last_commit: i64,
    faults: Faults,
    /// Nobody else may open the directory as long as this is here: until the store is closed.
    lock: Mutex<Option<File>>,
}

/// Where bodies lie.
#[derive(Clone, Debug)]
pub(crate) enum Bodies {
    /// In segment files in this directory.
    Files(PathBuf),
    /// In a table of the database.
    Table,
}

/// What of the store's work can be seen from outside: for readiness, metrics and refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStatus {
    /// Free bytes below `[database] min_free`: receiving answers 452.
    pub no_space: bool,
    /// Where the data lies; not known of a database server.
    pub free_bytes: Option<u64>,
    /// Deliveries waiting for the writers.
    pub queued: u64,
    /// Committed events that are not in the search index yet.
    pub index_lag: u64,
    /// Microseconds that this clock is ahead of the database server's, below 0 behind; none on SQLite.
    pub clock_ahead: Option<i64>,
    /// Every writer is running and the last batch did not fail.
    pub healthy: bool,
}

impl Outlet for Store {
    fn append(&self, incoming: Incoming) -> Result<(), Box<Incoming>> {
        Self::append(self, incoming)
    }
}

impl Store {
    /// Hands a delivery to the writer.
    ///
    /// # Errors
    /// Gives it back when the writer's queue is full or closed (451 at SMTP).
    pub fn append(&self, incoming: Incoming) -> Result<(), Box<Incoming>> {
        self.inner.lanes.deliver(incoming)
    }

    /// What can be seen from outside; reads a few atomics.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let shared = &self.inner.shared;
        StoreStatus {
            no_space: shared.space.no_space.load(Ordering::Relaxed),
            free_bytes: (!self.is_shared()).then(|| shared.space.free.load(Ordering::Relaxed)),
            queued: self.inner.lanes.queued() as u64,
            index_lag: self.inner.search.as_ref().map_or(0, search::Search::lag),
            clock_ahead: self.is_shared().then(|| shared.skew.ahead()),
            healthy: shared.healthy.load(Ordering::Relaxed) && !self.inner.lanes.is_closed(),
        }
    }

    /// The present position of the stream over all mailboxes.
    #[must_use]
    pub fn stream_head(&self) -> StreamCursor {
        let shared = &self.inner.shared;
        StreamCursor { lineage: shared.history.lineage(), stamp: shared.stamp.load(Ordering::Acquire) }
    }

    /// Whether other nodes may write to the database: nothing that was read from it stays true by itself.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.bodies, Bodies::Table)
    }

    /// As [`Store::stream_head`], with what other nodes did.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn stream_now(&self) -> Result<StreamCursor, StoreError> {
        if !self.is_shared() {
            return Ok(self.stream_head());
        }
        let at = history::position(&self.timely(head::row(&self.inner.read)).await?);
        self.inner.shared.follow(at);
        Ok(at)
    }

    /// Another node committed this: what was kept of the mailboxes is not true any more.
    pub fn told(&self, events: &[Arc<Announced>]) {
        let shared = &self.inner.shared;
        shared.tokens.ended(events.iter().map(AsRef::as_ref));
        for event in events {
            shared.history.saw(event.stream, event.batch);
        }
    }

    /// Makes a mailbox by a call.
    ///
    /// # Errors
    /// `Exists` when there is a row, made by mail or by a call, that has not ended.
    pub async fn create_mailbox(&self, new: NewMailbox) -> Result<Mailbox, StoreError> {
        self.ask(|reply| Request::Create(new, reply)).await
    }

    /// Changes lifetime or quota; what is over the new quota goes with the next delivery.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn alter_mailbox(&self, key: &MailboxKey, patch: MailboxPatch) -> Result<Mailbox, StoreError> {
        self.ask(|reply| Request::Alter(key.clone(), patch, reply)).await
    }

    /// Deletes it with all its mail, which is out of sight at once and removed in the background by [`Store::expire`].
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn delete_mailbox(&self, key: &MailboxKey) -> Result<(), StoreError> {
        self.ask(|reply| Request::DeleteMailbox(key.clone(), reply)).await
    }

    /// Changes flags or tags and returns the message as it is then; a change of nothing makes no event.
    ///
    /// # Errors
    /// `NotFound` when there is no such message.
    pub async fn update_message(
        &self,
        key: &MailboxKey,
        id: DeliveryId,
        patch: MessagePatch,
    ) -> Result<Listed, StoreError> {
        self.ask(|reply| Request::Update(key.clone(), id, patch, reply)).await
    }

    /// Deletes one message, or all that are there now, in steps; returns how many went. A mailbox made by mail that is
    /// empty afterwards goes with the retention pass after the minute is over, unless mail comes first.
    ///
    /// # Errors
    /// `NotFound` when there is no such message or mailbox.
    pub async fn delete_messages(&self, key: &MailboxKey, which: Deletion) -> Result<u64, StoreError> {
        let id = match which {
            Deletion::One(id) => {
                return self.ask(|reply| Request::Delete(key.clone(), id, reply)).await.map(|()| 1);
            }
            Deletion::All => self.mailbox(key).await?.ok_or(StoreError::NotFound)?.cursor.modseq,
        };
        let through = columns::signed(id);
        let mut gone = 0;
        loop {
            let step = self.ask(|reply| Request::DeleteThrough(key.clone(), through, reply)).await?;
            gone += step.gone;
            if !step.more {
                return Ok(gone);
            }
        }
    }

    /// Deletes all messages of all mailboxes, a page of mailboxes at a time; returns how many went. A mailbox that is made
    /// meanwhile keeps its mail.
    ///
    /// # Errors
    /// `Unavailable`; what went before is gone.
    pub async fn delete_everything(&self) -> Result<u64, StoreError> {
        const PAGE: u32 = 500;
        /// The writer puts what is asked at once into one transaction.
        const AT_ONCE: usize = 64;
        let begun = Timestamp(crate::clock::now_micros());
        let (mut gone, mut after) = (0, None);
        loop {
            let page = self.list_mailboxes(after.as_deref(), PAGE).await?;
            let held = page.items.into_iter().filter(|row| row.messages > 0 && row.created_at <= begun);
            let emptied = held.map(|row| async move { self.delete_messages(&row.key, Deletion::All).await });
            let mut emptied = futures_util::stream::iter(emptied).buffer_unordered(AT_ONCE);
            while let Some(result) = emptied.next().await {
                match result {
                    // It ended meanwhile.
                    Err(StoreError::NotFound) => {}
                    result => gone += result?,
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(gone),
            }
        }
    }

    /// Removes what has ended by `now`, one step of at most 500 messages between deliveries; true when more is left. Nothing
    /// while this clock was far ahead of the database server's when it was last looked at ([`Store::compare_clocks`]).
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn expire(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.clock_lead().is_some() {
            return Ok(false);
        }
        self.ask(|reply| Request::Expire(now, reply)).await
    }

    /// Whether the database takes what is written, now: a commit, and a body of `size` bytes, of which nothing stays. Waits as
    /// long as the writer does for one that is away.
    ///
    /// # Errors
    /// `Unavailable` when it does not; `NoSpace` when the disk is full, or nearly.
    pub async fn probe(&self, size: usize) -> Result<(), StoreError> {
        self.ask(|reply| Request::Probe(size, reply)).await?;
        if self.status().no_space { Err(StoreError::NoSpace) } else { Ok(()) }
    }

    /// Stops taking deliveries, commits what was taken, closes the databases.
    pub async fn close(&self) {
        if let Some(rounds) = self.inner.rounds.lock().take() {
            rounds.abort();
        }
        let closed = self.inner.lanes.close().await;
        self.inner.shared.closing.store(true, Ordering::Relaxed);
        for closed in closed {
            let _ = closed.await;
        }
        if let Some(search) = &self.inner.search {
            search.close().await;
        }
        self.inner.replicas.close().await;
        let _ = self.inner.read.close_by_ref().await;
        self.inner.lock.lock().take();
    }

    /// Whether it was closed: nothing is written any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.lanes.is_closed()
    }

    /// Puts a request to the writer and waits for its commit.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = Reply::new();
        let gone = || StoreError::Unavailable("the writer is not there".into());
        if !self.inner.lanes.ask(request(reply)).await {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())?
    }
}
