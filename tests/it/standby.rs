//! A standby that lacks commits takes over from the primary: what it lacks is lost, and said. The nodes go on by themselves, and
//! neither they nor their clients are wrong afterwards.

use std::time::{Duration, Instant};

use mailroom::cluster::redis::Servers;
use serde_json::{Value, json};

use crate::nodes::redis_is;
use crate::support::servers::{Postgres, Redis};
use crate::support::socket::{Heard, Socket};
use crate::support::switch::Switch;
use crate::support::{Api, PATIENCE, TestServer, message, until};

const BOX: &str = "ann@mailroom.test";
const DATABASE: &str = "moved";
/// The first message of the new history.
const FIRST: &str = "after 0";

struct Pair {
    primary: Postgres,
    standby: Postgres,
    switch: Switch,
    redis: Option<Redis>,
    nodes: [TestServer; 2],
}

impl Pair {
    async fn start(with_redis: bool) -> Self {
        let primary = Postgres::start();
        primary.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        let (standby, switch) = (primary.replica(), Switch::start(primary.address));
        let redis = with_redis.then(Redis::start);
        let url = format!("postgres://mailroom@{}/{DATABASE}", switch.address);
        let node = async || {
            let node = TestServer::with(|config| {
                config.database.url.clone_from(&url);
                config.broker.url = String::new();
                config.redis.url = redis.as_ref().map_or_else(Servers::default, |redis| Servers::one(redis.url()));
            });
            node.await
        };
        let nodes = [node().await, node().await];
        if with_redis {
            for node in &nodes {
                redis_is(node, true).await;
            }
        }
        Self { primary, standby, switch, redis, nodes }
    }

    fn asked(server: &Postgres, text: &str) -> String {
        server.sql(DATABASE, text)
    }

    /// The standby has all there is, and hears nothing from here on.
    async fn cut(&self) {
        let stamp = "SELECT stamp FROM meta";
        until("the standby has it all", async || {
            Self::asked(&self.standby, stamp) == Self::asked(&self.primary, stamp)
        })
        .await;
        self.standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
        self.standby.sql("postgres", "SELECT pg_reload_conf()");
        until("it is cut off", async || {
            self.standby.sql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0"
                && self.primary.sql("postgres", "SELECT count(*) FROM pg_stat_replication") == "0"
        })
        .await;
    }

    /// The primary is gone, the standby takes over, and new connections lead there.
    fn fail_over(&mut self) {
        self.primary.kill();
        assert_eq!(self.standby.sql("postgres", "SELECT pg_promote()"), "t");
        self.switch.turn(self.standby.address);
    }

    /// As a sender does, who tries again until it is taken.
    async fn deliver(&self, node: usize, to: &str, subject: &str) {
        until("mail is taken", async || {
            let mut smtp = self.nodes[node].smtp().await;
            smtp.hello().await;
            smtp.send("ann@sender.test", &[to], message(subject, "text").as_bytes()).await.starts_with("250 ")
        })
        .await;
    }

    async fn page(&self, node: usize, path: &str) -> Vec<String> {
        let list = self.nodes[node].api().json(path).await;
        list["items"].as_array().unwrap().iter().map(subject_of).collect()
    }
}

fn subject_of(message: &Value) -> String {
    message["subject"].as_str().unwrap().to_owned()
}

/// Follows a mailbox, or all, as a client does that keeps its last cursor.
struct Client {
    socket: Socket,
    cursor: String,
    reloaded: bool,
}

impl Client {
    async fn connect(node: &TestServer, mailbox: &str) -> Self {
        let mut socket = Socket::connect(node.app.http).await;
        assert!(socket.follow(mailbox, None).await);
        let cursor = socket.hear().await["cursor"].as_str().unwrap().to_owned();
        Self { socket, cursor, reloaded: false }
    }

    async fn next(&mut self) -> Value {
        let frame = self.socket.hear().await;
        self.cursor = frame["cursor"].as_str().unwrap_or_else(|| panic!("{frame}")).to_owned();
        frame
    }

    /// After a reset what a list may have had comes too, and whoever was told twice to reload does so twice.
    async fn hears(&mut self, subject: &str) {
        loop {
            let frame = self.next().await;
            if self.reloaded && (frame["type"] == "reset" || frame["message"]["subject"] == FIRST) {
                continue;
            }
            assert_eq!((&frame["type"], &frame["message"]["subject"]), (&json!("message.received"), &json!(subject)));
            return;
        }
    }

    /// Nothing else comes before it is told to reload.
    async fn is_reset(&mut self) {
        let frame = self.next().await;
        assert_eq!(frame["type"], "reset", "{frame}");
        self.reloaded = true;
    }
}

async fn told(node: &TestServer) -> f64 {
    let text = Api::new(node.app.ops).get("/metrics").await.text();
    text.lines().find_map(|line| line.strip_prefix("store_histories_begun_total ")?.trim().parse().ok()).unwrap()
}

#[actix::test]
async fn a_standby_that_lacks_commits_takes_over_and_nobody_is_wrong() {
    takes_over(true).await;
}

#[actix::test]
async fn without_redis_too_a_standby_that_lacks_commits_may_take_over() {
    takes_over(false).await;
}

async fn takes_over(with_redis: bool) {
    let mut pair = Pair::start(with_redis).await;
    let lists = [format!("/v1/mailboxes/{BOX}/messages"), "/v1/messages".to_owned()];
    for n in 0..3 {
        pair.deliver(n % 2, BOX, &format!("before {n}")).await;
    }
    let mut clients = Vec::new();
    for node in &pair.nodes {
        for followed in [BOX, "*"] {
            clients.push(Client::connect(node, followed).await);
        }
    }
    // One that hears nothing of what follows, because there is nothing.
    let mut idle = Client::connect(&pair.nodes[1], "idle@mailroom.test").await;
    pair.cut().await;

    pair.deliver(0, BOX, "lost 0").await;
    pair.deliver(1, BOX, "lost 1").await;
    for client in &mut clients {
        client.hears("lost 0").await;
        client.hears("lost 1").await;
    }
    for node in 0..2 {
        for list in &lists {
            assert_eq!(pair.page(node, list).await, ["lost 1", "lost 0", "before 2", "before 1", "before 0"]);
        }
    }
    let made = pair.nodes[0].api().post("/v1/mailboxes", json!({"address": "lost@mailroom.test"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let numbers = "SELECT max(id) FROM mailboxes";
    let highest: i64 = Pair::asked(&pair.primary, numbers).parse().unwrap();
    let (begun, old) = (told(&pair.nodes[0]).await, clients[0].cursor.clone());
    pair.fail_over();

    let began = Instant::now();
    pair.deliver(0, BOX, FIRST).await;
    for client in &mut clients {
        client.is_reset().await;
    }
    // Longer than any comparison is away, on however slow a machine.
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(10));
    for node in 0..2 {
        for list in &lists {
            assert_eq!(pair.page(node, list).await, ["after 0", "before 2", "before 1", "before 0"], "{list} {node}");
        }
    }
    for n in 1..6 {
        let subject = format!("after {n}");
        pair.deliver(n % 2, BOX, &subject).await;
        for client in &mut clients {
            client.hears(&subject).await;
        }
    }
    // Who comes back with a cursor of the lost history starts over; with one of the new history it goes on.
    let mut late = Socket::connect(pair.nodes[1].app.http).await;
    assert!(late.follow(BOX, Some(&old)).await);
    let frames = [late.hear().await, late.hear().await];
    assert_eq!((&frames[0]["type"], &frames[1]["type"]), (&json!("subscribed"), &json!("reset")), "{frames:?}");
    let since = clients[0].cursor.clone();
    pair.deliver(1, BOX, "the last").await;
    let mut next = Socket::connect(pair.nodes[0].app.http).await;
    assert!(next.follow(BOX, Some(&since)).await);
    assert_eq!(next.hear().await["type"], "subscribed");
    assert_eq!(next.hear().await["message"]["subject"], "the last");

    // Mailboxes made now have numbers that none had, and the one that was lost can be made again.
    for node in &pair.nodes {
        let made =
            node.api().post("/v1/mailboxes", json!({"local_part": format!("new{}", node.app.http.port())})).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let made = pair.nodes[1].api().post("/v1/mailboxes", json!({"address": "lost@mailroom.test"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let new = "SELECT min(id) FROM mailboxes WHERE address NOT LIKE 'ann@%'";
    assert!(Pair::asked(&pair.standby, new).parse::<i64>().unwrap() > highest);
    assert!(told(&pair.nodes[0]).await >= begun + 2.0, "both nodes count it");

    // Who follows a mailbox without a row had nothing to lose.
    pair.deliver(0, "idle@mailroom.test", "the first").await;
    match idle.socket.hear_within(PATIENCE).await {
        Heard::Frame(frame) => assert_eq!(frame["message"]["subject"], "the first"),
        other => panic!("{other:?}"),
    }
    for node in pair.nodes {
        node.stop().await;
    }
    drop((pair.redis, pair.switch));
}
