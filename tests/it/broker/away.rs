//! The database is away while mail comes.

use std::time::Duration;

use mailroom::inbound::config::AccessMode;
use mailroom::mail::units::Period;
use mailroom::store::Fault;

use super::*;
use crate::support::process::Plan;
use crate::support::servers::Postgres;

#[actix::test]
async fn mail_is_taken_while_the_database_is_away_and_stored_in_order_when_it_is_back() {
    let url = shared().fresh();
    let server = server(&url, |config| config.broker.prefetch = 10).await;
    assert!(send(server.smtp_address(), &["a@example.com"], "0").await.starts_with("250 "));
    has(&server.api(), "a@example.com", &["0".into()]).await;
    server.faults.arm(Fault::Away);
    let mut sent = vec!["0".to_owned()];
    for n in 1..60 {
        let subject = n.to_string();
        assert!(send(server.smtp_address(), &["a@example.com"], &subject).await.starts_with("250 "), "{n}");
        sent.push(subject);
    }
    assert_eq!(all_subjects(&server.api(), "a@example.com").await, ["0"]);
    let queues = Queues::of(&url).await;
    until("what was taken was handed back", async || queues.waiting().await == 59).await;
    assert!(status(&server).database_away);
    let health = server_health(&server).await;
    assert_eq!(health["parts"]["broker"]["ok"], false, "{health}");
    assert_eq!(health["status"], "degraded", "mail is taken: {health}");
    server.faults.disarm(Fault::Away);
    has(&server.api(), "a@example.com", &sent).await;
    until("nothing is left", async || queues.waiting().await == 0).await;
    assert_eq!(queues.dead().await, 0);
    server.stop().await;
}

async fn server_health(server: &TestServer) -> serde_json::Value {
    Api::new(server.app.ops).json("/health").await
}

/// A limit of two allows no more than two returns: outages are not counted at all then.
#[actix::test]
async fn outages_never_add_up_to_the_delivery_limit() {
    let url = shared().fresh();
    let server = server(&url, |config| config.broker.delivery_limit = 2).await;
    let queues = Queues::of(&url).await;
    let mut sent = BTreeSet::new();
    for outage in 0..4 {
        // Mostly it is away again before a consumer that heard of it has put anything there.
        server.faults.arm(Fault::Away);
        let subject = outage.to_string();
        assert!(send(server.smtp_address(), &["a@example.com"], &subject).await.starts_with("250 "));
        sent.insert(subject);
        until("it is away", async || status(&server).database_away).await;
        until("what was taken was handed back", async || queues.waiting().await > 0).await;
        server.faults.disarm(Fault::Away);
        until("it is back", async || !status(&server).database_away).await;
    }
    until("everything is stored", async || {
        let found = all_subjects(&server.api(), "a@example.com").await;
        assert!(found.len() <= sent.len(), "{found:?}");
        found.into_iter().collect::<BTreeSet<_>>() == sent
    })
    .await;
    assert_eq!(queues.dead().await, 0);
    server.stop().await;
}

/// The value of a metric, over all its labels that begin so.
pub async fn metric(ops: std::net::SocketAddr, name: &str) -> u64 {
    let text = Api::new(ops).get("/metrics").await.text();
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<f64>().unwrap() as u64).sum()
}

#[actix::test]
async fn an_outage_of_any_length_costs_at_most_one_count() {
    let mut postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE mail");
    let url = shared().fresh();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path())
        .set("MAILROOM__BROKER__URL", &url)
        .set("MAILROOM__BROKER__PREFETCH", "10")
        .set("MAILROOM__DATABASE__URL", &postgres.url("mail"));
    let server = plan.start().await;
    let queues = Queues::of(&url).await;
    until("the broker takes mail", async || send(server.smtp, &["a@example.com"], "0").await.starts_with("250 ")).await;
    has(&server.api(), "a@example.com", &["0".into()]).await;
    postgres.kill();
    let mut sent = vec!["0".to_owned()];
    for n in 1..40 {
        assert!(send(server.smtp, &["a@example.com"], &n.to_string()).await.starts_with("250 "), "{n}");
        sent.push(n.to_string());
    }
    // One that nobody knows yet, while nobody can be asked.
    assert!(send(server.smtp, &["new@example.com"], "new").await.starts_with("250 "));
    until("what was taken was handed back", async || queues.waiting().await == 40).await;
    // Many times as long as the probes are apart, and longer than anything that was read of a mailbox is believed.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(queues.waiting().await, 40, "nothing is taken meanwhile");
    assert!(metric(server.ops, "broker_requeued_total").await <= 11, "each at most once");
    assert!(metric(server.ops, "broker_consumed_total").await <= 12);
    assert!(send(server.smtp, &["a@example.com"], "40").await.starts_with("250 "), "one that is known");
    sent.push("40".to_owned());
    assert!(send(server.smtp, &["new@example.com"], "new again").await.starts_with("250 "), "one that mail makes");
    postgres.launch();
    postgres.ready().await;
    has(&server.api(), "a@example.com", &sent).await;
    has(&server.api(), "new@example.com", &["new".into(), "new again".into()]).await;
    assert_eq!(queues.dead().await, 0);
    assert!(server.terminate().success());
}

#[actix::test]
async fn a_mailbox_that_must_exist_cannot_be_guessed_while_the_database_is_away() {
    let mut postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE mail");
    let database = postgres.url("mail");
    let server = server(&shared().fresh(), |config| {
        config.database.url = database;
        config.mailboxes.access = AccessMode::Token;
        config.mailboxes.idle = Period::secs(1);
    })
    .await;
    let made = server.api().post("/v1/mailboxes", serde_json::json!({"address": "ann@example.com"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(send(server.smtp_address(), &["ann@example.com"], "known").await.starts_with("250 "));
    postgres.kill();
    assert!(send(server.smtp_address(), &["ann@example.com"], "known still").await.starts_with("250 "));
    let reply = send(server.smtp_address(), &["bob@example.com"], "unknown").await;
    assert!(reply.starts_with("451 "), "{reply}");
    // Longer than what was read is believed, and than a mailbox that nobody uses stays in memory.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(send(server.smtp_address(), &["ann@example.com"], "known for long").await.starts_with("250 "));
    postgres.launch();
    postgres.ready().await;
    let api = server.api().with_token(made.json()["token"].as_str().unwrap());
    has(&api, "ann@example.com", &["known".into(), "known still".into(), "known for long".into()]).await;
    until("it is known again that it does not exist", async || {
        send(server.smtp_address(), &["bob@example.com"], "unknown").await.starts_with("550 ")
    })
    .await;
    server.stop().await;
}
