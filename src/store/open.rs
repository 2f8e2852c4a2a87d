//! Opening a store: claim the directory, migrate, take in what a lost commit left behind, start the writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use entity::{mailbox, meta};
use parking_lot::Mutex;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::bodies::segment;
use super::cache::ListCache;
use super::cold::reader::Reader;
use super::cold::{Cold, pass};
use super::config::Config;
use super::directory::{Directory, OpenError};
use super::faults::Faults;
use super::incoming::{Announce, Incoming};
use super::lanes::Lanes;
use super::pages::Pages;
use super::replicas::Replicas;
use super::search::Search;
use super::search::indexer::{self, Surroundings};
use super::search::table::{self, indexer::Around};
use super::source::Source;
use super::space::{Seen, Space};
use super::tokens::TokenCache;
use super::writer::checkpoint::Checkpointer;
use super::writer::files::Files;
use super::writer::ground::Ground;
use super::writer::objects::Objects;
use super::writer::rows::Mailboxes;
use super::writer::segments::Segments;
use super::writer::server::Server;
use super::writer::transaction::{Head, InFlight};
use super::writer::{Inbox, Shared, Writer};
use super::{Bodies, Inner, Store, columns, connect, engine, metrics};
use crate::mail::query::Spelling;

/// Writers of a node on a database server.
pub(super) const WRITERS: usize = 4;

impl Store {
    /// Opens the store in `config.data`, and makes it when there is none. Everything whole that lies beyond the
    /// committed end of a segment file is taken in before this returns.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn open(config: &Config, announce: Arc<dyn Announce>, faults: Faults) -> Result<Self, OpenError> {
        metrics::describe();
        match Source::server(&config.database.url).map_err(|why| OpenError::Url(why.to_string()))? {
            Some(server) => Self::open_server(config, server, announce, faults).await,
            None => Self::open_files(config, announce, faults).await,
        }
    }

    async fn open_server(
        config: &Config,
        source: Source,
        announce: Arc<dyn Announce>,
        faults: Faults,
    ) -> Result<Self, OpenError> {
        let replicas = config.database.replicas.iter().map(|url| Source::server(url));
        let replicas: Result<Vec<_>, _> = replicas.collect();
        let replicas: Vec<Source> =
            replicas.map_err(|why| OpenError::Url(why.to_string()))?.into_iter().flatten().collect();
        let failed = |error| OpenError::Server { place: source.to_string(), error };
        let cold = Cold::open(&config.cold)?;
        let db = source.session().await.map_err(failed)?;
        engine::check_packet(&db, config).await?;
        let head = locked(&db, prepare(&db, config)).await.map_err(failed)?;
        db.close().await.map_err(failed)?;
        let read = source.reading(config.database.read_connections).await.map_err(failed)?;
        let shared = shared(&head, config);
        let (lanes, inboxes) = Lanes::new(WRITERS, queue(config));
        for inbox in inboxes {
            let (source, announce) = (source.clone(), announce.clone());
            let (shared, head, defaults) = (shared.clone(), head.clone(), config.defaults);
            let faults = faults.clone();
            let build = async move || {
                Ok(Writer {
                    db: source.writing().await?,
                    source,
                    head,
                    mailboxes: Mailboxes::locking(),
                    ground: Server::new(),
                    in_flight: InFlight::default(),
                    shared,
                    defaults,
                    announce,
                    faults,
                    dead: false,
                })
            };
            start(inbox, build).await.map_err(failed)?;
        }
        let cold = reader(cold, &read).await;
        let search = match config.search.enabled {
            true => Some(index_in_database(&source, config, &shared, (&lanes, cold.clone()))?),
            false => None,
        };
        let inner = Inner {
            replicas: Replicas::new(&replicas, config.database.read_connections, &read),
            read,
            lanes,
            searching: searching(config),
            shared,
            search,
            bodies: Bodies::Table,
            pages: Pages::new(config.database.list_cache.as_usize()),
            defaults: config.defaults,
            compact_below: config.bodies.compact_below,
            tried: Mutex::default(),
            cold,
            cold_config: config.cold.clone(),
            cold_state: Mutex::default(),
            cold_round: tokio::sync::Mutex::new(()),
            rounds: Mutex::new(None),
            source: Some(source),
            faults,
            lock: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn open_files(config: &Config, announce: Arc<dyn Announce>, faults: Faults) -> Result<Self, OpenError> {
        let directory = Directory::new(config)?;
        let lock = directory.claim()?;
        let cold = Cold::open(&config.cold)?;
        let database = |error| OpenError::Database { path: directory.database.clone(), error };
        let db = connect::writing(&directory.database).await.map_err(database)?;
        let head = prepare(&db, config).await.map_err(database)?;
        db.close().await.map_err(database)?;
        directory.sync()?;
        let read = connect::reading(&directory.database, config.database.read_connections).await.map_err(database)?;

        let shared = shared(&head, config);
        let (lanes, inboxes) = Lanes::new(1, queue(config));
        for inbox in inboxes {
            let (directory, config, head) = (directory.clone(), config.clone(), head.clone());
            let parts = Start {
                directory,
                config,
                head,
                shared: shared.clone(),
                announce: announce.clone(),
                faults: faults.clone(),
            };
            start(inbox, async move || parts.build().await).await.map_err(database)?;
        }
        let cold = reader(cold, &read).await;
        let search = match lanes.first().filter(|_| config.search.enabled) {
            Some(queue) => Some(index(&directory, config, &shared, (queue, cold.clone()))?),
            None => None,
        };
        let inner = Inner {
            read,
            replicas: Replicas::default(),
            lanes,
            searching: searching(config),
            shared,
            search,
            bodies: Bodies::Files(directory.bodies),
            pages: Pages::default(),
            defaults: config.defaults,
            compact_below: config.bodies.compact_below,
            tried: Mutex::default(),
            cold,
            cold_config: config.cold.clone(),
            cold_state: Mutex::default(),
            cold_round: tokio::sync::Mutex::new(()),
            rounds: Mutex::new(None),
            source: None,
            faults,
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Starts to keep the search index in the database.
fn index_in_database(
    source: &Source,
    config: &Config,
    shared: &Arc<Shared>,
    (lanes, cold): (&Lanes, Reader),
) -> Result<Search, OpenError> {
    let around = Around {
        source: source.clone(),
        cold,
        spelling: match source {
            Source::Postgres(_) => Spelling::Lexemes,
            _ => Spelling::Encoded,
        },
        lineage: shared.lineage,
        defaults: config.defaults,
        queues: lanes.all(),
        progress: shared.index.clone(),
    };
    let failed = |error| OpenError::Io { path: "the thread of the indexer".into(), error };
    table::indexer::start(around).map_err(failed)
}

/// What reads bodies that moved to object storage.
async fn reader(cold: Option<Cold>, read: &DatabaseConnection) -> Reader {
    pass::warn_of_missing(read, cold.as_ref()).await;
    Reader::new(cold, read.clone())
}

/// Starts to keep the search index.
fn index(
    directory: &Directory,
    config: &Config,
    shared: &Arc<Shared>,
    (queue, cold): (mpsc::WeakSender<Incoming>, Reader),
) -> Result<Search, OpenError> {
    let around = Surroundings {
        directory: directory.clone(),
        lineage: shared.lineage,
        defaults: config.defaults,
        queue,
        progress: shared.index.clone(),
        shared: shared.clone(),
        cold,
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
        // Only these: another node may be giving stamps.
        Some(_) => {
            meta::Entity::update_many()
                .col_expr(meta::Column::MessageTtl, Expr::value(row.message_ttl))
                .col_expr(meta::Column::Lineage, Expr::value(row.lineage))
                .col_expr(meta::Column::Restored, Expr::value(row.restored))
                .exec(db)
                .await?;
        }
        None => drop(meta::Entity::insert(row.clone().into_active_model()).exec_without_returning(db).await?),
    }
    Ok(Head { row, writer: None })
}

pub(super) fn shared(head: &Head, config: &Config) -> Arc<Shared> {
    Arc::new(Shared {
        lineage: head.lineage(),
        stamp: AtomicI64::new(head.row.stamp),
        healthy: AtomicBool::new(true),
        closing: AtomicBool::new(false),
        space: Seen::default(),
        cache: ListCache::new(config.database.list_cache.as_usize()),
        tokens: TokenCache::default(),
        index: Arc::default(),
    })
}

/// Half of the connections for reading may search.
fn searching(config: &Config) -> Semaphore {
    Semaphore::new(usize::try_from(config.database.read_connections / 2).unwrap_or(1).max(1))
}

fn queue(config: &Config) -> usize {
    usize::try_from(config.database.queue).unwrap_or(usize::MAX)
}

/// Starts a writer on a thread of its own and waits until it serves.
async fn start<G, B, F>(inbox: Inbox, build: B) -> Result<(), DbErr>
where
    G: Ground,
    B: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<Writer<G>, DbErr>>,
{
    let (ready, started) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("store-writer".into());
    let spawned = thread.spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(DbErr::Custom(error.to_string())))),
        };
        runtime.block_on(async move {
            match build().await {
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

/// Does what one node at a time may do on a database server.
pub(super) async fn locked<T>(
    db: &DatabaseConnection,
    work: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    let (lock, unlock) = match db.get_database_backend() {
        DbBackend::Postgres => ("SELECT pg_advisory_lock(7233451)", "SELECT pg_advisory_unlock(7233451)"),
        _ => ("SELECT GET_LOCK('mailroom', 60)", "SELECT RELEASE_LOCK('mailroom')"),
    };
    db.execute_unprepared(lock).await?;
    let done = work.await;
    db.execute_unprepared(unlock).await?;
    done
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
    async fn build(self) -> Result<Writer<Files>, DbErr> {
        let Directory { root, database, bodies, .. } = self.directory;
        let db = connect::writing(&database).await?;
        let mut segments = Segments::new(&bodies, next_number(&bodies));
        segments.reload(&db).await?;
        let mut writer = Writer {
            db,
            head: self.head,
            mailboxes: Mailboxes::default(),
            ground: Files {
                segments,
                objects: Objects::default(),
                config: self.config.bodies,
                space: Space::new(&root, self.config.database.min_free.0),
                checkpointer: Checkpointer::new(database.clone()),
            },
            in_flight: InFlight::default(),
            shared: self.shared,
            defaults: self.config.defaults,
            announce: self.announce,
            faults: self.faults,
            dead: false,
            source: Source::File(database),
        };
        Files::is_short(&mut writer);
        writer.recover().await?;
        Ok(writer)
    }
}

/// Above every segment file that is there; a directory that cannot be read shows when it is written to.
fn next_number(bodies: &Path) -> i64 {
    segment::numbers(bodies).ok().and_then(|numbers| numbers.last().copied()).unwrap_or(0) + 1
}
