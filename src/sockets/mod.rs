//! Pushing: WebSocket clients that follow mailboxes at `/v1/ws`. One actor a client.
//!
//! Map: [`client`] is a connection to the HTTP port with its limits; [`upgrade`] shares the HTTP port with the App and turns a handshake into a client; [`drive`] polls its actor and
//! writes; [`session`] is the actor, [`requests`] its part that answers the client, [`follow`] (pure) one subscription;
//! [`link`] is the socket they share, [`wire`] (pure) the frames on it, [`frame`] (pure) the JSON in them;
//! [`registry`] knows who is connected; [`outside`] is what this stage asks of accounts and inbound, through [`asking`].
//!
//! A slow client never slows another: its actor waits, its inbox fills, the publisher marks it behind, and it is
//! served from the store at its own pace.

use std::sync::Arc;
use std::time::Duration;

mod asking;
mod client;
mod config;
mod drive;
mod follow;
pub mod frame;
mod link;
pub mod metrics;
pub mod outside;
mod registry;
mod requests;
mod session;
mod upgrade;
mod wire;

pub use config::Config;
pub use outside::Outside;
pub use upgrade::{Http, http_service};

use metrics::Metrics;
use registry::Registry;

/// The WebSocket endpoint: a cheap handle. Make it after the metrics recorder is installed.
#[derive(Clone)]
pub struct Sockets {
    shared: Arc<Shared>,
}

/// What all clients share.
struct Shared {
    config: Config,
    outside: Arc<dyn Outside>,
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
}

impl Sockets {
    #[must_use]
    pub fn new(config: Config, outside: Arc<dyn Outside>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let registry = Registry::new(config.max_clients, Arc::clone(&metrics));
        Self { shared: Arc::new(Shared { config, outside, metrics, registry }) }
    }

    /// Clients connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.shared.registry.connected()
    }

    /// Closes every client with 1012, one after the other within `spread`, and lets no new one in; returns when all are gone
    /// or `limit` is over, with how many are left. To be called before the HTTP server is stopped.
    pub async fn stop(&self, spread: Duration, limit: Duration) -> usize {
        self.shared.registry.stop(spread, limit).await
    }
}
