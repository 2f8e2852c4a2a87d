//! With a broker, what was answered 250 is stored a moment later. Whoever looks at a server of this run waits here until it is.
//!
//! The server itself says how much the broker confirmed to it and how much it has brought into the store since its start. What
//! waited before its start, because another was killed, is asked of the broker while nobody takes from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use super::PATIENCE;
use super::servers::Engine;
use super::servers::database::rabbitmq;

/// Between two looks at what is under way.
const POLL: Duration = Duration::from_millis(1);

/// Numbers of messages by queue.
pub type Queues = BTreeMap<String, u64>;

/// A server that takes mail through the run's broker.
#[derive(Clone)]
struct Server {
    ops: SocketAddr,
    /// What waited in its queues before it began.
    before: Queues,
}

/// By the address of the API.
static SERVERS: Mutex<Option<HashMap<SocketAddr, Server>>> = Mutex::new(None);
/// Prefixes of queues that are there.
static MADE: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// What waits in the queues of a data directory's database, to be asked before a server starts on it; none without a broker.
pub fn waiting(data: &Path) -> Option<Queues> {
    let database = Engine::chosen().database(data);
    database.broker()?;
    let is_new = MADE.lock().get_or_insert_default().insert(database.name.clone());
    Some(if is_new { Queues::new() } else { rabbitmq().left(&database.name) })
}

/// A server begins before which so many [`waiting`] were there.
pub fn begins(http: SocketAddr, ops: SocketAddr, before: Option<Queues>) {
    let mut servers = SERVERS.lock();
    let servers = servers.get_or_insert_default();
    match before {
        Some(before) => drop(servers.insert(http, Server { ops, before })),
        None => drop(servers.remove(&http)),
    }
}

/// Waits until everything that was answered 250 so far is stored. Nobody can say it of a server that is gone.
pub async fn is_stored(http: SocketAddr) {
    let Some(server) = known(http) else { return };
    let end = Instant::now() + PATIENCE;
    let mut wanted: Option<Queues> = None;
    while let Some(broker) = broker(server.ops).await {
        let queues = broker["queues"].as_object().expect("queues");
        let count = |queue: &str, name: &str| queues[queue][name].as_u64().expect("a count");
        let wanted = wanted.get_or_insert_with(|| {
            let before = |queue: &str| server.before.get(queue).copied().unwrap_or(0);
            queues.keys().map(|queue| (queue.clone(), before(queue) + count(queue, "confirmed"))).collect()
        });
        wanted.retain(|queue, wanted| count(queue, "settled") < *wanted);
        if wanted.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "not all that was answered 250 is stored: {broker} instead of {wanted:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// What a server says of its broker; none when it has none or does not answer.
async fn broker(ops: SocketAddr) -> Option<Value> {
    let client = awc::Client::builder().timeout(PATIENCE).finish();
    let health = client.get(format!("http://{ops}/health")).send().await.ok()?.json::<Value>().await.ok()?;
    health["parts"].get("broker").cloned()
}

/// Waits until a server that has just begun takes mail.
pub async fn takes_mail(http: SocketAddr) {
    let Some(server) = known(http) else { return };
    super::until("the broker takes mail", async || broker(server.ops).await.is_some_and(|broker| broker["ok"] == true))
        .await;
}

fn known(http: SocketAddr) -> Option<Server> {
    SERVERS.lock().as_ref()?.get(&http).cloned()
}
