//! What rules and dashboard look at is there to be looked at: a node with everything around it exports it.

use std::collections::BTreeSet;

use mailroom::cluster::redis::Servers;
use mailroom::mail::units::{Limit, Period};

use super::files::{expressions, named};
use crate::nodes::redis_is;
use crate::support::servers::{Engine, database};
use crate::support::{Api, Socket, TestServer, message, until};

/// Counters that are not there before what they count has happened: refusals and failures.
const WHEN_IT_HAPPENS: &[&str] = &[
    "broker_dead_lettered_total",
    "broker_refused_total",
    "broker_requeued_total",
    "bus_events_dropped_total",
    "bus_events_received_total",
    "bus_messages_skipped_total",
    "bus_reconnects_total",
    "cold_failures_total",
    "cold_repacked_bytes_total",
    "cold_search_unreadable_total",
    "http_connections_cut_total",
    "http_connections_refused_total",
    "http_unnamed_proxies_total",
    "limit_refusals_total",
    "mailbox_gaps_total",
    "reconcile_findings_total",
    "redis_failures_total",
    "smtp_refused_total",
    "store_batch_failures_total",
    "store_expired_total",
    // Of SQLite alone: nobody here knows the disk of a database server.
    "store_free_bytes",
    "store_refused_total",
    "store_replica_reads_total",
    "websocket_closed_total",
];

/// What a node exports, without the endings of histograms.
async fn exported(node: &TestServer) -> (String, BTreeSet<String>) {
    let text = Api::new(node.app.ops).get("/metrics").await.text();
    let names = text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        named(name)
    });
    let names = names.collect();
    (text, names)
}

#[actix::test]
async fn a_node_with_everything_around_it_exports_what_is_watched() {
    let (directory, cold) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = Engine::Postgres.database(directory.path()).url;
    let node = TestServer::with(|config| {
        config.database.url.clone_from(&url);
        // A replica that is never behind.
        config.database.replicas = vec![url.clone()];
        config.redis.url = Servers::one(database::redis().url());
        config.redis.prefix = format!("exported{}", std::process::id());
        config.broker.url = crate::support::servers::database::rabbitmq().fresh();
        config.cold.url = format!("file://{}", cold.path().display());
        config.cold.after = Limit(Some(Period::secs(1)));
        config.cold.every = Period::secs(1);
    })
    .await;
    redis_is(&node, true).await;
    let mut socket = Socket::connect(node.app.http).await;
    socket.subscribe("bob@example.com").await;
    until("mail is taken", async || {
        let mut smtp = node.smtp().await;
        smtp.hello().await;
        let mail = message("watched", "text");
        smtp.send("ann@sender.test", &["bob@example.com"], mail.as_bytes()).await.starts_with("250 ")
    })
    .await;
    assert_eq!(socket.hear().await["message"]["subject"], "watched");
    let path = "/v1/mailboxes/bob@example.com/messages";
    let id = node.api().json(path).await["items"][0]["id"].as_str().unwrap().to_owned();
    node.api().get(&format!("{path}/wait?timeout=1ms")).await;
    until("a page comes from the cache", async || {
        node.api().json(path).await;
        exported(&node).await.1.contains("store_list_cache_hits_total")
    })
    .await;
    let wanted: BTreeSet<String> = expressions().iter().flat_map(|expression| named(expression)).collect();
    let optional = |name: &&String| !WHEN_IT_HAPPENS.contains(&name.as_str());
    until("the body has moved and is read from there", async || {
        assert!(node.api().get(&format!("{path}/{id}/raw")).await.text().contains("watched"));
        exported(&node).await.1.contains("cold_reads_total")
    })
    .await;
    let mut missing = Vec::new();
    let end = std::time::Instant::now() + crate::support::PATIENCE;
    while std::time::Instant::now() < end {
        let (_, names) = exported(&node).await;
        missing = wanted.iter().filter(|name| !names.contains(*name)).filter(optional).cloned().collect();
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(missing.is_empty(), "watched, and not exported: {missing:?}");
    // The labels that alerts name.
    let (text, _) = exported(&node).await;
    for label in ["mail", "large", "dead"] {
        assert!(text.contains(&format!("broker_queue_depth{{queue=\"{label}\"}}")), "{label}");
    }
    assert!(text.contains("store_replica_lag_events{replica=\"postgres://"), "the alerts are by replica");
    let unknown: Vec<_> = WHEN_IT_HAPPENS.iter().filter(|name| !wanted.contains(**name)).collect();
    assert!(unknown.is_empty(), "nobody watches {unknown:?}: take them off the list");
    node.stop().await;
}
