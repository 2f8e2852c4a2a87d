//! Behind a proxy: whom it names counts for limits, in `Received` and for Origins, and only a proxy is believed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use awc::http::StatusCode;
use mailroom::inbound::config::AccessMode;
use mailroom::mail::units::Period;
use mailroom::settings::Network;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{Api, PATIENCE, TestServer, message, until};

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n";

fn v2() -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 127, 0, 0, 1, 0x9c, 0x40, 0, 25];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The proxy is 127.0.0.2; 127.0.0.1 is anyone.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn behind_a_proxy() -> TestServer {
    TestServer::with(|config| {
        config.smtp.proxy_protocol_from = networks(&["127.0.0.2/32"]);
        config.smtp.proxy_protocol_timeout = Period::secs(20);
    })
    .await
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(from), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// What comes until `end` does, or the connection is over.
async fn hear(stream: &mut TcpStream, end: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(end) {
        let mut piece = [0; 1_000];
        let n = timeout(PATIENCE, stream.read(&mut piece)).await.expect("in time").unwrap_or(0);
        if n == 0 {
            break;
        }
        heard.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    heard
}

/// Writes pieces so that each arrives alone.
async fn write_in_pieces<'a>(stream: &mut TcpStream, pieces: impl IntoIterator<Item = &'a [u8]>) {
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends a message in a session that was greeted; the `Received` fields it is stored with.
async fn trace(server: &TestServer, stream: &mut TcpStream, to: &str) -> String {
    for line in ["EHLO client.test", "MAIL FROM:<ann@sender.test>", &format!("RCPT TO:<{to}>"), "DATA"] {
        stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        let end = if line == "DATA" { "354 " } else { "250 " };
        let heard = hear(stream, end).await;
        assert!(heard.contains(end), "{line}: {heard}");
    }
    stream.write_all(format!("{}.\r\n", message("hello", "x")).as_bytes()).await.unwrap();
    let heard = hear(stream, "250 ").await;
    assert!(heard.contains("250 "), "{heard}");
    let api = server.api();
    let list = api.json(&format!("/v1/mailboxes/{to}/messages")).await;
    let id = list["items"][0]["id"].as_str().unwrap();
    let raw = api.get(&format!("/v1/mailboxes/{to}/messages/{id}/raw")).await.text();
    let head = raw.split("\r\nFrom: ").next().unwrap();
    head.split_once("Received: ").expect("a trace").1.to_owned()
}

#[actix::test]
async fn the_client_that_the_proxy_names_stands_in_received_however_the_header_is_cut() {
    let server = behind_a_proxy().await;
    let mut n = 0;
    for header in [V1.to_vec(), v2()] {
        for cut in 0..=header.len() {
            n += 1;
            let mut stream = connect(PROXY, server.smtp_address()).await;
            write_in_pieces(&mut stream, [&header[..cut], &header[cut..]]).await;
            let greeting = hear(&mut stream, "\r\n").await;
            assert!(greeting.starts_with("220 "), "cut at {cut}: {greeting}");
            if cut % 20 == 0 {
                let received = trace(&server, &mut stream, &format!("cut{n}@example.com")).await;
                assert!(received.contains("[203.0.113.9]"), "{received}");
            }
        }
        let mut stream = connect(PROXY, server.smtp_address()).await;
        write_in_pieces(&mut stream, header.chunks(1)).await;
        assert!(hear(&mut stream, "\r\n").await.starts_with("220 "));
    }
    // What the client says in one piece with the header is not lost.
    let mut stream = connect(PROXY, server.smtp_address()).await;
    stream.write_all(&[V1, b"EHLO early.test\r\n"].concat()).await.unwrap();
    let heard = hear(&mut stream, "250 ").await;
    assert!(heard.starts_with("220 ") && heard.contains("\r\n250-"), "{heard}");
    server.stop().await;
}

#[actix::test]
async fn a_proxy_of_its_own_account_is_the_client() {
    let server = behind_a_proxy().await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for (n, header) in [b"PROXY UNKNOWN\r\n".to_vec(), local].into_iter().enumerate() {
        let mut stream = connect(PROXY, server.smtp_address()).await;
        stream.write_all(&header).await.unwrap();
        assert!(hear(&mut stream, "\r\n").await.starts_with("220 "));
        let received = trace(&server, &mut stream, &format!("own{n}@example.com")).await;
        assert!(received.contains("[127.0.0.2]"), "{received}");
    }
    server.stop().await;
}

#[actix::test]
async fn a_proxy_that_names_nobody_is_cut_off() {
    let server = TestServer::with(|config| {
        config.smtp.proxy_protocol_from = networks(&["127.0.0.2"]);
        config.smtp.proxy_protocol_timeout = Period::millis(200);
    })
    .await;
    for said in [&b"EHLO client.test\r\n"[..], b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP4 203.0.113.9 127.0", b""] {
        let mut stream = connect(PROXY, server.smtp_address()).await;
        stream.write_all(said).await.unwrap();
        assert_eq!(hear(&mut stream, "\r\n").await, "", "{}", said.escape_ascii());
    }
    server.stop().await;
}

#[actix::test]
async fn nobody_else_is_believed() {
    let server = behind_a_proxy().await;
    let mut stream = connect(Ipv4Addr::LOCALHOST, server.smtp_address()).await;
    assert!(hear(&mut stream, "\r\n").await.starts_with("220 "), "it is greeted without a header");
    let received = trace(&server, &mut stream, "anyone@example.com").await;
    assert!(received.contains("[127.0.0.1]"), "{received}");
    server.stop().await;
}

/// A session that went on would answer each command of the client one too late.
#[actix::test]
async fn a_header_from_anybody_else_ends_the_session_before_a_command_is_answered() {
    let server = behind_a_proxy().await;
    for header in [V1.to_vec(), v2()] {
        let mut stream = connect(Ipv4Addr::LOCALHOST, server.smtp_address()).await;
        stream.write_all(&[&header[..], b"EHLO client.test\r\nQUIT\r\n"].concat()).await.unwrap();
        let heard = hear(&mut stream, "the end").await;
        let lines: Vec<_> = heard.lines().collect();
        assert_eq!(lines.len(), 2, "{heard}");
        assert!(lines[0].starts_with("220 ") && lines[1].starts_with("421 4.3.5 "), "{heard}");
    }
    // Of a client behind a proxy it is as little a command.
    let mut stream = connect(PROXY, server.smtp_address()).await;
    stream.write_all(&[V1, V1].concat()).await.unwrap();
    let heard = hear(&mut stream, "the end").await;
    assert!(heard.starts_with("220 ") && heard.contains("\r\n421 4.3.5 "), "{heard}");
    // Later it is a word like any other.
    let mut stream = connect(Ipv4Addr::LOCALHOST, server.smtp_address()).await;
    stream.write_all(b"NOOP\r\n").await.unwrap();
    assert!(hear(&mut stream, "250 ").await.contains("250 "));
    stream.write_all(V1).await.unwrap();
    let heard = hear(&mut stream, "\r\n").await;
    assert!(heard.starts_with("500 "), "{heard}");
    server.stop().await;
}

#[actix::test]
async fn limits_are_those_of_the_client_behind_the_proxy() {
    let server = TestServer::with(|config| {
        config.smtp.proxy_protocol_from = networks(&["127.0.0.2"]);
        config.smtp.max_sessions_per_client = 1;
    })
    .await;
    let greeted = async |header: &[u8]| {
        let mut stream = connect(PROXY, server.smtp_address()).await;
        stream.write_all(header).await.unwrap();
        let heard = hear(&mut stream, "\r\n").await;
        (stream, heard)
    };
    let (_first, heard) = greeted(V1).await;
    assert!(heard.starts_with("220 "), "{heard}");
    let (_again, heard) = greeted(&v2()).await;
    assert!(heard.starts_with("421 4.7.0"), "{heard}");
    let (_other, heard) = greeted(b"PROXY TCP4 203.0.113.10 127.0.0.1 40000 25\r\n").await;
    assert!(heard.starts_with("220 "), "{heard}");
    server.stop().await;
}

#[actix::test]
async fn no_more_proxies_are_waited_for_than_there_may_be_sessions() {
    let server = TestServer::with(|config| {
        config.smtp.proxy_protocol_from = networks(&["127.0.0.2"]);
        config.smtp.max_sessions = 2;
    })
    .await;
    let mut waiting = [connect(PROXY, server.smtp_address()).await, connect(PROXY, server.smtp_address()).await];
    let mut third = connect(PROXY, server.smtp_address()).await;
    assert!(hear(&mut third, "\r\n").await.starts_with("421 "));
    for stream in &mut waiting {
        stream.write_all(V1).await.unwrap();
        assert!(hear(stream, "\r\n").await.starts_with("220 "));
    }
    let [first, _second] = waiting;
    drop(first);
    until("a proxy is waited for again", async || {
        let mut stream = connect(PROXY, server.smtp_address()).await;
        stream.write_all(V1).await.unwrap();
        hear(&mut stream, "\r\n").await.starts_with("220 ")
    })
    .await;
    server.stop().await;
}

/// A request from an address of this machine; the answer's head and what came of its body.
async fn ask(server: &TestServer, from: Ipv4Addr, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut stream = connect(from, server.app.http).await;
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        request.push_str("content-length: 0\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

#[actix::test]
async fn mailboxes_are_made_by_the_client_that_a_trusted_proxy_names() {
    let server = TestServer::with(|config| {
        config.mailboxes.access = AccessMode::Token;
        config.http.mailboxes_per_minute = 1;
        config.http.trusted_proxies = networks(&["127.0.0.2", "10.0.0.0/8"]);
    })
    .await;
    let make = async |from, forwarded: &[&str]| {
        let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
        status(&ask(&server, from, "POST", "/v1/mailboxes", &headers).await)
    };
    assert_eq!(make(PROXY, &["203.0.113.9"]).await, 201);
    assert_eq!(make(PROXY, &["203.0.113.9"]).await, 429);
    assert_eq!(make(PROXY, &["203.0.113.10"]).await, 201, "each client has a share of its own");
    // What the client wrote itself stands to the left, and changes nothing.
    assert_eq!(make(PROXY, &["198.51.100.1, 203.0.113.9"]).await, 429);
    assert_eq!(make(PROXY, &["198.51.100.2", "203.0.113.9, 10.1.1.1"]).await, 429);
    // Without a proxy nobody is believed.
    assert_eq!(make(Ipv4Addr::LOCALHOST, &["203.0.113.11"]).await, 201);
    assert_eq!(make(Ipv4Addr::LOCALHOST, &["203.0.113.12"]).await, 429);
    server.stop().await;
}

#[actix::test]
async fn what_a_proxy_says_of_host_and_scheme_is_checked_and_not_obeyed() {
    let server = TestServer::with(|config| {
        config.http.allowed_hosts = vec!["mail.example.com".into()];
        config.http.trusted_proxies = networks(&["127.0.0.2"]);
    })
    .await;
    let get = async |from, headers: &[(&str, &str)]| status(&ask(&server, from, "GET", "/v1/domains", headers).await);
    let (host, proto) = ("x-forwarded-host", "x-forwarded-proto");
    assert_eq!(get(PROXY, &[(host, "mail.example.com")]).await, 200);
    assert_eq!(get(PROXY, &[(host, "evil.test")]).await, 421);
    assert_eq!(get(PROXY, &[("host", "evil.test"), (host, "mail.example.com")]).await, 421);
    assert_eq!(get(Ipv4Addr::LOCALHOST, &[("host", "evil.test"), (host, "mail.example.com")]).await, 421);
    let origin = ("origin", "http://mail.example.com");
    assert_eq!(get(PROXY, &[("host", "mail.example.com"), origin, (proto, "http")]).await, 200);
    assert_eq!(get(PROXY, &[("host", "mail.example.com"), origin, (proto, "https")]).await, 403);
    assert_eq!(get(Ipv4Addr::LOCALHOST, &[("host", "mail.example.com"), origin, (proto, "https")]).await, 200);
    let handshake = |origin: &'static str| {
        [
            ("host", "mail.example.com"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            (proto, "https"),
            ("origin", origin),
        ]
    };
    let headers = handshake("http://mail.example.com");
    assert_eq!(status(&shake(&server, PROXY, &headers).await.1), 403);
    let headers = handshake("https://mail.example.com");
    assert_eq!(status(&shake(&server, PROXY, &headers).await.1), 101);
    server.stop().await;
}

/// A handshake, with the connection and the head of its answer.
async fn shake(server: &TestServer, from: Ipv4Addr, headers: &[(&str, &str)]) -> (TcpStream, String) {
    let mut stream = connect(from, server.app.http).await;
    let mut request = "GET /v1/ws HTTP/1.1\r\nconnection: Upgrade\r\n".to_owned();
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let head = hear(&mut stream, "\r\n\r\n").await;
    (stream, head)
}

#[actix::test]
async fn connections_are_counted_for_the_client_behind_the_proxy() {
    let server = TestServer::with(|config| {
        config.http.max_connections_per_client = 2;
        // That a reader of events is gone shows when it is written to.
        config.http.heartbeat = Period::secs(1);
        config.http.trusted_proxies = networks(&["127.0.0.2"]);
    })
    .await;
    let socket = async |client: &str| {
        let headers = [
            ("host", "localhost"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("x-forwarded-for", client),
        ];
        shake(&server, PROXY, &headers).await
    };
    let events = async |client: &str| {
        let mut stream = connect(PROXY, server.app.http).await;
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = hear(&mut stream, "\r\n\r\n").await;
        (stream, head)
    };
    let (first, head) = socket("203.0.113.9").await;
    assert_eq!(status(&head), 101);
    let (second, head) = events("203.0.113.9").await;
    assert_eq!(status(&head), 200);
    assert_eq!(status(&socket("203.0.113.9").await.1), 429);
    assert_eq!(status(&events("203.0.113.9").await.1), 429);
    let mut others = Vec::new();
    for n in 10..20 {
        let (stream, head) = socket(&format!("203.0.113.{n}")).await;
        assert_eq!(status(&head), 101, "the proxy itself has no such limit");
        others.push(stream);
    }
    // What is opened stays open: its place would be taken for a while after it is dropped.
    let held = std::cell::RefCell::new(Vec::new());
    let one_more = async || {
        let (stream, head) = events("203.0.113.9").await;
        let opened = status(&head) == 200;
        held.borrow_mut().extend(opened.then_some(stream));
        opened
    };
    drop(second);
    until("a request that ended counts no more", one_more).await;
    assert!(!one_more().await, "the socket and the new one are there");
    drop((first, others));
    until("a socket that ended counts no more", one_more).await;
    let api = Api::new(server.app.http);
    assert_eq!(api.post("/v1/mailboxes", json!({})).await.status, StatusCode::CREATED);
    server.stop().await;
}
