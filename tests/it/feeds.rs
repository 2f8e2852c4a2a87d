//! The event path without a server around it: a store, the actors, and feeds.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Arbiter, Context, Handler};
use mailroom::cluster::redis::Channels;
use mailroom::inbound::Inbound;
use mailroom::inbound::announcer::Announcer;
use mailroom::inbound::config::{AccessMode, DomainsConfig, MailboxesConfig};
use mailroom::inbound::feed::{Feed, FeedItem};
use mailroom::inbound::map::Map;
use mailroom::inbound::policy::Policy;
use mailroom::inbound::registry::{Registry, Resolve};
use mailroom::inbound::subscription::{
    BehindFlag, Followed, Life, Push, Scope, Subscribe, SubscribeError, SubscriptionId, Unsubscribe,
};
use mailroom::store::{Faults, NewMailbox, Store, Ttl};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

use crate::store_suite::support::{config, incoming, key, mail};
use crate::support::{PATIENCE, until};

const ADDRESS: &str = "a@mailroom.test";

struct World {
    map: Arc<Map>,
    store: Store,
    inbound: Inbound,
    /// Where the mailboxes live: not on the thread of the test.
    arbiter: Arbiter,
    _data: tempfile::TempDir,
}

impl World {
    async fn new(access: AccessMode) -> Self {
        let data = tempfile::tempdir().unwrap();
        let announcer = Announcer::default();
        let (map, told) = (Arc::clone(&announcer.map), Arc::new(announcer.clone()));
        let store = Store::open(&config(data.path()), told, Faults::default()).await.unwrap();
        let mailboxes = MailboxesConfig { access, ..MailboxesConfig::default() };
        let arbiter = Arbiter::new();
        let policy = Policy::new(&mailboxes, &DomainsConfig::default());
        let channels = Channels::default();
        let inbound = Inbound::start(store.clone(), &announcer, &channels, policy, &mailboxes, vec![arbiter.handle()]);
        Self { map, store, inbound, arbiter, _data: data }
    }

    async fn end(self) {
        self.store.close().await;
        self.arbiter.stop();
    }

    /// A message for `to` is stored.
    async fn put(&self, to: &str) {
        let (incoming, answer) = incoming(&[to], mail(0).as_bytes());
        self.store.append(incoming).map_err(drop).unwrap();
        answer.await.unwrap().unwrap();
    }

    /// Makes the mailbox with a token of this hash; what the token opens.
    async fn make(&self, token_hash: [u8; 32]) -> Life {
        let new = NewMailbox {
            key: key(ADDRESS),
            expires_at: None,
            message_ttl: Ttl::Default,
            max_messages: None,
            max_bytes: None,
            when_full: None,
            token_hash,
        };
        self.store.create_mailbox(new).await.unwrap();
        self.store.mailbox_of_token(&token_hash).await.unwrap().unwrap()
    }
}

#[actix::test]
async fn a_mailbox_that_ends_between_its_token_and_the_subscription_is_not_followed() {
    let world = World::new(AccessMode::Token).await;
    let first = world.make([1; 32]).await;
    // Before any actor knows the mailbox, and while one follows its first life.
    for busy in [false, true] {
        let old = if busy { world.store.mailbox_of_token(&[2; 32]).await.unwrap().unwrap() } else { first.clone() };
        let follower = world.inbound.feed(Scope::Mailbox(key(ADDRESS)).into(), None).await;
        let follower = follower.unwrap();
        if !busy {
            drop(follower);
        }
        world.store.delete_mailbox(&key(ADDRESS)).await.unwrap();
        let new = world.make([if busy { 3 } else { 2 }; 32]).await;
        assert!(new.incarnation > old.incarnation);
        let stale = world.inbound.feed(Followed::from(old), None).await;
        assert_eq!(stale.err(), Some(SubscribeError::Unknown), "busy: {busy}");
        assert!(world.inbound.feed(Followed::from(new), None).await.is_ok());
    }
    world.end().await;
}

/// Events of the mailbox until `count` have come, read as a stalling client would: in bursts, with long breaks, each
/// `next` given up after a moment.
async fn read_in_bursts(mut feed: Feed, count: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut last = 0;
    while last < count {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        for _ in 0..rng.random_range(1..400) {
            if last == count {
                break;
            }
            let patience = if rng.random_ratio(1, 4) { rng.random_range(1..3_000) } else { 200_000 };
            let patience = Duration::from_micros(patience);
            let Ok(item) = tokio::time::timeout(patience, feed.next()).await else { continue };
            match item.unwrap() {
                FeedItem::Event(event) => {
                    assert_eq!(event.cursor.modseq, last + 1, "reader {seed}: a hole, or a repeat");
                    last += 1;
                }
                FeedItem::Reset(at) => panic!("reset at {at}"),
            }
        }
    }
}

#[actix::test]
async fn a_feed_that_is_read_in_bursts_misses_nothing() {
    const READERS: u64 = 30;
    const MAILS: u64 = 4_000;
    let world = World::new(AccessMode::Open).await;
    let mut readers = Vec::new();
    for seed in 0..READERS {
        let feed = world.inbound.feed(Scope::Mailbox(key(ADDRESS)).into(), None).await.unwrap();
        readers.push(tokio::time::timeout(PATIENCE * 2, read_in_bursts(feed, MAILS, seed)));
    }
    let sender = async {
        for n in 0..MAILS {
            let (incoming, answer) = incoming(&[ADDRESS], mail(0).as_bytes());
            world.store.append(incoming).map_err(drop).unwrap();
            if n % 3 == 0 {
                answer.await.unwrap().unwrap();
            }
        }
    };
    let (read, ()) = tokio::join!(futures_util::future::join_all(readers), sender);
    assert!(read.into_iter().all(|read| read.is_ok()), "a reader hears nothing more");
    world.end().await;
}

/// A subscriber that listens to nothing.
struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
}

impl Handler<Push> for Deaf {
    type Result = ();

    fn handle(&mut self, _: Push, _: &mut Context<Self>) {}
}

#[actix::test]
async fn who_comes_while_the_last_one_goes_is_told_what_happens() {
    let world = World::new(AccessMode::Open).await;
    for round in 0..40 {
        let address = format!("r{round}@mailroom.test");
        let scope = Scope::Mailbox(key(&address));
        world.put(&address).await;
        // Its client goes before the publisher has looked up where it begins: it is taken in and left out at once.
        let behind = BehindFlag::default();
        behind.end();
        let (id, to) = (SubscriptionId::next(), Deaf.start().recipient());
        let gone = Subscribe { id, to, behind, since: None, incarnation: None };
        let (_, feed) =
            tokio::join!(world.inbound.subscribe(&scope, gone), world.inbound.feed(scope.clone().into(), None));
        let mut feed = feed.unwrap();
        world.put(&address).await;
        let heard = tokio::time::timeout(PATIENCE, feed.next()).await;
        assert!(matches!(heard, Ok(Ok(FeedItem::Event(_)))), "round {round}: {heard:?}");
    }
    world.end().await;
}

/// A subscriber that hands on what it is told.
struct Told(mpsc::Sender<Push>);

impl Actor for Told {
    type Context = Context<Self>;
}

impl Handler<Push> for Told {
    type Result = ();

    fn handle(&mut self, push: Push, _: &mut Context<Self>) {
        self.0.try_send(push).unwrap();
    }
}

/// Stops the thread of an arbiter until the sender is used.
async fn stop_thread(arbiter: &Arbiter) -> std::sync::mpsc::SyncSender<()> {
    let (go_on, wait) = std::sync::mpsc::sync_channel(1);
    let (stopped, heard) = tokio::sync::oneshot::channel();
    arbiter.spawn_fn(move || {
        stopped.send(()).unwrap();
        wait.recv().unwrap();
    });
    heard.await.unwrap();
    go_on
}

#[actix::test]
async fn a_mailbox_that_was_to_be_retired_and_is_followed_is_told_what_it_missed() {
    let world = World::new(AccessMode::Open).await;
    let (home, other) = (Arbiter::new(), Arbiter::new());
    let registry = {
        let (map, store) = (Arc::clone(&world.map), world.store.clone());
        let policy = Arc::new(Policy::new(&MailboxesConfig::default(), &DomainsConfig::default()));
        let actor = Registry::new(map, policy, store, Channels::default(), Duration::from_millis(50));
        Registry::start_in_arbiter(&home.handle(), move |_| actor)
    };
    let resolve = Resolve { key: key(ADDRESS), size: 0, arbiter: other.handle() };
    registry.send(resolve).await.unwrap().unwrap().unwrap();
    // The mailbox cannot answer while the registry finds it idle; a subscription waits for it before the question
    // whether it is in use.
    let mailbox = stop_thread(&other).await;
    let addr = world.map.with(&key(ADDRESS), |entry| entry.addr.clone()).unwrap();
    let (to, mut told) = mpsc::channel(8);
    let (id, behind, to) = (SubscriptionId::next(), BehindFlag::default(), Told(to).start().recipient());
    let subscribed = addr.send(Subscribe { id, to, behind, since: None, incarnation: None });
    until("it is out of the map", || async { world.map.with(&key(ADDRESS), |_| ()).is_none() }).await;
    let registry_stopped = stop_thread(&home).await;
    mailbox.send(()).unwrap();
    assert!(subscribed.await.unwrap().unwrap().live);
    addr.send(Unsubscribe(SubscriptionId::next())).await.unwrap();
    world.put(ADDRESS).await;
    registry_stopped.send(()).unwrap();
    let push = tokio::time::timeout(PATIENCE, told.recv()).await;
    assert!(matches!(push, Ok(Some(Push::Event(..)))), "{push:?}");
    home.stop();
    other.stop();
    world.end().await;
}
