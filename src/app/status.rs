//! How the server is doing, for the operations listener.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::cluster::broker::{Broker, BrokerStatus, metrics as broker_metrics};
use crate::cluster::redis::Redis;
use crate::config::Config;
use crate::inbound::gate::Gate;
use crate::inbound::map::Map;
use crate::inbound::metrics as inbound_metrics;
use crate::ops::{Part, Phase, Probe};
use crate::store::clocks::TOLERANCE;
use crate::store::engine;
use crate::store::{Store, metrics as store_metrics};

/// See the module.
pub struct Status {
    phase: RwLock<Phase>,
    /// Who this is.
    process: Part,
    store: RwLock<Option<Store>>,
    gate: Arc<Gate>,
    map: Arc<Map>,
    broker: RwLock<Option<Arc<Broker>>>,
    redis: Option<Redis>,
}

impl Status {
    #[must_use]
    pub fn new(process: Part, gate: Arc<Gate>, map: Arc<Map>, redis: Option<Redis>) -> Self {
        let (phase, store, broker) = (RwLock::new(Phase::Starting), RwLock::new(None), RwLock::new(None));
        Self { phase, process, store, gate, map, broker, redis }
    }

    pub fn set(&self, phase: Phase) {
        *self.phase.write() = phase;
    }

    /// The store is open.
    pub fn opened(&self, store: Store) {
        *self.store.write() = Some(store);
    }

    /// Mail waits in a queue before the store.
    pub fn queued(&self, broker: Arc<Broker>) {
        *self.broker.write() = Some(broker);
    }
}

/// Which server this is: what `mailroom doctor` compares with its own configuration when it finds a port taken.
#[must_use]
pub fn process(config: &Config) -> Part {
    let listeners: Vec<_> = config.listeners().into_iter().map(|(_, address)| address.to_string()).collect();
    Part::new("process", false, None)
        .with("id", std::process::id())
        .with("database", engine::name(&config.store()).unwrap_or_else(|| "sqlite".into()))
        .with("listeners", listeners)
}

impl Probe for Status {
    fn phase(&self) -> Phase {
        *self.phase.read()
    }

    fn parts(&self) -> Vec<Part> {
        let Some(store) = self.store.read().clone() else {
            return vec![Part::new("store", true, Some("opening".into())), self.process.clone()];
        };
        let status = store.status();
        let failing = (!status.healthy).then(|| "the last batch could not be written".to_owned());
        let full = status.no_space.then(|| "less than [database] min_free is left: mail is answered 452".to_owned());
        let broker = self.broker.read().as_ref().map(|broker| broker.status());
        // As long as the queue takes mail, the process has work to do without the database.
        let needed = broker.as_ref().is_none_or(|broker| broker.trouble.is_some());
        let mut parts = vec![
            Part::new("store", needed, failing).with("queued", status.queued),
            Part::new("search", false, None).with("index_lag", status.index_lag),
            Part::new("smtp", false, None)
                .with("sessions", self.gate.sessions())
                .with("bytes_in_flight", self.gate.bytes())
                .with("active_mailboxes", self.map.active()),
            self.process.clone(),
        ];
        // The disk of a database server is its own affair.
        parts.extend(status.free_bytes.map(|free| Part::new("disk", false, full).with("free_bytes", free)));
        parts.extend(status.clock_ahead.map(clock_part));
        parts.extend(broker.map(broker_part));
        // The primary is read in their place.
        parts.extend(replicas_part(&store.replicas()));
        // Mail is received and listed all the same.
        parts.extend(store.cold_trouble().map(|trouble| Part::new("cold", false, trouble)));
        // Without it this node goes on alone: degraded, not failing.
        parts.extend(self.redis.as_ref().map(|redis| Part::new("redis", false, redis.trouble())));
        parts
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    fn refresh_metrics(&self) {
        metrics::gauge!(inbound_metrics::BYTES_IN_FLIGHT).set(self.gate.bytes() as f64);
        metrics::gauge!(inbound_metrics::MAILBOXES_ACTIVE).set(self.map.active() as f64);
        if let Some(broker) = self.broker.read().as_ref() {
            metrics::gauge!(broker_metrics::UNCONFIRMED).set(broker.status().unconfirmed_bytes as f64);
        }
        if let Some(store) = self.store.read().as_ref() {
            let status = store.status();
            metrics::gauge!(store_metrics::QUEUED).set(status.queued as f64);
            if let Some(free) = status.free_bytes {
                metrics::gauge!(store_metrics::FREE).set(free as f64);
            }
        }
    }
}

/// This clock against the database server's. Mail is taken and shown all the same.
fn clock_part(ahead: i64) -> Part {
    let apart = ahead.unsigned_abs() / 1_000_000;
    let trouble = match ahead {
        _ if ahead > TOLERANCE => Some(format!(
            "{apart} s ahead of the database's: nothing that has expired is removed here, and mail is listed with a wrong time"
        )),
        _ if ahead < -TOLERANCE => {
            Some(format!("{apart} s behind the database's: mail is listed with a wrong time and ends early"))
        }
        _ => None,
    };
    Part::new("clock", false, trouble).with("ahead_seconds", ahead as f64 / 1_000_000.0)
}

/// None where there are none.
fn replicas_part(replicas: &[(String, Option<String>)]) -> Option<Part> {
    let troubles: Vec<String> =
        replicas.iter().filter_map(|(name, why)| Some(format!("{name}: {}", why.as_ref()?))).collect();
    let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
    let up = replicas.len() - troubles.len();
    (!replicas.is_empty()).then(|| Part::new("replicas", false, trouble).with("up", up).with("of", replicas.len()))
}

/// Its dead letters are counted in `/health`, and are trouble for a person to look at, not for this node.
fn broker_part(status: BrokerStatus) -> Part {
    let away = status.database_away.then(|| "the database is away: mail waits in the broker".to_owned());
    let queues = status.queues.into_iter();
    let queues: serde_json::Map<_, _> = queues
        .map(|(queue, passed)| (queue, serde_json::json!({"confirmed": passed.confirmed, "settled": passed.settled})))
        .collect();
    // One that is away is away for all nodes, and they can be read meanwhile. One that refuses this node refuses what it is to do.
    Part::new("broker", status.refused, status.trouble.or(away))
        .with("waiting", status.waiting)
        .with("dead_letters", status.dead)
        .with("queues", queues)
        .with("unconfirmed_bytes", status.unconfirmed_bytes)
        .with("database_away", status.database_away)
}
