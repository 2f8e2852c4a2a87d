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
    let queues = Queues::of(&url).await;
    until("nothing is left", async || queues.waiting().await == 0).await;
    assert_eq!(queues.dead().await, 0);
    assert!(server.terminate().success());
}

#[actix::test]
async fn work_moves_to_the_node_that_is_left() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE mail");
    let url = shared().fresh();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plans = dirs.each_ref().map(|dir| {
        Plan::new(dir.path()).set("MAILROOM__BROKER__URL", &url).set("MAILROOM__DATABASE__URL", &postgres.url("mail"))
    });
    let first = plans[0].start().await;
    let second = plans[1].start().await;
    let senders = Senders::start(6, &[first.smtp, second.smtp]);
    senders.more(100).await;
    // The first began to take from every queue, and has messages of each in hand.
    first.kill();
    senders.more(100).await;
    let first = plans[0].start().await;
    senders.more(50).await;
    second.kill();
    senders.more(50).await;
    let log = senders.stop().await;
    log.is_stored(&first.api()).await;
    let queues = Queues::of(&url).await;
    until("nothing is left", async || queues.waiting().await == 0).await;
    assert_eq!(queues.dead().await, 0);
    assert!(first.terminate().success());
}

#[actix::test]
async fn a_node_that_comes_later_has_its_share() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE mail");
    let url = shared().fresh();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plans = dirs.each_ref().map(|dir| {
        Plan::new(dir.path()).set("MAILROOM__BROKER__URL", &url).set("MAILROOM__DATABASE__URL", &postgres.url("mail"))
    });
    let first = plans[0].start().await;
    // So many mailboxes that there is mail in nearly every queue.
    let senders = Senders::start(24, &[first.smtp]);
    senders.more(50).await;
    let second = plans[1].start().await;
    until("the second takes as well", async || super::away::metric(second.ops, "broker_acked_total").await > 20).await;
    let before = super::away::metric(first.ops, "broker_acked_total").await;
    until("the first does, too", async || super::away::metric(first.ops, "broker_acked_total").await > before + 20)
        .await;
    let log = senders.stop().await;
    log.is_stored(&first.api()).await;
    assert!(first.terminate().success() && second.terminate().success());
}
