//! Hears what other nodes committed: a connection of its own to each server that has channels this node needs.
//!
//! Runs on the bus's thread. It subscribes what [`Channels`] misses and gives back what is idle, asks each connection now
//! and then whether it lives, and makes lost ones again, with growing pauses. On a cluster it looks up anew where the
//! channels are whenever a server says that one is not there any more.
//!
//! Invariant: after a channel was confirmed, and after anything was lost, the [`Listener`] is told to compare with the
//! database: what came before is found there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisError, Value, cmd,
};
use tokio::sync::mpsc;

use super::Listener;
use super::channels::Channels;
use super::shard::channel;
use super::topology::{self, Placement, Server};
use super::wire;
use crate::cluster::metrics as names;

/// Messages that wait to be read; more are lost, which the listener is told.
const INBOX: usize = 4_096;
const TICK: Duration = Duration::from_secs(1);
/// How often a quiet connection is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(1);
/// A channel that nobody needed for this long is given back.
const IDLE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Subscriber {
    pub channels: Channels,
    /// The server, or the nodes of the cluster that the settings name.
    pub seeds: Vec<Server>,
    pub cluster: bool,
    pub prefix: String,
    pub node: u64,
    pub listener: Arc<dyn Listener>,
}

/// A connection that hears some channels.
struct Link {
    id: u64,
    connection: MultiplexedConnection,
    shards: BTreeSet<u16>,
    asked_at: Instant,
}

/// A connection is over, or has not got this channel any more.
type Trouble = (u64, Option<String>);

struct State {
    links: HashMap<String, Link>,
    placement: Option<Placement>,
    made: u64,
    troubles: mpsc::Sender<Trouble>,
    pause: Duration,
    not_before: Instant,
}

impl Subscriber {
    /// Never comes back.
    pub async fn run(self) {
        let (troubles, mut heard) = mpsc::channel(256);
        let mut state = State {
            links: HashMap::new(),
            placement: None,
            made: 0,
            troubles,
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
        };
        loop {
            match self.subscribe_missing(&mut state).await {
                Ok(false) => {}
                Ok(true) => {
                    state.pause = FIRST_PAUSE;
                    self.listener.lost();
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot subscribe");
                    state.not_before = Instant::now() + state.pause.mul_f64(rand::random_range(0.5..1.0));
                    state.pause = (state.pause * 2).min(LONGEST_PAUSE);
                    state.placement = None;
                }
            }
            metrics::gauge!(names::SUBSCRIPTIONS).set(self.channels.subscribed());
            let waits = state.not_before.saturating_duration_since(Instant::now());
            let again = if self.channels.missing().is_empty() { TICK } else { waits };
            tokio::select! {
                Some(trouble) = heard.recv() => self.mind(trouble, &mut state),
                () = self.channels.wanted() => {}
                () = tokio::time::sleep(again) => self.tend(&mut state).await,
            }
        }
    }

    /// True when channels were confirmed.
    async fn subscribe_missing(&self, state: &mut State) -> Result<bool, RedisError> {
        let missing = self.channels.missing();
        if missing.is_empty() || Instant::now() < state.not_before {
            return Ok(false);
        }
        let placement = match state.placement.take() {
            Some(placement) => placement,
            None => self.locate(state).await?,
        };
        let mut outcome = Ok(false);
        for (name, (server, shards)) in &placement {
            let wanted: Vec<u16> = shards.iter().copied().filter(|shard| missing.contains(shard)).collect();
            if wanted.is_empty() {
                continue;
            }
            match self.subscribe(name, server, &wanted, state).await {
                Ok(()) => outcome = outcome.map(|_| true),
                Err(error) => {
                    self.lose(name, state);
                    outcome = Err(error);
                }
            }
        }
        let unplaced = missing.iter().any(|shard| !placement.values().any(|(_, shards)| shards.contains(shard)));
        if outcome.is_ok() && !unplaced {
            state.placement = Some(placement);
        } else if outcome.is_ok() {
            // A part of the cluster has no master at this time.
            state.not_before = Instant::now() + LONGEST_PAUSE;
        }
        outcome
    }

    async fn locate(&self, state: &State) -> Result<Placement, RedisError> {
        let shards = self.channels.count();
        let Some(first) = self.seeds.first() else { return Ok(Placement::new()) };
        if !self.cluster {
            return Ok(topology::single(first.clone(), shards));
        }
        let mut failure = None;
        let connected = self.seeds.iter().filter(|seed| state.links.contains_key(&seed.name));
        let others = self.seeds.iter().filter(|seed| !state.links.contains_key(&seed.name));
        for seed in connected.chain(others) {
            match tokio::time::timeout(ANSWER, topology::cluster(seed, &self.prefix, shards)).await {
                Ok(Ok(placement)) => return Ok(placement),
                Ok(Err(error)) => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(late))
    }

    async fn subscribe(
        &self,
        name: &str,
        server: &Server,
        shards: &[u16],
        state: &mut State,
    ) -> Result<(), RedisError> {
        if !state.links.contains_key(name) {
            let link = self.connect(server, state).await?;
            state.links.insert(name.to_owned(), link);
        }
        let Some(link) = state.links.get_mut(name) else { return Ok(()) };
        self.channels.asked(shards);
        let each = shards.iter().map(|shard| {
            let mut connection = link.connection.clone();
            let mut command = cmd(if self.cluster { "SSUBSCRIBE" } else { "SUBSCRIBE" });
            command.arg(channel(&self.prefix, *shard));
            async move { command.query_async::<Value>(&mut connection).await }
        });
        let answered = tokio::time::timeout(ANSWER, futures_util::future::try_join_all(each)).await;
        if let Err(error) = answered.unwrap_or_else(|_| Err(late())) {
            self.channels.lost(shards);
            return Err(error);
        }
        link.asked_at = Instant::now();
        link.shards.extend(shards);
        self.channels.confirmed(shards);
        Ok(())
    }

    async fn connect(&self, server: &Server, state: &mut State) -> Result<Link, RedisError> {
        state.made += 1;
        let id = state.made;
        let (to, inbox) = mpsc::channel(INBOX);
        let overflow = Arc::<AtomicBool>::default();
        let full = Arc::clone(&overflow);
        let push = move |info: PushInfo| {
            if to.try_send(info).is_err() {
                full.store(true, Ordering::SeqCst);
            }
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_push_sender(push)
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let settings = server.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(server.info.clone().set_redis_settings(settings))?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let reader = Reader {
            id,
            node: self.node,
            inbox,
            overflow,
            listener: Arc::clone(&self.listener),
            troubles: state.troubles.clone(),
        };
        // Ends with the connection, which has the other end of its inbox.
        tokio::spawn(reader.run());
        tracing::info!(server = server.name, "listening to the bus");
        Ok(Link { id, connection, shards: BTreeSet::new(), asked_at: Instant::now() })
    }

    /// Deals with what a connection reported.
    fn mind(&self, (id, gone): Trouble, state: &mut State) {
        let Some((name, link)) = state.links.iter().find(|(_, link)| link.id == id) else { return };
        let is_ours = |gone: &String| link.shards.iter().any(|shard| channel(&self.prefix, *shard) == *gone);
        // A channel that was given back is reported too.
        if gone.as_ref().is_none_or(is_ours) {
            let name = name.clone();
            state.placement = None;
            self.lose(&name, state);
        }
    }

    /// Forgets a connection. What it missed until its channels are heard again is found in the database.
    fn lose(&self, name: &str, state: &mut State) {
        if let Some(link) = state.links.remove(name) {
            tracing::warn!(server = name, channels = link.shards.len(), "a connection to the bus was lost");
            metrics::counter!(names::RECONNECTS).increment(1);
            self.channels.lost(&Vec::from_iter(link.shards));
            self.listener.lost();
        }
    }

    /// Gives back what is idle, and asks quiet connections whether they live.
    async fn tend(&self, state: &mut State) {
        let idle = self.channels.idle(IDLE);
        let mut dead = Vec::new();
        for (name, link) in &mut state.links {
            let given_back: Vec<u16> = idle.iter().copied().filter(|shard| link.shards.remove(shard)).collect();
            let quiet = link.asked_at.elapsed() >= KEEP_ALIVE;
            if !given_back.is_empty() || quiet {
                link.asked_at = Instant::now();
                if give_back(link, &self.prefix, &given_back, self.cluster).await.is_err() {
                    dead.push(name.clone());
                }
            }
        }
        for name in dead {
            state.placement = None;
            self.lose(&name, state);
        }
        // Nothing holds on to servers that have no channels of this node any more, once they have moved.
        if let Some(placement) = &state.placement {
            state.links.retain(|name, link| !link.shards.is_empty() || placement.contains_key(name));
        }
    }
}

async fn give_back(link: &mut Link, prefix: &str, shards: &[u16], cluster: bool) -> Result<(), RedisError> {
    let asked = async {
        for shard in shards {
            let mut command = cmd(if cluster { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" });
            command.arg(channel(prefix, *shard)).query_async::<Value>(&mut link.connection).await?;
        }
        cmd("PING").query_async::<Value>(&mut link.connection).await
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answered) => answered.map(drop),
        Err(_) => Err(late()),
    }
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Reads what one connection hears.
struct Reader {
    id: u64,
    node: u64,
    inbox: mpsc::Receiver<PushInfo>,
    overflow: Arc<AtomicBool>,
    listener: Arc<dyn Listener>,
    troubles: mpsc::Sender<Trouble>,
}

impl Reader {
    async fn run(mut self) {
        while let Some(PushInfo { kind, data }) = self.inbox.recv().await {
            if self.overflow.swap(false, Ordering::SeqCst) {
                skipped("inbox_full");
                self.listener.lost();
            }
            match kind {
                PushKind::Message | PushKind::SMessage => self.message(&data),
                PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                    let channel = data.first().and_then(bytes).map(|name| String::from_utf8_lossy(name).into_owned());
                    let _ = self.troubles.send((self.id, channel)).await;
                }
                PushKind::Disconnection => break,
                _ => {}
            }
        }
        // An error means that the subscriber itself is over.
        let _ = self.troubles.send((self.id, None)).await;
    }

    fn message(&self, data: &[Value]) {
        let Some(payload) = data.get(1).and_then(bytes) else { return skipped(wire::Skip::Unreadable.name()) };
        match wire::decode(self.node, payload) {
            Ok(told) => {
                metrics::counter!(names::RECEIVED).increment((told.events.len() + told.hints.len()) as u64);
                let lost = told.lost;
                self.listener.heard(told.events, told.hints);
                if lost {
                    self.listener.lost();
                }
            }
            Err(wire::Skip::Own) => {}
            Err(skip) => skipped(skip.name()),
        }
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn skipped(reason: &'static str) {
    metrics::counter!(names::SKIPPED, "reason" => reason).increment(1);
}
