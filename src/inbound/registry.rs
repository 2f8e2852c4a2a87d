//! Finds and starts mailbox actors: the only writer of the [`Map`].
//!
//! Senders: the door and whoever follows a mailbox (`Resolve`), for what the map does not answer. Look-ups
//! that wait are one query. It retires actors that nobody uses: takes one out of the map, asks it to stop, puts it
//! back if it is in use; who asks for it meanwhile waits for that answer. A singleton behind a `Handle`; a rebuilt one
//! adopts the map.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;

use super::mailbox::{MailboxActor, Retire, Tidy};
use super::map::{Entry, Map, Shared};
use super::policy::Policy;
use crate::clock;
use crate::cluster::redis::Channels;
use crate::handoff::Refusal;
use crate::mail::address::MailboxKey;
use crate::mail::time::Timestamp;
use crate::store::{Mailbox, Store, StoreError};
use crate::supervise::{Handle, NoAnswer};

/// Make sure that the mailbox has an actor in the map and may take `size` more bytes.
#[derive(Clone, Message)]
#[rtype(result = "Result<Result<(), Refusal>, NoAnswer>")]
pub struct Resolve {
    pub key: MailboxKey,
    pub size: u64,
    /// Where to start the actor: the arbiter of the session that feeds it.
    pub arbiter: ArbiterHandle,
}

impl Resolve {
    /// Asks the registry, and the next one if that died over it; 10 s in all.
    ///
    /// # Errors
    /// What refuses the mailbox; [`Refusal::Unavailable`] without an answer.
    pub async fn ask(self, registry: &Handle<Registry>) -> Result<(), Refusal> {
        let asked = async {
            for _ in 0..TRIES {
                if let Ok(answer) = registry.ask(self.clone(), LOOK_UP_LIMIT).await.flatten() {
                    return answer;
                }
                // A dying actor may look alive for a moment to another thread.
                tokio::time::sleep(AGAIN).await;
            }
            Err(Refusal::Unavailable)
        };
        tokio::time::timeout(LOOK_UP_LIMIT, asked).await.unwrap_or(Err(Refusal::Unavailable))
    }
}

/// How long a look-up may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);
const TRIES: usize = 3;
const AGAIN: Duration = Duration::from_millis(5);

/// How many look-ups may wait; beyond it senders hear "unavailable".
const INBOX: usize = 16_384;
const KEYS_A_QUERY: usize = 500;
/// With a queue before the database: how long a look-up may take before the database counts as away, and how long it then
/// does without being asked.
const QUEUED_LIMIT: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_secs(2);
/// For so long a mailbox counts as known that could not be looked up.
const SOON: Duration = Duration::from_secs(30);
const SWEEP: Duration = Duration::from_secs(5);
const RETIRE_LIMIT: Duration = Duration::from_secs(10);
/// How long what was read of a row is believed where other nodes may change it, in microseconds.
const BELIEF: i64 = 5_000_000;

struct Waiting {
    size: u64,
    arbiter: ArbiterHandle,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// See the module.
pub struct Registry {
    map: Arc<Map>,
    policy: Arc<Policy>,
    store: Store,
    channels: Channels,
    idle: Duration,
    waiting: HashMap<MailboxKey, Vec<Waiting>>,
    querying: bool,
    retiring: HashMap<MailboxKey, Vec<Waiting>>,
    /// The database did not answer, and is not asked again until then.
    away_until: Option<Instant>,
}

impl Registry {
    #[must_use]
    pub fn new(map: Arc<Map>, policy: Arc<Policy>, store: Store, channels: Channels, idle: Duration) -> Self {
        let (waiting, retiring) = (HashMap::new(), HashMap::new());
        Self { map, policy, store, channels, idle, waiting, querying: false, retiring, away_until: None }
    }

    /// Looks up all that wait, unless a query is under way: then they join the next.
    fn query(&mut self, ctx: &mut Context<Self>) {
        if self.querying || self.waiting.is_empty() {
            return;
        }
        self.querying = true;
        let keys: Vec<_> = self.waiting.keys().take(KEYS_A_QUERY).cloned().collect();
        let batch: Vec<_> = keys.iter().filter_map(|key| self.waiting.remove_entry(key)).collect();
        let store = self.store.clone();
        let away = self.away_until.is_some_and(|until| Instant::now() < until);
        let limit = if self.policy.is_queued() { QUEUED_LIMIT } else { LOOK_UP_LIMIT };
        let read = async move {
            let silent = || StoreError::Unavailable("no answer".into());
            if away {
                return Err(silent());
            }
            tokio::time::timeout(limit, store.mailboxes(&keys)).await.unwrap_or_else(|_| Err(silent()))
        };
        ctx.spawn(read.into_actor(self).map(move |rows, actor, ctx| {
            actor.querying = false;
            actor.found(batch, rows);
            actor.query(ctx);
        }));
    }

    fn found(&mut self, batch: Vec<(MailboxKey, Vec<Waiting>)>, rows: Result<Vec<Mailbox>, StoreError>) {
        let rows = match rows {
            Ok(rows) => rows.into_iter().map(|row| (row.key.clone(), row)).collect::<HashMap<_, _>>(),
            Err(error) => return self.not_found(batch, &error),
        };
        self.away_until = None;
        let (now, ends_by) = (Timestamp(clock::now_micros()), self.store.now());
        for (key, waiting) in batch {
            let row = rows.get(&key);
            for waiting in waiting {
                let admitted = self.policy.admit(row, waiting.size, ends_by);
                if admitted.is_ok() {
                    self.enter(&key, row, &waiting.arbiter, now);
                }
                let _ = waiting.answer.send(admitted);
            }
        }
    }

    /// The database did not answer. With a queue before it mail is taken all the same for mailboxes that are known here, which
    /// is believed for a while more, and for those that mail makes; what is so admitted is looked up again soon.
    fn not_found(&mut self, batch: Vec<(MailboxKey, Vec<Waiting>)>, error: &StoreError) {
        let instant = Instant::now();
        let now = Timestamp(clock::now_micros());
        let queued = self.policy.is_queued();
        if self.away_until.is_none_or(|until| until <= instant) {
            tracing::warn!(%error, mailboxes = batch.len(), queued, "cannot look up mailboxes");
            self.away_until = queued.then(|| instant + AWAY);
        }
        for (key, waiting) in batch {
            let known = self.map.with(&key, |entry| {
                let known = entry.shared.valid_until.load(Ordering::SeqCst) > now.0;
                if known && queued {
                    entry.shared.believed_until.store(now.0.saturating_add(BELIEF), Ordering::SeqCst);
                }
                known
            });
            for waiting in waiting {
                let admitted = match known {
                    _ if !queued => Err(Refusal::Unavailable),
                    Some(true) => Ok(()),
                    _ if !self.policy.automatic() => Err(Refusal::Unavailable),
                    _ => self.policy.admit(None, waiting.size, now),
                };
                if admitted.is_ok() && known != Some(true) {
                    self.enter(&key, None, &waiting.arbiter, now);
                    self.map.with(&key, |entry| {
                        entry.shared.valid_until.store(now.plus(SOON).0, Ordering::SeqCst);
                    });
                }
                let _ = waiting.answer.send(admitted);
            }
        }
    }

    /// Puts a living actor into the map, or renews what is known of the one that is there.
    fn enter(&self, key: &MailboxKey, row: Option<&Mailbox>, arbiter: &ArbiterHandle, now: Timestamp) {
        // By this clock, as everything in the map is, when the end comes by the one that counts.
        let ends_by = self.store.now();
        let end = row.and_then(|row| row.expires_at).filter(|end| *end > ends_by);
        let until = end.map_or(i64::MAX, |end| end.0.saturating_add(now.0.saturating_sub(ends_by.0)));
        let renew = |shared: &Shared| {
            shared.used_at.store(now.0, Ordering::Relaxed);
            shared.quota.store(self.policy.has_quota(row), Ordering::SeqCst);
            let believed = if self.store.is_shared() { now.0.saturating_add(BELIEF) } else { i64::MAX };
            shared.believed_until.store(believed, Ordering::SeqCst);
            shared.valid_until.store(until, Ordering::SeqCst);
        };
        if self.map.with(key, |entry| renew(&entry.shared)).is_some() {
            return;
        }
        let shared = Arc::<Shared>::default();
        renew(&shared);
        let actor = MailboxActor::new(key.clone(), Arc::clone(&shared), self.store.clone(), self.channels.clone());
        let addr = MailboxActor::start_in_arbiter(arbiter, move |_| actor);
        self.map.insert(key.clone(), Entry { addr, shared });
    }

    /// Retires what nobody has used for a while.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let idle = i64::try_from(self.idle.as_micros()).unwrap_or(i64::MAX);
        let (idle, held) = self.map.idle(Timestamp(clock::now_micros().saturating_sub(idle)));
        for key in held {
            // An actor that cannot take it has other work; it is asked again at a later sweep.
            let _ = self.map.send(&key, Tidy);
        }
        // What mail does not make could not be entered again while the database is away.
        let keep = self.away_until.is_some() && !self.policy.automatic();
        for key in idle.into_iter().filter(|_| !keep) {
            let Some(entry) = self.map.remove(&key) else { continue };
            if !entry.addr.connected() {
                continue;
            }
            self.retiring.insert(key.clone(), Vec::new());
            let asked = entry.addr.send(Retire).timeout(RETIRE_LIMIT);
            ctx.spawn(asked.into_actor(self).map(move |stopped, actor, ctx| {
                // Without an answer it is either dead or so busy that it is in use: the map knows dead ones.
                if !stopped.unwrap_or(false) && entry.addr.connected() {
                    let (addr, shared) = (entry.addr.clone(), Arc::clone(&entry.shared));
                    actor.map.insert(key.clone(), entry);
                    // What was committed while it was not in the map was told to nobody.
                    shared.lagging.store(true, Ordering::SeqCst);
                    let _ = addr.try_send(Tidy);
                }
                if let Some(waiting) = actor.retiring.remove(&key)
                    && !waiting.is_empty()
                {
                    actor.waiting.entry(key).or_default().extend(waiting);
                    actor.query(ctx);
                }
            }));
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(super::metrics::MAILBOXES_ACTIVE).set(self.map.active() as f64);
    }
}

impl Actor for Registry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(INBOX);
        ctx.run_interval(SWEEP.min(self.idle.max(Duration::from_millis(50))), Self::sweep);
    }
}

impl Handler<Resolve> for Registry {
    type Result = ResponseFuture<Result<Result<(), Refusal>, NoAnswer>>;

    fn handle(&mut self, resolve: Resolve, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, heard) = oneshot::channel();
        let waiting = Waiting { size: resolve.size, arbiter: resolve.arbiter, answer };
        if let Some(retiring) = self.retiring.get_mut(&resolve.key) {
            retiring.push(waiting);
        } else {
            self.waiting.entry(resolve.key).or_default().push(waiting);
            self.query(ctx);
        }
        Box::pin(async move { heard.await.map_err(|_| NoAnswer) })
    }
}
