//! The event path without a server around it: a store, the actors, and feeds.

use std::sync::Arc;

use actix::Arbiter;
use mailroom::inbound::Inbound;
use mailroom::inbound::announcer::Announcer;
use mailroom::inbound::config::{AccessMode, DomainsConfig, MailboxesConfig};
use mailroom::inbound::policy::Policy;
use mailroom::inbound::subscription::{Followed, Life, Scope, SubscribeError};
use mailroom::store::{Faults, NewMailbox, Store, Ttl};

use crate::store_suite::support::{config, key};

const ADDRESS: &str = "a@mailroom.test";

struct World {
    store: Store,
    inbound: Inbound,
    _data: tempfile::TempDir,
}

impl World {
    async fn new(access: AccessMode) -> Self {
        let data = tempfile::tempdir().unwrap();
        let announcer = Announcer::default();
        let (map, stream) = (Arc::clone(&announcer.map), Arc::clone(&announcer.stream));
        let store = Store::open(&config(data.path()), Arc::new(announcer), Faults::default()).await.unwrap();
        let mailboxes = MailboxesConfig { access, ..MailboxesConfig::default() };
        let policy = Policy::new(&mailboxes, &DomainsConfig::default());
        let inbound = Inbound::start(store.clone(), map, stream, policy, &mailboxes, vec![Arbiter::current()]);
        Self { store, inbound, _data: data }
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
    world.store.close().await;
}
