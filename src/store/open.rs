//! Opening a store: claim the directory, migrate, take in what a lost commit left behind, start the writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use entity::{mailbox, meta};
use parking_lot::Mutex;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseConnection, DbErr, EntityTrait, IntoActiveModel, QueryFilter};
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::bodies::segment;
use super::cache::ListCache;
use super::config::Config;
use super::directory::{Directory, OpenError};
use super::faults::Faults;
use super::incoming::{Announce, Incoming};
use super::search::Search;
use super::search::indexer::{self, Surroundings};
use super::space::{Seen, Space};
use super::tokens::TokenCache;
use super::writer::checkpoint::Checkpointer;
use super::writer::rows::{Mailboxes, write_meta};
use super::writer::segments::Segments;
use super::writer::transaction::{Head, InFlight};
use super::writer::{Inbox, Shared, Writer};
use super::{Inner, Store, columns, connect, metrics};

/// Changes that may wait; callers wait for a place.
const REQUESTS: usize = 256;

impl Store {
    /// Opens the store in `config.data`, and makes it when there is none. Everything whole that lies beyond the
    /// committed end of a segment file is taken in before this returns.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn open(config: &Config, announce: Arc<dyn Announce>, faults: Faults) -> Result<Self, OpenError> {
        metrics::describe();
        let directory = Directory::new(config)?;
        let lock = directory.claim()?;
        let database = |error| OpenError::Database { path: directory.database.clone(), error };
        let db = connect::writing(&directory.database).await.map_err(database)?;
        let head = prepare(&db, config).await.map_err(database)?;
        db.close().await.map_err(database)?;
        directory.sync()?;
        let read = connect::reading(&directory.database, config.database.read_connections).await.map_err(database)?;

        let shared = Arc::new(Shared {
            lineage: head.lineage(),
            stamp: AtomicI64::new(head.row.stamp),
            healthy: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            space: Seen::default(),
            cache: ListCache::new(config.database.list_cache.as_usize()),
            tokens: TokenCache::default(),
            index: Arc::default(),
        });
        let (deliveries, delivered) = mpsc::channel(usize::try_from(config.database.queue.max(1)).unwrap_or(1));
        let (requests, requested) = mpsc::channel(REQUESTS);
        let inbox = Inbox { deliveries: delivered, requests: requested };
        let start = Start { directory: directory.clone(), config: config.clone(), head, shared, announce, faults };
        let shared = start.shared.clone();
        start.writer(inbox).await.map_err(database)?;
        let search = match config.search.enabled {
            true => Some(index(&directory, config, &shared, &deliveries)?),
            false => None,
        };
        let turns = (config.database.read_connections / 2).max(1);
        let inner = Inner {
            read,
            searching: Semaphore::new(usize::try_from(turns).unwrap_or(1)),
            deliveries,
            requests,
            shared,
            search,
            bodies: directory.bodies,
            defaults: config.defaults,
            compact_below: config.bodies.compact_below,
            tried: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Starts to keep the search index.
fn index(
    directory: &Directory,
    config: &Config,
    shared: &Arc<Shared>,
    queue: &mpsc::Sender<Incoming>,
) -> Result<Search, OpenError> {
    let around = Surroundings {
        directory: directory.clone(),
        lineage: shared.lineage,
        defaults: config.defaults,
        queue: queue.downgrade(),
        progress: shared.index.clone(),
        shared: shared.clone(),
    };
    indexer::start(around).map_err(|error| OpenError::Io { path: directory.search.clone(), error })
}

/// Migrates and reads the head. A new database, and one restored from a backup, takes a new lineage.
async fn prepare(db: &DatabaseConnection, config: &Config) -> Result<Head, DbErr> {
    migration::up(db).await?;
    let now = crate::clock::now_micros();
    let ttl = config.defaults.message_ttl.map_or(0, columns::micros);
    let lineage = || i64::from(rand::random::<u32>().max(1));
    let found = meta::Entity::find_by_id(1).one(db).await?;
    let row = match found.clone() {
        Some(row) if !row.restored => row,
        Some(row) => meta::Model { lineage: lineage(), restored: false, ..row },
        None => meta::Model {
            id: 1,
            lineage: lineage(),
            stamp: now,
            stream_floor: 0,
            next_mailbox: 1,
            message_ttl: ttl,
            restored: false,
        },
    };
    if row.message_ttl != ttl {
        // Another default moves the ends of these; retention looks at each of them and reckons anew.
        mailbox::Entity::update_many()
            .col_expr(mailbox::Column::Due, Expr::value(0))
            .filter(mailbox::Column::MessageTtl.is_null())
            .filter(mailbox::Column::Messages.gt(0))
            .exec(db)
            .await?;
    }
    let row = meta::Model { message_ttl: ttl, ..row };
    match found {
        Some(_) => write_meta(db, row.clone()).await?,
        None => drop(meta::Entity::insert(row.clone().into_active_model()).exec_without_returning(db).await?),
    }
    Ok(Head { row })
}

/// What the writer's thread begins with.
struct Start {
    directory: Directory,
    config: Config,
    head: Head,
    shared: Arc<Shared>,
    announce: Arc<dyn Announce>,
    faults: Faults,
}

impl Start {
    /// Starts the thread and waits until it serves.
    async fn writer(self, inbox: Inbox) -> Result<(), DbErr> {
        let (ready, started) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("store-writer".into());
        let spawned = thread.spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(DbErr::Custom(error.to_string())))),
            };
            runtime.block_on(async move {
                match self.build().await {
                    Ok(writer) => {
                        // Whoever opens may have given up meanwhile; then the inbox closes at once.
                        let _ = ready.send(Ok(()));
                        writer.run(inbox).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        spawned.map_err(|error| DbErr::Custom(format!("the writer's thread: {error}")))?;
        started.await.unwrap_or_else(|_| Err(DbErr::Custom("the writer could not start".into())))
    }

    async fn build(self) -> Result<Writer, DbErr> {
        let Directory { root, database, bodies, .. } = self.directory;
        let db = connect::writing(&database).await?;
        let mut segments = Segments::new(&bodies, next_number(&bodies));
        segments.reload(&db).await?;
        let mut writer = Writer {
            db,
            head: self.head,
            mailboxes: Mailboxes::default(),
            segments,
            in_flight: InFlight::default(),
            shared: self.shared,
            defaults: self.config.defaults,
            bodies: self.config.bodies,
            announce: self.announce,
            faults: self.faults,
            space: Space::new(&root, self.config.database.min_free.0),
            checkpointer: Checkpointer::new(database.clone()),
            dead: false,
            path: database,
        };
        writer.space.check(&writer.shared.space);
        writer.recover().await?;
        Ok(writer)
    }
}

/// Above every segment file that is there; a directory that cannot be read shows when it is written to.
fn next_number(bodies: &Path) -> i64 {
    segment::numbers(bodies).ok().and_then(|numbers| numbers.last().copied()).unwrap_or(0) + 1
}
