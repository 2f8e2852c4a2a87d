//! Server-sent events over a real port: order, replay by `Last-Event-ID`, filters, access, and how a stream ends.

use std::time::Duration;

use awc::http::StatusCode;
use futures_util::StreamExt;
use mailroom::inbound::config::AccessMode;
use mailroom::mail::units::Period;
use serde_json::{Value, json};

use crate::support::{PATIENCE, TestServer, message};

/// An open stream, read block by block.
pub struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>>>>,
    buffer: String,
}

impl Events {
    pub async fn open(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Self {
        let client = awc::Client::builder().timeout(PATIENCE).finish();
        let mut request = client.get(format!("http://{}{path}", server.app.http));
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get("content-type").unwrap(), "text/event-stream");
        Self { body: Box::pin(response), buffer: String::new() }
    }

    /// The next block of lines without its empty line; none when the stream ended.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("something comes")?.ok()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event: its id and its data; comments are skipped.
    pub async fn next(&mut self) -> (String, Value) {
        loop {
            let block = self.block().await.expect("the stream goes on");
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let Some(data) = field("data: ") {
                return (field("id: ").unwrap(), serde_json::from_str(&data).unwrap());
            }
        }
    }
}

#[actix_web::test]
async fn tells_what_happens_in_order_and_again_what_was_missed() {
    let server = TestServer::start().await;
    let api = server.api();
    let path = "/v1/mailboxes/bob@example.com/events";
    let mut events = Events::open(&server, path, &[]).await;
    let (begin, subscribed) = events.next().await;
    assert_eq!(subscribed["type"], "subscribed");
    assert_eq!(subscribed["mailbox"], "bob@example.com");
    assert_eq!(subscribed["cursor"], Value::String(begin.clone()));
    for n in 0..3 {
        server.deliver("bob@example.com", &message(&format!("number {n}"), "text")).await;
    }
    let mut ids = Vec::new();
    for n in 0..3 {
        let (id, event) = events.next().await;
        assert_eq!(event["type"], "message.received");
        assert_eq!(event["message"]["subject"], format!("number {n}"));
        assert_eq!(event["cursor"], Value::String(id.clone()));
        ids.push((id, event["message"]["id"].as_str().unwrap().to_owned()));
    }
    drop(events);

    let message_path = format!("/v1/mailboxes/bob@example.com/messages/{}", ids[0].1);
    api.patch(&message_path, json!({"is_read": true})).await;
    api.delete(&message_path).await;
    // `Last-Event-ID` goes before `since`, which a browser repeats unchanged.
    let mut again = Events::open(&server, &format!("{path}?since={begin}"), &[("last-event-id", &ids[1].0)]).await;
    assert_eq!(again.next().await.1["type"], "subscribed");
    let (_, event) = again.next().await;
    assert_eq!(event["message"]["subject"], "number 2");
    let mut last = again.next().await.1;
    if last["type"] == "message.updated" {
        last = again.next().await.1;
    }
    assert_eq!(last["type"], "message.deleted");
    assert_eq!(last["id"], ids[0].1);
    server.stop().await;
}

#[actix_web::test]
async fn all_mailboxes_are_one_stream_and_a_search_filters_it() {
    let server = TestServer::start().await;
    let mut events = Events::open(&server, "/v1/events?q=subject:code", &[]).await;
    let (begin, subscribed) = events.next().await;
    assert_eq!(subscribed["mailbox"], "*");
    assert!(begin.starts_with('s'), "{begin}");
    server.deliver("a@example.com", &message("noise", "code")).await;
    server.deliver("b@example.com", &message("the code", "text")).await;
    let (id, event) = events.next().await;
    assert_eq!(
        (event["mailbox"].as_str(), event["message"]["subject"].as_str()),
        (Some("b@example.com"), Some("the code"))
    );
    let mut again = Events::open(&server, &format!("/v1/events?since={begin}"), &[]).await;
    again.next().await;
    assert_eq!(again.next().await.1["message"]["subject"], "noise");
    assert_eq!(again.next().await.0, id);
    server.stop().await;
}

#[actix_web::test]
async fn an_idle_stream_is_kept_open_and_a_stop_ends_it() {
    let server = TestServer::with(|config| config.http.heartbeat = Period::millis(50)).await;
    let mut events = Events::open(&server, "/v1/events", &[]).await;
    assert!(events.block().await.unwrap().starts_with("retry: "));
    assert_eq!(events.block().await.as_deref(), Some(":"));
    assert_eq!(events.block().await.as_deref(), Some(":"));
    let end = async { while events.block().await.is_some() {} };
    let (ended, _dir) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), end), server.stop());
    assert!(ended.is_ok());
}

#[actix_web::test]
async fn a_token_in_the_address_opens_its_own_stream_only() {
    let server = TestServer::with(|config| config.mailboxes.access = AccessMode::Token).await;
    let api = server.api();
    let made = api.post("/v1/mailboxes", json!({"address": "own@mailroom.test"})).await.json();
    api.post("/v1/mailboxes", json!({"address": "other@mailroom.test"})).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(api.get("/v1/events").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get("/v1/events?token=mrt_wrong").await.status, StatusCode::NOT_FOUND);
    let other = format!("/v1/mailboxes/other@mailroom.test/events?token={token}");
    assert_eq!(api.get(&other).await.status, StatusCode::NOT_FOUND);
    let mut events = Events::open(&server, &format!("/v1/events?token={token}"), &[]).await;
    events.next().await;
    server.deliver("other@mailroom.test", &message("secret", "text")).await;
    server.deliver("own@mailroom.test", &message("mine", "text")).await;
    assert_eq!(events.next().await.1["message"]["subject"], "mine");
    server.stop().await;
}
