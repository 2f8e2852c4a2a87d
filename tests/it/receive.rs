//! Mail in over SMTP, out over the API.

use serde_json::json;

use crate::support::{SmtpClient, TestServer, message, until};

#[actix::test]
async fn a_message_is_listed_and_read_back_byte_for_byte() {
    let server = TestServer::start().await;
    let sent = message("Hello", "One\r\n.\r\n..two\r\n");
    server.deliver("Bob+tag@Example.COM", &sent).await;
    let api = server.api();
    let list = api.json("/v1/mailboxes/bob@example.com/messages").await;
    let item = &list["items"][0];
    assert_eq!(item["subject"], "Hello");
    assert_eq!(item["from"], json!({"name": "Ann", "address": "ann@sender.test"}));
    assert_eq!(item["is_read"], false);
    let id = item["id"].as_str().unwrap();
    let raw = api.get(&format!("/v1/mailboxes/bob@example.com/messages/{id}/raw")).await.body;
    let head = raw.len() - sent.len();
    assert_eq!(&raw[head..], sent.as_bytes());
    let trace = String::from_utf8_lossy(&raw[..head]).into_owned();
    assert!(trace.starts_with("Return-Path: <ann@sender.test>\r\nReceived: from client.test"), "{trace}");
    assert!(trace.contains("for <Bob+tag@Example.COM>"), "{trace}");
    let one = api.json(&format!("/v1/mailboxes/bob@example.com/messages/{id}")).await;
    assert_eq!(one["envelope"]["recipients"], json!(["Bob+tag@Example.COM"]));
    assert_eq!(one["is_read"], false, "reading never marks read");
}

#[actix::test]
async fn several_recipients_get_one_message_each_and_see_only_themselves() {
    let server = TestServer::start().await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let to = ["a@example.com", "b@example.com", "A+x@example.com"];
    let reply = smtp.send("", &to, message("News", "x").as_bytes()).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let api = server.api();
    let a = api.json("/v1/mailboxes/a@example.com/messages").await;
    let b = api.json("/v1/mailboxes/b@example.com/messages").await;
    assert_eq!(a["items"].as_array().unwrap().len(), 1, "recipients that meet in one mailbox are one part");
    assert_eq!(a["items"][0]["id"], b["items"][0]["id"]);
    let id = a["items"][0]["id"].as_str().unwrap();
    let one = api.json(&format!("/v1/mailboxes/a@example.com/messages/{id}")).await;
    assert_eq!(one["envelope"]["recipients"], json!(["a@example.com", "A+x@example.com"]));
    assert_eq!(one["envelope"]["reverse_path"], "");
    let raw = api.get(&format!("/v1/mailboxes/b@example.com/messages/{id}/raw")).await.text();
    assert!(!raw.split("\r\n\r\n").next().unwrap().contains("for <"), "{raw}");
}

#[actix::test]
async fn what_was_stored_is_there_after_a_restart() {
    let server = TestServer::start().await;
    server.deliver("keep@example.com", &message("Kept", "x")).await;
    let server = server.restart().await;
    assert_eq!(server.api().subjects("keep@example.com").await, ["Kept"]);
}

#[actix::test]
async fn sessions_beyond_the_cap_hear_421() {
    let server = TestServer::with(|config| config.smtp.max_sessions = 1).await;
    let first = server.smtp().await;
    let mut second = SmtpClient::connect_raw(server.smtp_address()).await;
    assert!(second.reply().await.starts_with("421 4.3.2"));
    assert!(second.is_closed().await);
    first.quit().await;
    until("the place is free again", || async {
        SmtpClient::connect_raw(server.smtp_address()).await.reply().await.starts_with("220")
    })
    .await;
}

#[actix::test]
async fn an_idle_session_is_closed_with_421() {
    let server = TestServer::with(|config| {
        config.smtp.read_timeout = mailroom::mail::units::Period::millis(100);
    })
    .await;
    let mut idle = server.smtp().await;
    assert!(idle.reply().await.starts_with("421 4.4.2"));
    assert!(idle.is_closed().await);
}

#[actix::test]
async fn a_message_beyond_the_bytes_in_flight_is_answered_452_and_the_session_goes_on() {
    let server = TestServer::with(|config| {
        config.smtp.max_bytes_in_flight = mailroom::mail::units::Bytes::kib(128);
    })
    .await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let big = message("Big", &"0123456789abcdef\r\n".repeat(20_000));
    let reply = smtp.send("ann@sender.test", &["a@example.com"], big.as_bytes()).await;
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    let reply = smtp.send("ann@sender.test", &["a@example.com"], message("Small", "x").as_bytes()).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert_eq!(server.api().subjects("a@example.com").await, ["Small"]);
}

#[actix::test]
async fn a_stop_tells_idle_sessions_and_finishes_what_was_promised() {
    let server = TestServer::start().await;
    let mut idle = server.smtp().await;
    let mut busy = server.smtp().await;
    busy.hello().await;
    assert!(busy.command("MAIL FROM:<ann@sender.test>").await.starts_with("250"));
    assert!(busy.command("RCPT TO:<late@example.com>").await.starts_with("250"));
    assert!(busy.command("DATA").await.starts_with("354"));
    let stopping = actix::spawn(server.stop());
    assert!(idle.reply().await.starts_with("421 4.3.2"));
    let reply = busy.data(message("Late", "x").as_bytes()).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    stopping.await.unwrap();
}
