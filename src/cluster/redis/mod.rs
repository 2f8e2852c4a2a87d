//! Redis: the bus between nodes, and what else they share there.
//!
//! Map: [`pool`] runs commands, within a bounded time or not at all; [`publish`] tells others what this node committed,
//! [`subscribe`] hears what they did, on the [`channels`] that are needed here; [`wire`] and [`message`] are the format,
//! [`shard`] says which channel tells of a mailbox, [`topology`] which server has it. [`pages`] is the second level of the
//! cache of lists, [`look`] what `doctor` says.
//!
//! Invariant: the bus makes things fast, never right. Every message of it may be lost.

pub mod channels;
pub mod config;
pub mod look;
pub mod message;
pub mod pages;
pub mod pool;
pub mod publish;
pub mod shard;
pub mod subscribe;
pub mod topology;
pub mod wire;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use channels::{Channels, Following};
pub use config::{RedisConfig, Servers};
pub use pool::{Away, Redis};
pub use wire::Hint;

use self::publish::Publisher;
use self::subscribe::Subscriber;
use crate::mail::event::Announced;

/// Who is told what other nodes committed. Called on the bus's thread; must not block.
pub trait Listener: Send + Sync + 'static {
    /// Committed by another node: in its order, as far as one mailbox goes.
    fn heard(&self, events: Vec<Arc<Announced>>, hints: Vec<Hint>);
    /// Something may have been missed: what this node knows is to be compared with the database.
    fn lost(&self);
}

/// The bus: a cheap handle; the default one is of a node alone.
#[derive(Clone, Default)]
pub struct Bus {
    publisher: Option<Publisher>,
    channels: Channels,
    stop: Option<Arc<parking_lot::Mutex<Option<oneshot::Sender<()>>>>>,
}

impl Bus {
    /// Starts the bus on a thread of its own.
    ///
    /// # Errors
    /// The settings are wrong, or there is no thread to be had.
    pub fn start(config: &RedisConfig, redis: &Redis, listener: Arc<dyn Listener>) -> Result<Self, String> {
        let node = rand::random::<u64>();
        let channels = Channels::new(config.shards);
        let cluster = config.url.is_cluster();
        let (publisher, sending) = Publisher::new(redis.clone(), node, &config.prefix, config.shards, cluster);
        let subscriber = Subscriber {
            channels: channels.clone(),
            seeds: config.servers()?,
            cluster,
            prefix: config.prefix.clone(),
            node,
            listener: Arc::clone(&listener),
        };
        let (stop, stopped) = oneshot::channel();
        let redis = redis.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let work = async move {
            tokio::spawn(sending.run());
            tokio::spawn(subscriber.run());
            tokio::spawn(redis.tend(move |_| listener.lost()));
            // An error is a bus that nobody has any more.
            let _ = stopped.await;
        };
        let thread = std::thread::Builder::new().name("bus".into()).spawn(move || runtime.block_on(work));
        thread.map_err(|error| error.to_string())?;
        let stop = Some(Arc::new(parking_lot::Mutex::new(Some(stop))));
        Ok(Self { publisher: Some(publisher), channels, stop })
    }

    /// Tells other nodes; never waits.
    pub fn tell(&self, events: Vec<Arc<Announced>>) {
        if let Some(publisher) = &self.publisher {
            publisher.tell(events);
        }
    }

    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels.clone()
    }

    /// Sends what is queued, then ends.
    pub async fn close(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.close().await;
        }
        if let Some(stop) = self.stop.as_ref().and_then(|stop| stop.lock().take()) {
            let _ = stop.send(());
        }
    }
}
