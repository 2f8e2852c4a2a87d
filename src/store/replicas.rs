//! Read replicas: what a reader asks of a mailbox, or of all of them, is answered by one that has caught up with it.
//!
//! Before a replica is used the primary is asked for one row (the mailbox's, or that of `meta`), and the replica's own in the
//! snapshot that is then read. So a read that follows a write, through whatever node, or a push never misses it: a replica
//! that lags is passed over for that read, as is one that fails it. A task with a connection of its own looks which of them
//! live, so that a busy replica is not taken for a dead one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use entity::{mailbox, meta};
use parking_lot::Mutex;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::messages::Scope;
use super::source::{self, Source};
use super::{Store, StoreError, engine, head, history, metrics as names, unavailable};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::StreamCursor;

/// How often each is asked whether it lives.
const PROBE: Duration = Duration::from_secs(1);
/// How long a replica may take for one look at a row. A reader waits no longer for it than that.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a read of a server may take: many times what the longest page of a search takes.
const READ: Duration = Duration::from_secs(20);

/// See the module. Empty where there are none.
#[derive(Debug, Default)]
pub struct Replicas {
    all: Vec<Arc<Replica>>,
    next: AtomicUsize,
    watch: Option<AbortHandle>,
}

#[derive(Debug)]
struct Replica {
    /// Without its password.
    name: String,
    db: DatabaseConnection,
    /// The connection of the watch.
    watched: DatabaseConnection,
    up: AtomicBool,
    /// The history that it has.
    lineage: AtomicU32,
    source: Source,
    /// Why it cannot be read; none while it can.
    trouble: Mutex<Option<String>>,
}

/// Where a read goes.
#[derive(Clone, Debug)]
pub struct Place(Option<Arc<Replica>>);

impl Replicas {
    /// Connects when they are first used: one that is away at start is one that comes back later. How far they are behind
    /// `primary` is a metric and nothing else: each read looks for itself.
    pub fn new(sources: &[Source], connections: u32, primary: &DatabaseConnection, lineage: u32) -> Self {
        if sources.is_empty() {
            return Self::default();
        }
        let all: Vec<Arc<Replica>> = sources
            .iter()
            .filter_map(|source| {
                let db = source.reading_lazily(connections, PATIENCE)?;
                let watched = source.reading_lazily(1, PATIENCE)?;
                let (name, up, lineage) = (source.to_string(), AtomicBool::new(true), AtomicU32::new(lineage));
                let (source, trouble) = (source.clone(), Mutex::default());
                Some(Arc::new(Replica { name, db, watched, up, lineage, source, trouble }))
            })
            .collect();
        let (watched, primary) = (all.clone(), primary.clone());
        let watch = tokio::spawn(async move {
            loop {
                // First, so that what is committed meanwhile does not count as behind.
                let ahead = present(&primary).await;
                for replica in &watched {
                    let has = present(&replica.watched).await;
                    replica.is(has.is_some());
                    if let Some(has) = has {
                        replica.lineage.store(has.lineage, Ordering::Relaxed);
                    }
                    if let (Some(ahead), Some(has)) = (ahead, has) {
                        replica.lags(ahead.stamp.saturating_sub(has.stamp).max(0));
                    }
                }
                tokio::time::sleep(PROBE).await;
            }
        });
        Self { all, next: AtomicUsize::new(0), watch: Some(watch.abort_handle()) }
    }

    /// Where to try, in this order: the next replica that lives in this history, then the primary. One that follows a server
    /// which is not the primary any more has another.
    pub fn places(&self, lineage: u32) -> impl Iterator<Item = Place> + use<> {
        let from = self.next.fetch_add(1, Ordering::Relaxed);
        let living = |replica: &&Arc<Replica>| {
            replica.up.load(Ordering::Relaxed) && replica.lineage.load(Ordering::Relaxed) == lineage
        };
        let replica =
            self.all.iter().cycle().skip(from % self.all.len().max(1)).take(self.all.len()).find(living).cloned();
        replica.map(|replica| Place(Some(replica))).into_iter().chain(std::iter::once(Place(None)))
    }

    /// Each by its name, with why it cannot be read in this history.
    pub fn conditions(&self, lineage: u32) -> Vec<(String, Option<String>)> {
        let why = |replica: &Arc<Replica>| {
            let is_foreign = replica.lineage.load(Ordering::Relaxed) != lineage;
            let trouble = replica.trouble.lock().clone();
            trouble.or_else(|| is_foreign.then(|| engine::replica::Found::Foreign.to_string()))
        };
        self.all.iter().map(|replica| (replica.name.clone(), why(replica))).collect()
    }

    /// Ends the watch and the connections.
    pub async fn close(&self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        for replica in &self.all {
            let _ = replica.db.close_by_ref().await;
            let _ = replica.watched.close_by_ref().await;
        }
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Where the stream of a server stands, when it says so in time.
async fn present(db: &DatabaseConnection) -> Option<StreamCursor> {
    let asked = tokio::time::timeout(PATIENCE, meta::Entity::find_by_id(1).one(db)).await;
    asked.ok()?.ok()?.map(|row| history::position(&row))
}

impl Replica {
    fn lags(&self, events: i64) {
        metrics::gauge!(names::REPLICA_LAG, "replica" => self.name.clone()).set(events as f64);
    }

    fn is(self: &Arc<Self>, up: bool) {
        metrics::gauge!(names::REPLICA_UP, "replica" => self.name.clone()).set(if up { 1.0 } else { 0.0 });
        if self.up.swap(up, Ordering::Relaxed) == up {
            return;
        }
        if up {
            *self.trouble.lock() = None;
            tracing::info!(replica = self.name, "the replica answers again");
            return;
        }
        *self.trouble.lock() = Some("it does not answer in time".into());
        // Beside the watch, which has the others to look at.
        let replica = Arc::clone(self);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { replica.tell_why().await });
        }
    }

    /// Looks why it cannot be read, and says so.
    async fn tell_why(&self) {
        let why = match engine::replica::row(&self.source).await {
            Ok(_) => "it does not answer in time".to_owned(),
            Err(found) => found.to_string(),
        };
        tracing::warn!(replica = self.name, reason = why, "the replica cannot be read: the primary is, until it can");
        if let Some(trouble) = &mut *self.trouble.lock() {
            *trouble = why;
        }
    }
}

impl Place {
    /// Whether another place is to be tried after `result`.
    pub fn failed<T>(&self, result: &Result<T, StoreError>) -> bool {
        match (&self.0, result) {
            (Some(replica), Err(StoreError::Unavailable(error))) => {
                tracing::debug!(replica = replica.name, error, "a read from the replica failed");
                true
            }
            _ => false,
        }
    }
}

impl Store {
    /// Each read replica by its name, with why it cannot be read; nothing where there are none.
    #[must_use]
    pub fn replicas(&self) -> Vec<(String, Option<String>)> {
        self.inner.replicas.conditions(self.lineage())
    }

    /// Reads at a replica, and at the primary where that fails.
    ///
    /// # Errors
    /// As `read` at the last place.
    pub(super) async fn somewhere<T>(
        &self,
        read: impl AsyncFn(&Place) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut result = Err(StoreError::Unavailable("there is no database".into()));
        for place in self.inner.replicas.places(self.lineage()) {
            result = self.in_time(read(&place)).await;
            if !place.failed(&result) {
                break;
            }
        }
        result
    }

    /// A read of the primary. A server that does not answer in time counts as away.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn timely<T>(&self, read: impl Future<Output = Result<T, DbErr>>) -> Result<T, StoreError> {
        self.in_time(async { read.await.map_err(unavailable) }).await
    }

    async fn in_time<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if !self.is_shared() {
            return read.await;
        }
        let late = || StoreError::Unavailable("the database does not answer in time".into());
        tokio::time::timeout(READ, read).await.unwrap_or_else(|_| Err(late()))
    }

    /// A snapshot at `place` that has everything of `scope` that was committed before now; the primary's where the replica has
    /// not.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn snapshot(&self, place: &Place, scope: &Scope) -> Result<DatabaseTransaction, StoreError> {
        if let Some(replica) = &place.0 {
            let caught_up = match scope {
                Scope::Mailbox(key) => self.with_mailbox(replica, key).await,
                Scope::All => self.with_stream(replica).await,
            };
            if let Some(tx) = caught_up.map_err(unavailable)? {
                metrics::counter!(names::READS, "place" => "replica").increment(1);
                return Ok(tx);
            }
            metrics::counter!(names::READS, "place" => "behind").increment(1);
        }
        source::snapshot(&self.inner.read).await.map_err(unavailable)
    }

    async fn with_mailbox(&self, replica: &Replica, key: &MailboxKey) -> Result<Option<DatabaseTransaction>, DbErr> {
        let Some(needed) = by_address(&self.inner.read, key).await? else { return Ok(None) };
        within(async {
            let tx = source::snapshot(&replica.db).await?;
            let row = by_address(&tx, key).await?;
            // What changes nothing that is listed has no number of its own.
            let has = row.is_some_and(|row| {
                row == needed || (row.incarnation == needed.incarnation && row.modseq > needed.modseq)
            });
            Ok(has.then_some(tx))
        })
        .await
    }

    async fn with_stream(&self, replica: &Replica) -> Result<Option<DatabaseTransaction>, DbErr> {
        let needed = head::row(&self.inner.read).await?.stamp;
        within(async {
            let tx = source::snapshot(&replica.db).await?;
            let has = head::row(&tx).await?.stamp >= needed;
            Ok(has.then_some(tx))
        })
        .await
    }

    /// The connections of `place`.
    pub(super) fn connections<'a>(&'a self, place: &'a Place) -> &'a DatabaseConnection {
        place.0.as_ref().map_or(&self.inner.read, |replica| &replica.db)
    }
}

async fn by_address<C: ConnectionTrait>(db: &C, key: &MailboxKey) -> Result<Option<mailbox::Model>, DbErr> {
    mailbox::Entity::find().filter(mailbox::Column::Address.eq(key.as_str())).one(db).await
}

async fn within<T>(read: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    let late = |_| DbErr::Custom("the replica takes too long".into());
    tokio::time::timeout(PATIENCE, read).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn replica(name: &str) -> Arc<Replica> {
        let db = DatabaseConnection::default();
        let (up, lineage) = (AtomicBool::new(true), AtomicU32::new(5));
        let (source, trouble) = (Source::File(PathBuf::new()), Mutex::default());
        Arc::new(Replica { name: name.to_owned(), watched: db.clone(), db, up, lineage, source, trouble })
    }

    fn order(replicas: &Replicas) -> Vec<String> {
        replicas.places(5).map(|place| place.0.map_or("primary".to_owned(), |replica| replica.name.clone())).collect()
    }

    #[test]
    fn replicas_take_turns_and_the_primary_is_there_for_all() {
        let replicas = Replicas { all: vec![replica("a"), replica("b")], next: AtomicUsize::new(0), watch: None };
        assert_eq!(order(&replicas), ["a", "primary"]);
        assert_eq!(order(&replicas), ["b", "primary"]);
        let place = replicas.places(5).next().unwrap();
        assert!(place.failed::<()>(&Err(StoreError::Unavailable("gone".into()))));
        assert_eq!(order(&replicas), ["b", "primary"], "one read that failed says little");
        replicas.all[0].is(false);
        assert_eq!([order(&replicas), order(&replicas)], [["b", "primary"], ["b", "primary"]]);
        let troubled =
            |replicas: &Replicas| replicas.conditions(5).iter().map(|(_, why)| why.is_some()).collect::<Vec<_>>();
        assert_eq!(troubled(&replicas), [true, false]);
        replicas.all[0].is(true);
        assert_eq!(troubled(&replicas), [false, false]);
        replicas.all[0].is(false);
        replicas.all[1].lineage.store(4, Ordering::Relaxed);
        assert_eq!(order(&replicas), ["primary"], "it has another history");
        assert_eq!(troubled(&replicas), [true, true]);
        assert!(!place.failed::<()>(&Err(StoreError::NotFound)));
        assert_eq!(order(&Replicas::default()), ["primary"]);
        assert!(!Place(None).failed::<()>(&Err(StoreError::Unavailable("the primary".into()))));
    }
}
