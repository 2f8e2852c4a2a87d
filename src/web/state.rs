//! What handlers work with. Made once by `app`, cloned into every worker.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use super::config::Config;
use super::views::SmtpAddress;
use crate::accounts::part_keys::PartKeys;
use crate::cluster::limits::Limits;
use crate::inbound::Inbound;
use crate::inbound::config::AccessMode;
use crate::inbound::gate::Gate;
use crate::store::Store;

/// What the API is made of.
#[derive(Clone)]
pub struct State {
    pub store: Store,
    pub inbound: Inbound,
    pub config: Arc<Config>,
    /// Shown to users as where to send.
    pub smtp: Arc<[SmtpAddress]>,
    /// Bytes that answers may hold.
    pub gate: Arc<Gate>,
    /// What each client network may do.
    pub limits: Limits,
    /// Opens attachments to the pages that show them.
    pub part_keys: Arc<PartKeys>,
    /// The server is about to stop: each answer says that its connection ends with it.
    pub leaving: Arc<AtomicBool>,
    /// Becomes true when the server stops: event streams and waiting calls end.
    pub stopping: watch::Receiver<bool>,
}

impl State {
    /// Whether mailboxes need no token.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inbound.access() == AccessMode::Open
    }

    /// The domain of generated addresses.
    #[must_use]
    pub fn default_domain(&self) -> Option<String> {
        self.inbound.domains().into_iter().find(|domain| domain.is_default).map(|domain| domain.domain)
    }

    /// Comes back when the server stops; also when whoever would say so is gone.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // An error means that the sender is gone, which is a stop as well.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}
