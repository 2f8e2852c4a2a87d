//! Two nodes on one database: what comes in at one is told at the other, over Redis within milliseconds, and without it, or
//! when it loses messages, from the database.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mailroom::cluster::redis::{Servers, shard};
use mailroom::config::Config;
use mailroom::mail::address::MailboxKey;
use mailroom::mail::units::Period;
use serde_json::Value;

use crate::support::servers::{Engine, Redis, RedisCluster};
use crate::support::socket::{Heard, Socket};
use crate::support::{Api, TestServer, message, until};

/// Longer than any test: what is heard although the database is compared this rarely came over the bus.
pub const NEVER: Period = Period::secs(30);
/// What no loss may exceed.
const LOST: Duration = Duration::from_secs(30);
/// Half of [`NEVER`]: what is heard within this time came over the bus, however busy the machine is.
pub const SOON: Duration = Duration::from_secs(15);

pub struct Nodes {
    pub one: TestServer,
    pub two: TestServer,
    _database: tempfile::TempDir,
}

impl Nodes {
    /// Two nodes that share a database.
    pub async fn start(engine: Engine, change: impl Fn(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = engine.database(directory.path()).url;
        let node = async || {
            TestServer::with(|config| {
                config.database.url.clone_from(&url);
                change(config);
            })
            .await
        };
        let nodes = Self { one: node().await, two: node().await, _database: directory };
        for node in [&nodes.one, &nodes.two] {
            if !node.config.redis.url.is_empty() {
                redis_is(node, true).await;
            }
        }
        nodes
    }

    pub async fn on_redis(redis: &Redis, reconcile: Period) -> Self {
        let url = redis.url();
        Self::start(Engine::Postgres, |config| {
            config.redis.url = Servers::one(url.clone());
            config.redis.reconcile = reconcile;
        })
        .await
    }

    pub async fn stop(self) {
        self.one.stop().await;
        self.two.stop().await;
    }
}

pub async fn redis_is(node: &TestServer, up: bool) {
    let ops = Api::new(node.app.ops);
    until(if up { "Redis is there" } else { "Redis is away" }, async || {
        ops.json("/health").await["parts"]["redis"]["ok"] == up
    })
    .await;
}

fn subject(frame: &Value) -> String {
    frame["message"]["subject"].as_str().unwrap_or_default().to_owned()
}

/// Hears messages until all of `wanted` came; fails after `limit`.
pub async fn hears(socket: &mut Socket, wanted: &[String], limit: Duration) {
    let mut missing: BTreeSet<&String> = wanted.iter().collect();
    let end = Instant::now() + limit;
    while !missing.is_empty() {
        match socket.hear_within(end.saturating_duration_since(Instant::now())).await {
            Heard::Frame(frame) => drop(missing.remove(&subject(&frame))),
            other => panic!("{other:?}; missing are {missing:?}"),
        }
    }
}

pub fn names(what: &str, range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{what} {n}")).collect()
}

pub async fn deliver(node: &TestServer, to: &str, subjects: &[String]) {
    for subject in subjects {
        node.deliver(to, &message(subject, "text")).await;
    }
}

#[actix::test]
async fn mail_in_at_one_node_is_pushed_at_the_other_in_order() {
    let redis = Redis::start();
    let nodes = Nodes::on_redis(&redis, NEVER).await;
    let mut socket = Socket::connect(nodes.two.app.http).await;
    socket.subscribe("ann@mailroom.test").await;
    let (all, mut took) = (names("over the bus", 0..20), Vec::new());
    for (n, name) in all.iter().enumerate() {
        // Both write to the same mailbox, by turns.
        let node = if n % 2 == 0 { &nodes.one } else { &nodes.two };
        deliver(node, "ann@mailroom.test", std::slice::from_ref(name)).await;
        let began = Instant::now();
        match socket.hear_within(SOON).await {
            Heard::Frame(frame) => assert_eq!(subject(&frame), *name),
            other => panic!("{other:?} instead of {name}"),
        }
        took.push(began.elapsed());
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_secs(2), "{took:?}");
    // Changes and the end of a mailbox too.
    let list = nodes.one.api().json("/v1/mailboxes/ann@mailroom.test/messages").await;
    let id = list["items"][0]["id"].as_str().unwrap();
    let path = format!("/v1/mailboxes/ann@mailroom.test/messages/{id}");
    nodes.one.api().patch(&path, serde_json::json!({"is_read": true})).await;
    let updated = socket.hear().await;
    assert_eq!((&updated["type"], &updated["message"]["is_read"]), (&"message.updated".into(), &true.into()));
    nodes.one.api().delete(&path).await;
    assert_eq!(socket.hear().await["type"], "message.deleted");
    nodes.one.api().delete("/v1/mailboxes/ann@mailroom.test").await;
    assert_eq!(socket.hear().await["type"], "mailbox.deleted");
    nodes.stop().await;
}

#[actix::test]
async fn who_follows_all_mailboxes_sees_what_both_nodes_commit_in_one_order() {
    let redis = Redis::start();
    let nodes = Nodes::on_redis(&redis, NEVER).await;
    let mut sockets = [Socket::connect(nodes.one.app.http).await, Socket::connect(nodes.two.app.http).await];
    for socket in &mut sockets {
        socket.subscribe("*").await;
    }
    let (first, second) = (names("first", 0..100), names("second", 0..100));
    let spread = async |node: &TestServer, names: &[String]| {
        for (n, name) in names.iter().enumerate() {
            node.deliver(&format!("box{}@mailroom.test", n % 7), &message(name, "text")).await;
        }
    };
    tokio::join!(spread(&nodes.one, &first), spread(&nodes.two, &second));
    let mut orders = Vec::new();
    for socket in &mut sockets {
        let mut order = Vec::new();
        while order.len() < first.len() + second.len() {
            match socket.hear_within(SOON).await {
                Heard::Frame(frame) => order.push(subject(&frame)),
                other => panic!("{other:?} after {} of them", order.len()),
            }
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    let all: BTreeSet<_> = orders[0].iter().cloned().collect();
    assert_eq!(all, first.into_iter().chain(second).collect(), "each once");
    nodes.stop().await;
}

/// Mail at one node, sockets at the other, while `harm` is done and mended; nothing is missed.
async fn survives(redis: &mut Redis, harm: impl AsyncFn(&mut Redis), mend: impl AsyncFn(&mut Redis)) {
    let nodes = Nodes::on_redis(redis, Period::secs(3)).await;
    let mut one = Socket::connect(nodes.two.app.http).await;
    one.subscribe("ann@mailroom.test").await;
    let mut all = Socket::connect(nodes.two.app.http).await;
    all.subscribe("*").await;
    let before = names("before", 0..5);
    let began = Instant::now();
    deliver(&nodes.one, "ann@mailroom.test", &before).await;
    // Whoever waits for Redis waits for its whole limit, each time; a machine that is busy was so before.
    let usual = began.elapsed();
    let patient = usual * 4 + Duration::from_secs(4);
    hears(&mut one, &before, SOON).await;
    harm(redis).await;
    let during = names("during", 0..10);
    let began = Instant::now();
    deliver(&nodes.one, "ann@mailroom.test", &during).await;
    assert!(began.elapsed() < patient, "no session waits for Redis: {:?}", began.elapsed());
    let began = Instant::now();
    nodes.one.api().json("/v1/mailboxes/ann@mailroom.test/messages").await;
    assert!(began.elapsed() < patient, "nor does a list: {:?}", began.elapsed());
    hears(&mut one, &during, LOST).await;
    let mut late = Socket::connect(nodes.two.app.http).await;
    let began = Instant::now();
    late.subscribe("ann@mailroom.test").await;
    assert!(began.elapsed() < patient, "nor does who follows: {:?}", began.elapsed());
    mend(redis).await;
    for node in [&nodes.one, &nodes.two] {
        redis_is(node, true).await;
    }
    let after = names("after", 0..10);
    deliver(&nodes.one, "ann@mailroom.test", &after).await;
    hears(&mut one, &after, LOST).await;
    hears(&mut late, &after, LOST).await;
    hears(&mut all, &[before, during, after].concat(), LOST).await;
    // The bus works again: what it brings is there before the next comparison.
    let mut fast = false;
    for n in 0..20 {
        let name = [format!("again {n}")];
        deliver(&nodes.one, "ann@mailroom.test", &name).await;
        let began = Instant::now();
        hears(&mut one, &name, LOST).await;
        fast |= began.elapsed() < Duration::from_millis(100);
    }
    assert!(fast, "the bus did not come back");
    nodes.stop().await;
}

#[actix::test]
async fn a_redis_that_is_killed_and_comes_back_costs_no_event() {
    let mut redis = Redis::start();
    survives(&mut redis, async |redis| redis.kill(), async |redis| redis.restart().await).await;
}

#[actix::test]
async fn a_redis_that_stands_still_holds_nobody_up() {
    let mut redis = Redis::start();
    survives(&mut redis, async |redis| redis.pause(), async |redis| redis.resume()).await;
}

#[actix::test]
async fn a_killed_subscriber_connection_costs_no_event() {
    let mut redis = Redis::start();
    let kill = async |redis: &mut Redis| drop(redis.command(["CLIENT", "KILL", "TYPE", "pubsub"]));
    survives(&mut redis, kill, kill).await;
}

#[actix::test]
async fn a_full_output_buffer_costs_no_event() {
    let redis = Redis::start();
    let nodes = Nodes::on_redis(&redis, Period::secs(3)).await;
    let mut socket = Socket::connect(nodes.two.app.http).await;
    socket.subscribe("ann@mailroom.test").await;
    redis.command(["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1 1 1"]);
    let listening = redis.command(["CLIENT", "LIST", "TYPE", "pubsub"]);
    let shard = shard::shard(&MailboxKey::from_stored("ann@mailroom.test"), 64);
    let (channel, much) = (shard::channel("mailroom", shard), "x".repeat(100_000));
    let all = names("beside too much", 0..10);
    for name in &all {
        // More than Redis writes at once, and than it may keep: whoever should hear it is cut off.
        redis.command(["PUBLISH", &channel, &much]);
        deliver(&nodes.one, "ann@mailroom.test", std::slice::from_ref(name)).await;
    }
    hears(&mut socket, &all, LOST).await;
    let id = |list: &str| list.split_whitespace().find(|word| word.starts_with("id=")).map(str::to_owned);
    assert_ne!(id(&redis.command(["CLIENT", "LIST", "TYPE", "pubsub"])), id(&listening), "it was cut off");
    redis.command(["CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60"]);
    let after = names("after", 0..10);
    deliver(&nodes.one, "ann@mailroom.test", &after).await;
    hears(&mut socket, &after, LOST).await;
    nodes.stop().await;
}

#[actix::test]
async fn without_redis_nodes_find_each_others_mail_in_the_database() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let nodes = Nodes::start(engine, |_| {}).await;
        let mut one = Socket::connect(nodes.two.app.http).await;
        one.subscribe("ann@mailroom.test").await;
        let mut all = Socket::connect(nodes.two.app.http).await;
        all.subscribe("*").await;
        let mail = names("from the database", 0..10);
        deliver(&nodes.one, "ann@mailroom.test", &mail).await;
        hears(&mut one, &mail, Duration::from_secs(5)).await;
        hears(&mut all, &mail, Duration::from_secs(5)).await;
        nodes.stop().await;
    }
}

#[actix::test]
async fn over_a_cluster_channels_follow_their_slots() {
    let cluster = RedisCluster::start();
    let urls = cluster.urls();
    let nodes = Nodes::start(Engine::Postgres, |config| {
        config.redis.url = Servers::cluster(urls.clone());
        config.redis.reconcile = NEVER;
    })
    .await;
    let mut socket = Socket::connect(nodes.two.app.http).await;
    socket.subscribe("*").await;
    let boxes: Vec<String> = (0..12).map(|n| format!("box{n}@mailroom.test")).collect();
    let round = async |socket: &mut Socket, what: &str, limit| {
        for (n, mailbox) in boxes.iter().enumerate() {
            let name = [format!("{what} {n}")];
            deliver(&nodes.one, mailbox, &name).await;
            hears(socket, &name, limit).await;
        }
    };
    round(&mut socket, "before", SOON).await;
    // Every channel that the first node has goes to the second.
    let slots: BTreeSet<u16> =
        (0..64).map(|n| shard::slot(&shard::channel("mailroom", n))).filter(|slot| *slot < 5_462).collect();
    assert!(slots.len() > 5);
    let ids: Vec<String> = cluster.nodes.iter().map(|node| node.command(["CLUSTER", "MYID"])).collect();
    for slot in &slots {
        let slot = slot.to_string();
        // First where it goes, then where it is gone from, then everybody.
        for node in [1, 0, 2] {
            cluster.nodes[node].command(["CLUSTER", "SETSLOT", &slot, "NODE", ids[1].trim()]);
        }
    }
    round(&mut socket, "moved", Duration::from_secs(20)).await;
    round(&mut socket, "settled", SOON).await;
    nodes.stop().await;
}
