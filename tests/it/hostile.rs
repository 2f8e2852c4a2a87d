//! Hostile mail, hostile pages and hostile clients against the HTTP port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use mailroom::inbound::config::AccessMode;
use mailroom::mail::units::Period;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::api::Answer;
use crate::support::process::Plan;
use crate::support::{Api, PATIENCE, TestServer, message, until};

/// Two pictures, and a page that shows the first.
pub const PICTURES: &str = "From: a@b.test\r\nTo: own@mailroom.test\r\nSubject: pictures\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/related; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n\
    <style>img[src*=\"ab\"]~p{background:url(http://evil.test/ab)}</style><img src=\"cid:one\"><p>text</p>\r\n\
    --x\r\nContent-Type: image/png\r\nContent-ID: <one>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n\
    --x\r\nContent-Type: audio/mpeg; name=a.mp3\r\nContent-Disposition: attachment\r\n\r\nxx\r\n--x--\r\n";

async fn only(api: &Api, mailbox: &str) -> String {
    let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages")).await;
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

/// A server that asks for tokens, with a mailbox, its token and the path of a message with pictures in it.
async fn with_pictures() -> (TestServer, String, String) {
    let server = TestServer::with(|config| config.mailboxes.access = AccessMode::Token).await;
    let made = server.api().post("/v1/mailboxes", json!({"address": "own@mailroom.test"})).await.json();
    let token = made["token"].as_str().unwrap().to_owned();
    server.deliver("own@mailroom.test", PICTURES).await;
    let id = only(&server.api().with_token(&token), "own@mailroom.test").await;
    let base = format!("/v1/mailboxes/own@mailroom.test/messages/{id}");
    (server, token, base)
}

fn status(answer: &Answer) -> u16 {
    answer.status.as_u16()
}

#[actix_web::test]
async fn a_page_holds_a_key_to_its_own_attachments_and_never_a_token() {
    let (server, token, base) = with_pictures().await;
    let stranger = server.api();
    let page = stranger.get(&format!("{base}/html?token={token}&remote=1")).await;
    assert!(!page.text().contains("mrt_"), "{}", page.text());
    let (_, after) =
        page.text().split_once(&format!("{base}/attachments/0?key=")).map(|(a, b)| (a.len(), b.to_owned())).unwrap();
    let key = after.split('"').next().unwrap().to_owned();
    let by_header = stranger.with_token(&token).get(&format!("{base}/html")).await;
    assert!(by_header.text().contains(&key), "however the reader was known");

    let picture = stranger.get(&format!("{base}/attachments/0?key={key}")).await;
    assert_eq!((status(&picture), picture.body.as_slice()), (200, &b"\x89PNG\r\n\x1a\n"[..]));
    assert_eq!(
        status(&stranger.call(awc::http::Method::HEAD, &format!("{base}/attachments/0?key={key}"), &[], None).await),
        200
    );
    // Nothing else: no source, no page, no message, no list, no change.
    for path in ["/raw", "/html", ""] {
        let answer = stranger.get(&format!("{base}{path}?key={key}")).await;
        assert!(matches!(status(&answer), 400 | 401), "{path}: {}", answer.text());
    }
    assert_eq!(status(&stranger.get(&format!("{base}/raw?token={key}")).await), 404);
    assert_eq!(status(&stranger.with_token(&key).get(&base).await), 404);
    assert_eq!(status(&stranger.delete(&format!("{base}/attachments/0?key={key}")).await), 405);

    server.deliver("own@mailroom.test", &message("another", "text")).await;
    let other = only(&stranger.with_token(&token), "own@mailroom.test").await;
    let wrong =
        stranger.get(&format!("/v1/mailboxes/own@mailroom.test/messages/{other}/attachments/0?key={key}")).await;
    assert_eq!(status(&wrong), 404);
    assert!(wrong.text().contains("no-such-mailbox"), "{}", wrong.text());
    let altered = format!("{base}/attachments/0?key={}", key.replacen('1', "2", 1));
    assert_eq!(status(&stranger.get(&altered).await), 404);

    // What a browser kept of a page is as good after a restart: the pictures in it are opened still.
    let etag = page.header("etag").unwrap().to_owned();
    let again = format!("{base}/html?token={token}&remote=1");
    assert_eq!(status(&stranger.call(awc::http::Method::GET, &again, &[("if-none-match", &etag)], None).await), 304);
    let server = server.restart().await;
    let api = server.api();
    let answer = api.call(awc::http::Method::GET, &again, &[("if-none-match", &etag)], None).await;
    assert_eq!(status(&answer), 304);
    assert_eq!(status(&api.get(&format!("{base}/attachments/0?key={key}")).await), 200);
    server.stop().await;
}

/// A client at `from` with room for little.
fn connect(server: SocketAddr, from: Ipv4Addr) -> TcpStream {
    connect_with(server, from, 4_096)
}

fn connect_with(server: SocketAddr, from: Ipv4Addr, buffer: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, line: &str) {
    write!(stream, "{line} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
}

/// All that the server still sends, until it closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A figure of `/proc/<id>/status`, in KiB.
fn memory(id: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A figure of the metrics; zero where it is not there yet.
async fn metric(ops: SocketAddr, name: &str) -> u64 {
    let text = Api::new(ops).get("/metrics").await.text();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[actix_web::test]
async fn clients_that_do_not_read_cost_bounded_memory_and_are_cut_off() {
    const READERS: usize = 60;
    const STALLED: &str = "http_connections_cut_total{reason=\"stalled\"}";
    let data = tempfile::tempdir().unwrap();
    let plan = Plan::new(data.path());
    let plan = plan.set("MAILROOM__HTTP__MAX_BYTES_IN_FLIGHT", "24MiB").set("MAILROOM__HTTP__WRITE_TIMEOUT", "3s");
    let server = plan.start().await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let large = message("large", &format!("{}\r\n", "x".repeat(900)).repeat(9_000));
    assert!(smtp.send("a@b.test", &["big@example.com"], large.as_bytes()).await.starts_with("250 "));
    let path = format!("/v1/mailboxes/big@example.com/messages/{}/raw", only(&server.api(), "big@example.com").await);
    let whole = server.api().get(&path).await.body.len();
    let before = memory(server.id(), "VmHWM");

    let mut readers: Vec<_> = (0..READERS).map(|_| connect(server.http, Ipv4Addr::LOCALHOST)).collect();
    for reader in &mut readers {
        ask(reader, &format!("GET {path}"));
    }
    until("readers are cut off", || async { metric(server.ops, STALLED).await >= 2 }).await;
    let grown = memory(server.id(), "VmHWM").saturating_sub(before) / 1024;
    assert!(grown < 150, "{READERS} readers of {whole} bytes cost {grown} MiB");
    let begun = |reader: &mut TcpStream| {
        let mut first = [0; 12];
        reader.read_exact(&mut first).map(|()| first).unwrap_or_default()
    };
    let answers: Vec<_> = readers.iter_mut().map(begun).collect();
    let sent = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 200")).count();
    assert!(answers.iter().any(|answer| answer.starts_with(b"HTTP/1.1 503")), "most found no room");
    until("all that began are cut off", || async { metric(server.ops, STALLED).await >= sent as u64 }).await;
    assert_eq!(server.api().get(&path).await.body.len(), whole, "who reads gets it");
    server.terminate();
}

#[actix_web::test]
async fn a_client_that_reads_slowly_but_steadily_gets_all() {
    let server = TestServer::with(|config| config.http.write_timeout = Period::secs(4)).await;
    let large = message("large", &format!("{}\r\n", "x".repeat(900)).repeat(1_000));
    server.deliver("big@example.com", &large).await;
    let path = format!("/v1/mailboxes/big@example.com/messages/{}/raw", only(&server.api(), "big@example.com").await);
    let mut reader = connect_with(server.app.http, Ipv4Addr::LOCALHOST, 64 * 1024);
    ask(&mut reader, &format!("GET {path}"));
    let took = tokio::task::spawn_blocking(move || {
        let (mut took, mut buffer) = (0, vec![0; 50_000]);
        while took < 900_000 {
            std::thread::sleep(Duration::from_millis(400));
            reader.read_exact(&mut buffer).unwrap();
            took += buffer.len();
        }
        took
    });
    assert!(took.await.unwrap() >= 900_000);
    server.stop().await;
}

/// Whether one more connection from 127.0.0.`n` is turned away. One that is let in hears nothing.
fn is_refused(server: SocketAddr, n: u8) -> bool {
    let mut one_more = connect(server, Ipv4Addr::new(127, 0, 0, n));
    one_more.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    rest(&mut one_more).starts_with("HTTP/1.1 503")
}

#[actix_web::test]
async fn one_client_cannot_take_all_connections() {
    let data = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(data.path()).set("MAILROOM__HTTP__CLIENT_TIMEOUT", "120s");
    // A hundred descriptors for HTTP, 75 of them for one client.
    plan.wrapper = vec!["prlimit".into(), "--nofile=400".into()];
    let server = plan.start().await;
    let ops = server.ops;
    let crowd: Vec<_> = (0..80).map(|_| connect(server.http, Ipv4Addr::LOCALHOST)).collect();
    let refused = |limit: &'static str| async move {
        metric(ops, &format!("http_connections_refused_total{{limit=\"{limit}\"}}")).await
    };
    until("five are refused", || async { refused("client").await == 5 }).await;
    assert!(is_refused(server.http, 1));
    let mut other = connect(server.http, Ipv4Addr::new(127, 0, 0, 2));
    ask(&mut other, "GET /v1/server");
    let mut first = [0; 12];
    other.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let others: Vec<_> = (3..40).map(|n| connect(server.http, Ipv4Addr::new(127, 0, 0, n))).collect();
    until("the rest is refused", || async { refused("all").await == 13 }).await;
    assert!(is_refused(server.http, 99));
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    assert!(smtp.send("a@b.test", &["c@example.com"], message("one", "text").as_bytes()).await.starts_with("250 "));
    assert_eq!(status(&Api::new(server.ops).get("/health/ready").await), 200);
    drop((crowd, others));
    until("places are given back", || async {
        server.api().try_call(awc::http::Method::GET, "/v1/server", &[], None).await.is_ok()
    })
    .await;
    server.terminate();
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = TestServer::with(|config| config.http.client_timeout = Period::secs(1)).await;
    for (line, answered) in [("POST /v1/mailboxes", "HTTP/1.1 408"), ("GET /v1/server", "HTTP/1.1 200")] {
        let mut client = connect(server.app.http, Ipv4Addr::LOCALHOST);
        let head = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
        );
        client.write_all(head.as_bytes()).unwrap();
        let answer = tokio::task::spawn_blocking(move || rest(&mut client)).await.unwrap();
        assert!(answer.starts_with(answered), "{line}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn mail_cannot_make_its_readers_browser_call_the_api() {
    let server = TestServer::start().await;
    let api = server.api();
    let own = format!("http://{}/v1/messages/wait?timeout=5m", api.address);
    let mail = PICTURES.replace("cid:one", &own).replace("to:", "x:");
    server.deliver("own@mailroom.test", &mail).await;
    let base = format!("/v1/mailboxes/own@mailroom.test/messages/{}", only(&api, "own@mailroom.test").await);
    let page = api.get(&format!("{base}/html")).await.text();
    assert!(!page.contains("/v1/messages/wait") && !page.contains("evil.test"), "{page}");
    assert_eq!(api.json(&base).await["html_remote"], true);
    let asked = api.get(&format!("{base}/html?remote=1")).await.text();
    assert!(asked.contains("/v1/messages/wait?timeout=5m"), "{asked}");
    let as_image = [("sec-fetch-dest", "image")];
    for path in ["/v1/messages/wait?timeout=1s", "/%761/messages/wait?timeout=1s", "/v1/messages"] {
        let answer = api.call(awc::http::Method::GET, path, &as_image, None).await;
        assert_eq!(status(&answer), 403, "{path}: {}", answer.text());
    }
    let picture = api.call(awc::http::Method::GET, &format!("{base}/attachments/0"), &as_image, None).await;
    assert_eq!(picture.header("cross-origin-resource-policy"), Some("cross-origin"));
    let sound = api.get(&format!("{base}/attachments/1")).await;
    assert_eq!(sound.header("cross-origin-resource-policy"), Some("same-origin"), "{}", sound.text());
    server.stop().await;
}

#[actix_web::test]
async fn a_stranger_makes_a_limited_number_of_mailboxes() {
    let limited = |access| {
        TestServer::with(move |config| {
            config.mailboxes.access = access;
            config.http.mailboxes_per_minute = 5;
        })
    };
    let server = limited(AccessMode::Token).await;
    let api = server.api();
    for _ in 0..5 {
        assert_eq!(status(&api.post("/v1/mailboxes", json!({})).await), 201);
    }
    let refused = api.post("/v1/mailboxes", json!({})).await;
    assert_eq!(status(&refused), 429, "{}", refused.text());
    assert!(refused.text().contains("urn:mailroom:problem:too-many-mailboxes"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=13).contains(&wait), "{wait}");
    server.stop().await;
    let server = limited(AccessMode::Open).await;
    for _ in 0..10 {
        assert_eq!(status(&server.api().post("/v1/mailboxes", json!({})).await), 201);
    }
    server.stop().await;
}
