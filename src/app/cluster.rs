//! Connects this node with the others: what it committed goes to the bus, what they did comes to its actors.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{AbortHandle, BoxFuture, abortable};
use tokio::sync::Notify;

use crate::cluster::limits::Limits;
use crate::cluster::redis::pages::Pages;
use crate::cluster::redis::{Bus, Hint, Listener, Redis, RedisConfig};
use crate::config::Config;
use crate::inbound::announcer::Announcer;
use crate::inbound::reconcile::Reconcile;
use crate::mail::event::Announced;
use crate::store::pages::SecondLevel;
use crate::store::{Announce, Store};
use crate::web::messages;

/// How long pages are warmed up, beside everything else, after a start.
const WARM_UP: Duration = Duration::from_secs(3);

/// What is there of a cluster; of a node alone, nothing.
pub struct Cluster {
    pub redis: Option<Redis>,
    pub bus: Bus,
    announcer: Announcer,
    ear: Arc<Ear>,
}

/// The second level of the store's cache of pages.
struct Shelf(Pages);

/// Told by the store of every commit: the actors here first, then the other nodes.
struct Mouth {
    announcer: Announcer,
    bus: Bus,
}

/// Told by the bus what other nodes committed.
struct Ear {
    announcer: Announcer,
    /// Set once it is open; before that nobody follows anything.
    store: OnceLock<Store>,
    compare: Arc<Notify>,
    /// The last history that events came of and that this node does not have.
    foreign: AtomicU32,
}

impl Cluster {
    /// Starts the bus where there is a Redis; needs no answer of it.
    ///
    /// # Errors
    /// The settings are wrong, or there is no thread to be had.
    pub fn start(config: &RedisConfig, announcer: &Announcer) -> anyhow::Result<Self> {
        let failed = |why: String| anyhow::anyhow!("[redis] {why}");
        let ear = Arc::new(Ear {
            announcer: announcer.clone(),
            store: OnceLock::new(),
            compare: Arc::default(),
            foreign: AtomicU32::new(0),
        });
        let redis = Redis::new(config).map_err(failed)?;
        let bus = match &redis {
            Some(redis) => Bus::start(config, redis, Arc::clone(&ear) as _).map_err(failed)?,
            None => Bus::default(),
        };
        Ok(Self { redis, bus, announcer: announcer.clone(), ear })
    }

    /// What each client network may do, counted over all nodes where there is a Redis.
    #[must_use]
    pub fn limits(&self, config: &Config) -> Limits {
        let shared = self.redis.clone().map(|redis| (redis, config.redis.prefix.as_str()));
        Limits::new(&config.limits, config.http.mailboxes_per_minute, shared)
    }

    /// What the store announces to.
    #[must_use]
    pub fn mouth(&self) -> Arc<dyn Announce> {
        Arc::new(Mouth { announcer: self.announcer.clone(), bus: self.bus.clone() })
    }

    /// The store is open. Where other nodes write to its database, what is told here is compared with it from now on.
    pub fn opened(&self, store: &Store, config: &RedisConfig) -> AbortHandle {
        if let Some(redis) = &self.redis {
            store.share_pages(Arc::new(Shelf(Pages::start(redis.clone(), &config.prefix, config.page_life.0))));
            let (store, redis) = (store.clone(), redis.clone());
            actix::spawn(async move {
                connected(&redis).await;
                messages::warm(&store, WARM_UP).await;
            });
        }
        // It is opened once.
        let _ = self.ear.store.set(store.clone());
        let reconcile = Reconcile {
            store: store.clone(),
            announcer: self.announcer.clone(),
            channels: self.bus.channels(),
            redis: self.redis.clone(),
            every: config.reconcile.0,
            now: Arc::clone(&self.ear.compare),
        };
        let turns = turns(store.clone(), self.announcer.clone(), Arc::clone(&self.ear.compare));
        let (run, handle) = abortable(async move { tokio::join!(reconcile.run(), turns) });
        if store.is_shared() {
            actix::spawn(run);
        }
        handle
    }
}

/// When the database has another history nothing is believed that was known of mailboxes, and everyone who follows one is
/// compared at once; for as long as the store is there.
async fn turns(store: Store, announcer: Announcer, compare: Arc<Notify>) {
    let mut histories = store.histories();
    while histories.changed().await.is_ok() {
        announcer.map.invalidate_all();
        compare.notify_one();
    }
}

/// Waits for the first answer of Redis, for a moment.
async fn connected(redis: &Redis) {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        if redis.is_up() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl SecondLevel for Shelf {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(self.0.get(name))
    }

    fn keep(&self, name: &str, page: Bytes) {
        self.0.keep(name, page);
    }
}

impl Announce for Mouth {
    fn announce(&self, after: i64, events: Vec<Arc<Announced>>) {
        self.announcer.announce(after, events.clone());
        self.bus.tell(events);
    }
}

impl Listener for Ear {
    fn heard(&self, events: Vec<Arc<Announced>>, hints: Vec<Hint>) {
        let Some(store) = self.store.get() else { return };
        // Another installation that was given the same prefix; or the database has another history since, which the first of
        // its events makes this node look for.
        let lineage = store.stream_head().lineage;
        let all = events.iter().map(|event| event.stream).chain(hints.iter().map(|hint| hint.stream));
        if let Some(foreign) = all.map(|at| at.lineage).find(|of| *of != lineage) {
            if self.foreign.swap(foreign, Ordering::Relaxed) != foreign {
                self.compare.notify_one();
            }
            return;
        }
        store.told(&events);
        self.announcer.heard(events);
        for hint in &hints {
            self.announcer.hint(hint);
        }
    }

    fn lost(&self) {
        self.compare.notify_one();
    }
}
