//! Receiving: from a TCP connection to a committed row and an event for everyone who listens.
//!
//! Map: [`listener`] accepts, from a proxy after its [mod@proxy] header (pure; from no [`unnamed`] one), until its [`last_call`]; [`gate`] bounds, [`session`] (actor) drives the protocol over a [mod@line],
//! [`receipt`] notes one message, [`allowance`] says whether it may be sent; [`door`] admits and makes a [`delivery`];
//! [`registry`] (actor) starts [`mailbox`] actors and keeps the [`map`];
//! [`announcer`] brings what was committed to them and to [`everything`] (actor, for `*`), each a [`publisher`]
//! towards its subscribers ([`subscription`]), which keeps what comes [`early`]; [`reconcile`] compares what they were told
//! with the database where other nodes write to it; [`feed`] follows without an actor; [`retention`] (actor) removes what
//! ended while the clock can be [`trusted`] (pure); [`policy`] (pure) says who receives mail; [`fail`] is for tests of what a panic does.

pub mod allowance;
pub mod announcer;
pub mod config;
pub mod delivery;
pub mod door;
pub mod early;
pub mod everything;
pub mod fail;
pub mod feed;
pub mod gate;
pub mod last_call;
pub mod line;
pub mod listener;
pub mod mailbox;
pub mod map;
pub mod metrics;
pub mod policy;
pub mod proxy;
pub mod publisher;
pub mod receipt;
pub mod reconcile;
pub mod registry;
pub mod retention;
pub mod session;
pub mod subscription;
pub mod trusted;
pub mod unnamed;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Arbiter, ArbiterHandle};

use self::announcer::Announcer;
use self::config::{AccessMode, MailboxesConfig};
use self::door::InboundDoor;
use self::everything::Everything;
use self::feed::Feed;
use self::map::Map;
use self::policy::Policy;
use self::registry::{Registry, Resolve};
use self::retention::Retention;
use self::subscription::{
    Followed, Page, Paged, Position, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId, Unsubscribe,
};
use crate::cluster::redis::Channels;
use crate::handoff::Refusal;
use crate::mail::address::{AddressError, MailboxKey, Plus};
use crate::mail::event::{Announced, Event};
use crate::store::{Outlet, Store};
use crate::supervise::Handle;

/// How long a publisher may take to answer a subscriber.
const PUBLISHER_LIMIT: Duration = Duration::from_secs(10);

/// The receiving stage as others use it: a cheap handle.
#[derive(Clone)]
pub struct Inbound {
    inner: Arc<Inner>,
}

struct Inner {
    map: Arc<Map>,
    policy: Arc<Policy>,
    plus: Plus,
    store: Store,
    registry: Handle<Registry>,
    everything: Handle<Everything>,
    retention: Handle<Retention>,
    arbiters: Vec<ArbiterHandle>,
}

/// A domain that receives mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// As configured: a name, `*` or `*.name`.
    pub domain: String,
    /// Generated addresses are in it.
    pub is_default: bool,
}

impl Inbound {
    /// Starts the singletons on `arbiters` (never empty), where mailboxes will live too.
    #[must_use]
    pub fn start(
        store: Store,
        announcer: &Announcer,
        channels: &Channels,
        policy: Policy,
        config: &MailboxesConfig,
        arbiters: Vec<ArbiterHandle>,
    ) -> Self {
        let (map, stream) = (Arc::clone(&announcer.map), Arc::clone(&announcer.stream));
        let home = arbiters.first().cloned().unwrap_or_else(Arbiter::current);
        let (policy, plus) = (Arc::new(policy), config.plus.into());
        let (idle, every) = (config.idle.0, config.expire_every.0);
        let registry = Handle::new("registry", {
            let (map, policy, store, home) = (Arc::clone(&map), Arc::clone(&policy), store.clone(), home.clone());
            let channels = channels.clone();
            move || {
                let actor = Registry::new(Arc::clone(&map), Arc::clone(&policy), store.clone(), channels.clone(), idle);
                Registry::start_in_arbiter(&home, move |_| actor)
            }
        });
        let everything = Handle::new("everything", {
            let (store, home, channels) = (store.clone(), home.clone(), channels.clone());
            move || {
                let actor = Everything::new(Arc::clone(&stream), store.clone(), channels.clone());
                Everything::start_in_arbiter(&home, move |_| actor)
            }
        });
        let retention = Handle::new("retention", {
            let (store, trusted) = (store.clone(), retention::trusted(&store));
            move || {
                let actor = Retention::new(store.clone(), every, Arc::clone(&trusted));
                Retention::start_in_arbiter(&home, move |_| actor)
            }
        });
        Self { inner: Arc::new(Inner { map, policy, plus, store, registry, everything, retention, arbiters }) }
    }

    /// The door for sessions; what comes through it goes to `outlet`.
    #[must_use]
    pub fn door(&self, commit_timeout: Duration, outlet: Arc<dyn Outlet>) -> InboundDoor {
        let inner = &self.inner;
        InboundDoor {
            map: Arc::clone(&inner.map),
            registry: inner.registry.clone(),
            policy: Arc::clone(&inner.policy),
            plus: inner.plus,
            store: inner.store.clone(),
            outlet,
            commit_timeout,
        }
    }

    /// Builds singletons again that died; called now and then.
    pub fn check(&self) {
        self.inner.registry.check();
        self.inner.everything.check();
        self.inner.retention.check();
    }

    #[must_use]
    pub fn access(&self) -> AccessMode {
        self.inner.policy.access()
    }

    /// The mailbox that an address (from a path of the API) leads to.
    ///
    /// # Errors
    /// When it is no address.
    pub fn key(&self, address: &str) -> Result<MailboxKey, AddressError> {
        MailboxKey::parse(address, self.inner.plus)
    }

    /// Whether mail to this address makes its mailbox: with open access it is then an empty one before the first mail.
    #[must_use]
    pub fn accepts(&self, key: &MailboxKey) -> bool {
        self.inner.policy.automatic() && self.accepts_domain(key.domain())
    }

    /// Whether mailboxes of this domain (lower case, A-labels) can be made here.
    #[must_use]
    pub fn accepts_domain(&self, domain: &str) -> bool {
        self.inner.policy.accepts_domain(domain)
    }

    /// The domains that receive mail, the default one first.
    #[must_use]
    pub fn domains(&self) -> Vec<Domain> {
        let default = self.inner.policy.default_domain();
        let first = Domain { domain: default.to_owned(), is_default: true };
        let others = self.inner.policy.domains().filter(|domain| *domain != default);
        let others = others.map(|domain| Domain { domain: domain.to_owned(), is_default: false });
        std::iter::once(first).chain(others).collect()
    }

    /// What is known of a mailbox has changed by a call: the next recipient is looked up anew.
    pub fn changed(&self, key: &MailboxKey) {
        self.inner.map.invalidate(key);
    }

    /// Follows a mailbox or all of them.
    ///
    /// # Errors
    /// [`SubscribeError::Unknown`] where no mail is received, `Unavailable` when the publisher does not answer.
    pub async fn subscribe(&self, scope: &Scope, subscribe: Subscribe) -> Result<Subscribed, SubscribeError> {
        let Scope::Mailbox(key) = scope else {
            let asked = self.inner.everything.ask(subscribe, PUBLISHER_LIMIT).await;
            return asked.map_err(|_| SubscribeError::Unavailable)?;
        };
        self.resolve(key).await?;
        let asked = self.inner.map.with(key, |entry| entry.addr.send(subscribe).timeout(PUBLISHER_LIMIT));
        let Some(asked) = asked else { return Err(SubscribeError::Unavailable) };
        asked.await.map_err(|_| SubscribeError::Unavailable)?
    }

    /// The next page for a subscription that is behind.
    ///
    /// # Errors
    /// [`SubscribeError::Lost`] when its publisher was started anew: subscribe again.
    pub async fn page(&self, scope: &Scope, page: Page) -> Result<Paged, SubscribeError> {
        let Scope::Mailbox(key) = scope else {
            let asked = self.inner.everything.ask(page, PUBLISHER_LIMIT).await;
            return asked.map_err(|_| SubscribeError::Unavailable)?;
        };
        let asked = self.inner.map.with(key, |entry| entry.addr.send(page).timeout(PUBLISHER_LIMIT));
        let Some(asked) = asked else { return Err(SubscribeError::Lost) };
        asked.await.map_err(|_| SubscribeError::Lost)?
    }

    /// Stops following. A publisher that cannot take this now notices later that the subscriber is gone.
    pub fn unsubscribe(&self, scope: &Scope, id: SubscriptionId) {
        let _ = match scope {
            Scope::Mailbox(key) => self.inner.map.send(key, Unsubscribe(id)).is_ok(),
            Scope::All => self.inner.everything.with(|addr| addr.try_send(Unsubscribe(id)).is_ok()),
        };
    }

    /// Follows without being an actor.
    ///
    /// # Errors
    /// As [`Inbound::subscribe`].
    pub async fn feed(&self, followed: Followed, since: Option<Position>) -> Result<Feed, SubscribeError> {
        Feed::open(self.clone(), followed, since).await
    }

    /// The text that a filter looks at beyond the summary: as announced, or read from the store again.
    pub async fn text(&self, event: &Announced) -> Arc<str> {
        if let Some(text) = &event.text {
            return Arc::clone(text);
        }
        let (Event::Received { message } | Event::Updated { message }) = &event.event else { return "".into() };
        let stored = self.inner.store.message(&event.mailbox, message.id).await;
        let Ok(Some(stored)) = stored else { return "".into() };
        match self.inner.store.body(&stored).await {
            Ok(raw) => crate::mail::summary::summarize(&raw).text,
            Err(_) => "".into(),
        }
    }

    /// Puts the mailbox's actor into the map.
    async fn resolve(&self, key: &MailboxKey) -> Result<(), SubscribeError> {
        let now = crate::mail::time::Timestamp(crate::clock::now_micros());
        if self.inner.map.touch(key, now, |_| ()).is_some() {
            return Ok(());
        }
        let arbiter = self.arbiter(key);
        let resolve = Resolve { key: key.clone(), size: 0, arbiter };
        match resolve.ask(&self.inner.registry).await {
            // A full mailbox can be followed.
            Ok(()) | Err(Refusal::MailboxFull) => Ok(()),
            Err(Refusal::UnknownMailbox | Refusal::UnknownDomain) => Err(SubscribeError::Unknown),
            Err(Refusal::NoSpace | Refusal::TooLarge | Refusal::Unavailable) => Err(SubscribeError::Unavailable),
        }
    }

    fn arbiter(&self, key: &MailboxKey) -> ArbiterHandle {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let count = self.inner.arbiters.len().max(1) as u64;
        let index = usize::try_from(hasher.finish() % count).unwrap_or(0);
        self.inner.arbiters.get(index).cloned().unwrap_or_else(Arbiter::current)
    }
}
