//! Opening a store: claim the directory, migrate, take in what a lost commit left behind, start the writers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use parking_lot::Mutex;
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::Semaphore;

use super::alone::{Purpose, locked};
use super::bodies::segment;
use super::cache::ListCache;
use super::clocks::{self, Skew};
use super::cold::Cold;
use super::cold::reader::Reader;
use super::config::Config;
use super::directory::{Directory, OpenError};
use super::faults::Faults;
use super::history::History;
use super::incoming::Announce;
use super::lanes::Lanes;
use super::pages::Pages;
use super::replicas::Replicas;
use super::search::table::indexer as table_indexer;
use super::search::{Search, indexer};
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
use super::{Bodies, Inner, Store, connect, engine, head, metrics};
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
        engine::check_packet(&db, &source, config).await?;
        let head = locked(&db, Purpose::Open, head::prepare(&db, config)).await.map_err(failed)?;
        let last_commit = head::last_commit(&db, &head.row).await.map_err(failed)?;
        let compared = clocks::compare(&db).await.map_err(failed)?;
        db.close().await.map_err(failed)?;
        let read = source.reading(config.database.read_connections).await.map_err(failed)?;
        let shared = shared(&head, config);
        shared.skew.found(compared);
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
            replicas: Replicas::new(&replicas, config.database.read_connections, &read, shared.history.lineage()),
            search,
            pages: Pages::new(config.database.list_cache.as_usize()),
            source: Some(source),
            last_commit,
            faults,
            ..Inner::new(config, (read, lanes), shared, (Bodies::Table, cold))
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn open_files(config: &Config, announce: Arc<dyn Announce>, faults: Faults) -> Result<Self, OpenError> {
        let directory = Directory::new(config)?;
        let lock = directory.claim()?;
        let cold = Cold::open(&config.cold)?;
        let database = |error| OpenError::Database { path: directory.database.clone(), error };
        let db = connect::writing(&directory.database).await.map_err(database)?;
        let head = head::prepare(&db, config).await.map_err(database)?;
        let last_commit = head::last_commit(&db, &head.row).await.map_err(database)?;
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
        let search = match config.search.enabled {
            true => Some(index_in_file(&directory, config, &shared, (&lanes, cold.clone()))?),
            false => None,
        };
        let inner = Inner {
            search,
            last_commit,
            faults,
            lock: Mutex::new(Some(lock)),
            ..Inner::new(config, (read, lanes), shared, (Bodies::Files(directory.bodies), cold))
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// A store on SQLite without a lock, an index, faults: what differs is set over it.
    pub(super) fn new(
        config: &Config,
        (read, lanes): (DatabaseConnection, Lanes),
        shared: Arc<Shared>,
        (bodies, cold): (Bodies, Reader),
    ) -> Self {
        Self {
            read,
            replicas: Replicas::default(),
            lanes,
            searching: searching(config),
            shared,
            search: None,
            bodies,
            pages: Pages::default(),
            defaults: config.defaults,
            compact_below: config.bodies.compact_below,
            tried: Mutex::default(),
            cold,
            cold_config: config.cold.clone(),
            cold_state: Mutex::default(),
            cold_round: tokio::sync::Mutex::default(),
            rounds: Mutex::default(),
            source: None,
            last_commit: 0,
            faults: Faults::default(),
            lock: Mutex::default(),
        }
    }
}

/// Starts to keep the search index in the database.
fn index_in_database(
    source: &Source,
    config: &Config,
    shared: &Shared,
    (lanes, cold): (&Lanes, Reader),
) -> Result<Search, OpenError> {
    let around = table_indexer::Surroundings {
        source: source.clone(),
        spelling: match source {
            Source::Postgres(_) => Spelling::Lexemes,
            _ => Spelling::Encoded,
        },
        lineage: shared.history.lineage(),
        defaults: config.defaults,
        progress: shared.index.clone(),
        cold,
    };
    let failed = |error| OpenError::Io { path: "the thread of the indexer".into(), error };
    table_indexer::start(around, lanes.deliveries()).map_err(failed)
}

/// Starts to keep the search index in its file.
fn index_in_file(
    directory: &Directory,
    config: &Config,
    shared: &Arc<Shared>,
    (lanes, cold): (&Lanes, Reader),
) -> Result<Search, OpenError> {
    let around = indexer::Surroundings {
        directory: directory.clone(),
        lineage: shared.history.lineage(),
        defaults: config.defaults,
        progress: shared.index.clone(),
        shared: shared.clone(),
        cold,
    };
    let failed = |error| OpenError::Io { path: directory.search.clone(), error };
    indexer::start(around, lanes.deliveries()).map_err(failed)
}

/// What reads bodies that moved to object storage.
async fn reader(cold: Option<Cold>, read: &DatabaseConnection) -> Reader {
    let reader = Reader::new(cold, read.clone());
    reader.begin().await;
    reader
}

pub(super) fn shared(head: &Head, config: &Config) -> Arc<Shared> {
    Arc::new(Shared {
        history: History::new(head.lineage(), head.row.stamp),
        stamp: AtomicI64::new(head.row.stamp),
        healthy: AtomicBool::new(true),
        closing: AtomicBool::new(false),
        space: Seen::default(),
        skew: Skew::default(),
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
