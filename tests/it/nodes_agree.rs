//! What a node believes of a mailbox, and shows of it, when another node changes it.

use std::time::{Duration, Instant};

use awc::http::StatusCode;
use mailroom::cluster::redis::Servers;
use mailroom::inbound::config::AccessMode;
use mailroom::mail::units::Period;
use serde_json::json;

use crate::nodes::{Nodes, redis_is};
use crate::support::servers::{Engine, Redis};
use crate::support::{Api, PATIENCE, TestServer, message, until};

/// What no node may believe longer without asking the database.
const BELIEF: Duration = Duration::from_secs(5);

/// A page that Redis does not take in time is left out, by the default of 100 ms on a busy machine too.
const PATIENT: Period = Period::secs(5);

async fn with_redis(redis: &Redis) -> Nodes {
    let url = redis.url();
    Nodes::start(Engine::Postgres, |config| {
        config.redis.url = Servers::one(url.clone());
        config.redis.timeout = PATIENT;
    })
    .await
}

/// A counter of `INFO stats`.
fn stat(redis: &Redis, name: &str) -> u64 {
    let stats = redis.command(["INFO", "stats"]);
    let value = stats.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {stats}"))
}

fn pages(redis: &Redis) -> usize {
    redis.command(["KEYS", "mailroom:page:*"]).lines().filter(|line| !line.trim().is_empty()).count()
}

#[actix::test]
async fn a_list_is_exact_at_every_node_at_once() {
    let redis = Redis::start();
    for nodes in [with_redis(&redis).await, Nodes::start(Engine::MariaDb, |_| {}).await] {
        for n in 1..=20 {
            let (writer, reader) = if n % 2 == 0 { (&nodes.one, &nodes.two) } else { (&nodes.two, &nodes.one) };
            writer.deliver("ann@mailroom.test", &message(&format!("mail {n}"), "text")).await;
            assert_eq!(reader.api().subjects("ann@mailroom.test").await.len(), n, "what was answered 250 is listed");
            assert_eq!(reader.api().json("/v1/messages").await["items"].as_array().unwrap().len(), n);
        }
        let path = "/v1/mailboxes/ann@mailroom.test/messages";
        let first = nodes.two.api().json(path).await["items"][0].clone();
        let message = format!("{path}/{}", first["id"].as_str().unwrap());
        nodes.one.api().patch(&message, json!({"is_read": true})).await;
        assert_eq!(nodes.two.api().json(path).await["items"][0]["is_read"], true);
        assert_eq!(nodes.two.api().json(&format!("{path}?unread=true")).await["items"].as_array().unwrap().len(), 19);
        // A change of lifetimes makes no event, and shows all the same.
        let change = json!({"message_ttl": "1h"});
        assert_eq!(nodes.one.api().patch("/v1/mailboxes/ann@mailroom.test", change).await.status, StatusCode::OK);
        let item = nodes.two.api().json(path).await["items"][0].clone();
        assert_ne!(item["expires_at"], first["expires_at"]);
        nodes.one.api().delete("/v1/mailboxes/ann@mailroom.test").await;
        assert!(nodes.two.api().subjects("ann@mailroom.test").await.is_empty());
        nodes.stop().await;
    }
}

#[actix::test]
async fn the_pictures_of_a_page_are_opened_by_the_other_node_and_after_a_restart() {
    let nodes = Nodes::start(Engine::Postgres, |config| config.mailboxes.access = AccessMode::Token).await;
    let made = nodes.one.api().post("/v1/mailboxes", json!({"address": "own@mailroom.test"})).await.json();
    let token = made["token"].as_str().unwrap();
    nodes.one.deliver("own@mailroom.test", crate::hostile::PICTURES).await;
    let list = "/v1/mailboxes/own@mailroom.test/messages";
    let id = nodes.one.api().with_token(token).json(list).await["items"][0]["id"].as_str().unwrap().to_owned();
    let page = nodes.one.api().with_token(token).get(&format!("{list}/{id}/html")).await.text();
    let begin = format!("{list}/{id}/attachments/0?key=");
    let picture = page.split('"').find(|part| part.starts_with(&begin)).expect("an address of the picture");
    assert_eq!(nodes.two.api().get(picture).await.status, StatusCode::OK);
    let Nodes { one, two, .. } = nodes;
    let one = one.restart().await;
    assert_eq!(one.api().get(picture).await.status, StatusCode::OK);
    let foreign = picture.replace("attachments/0?key=", "attachments/0?key=1");
    assert_eq!(two.api().get(&foreign).await.status, StatusCode::NOT_FOUND);
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn a_page_that_one_node_read_comes_to_the_other_from_redis() {
    let redis = Redis::start();
    let nodes = with_redis(&redis).await;
    nodes.one.deliver("ann@mailroom.test", &message("for both", "text")).await;
    let first = nodes.one.api().get("/v1/mailboxes/ann@mailroom.test/messages").await;
    until("the page is in Redis", async || pages(&redis) == 1).await;
    let hits = stat(&redis, "keyspace_hits");
    // A node that has just found Redis too slow does not ask it.
    redis_is(&nodes.two, true).await;
    let second = nodes.two.api().get("/v1/mailboxes/ann@mailroom.test/messages").await;
    assert_eq!((stat(&redis, "keyspace_hits"), second.text()), (hits + 1, first.text()));
    let third = nodes.two.api().get("/v1/mailboxes/ann@mailroom.test/messages").await;
    assert_eq!((stat(&redis, "keyspace_hits"), third.text()), (hits + 1, first.text()), "from the process");
    let key = redis.command(["KEYS", "mailroom:page:*"]);
    let life: u64 = redis.command(["TTL", key.trim()]).trim().parse().unwrap();
    assert!((3_500..=3_600).contains(&life), "{life}");
    nodes.stop().await;
}

#[actix::test]
async fn a_node_that_starts_warms_the_pages_of_the_mailboxes_that_were_active_last() {
    let redis = Redis::start();
    let nodes = with_redis(&redis).await;
    for n in 0..10 {
        nodes.one.deliver(&format!("box{n}@mailroom.test"), &message("mail", "text")).await;
    }
    redis.command(["FLUSHALL"]);
    let Nodes { one, two, .. } = nodes;
    let began = Instant::now();
    let one = one.restart().await;
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    until("ten pages are in Redis", async || pages(&redis) == 10).await;
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn no_node_believes_in_a_mailbox_for_long_that_another_deleted() {
    // Without Redis, so that nobody tells it.
    let nodes = Nodes::start(Engine::Postgres, |config| config.mailboxes.access = AccessMode::Token).await;
    let made = nodes.one.api().post("/v1/mailboxes", json!({"address": "ann@mailroom.test"})).await.json();
    let token = made["token"].as_str().unwrap();
    let at_two = Api::new(nodes.two.app.http).with_token(token);
    let path = "/v1/mailboxes/ann@mailroom.test";
    assert_eq!(at_two.get(path).await.status, StatusCode::OK, "made at the other node");
    let rcpt = async |node: &TestServer| {
        let mut smtp = node.smtp().await;
        smtp.hello().await;
        smtp.command("MAIL FROM:<bob@sender.test>").await;
        let reply = smtp.command("RCPT TO:<ann@mailroom.test>").await;
        smtp.quit().await;
        reply
    };
    let reply = rcpt(&nodes.two).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let deleted = Api::new(nodes.one.app.http).with_token(token).delete(path).await;
    assert!(deleted.status.is_success());
    let began = Instant::now();
    until("the address is unknown at the other node", async || rcpt(&nodes.two).await.starts_with("550 5.1.1")).await;
    until("its token opens nothing there", async || at_two.get(path).await.status == StatusCode::NOT_FOUND).await;
    // And what a busy machine needs for the last question.
    assert!(began.elapsed() < BELIEF * 2, "{:?}", began.elapsed());
    nodes.stop().await;
}
