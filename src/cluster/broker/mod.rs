//! A queue between SMTP and the store: RabbitMQ. With it mail is taken while the database is away.
//!
//! [`Broker`] is what `app` starts. Its [`publisher`] is the [`Outlet`] of received mail: 250 once the broker confirmed it. On every
//! [`node`] [`consumer`]s take from the queues ([`topology`]) and hand the deliveries ([`message`]) to the store, which looks each id up in
//! its transaction; they acknowledge after the commit ([`window`]) and rest while the database is away ([`monitor`]). What cannot be
//! stored goes to the dead letters, and [`dead`] brings it back. [`examine`] is for `doctor`. All of it runs on one thread with a
//! runtime of its own, beside the threads of the client library, which alone is named here.

pub mod config;
pub mod consumer;
pub mod counts;
pub mod dead;
pub mod examine;
pub mod lane;
pub mod link;
pub mod message;
pub mod metrics;
pub mod monitor;
pub mod node;
pub mod publisher;
pub mod topology;
pub mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

pub use config::BrokerConfig;

use crate::store::{Outlet, Store};
use counts::{Counts, Passed};
use publisher::{NotOpen, Opened, Publisher};
use topology::Names;

/// How long a start waits for the broker before it goes on without.
const START: Duration = Duration::from_secs(5);

/// How the broker is, as this node sees it.
#[derive(Debug)]
pub struct Condition {
    /// Why it takes nothing; none while it does.
    trouble: Mutex<Link>,
    /// It has let this node in since the start.
    known: AtomicBool,
    waiting: AtomicU64,
    dead: AtomicU64,
    counts: Counts,
}

#[derive(Debug, Default)]
enum Link {
    #[default]
    Starting,
    None,
    Blocked(String),
    Away(String),
    /// It has never let this node in: the login or its rights are wrong.
    Refused(String),
}

impl Condition {
    fn new(config: &BrokerConfig) -> Self {
        let counts = Counts::new(&Names::new(config));
        let (waiting, dead) = (AtomicU64::default(), AtomicU64::default());
        Self { trouble: Mutex::default(), known: AtomicBool::default(), waiting, dead, counts }
    }

    fn connected(&self) {
        *self.trouble.lock() = Link::None;
        self.known.store(true, Ordering::Relaxed);
        ::metrics::gauge!(metrics::CONNECTED).set(1.0);
        tracing::info!("the broker takes messages");
    }

    fn blocked(&self, why: &str) {
        *self.trouble.lock() = Link::Blocked(why.to_owned());
        ::metrics::gauge!(metrics::CONNECTED).set(0.0);
        tracing::error!(reason = why, "the broker takes no messages: mail is answered 451");
    }

    /// `refused`: it answered, and did not let this node in.
    fn lost(&self, why: &str, refused: bool) {
        let refused = refused && !self.known.load(Ordering::Relaxed);
        let now = if refused { Link::Refused(why.to_owned()) } else { Link::Away(why.to_owned()) };
        let before = std::mem::replace(&mut *self.trouble.lock(), now);
        ::metrics::gauge!(metrics::CONNECTED).set(0.0);
        match before {
            Link::Refused(_) if refused => {}
            _ if refused => tracing::error!(reason = why, "the broker does not let this node in: it is not ready"),
            Link::Away(_) => {}
            _ => tracing::error!(reason = why, "the broker is away: mail is answered 451"),
        }
    }

    fn is_blocked(&self) -> bool {
        matches!(*self.trouble.lock(), Link::Blocked(_))
    }

    fn trouble(&self) -> Option<String> {
        match &*self.trouble.lock() {
            Link::None => None,
            Link::Starting => Some("connecting".into()),
            Link::Blocked(why) => Some(format!("takes no messages: {why}")),
            Link::Away(why) => Some(format!("away: {why}")),
            Link::Refused(why) => Some(format!("does not let this node in: {why}")),
        }
    }

    fn is_refused(&self) -> bool {
        matches!(*self.trouble.lock(), Link::Refused(_))
    }

    fn depths(&self, waiting: u64, dead: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.dead.store(dead, Ordering::Relaxed);
    }
}

/// For health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Why it takes no messages; none when it does.
    pub trouble: Option<String>,
    /// It has never let this node in since the start: a rollout with a wrong login should get no further.
    pub refused: bool,
    /// Messages that wait for the database, in all queues, a few seconds ago.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// How far each queue is, as this node knows.
    pub queues: BTreeMap<String, Passed>,
    /// Bytes that wait for the broker's answer.
    pub unconfirmed_bytes: u64,
    /// Taking from the queues rests because the database is away.
    pub database_away: bool,
}

/// The running broker of a node.
pub struct Broker {
    publisher: Publisher,
    condition: Arc<Condition>,
    monitor: monitor::Monitor,
    stop: watch::Sender<bool>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Broker {
    /// Starts its thread and waits a little until the broker takes messages. One that does not answer is tried again for good:
    /// mail is 451 meanwhile.
    ///
    /// # Errors
    /// The queues are not what the settings ask for, their files for TLS do not serve, or the thread cannot be started.
    pub async fn start(config: BrokerConfig, store: Store) -> anyhow::Result<Self> {
        config.tls().map_err(|why| anyhow::anyhow!("[broker] {why}"))?;
        let condition = Arc::new(Condition::new(&config));
        let (publisher, lanes) = Publisher::new(&config, Arc::clone(&condition));
        let (monitor, watcher) = monitor::watch(store.clone());
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let (first, tried) = oneshot::channel();
        let (publishing, consuming) = (
            publisher.clone(),
            node::Consumers {
                config: config.clone(),
                store,
                monitor: monitor.clone(),
                publisher: publisher.clone(),
                condition: Arc::clone(&condition),
            },
        );
        let work = async move {
            let opened = match tokio::time::timeout(START, publishing.open(&config)).await {
                Ok(Err(NotOpen::Queues(trouble))) if trouble.is_lasting() => {
                    let _ = first.send(Err(trouble));
                    return;
                }
                opened => opened.ok().and_then(Result::ok),
            };
            let largest = config.max_message_size;
            if let Some(Opened { connection, .. }) = &opened
                && let Ok(Err(trouble)) = tokio::time::timeout(START, topology::try_size(connection, largest)).await
                && trouble.is_lasting()
            {
                let _ = first.send(Err(trouble));
                return;
            }
            let _ = first.send(Ok(()));
            let publishing = tokio::spawn(publisher::run(publishing, lanes, config, opened));
            let watching = tokio::spawn(watcher.run(stopped));
            consuming.run().await;
            let _ = watching.await;
            // Sessions have ended: nobody waits for it any more.
            publishing.abort();
            let _ = publishing.await;
        };
        let thread = move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(work);
                runtime.shutdown_timeout(Duration::from_secs(1));
            }
            let _ = end.send(());
        };
        std::thread::Builder::new().name("broker".into()).spawn(thread)?;
        match tried.await {
            Ok(Err(trouble)) => Err(trouble.into()),
            Ok(Ok(())) => Ok(Self { publisher, condition, monitor, stop, ended: Mutex::new(Some(ended)) }),
            Err(_) => anyhow::bail!("the broker's thread could not start"),
        }
    }

    /// Where received mail goes.
    #[must_use]
    pub fn outlet(&self) -> Arc<dyn Outlet> {
        Arc::new(self.publisher.clone())
    }

    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        BrokerStatus {
            trouble: self.condition.trouble(),
            refused: self.condition.is_refused(),
            waiting: self.condition.waiting.load(Ordering::Relaxed),
            dead: self.condition.dead.load(Ordering::Relaxed),
            queues: self.condition.counts.now(),
            unconfirmed_bytes: self.publisher.unconfirmed(),
            database_away: self.monitor.mode() == monitor::Mode::Rest,
        }
    }

    /// Ends: what was taken from the broker is stored and acknowledged or handed back, then the connections close. The store
    /// must still be open.
    pub async fn stop(&self, limit: Duration) {
        self.stop.send_replace(true);
        let ended = self.ended.lock().take();
        if let Some(ended) = ended
            && tokio::time::timeout(limit, ended).await.is_err()
        {
            tracing::warn!("what was taken from the broker could not be finished in time; it comes again");
        }
    }
}
