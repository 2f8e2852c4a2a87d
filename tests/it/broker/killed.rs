//! Killed with SIGKILL under load: the broker, a server, one of two.

use super::*;
use crate::support::process::Plan;
use crate::support::servers::Postgres;

#[actix::test]
async fn killing_the_broker_loses_nothing() {
    let mut rabbit = RabbitMq::start();
    let server = server(&rabbit.url("%2f"), |_| {}).await;
    let senders = Senders::start(6, &[server.smtp_address()]);
    for _ in 0..3 {
        senders.more(100).await;
        rabbit.restart().await;
    }
    senders.more(100).await;
    let log = senders.stop().await;
    assert!(log.refused.get() > 0, "it was noticed");
    log.is_stored(&server.api()).await;
    server.stop().await;
}

#[actix::test]
async fn killing_the_server_loses_nothing() {
    let url = shared().fresh();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path()).set("MAILROOM__BROKER__URL", &url);
    let senders = Senders::start(6, &[plan.smtp]);
    for _ in 0..5 {
        let server = plan.start().await;
        senders.more(60).await;
        server.kill();
    }
    let server = plan.start().await;
    senders.more(20).await;
    let log = senders.stop().await;
    log.is_stored(&server.api()).await;
    nothing_is_left(&url).await;
    assert!(server.terminate().success());
}

/// Two nodes to be: what their database and their broker are, and how each is started.
struct Two {
    _postgres: Postgres,
    _dirs: [tempfile::TempDir; 2],
    url: String,
    plans: [Plan; 2],
}

impl Two {
    fn new() -> Self {
        let postgres = Postgres::start();
        postgres.sql("postgres", "CREATE DATABASE mail");
        let (url, database) = (shared().fresh(), postgres.url("mail"));
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let plan = |dir: &tempfile::TempDir| {
            Plan::new(dir.path()).set("MAILROOM__BROKER__URL", &url).set("MAILROOM__DATABASE__URL", &database)
        };
        let plans = dirs.each_ref().map(plan);
        Self { _postgres: postgres, _dirs: dirs, url, plans }
    }
}

/// Everything was taken from the queues, and stored.
async fn nothing_is_left(url: &str) {
    let queues = Queues::of(url).await;
    until("nothing is left", async || queues.waiting().await == 0).await;
    assert_eq!(queues.dead().await, 0);
}

#[actix::test]
async fn work_moves_to_the_node_that_is_left() {
    let two = Two::new();
    let first = two.plans[0].start().await;
    let second = two.plans[1].start().await;
    let senders = Senders::start(6, &[first.smtp, second.smtp]);
    senders.more(100).await;
    // The first began to take from every queue, and has messages of each in hand.
    first.kill();
    senders.more(100).await;
    let first = two.plans[0].start().await;
    senders.more(50).await;
    second.kill();
    senders.more(50).await;
    let log = senders.stop().await;
    log.is_stored(&first.api()).await;
    nothing_is_left(&two.url).await;
    assert!(first.terminate().success());
}

#[actix::test]
async fn a_node_that_comes_later_has_its_share() {
    let two = Two::new();
    let first = two.plans[0].start().await;
    // So many mailboxes that there is mail in nearly every queue.
    let senders = Senders::start(24, &[first.smtp]);
    senders.more(50).await;
    let second = two.plans[1].start().await;
    until("the second takes as well", async || super::away::metric(second.ops, "broker_acked_total").await > 20).await;
    let before = super::away::metric(first.ops, "broker_acked_total").await;
    until("the first does, too", async || super::away::metric(first.ops, "broker_acked_total").await > before + 20)
        .await;
    let log = senders.stop().await;
    log.is_stored(&first.api()).await;
    assert!(first.terminate().success() && second.terminate().success());
}
