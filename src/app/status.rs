//! How the server is doing, for the operations listener.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::cluster::redis::Redis;
use crate::inbound::gate::Gate;
use crate::inbound::map::Map;
use crate::inbound::metrics as inbound_metrics;
use crate::ops::{Part, Phase, Probe};
use crate::store::{Store, metrics as store_metrics};

/// See the module.
pub struct Status {
    phase: RwLock<Phase>,
    store: RwLock<Option<Store>>,
    gate: Arc<Gate>,
    map: Arc<Map>,
    redis: Option<Redis>,
}

impl Status {
    #[must_use]
    pub fn new(gate: Arc<Gate>, map: Arc<Map>, redis: Option<Redis>) -> Self {
        Self { phase: RwLock::new(Phase::Starting), store: RwLock::new(None), gate, map, redis }
    }

    pub fn set(&self, phase: Phase) {
        *self.phase.write() = phase;
    }

    /// The store is open.
    pub fn opened(&self, store: Store) {
        *self.store.write() = Some(store);
    }
}

impl Probe for Status {
    fn phase(&self) -> Phase {
        *self.phase.read()
    }

    fn parts(&self) -> Vec<Part> {
        let Some(store) = self.store.read().clone() else {
            return vec![Part::new("store", true, Some("opening".into()))];
        };
        let status = store.status();
        let failing = (!status.healthy).then(|| "the last batch could not be written".to_owned());
        let full = status.no_space.then(|| "less than [database] min_free is left: mail is answered 452".to_owned());
        let mut parts = vec![
            Part::new("store", true, failing).with("queued", status.queued),
            Part::new("disk", false, full).with("free_bytes", status.free_bytes),
            Part::new("search", false, None).with("index_lag", status.index_lag),
            Part::new("smtp", false, None)
                .with("sessions", self.gate.sessions())
                .with("bytes_in_flight", self.gate.bytes())
                .with("active_mailboxes", self.map.active()),
        ];
        // Without it this node goes on alone: degraded, not failing.
        parts.extend(self.redis.as_ref().map(|redis| Part::new("redis", false, redis.trouble())));
        parts
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    fn refresh_metrics(&self) {
        metrics::gauge!(inbound_metrics::BYTES_IN_FLIGHT).set(self.gate.bytes() as f64);
        metrics::gauge!(inbound_metrics::MAILBOXES_ACTIVE).set(self.map.active() as f64);
        if let Some(store) = self.store.read().as_ref() {
            let status = store.status();
            metrics::gauge!(store_metrics::QUEUED).set(status.queued as f64);
            metrics::gauge!(store_metrics::FREE).set(status.free_bytes as f64);
        }
    }
}
