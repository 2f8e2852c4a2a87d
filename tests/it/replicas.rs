//! Read replicas: reads go there, one that lags is passed over for what it lacks, one that is gone is left out until it is back.

use std::time::Duration;

use crate::support::servers::Postgres;
use crate::support::{Api, Socket, TestServer, message, until};

const MAILBOX: &str = "bob@example.com";

struct Fixture {
    primary: Postgres,
    replica: Postgres,
    server: TestServer,
}

impl Fixture {
    async fn start() -> Self {
        let primary = Postgres::start();
        primary.sql("postgres", "CREATE DATABASE replicated");
        let replica = primary.replica();
        let server = TestServer::with(|config| {
            config.database.url = primary.url("replicated");
            config.database.replicas = vec![replica.url("replicated")];
        })
        .await;
        Self { primary, replica, server }
    }

    /// Reads that were answered in a way: `replica` or `behind`.
    async fn reads(&self, place: &str) -> f64 {
        let text = Api::new(self.server.app.ops).get("/metrics").await.text();
        let name = format!("store_replica_reads_total{{place=\"{place}\"}}");
        text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0.0)
    }

    /// What the node says of its replica.
    async fn gauge(&self, name: &str) -> Option<f64> {
        let text = Api::new(self.server.app.ops).get("/metrics").await.text();
        let name = format!("{name}{{replica=\"{}\"}}", self.replica.url("replicated"));
        text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok())
    }

    async fn deliver(&self, subject: &str) {
        self.server.deliver(MAILBOX, &message(subject, "text")).await;
    }

    async fn subjects(&self) -> Vec<String> {
        self.server.api().subjects(MAILBOX).await
    }

    /// Whether a read after this moment is answered by the replica.
    async fn is_used(&self) -> bool {
        let before = self.reads("replica").await;
        let list = self.server.api().get("/v1/messages?limit=1&q=from:ann").await;
        assert!(list.status.is_success(), "{}", list.text());
        self.reads("replica").await > before
    }
}

/// One test, so that the counters of the process are its own.
#[actix::test]
async fn reads_go_to_a_replica_that_has_caught_up_and_to_no_other() {
    let mut f = Fixture::start().await;
    f.deliver("first").await;
    until("the replica is read", async || f.is_used().await).await;
    let path = format!("/v1/mailboxes/{MAILBOX}/messages");
    let list = f.server.api().json(&path).await;
    let id = list["items"][0]["id"].as_str().unwrap().to_owned();
    assert!(f.server.api().get(&format!("{path}/{id}/raw")).await.text().contains("Subject: first"));

    // It stands still: what follows a write, or a push, is there all the same.
    f.replica.sql("postgres", "SELECT pg_wal_replay_pause()");
    let mut socket = Socket::connect(f.server.app.http).await;
    socket.subscribe(MAILBOX).await;
    let behind = f.reads("behind").await;
    for n in 0..5 {
        let subject = format!("while it lags {n}");
        f.deliver(&subject).await;
        let frame = socket.hear().await;
        assert_eq!(frame["message"]["subject"], *subject);
        assert_eq!(f.subjects().await[0], subject);
        let pushed = format!("{path}/{}", frame["message"]["id"].as_str().unwrap());
        assert_eq!(f.server.api().json(&pushed).await["subject"], *subject);
        let all = f.server.api().json("/v1/messages?limit=1").await;
        assert_eq!(all["items"][0]["subject"], *subject);
    }
    let read = f.server.api().patch(&format!("{path}/{id}"), serde_json::json!({"is_read": true})).await;
    assert!(read.status.is_success());
    assert_eq!(f.server.api().json(&format!("{path}/{id}")).await["is_read"], true);
    assert!(f.reads("behind").await > behind + 10.0, "the primary answered for it");
    until("it is 6 events behind", async || f.gauge("store_replica_lag_events").await == Some(6.0)).await;
    f.replica.sql("postgres", "SELECT pg_wal_replay_resume()");
    until("the replica is read again", async || f.is_used().await).await;
    until("it has them", async || f.gauge("store_replica_lag_events").await == Some(0.0)).await;
    assert_eq!(f.gauge("store_replica_up").await, Some(1.0));

    // It stands still as a process does that was stopped: nobody waits for it long.
    f.replica.pause();
    let began = std::time::Instant::now();
    assert_eq!(f.subjects().await.len(), 6);
    // Half a second; who waited for it would wait 20.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    f.replica.resume();
    until("the replica is read again", async || f.is_used().await).await;

    // It is gone, then it is back.
    f.replica.kill();
    for n in 0..5 {
        let subject = format!("while it is gone {n}");
        f.deliver(&subject).await;
        assert_eq!(f.subjects().await[0], subject);
        assert!(f.server.api().get(&format!("{path}/{id}/raw")).await.text().contains("Subject: first"));
    }
    f.replica.restart().await;
    until("the replica is read again", async || f.is_used().await).await;
    assert_eq!(f.subjects().await.len(), 11);
    f.server.stop().await;
    drop(f.primary);
}
