//! The WebSocket endpoint over real ports, with a client library and by hand, against publishers in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use mailroom::mail::event::Event;
use mailroom::mail::units::{Bytes, Period};
use mailroom::sockets::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use world::{PANIC, Server};

const LIMIT: Duration = Duration::from_secs(20);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(server: &Server) -> Self {
        Self(connect_async(format!("ws://{}/v1/ws", server.addr)).await.unwrap().0)
    }

    async fn say(&mut self, value: Value) {
        self.0.send(Message::text(value.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Message {
        timeout(LIMIT, self.0.next()).await.expect("nothing came").expect("closed").expect("broken")
    }

    /// The next JSON frame.
    async fn hear(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} instead of an answer"),
            }
        }
    }

    async fn subscribe(&mut self, mailbox: &str) -> String {
        self.say(json!({"type": "subscribe", "mailbox": mailbox})).await;
        let answer = self.hear().await;
        assert_eq!((&answer["type"], &answer["mailbox"]), (&json!("subscribed"), &json!(mailbox)));
        answer["cursor"].as_str().unwrap().to_owned()
    }

    async fn subject(&mut self) -> String {
        let event = self.hear().await;
        assert_eq!(event["type"], "message.received", "{event}");
        event["message"]["subject"].as_str().unwrap().to_owned()
    }

    async fn problem(&mut self) -> (String, Value) {
        let error = self.hear().await;
        assert_eq!(error["type"], "error", "{error}");
        let kind = error["problem"]["type"].as_str().unwrap().strip_prefix("urn:mailroom:problem:").unwrap();
        (kind.to_owned(), error["mailbox"].clone())
    }

    /// The code of the close frame that ends the connection.
    async fn closed(&mut self) -> Option<u16> {
        loop {
            match timeout(LIMIT, self.0.next()).await.expect("still open") {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                other => panic!("{other:?} instead of a close frame"),
            }
        }
    }

    /// Everything that was said before has been dealt with.
    async fn settle(&mut self) {
        self.0.send(Message::Ping(b"settle".to_vec().into())).await.unwrap();
        loop {
            match self.message().await {
                Message::Pong(_) => return,
                Message::Ping(_) => {}
                other => panic!("{other:?} before the pong"),
            }
        }
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, wait).await.expect("never held");
}

const HANDSHAKE: &str = "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// Sends bytes, half-closes, and reads to the end.
async fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).ends_with(end) {
        let byte = timeout(LIMIT, stream.read_u8()).await.expect("nothing came").expect("closed");
        seen.push(byte);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn one_port_serves_pages_and_sockets() {
    let server = Server::start(Config::default());
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let answer = read_until(&mut stream, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The same connection upgrades; the first message comes in one piece with the handshake.
    let text = br#"{"type":"subscribe","mailbox":"a@x.test"}"#;
    stream.write_all(&[HANDSHAKE.as_bytes(), &frame(0x81, text)].concat()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    read_until(&mut stream, r#"{"type":"subscribed","mailbox":"a@x.test","cursor":"m0-0-0"}"#).await;
}

#[tokio::test]
async fn an_upgrade_waits_for_the_answers_before_it() {
    let server = Server::start(Config::default());
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let both = ["GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", HANDSHAKE].concat();
    stream.write_all(both.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("helloHTTP/1.1 101"), "{answer}");
}

#[tokio::test]
async fn refuses_handshakes_with_problem_documents() {
    let server = Server::start(Config::default());
    let change = |from: &str, to: &str| {
        assert!(HANDSHAKE.contains(from), "{from}");
        HANDSHAKE.replace(from, to)
    };
    let cases = [
        (change("/v1/ws", "/v1/mailboxes"), 404, "no-such-path", ""),
        (change("GET", "POST"), 405, "method-not-allowed", "allow: GET"),
        (change("Host: localhost", "Host: evil.test"), 421, "foreign-host", "add \\\"evil.test\\\" to [http]"),
        (change("Host: localhost", "Host: localhost\r\nOrigin: http://evil.test"), 403, "foreign-origin", ""),
        (change("Version: 13", "Version: 12"), 426, "upgrade-required", "sec-websocket-version: 13"),
        (change("Sec-WebSocket-Version: 13\r\n", ""), 426, "upgrade-required", "sec-websocket-version: 13"),
        (change("Connection: keep-alive, Upgrade", "Connection: keep-alive"), 400, "bad-handshake", ""),
        (change("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"), 400, "bad-handshake", ""),
        (change("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400, "bad-handshake", ""),
        ("CONNECT example.com:25 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 404, "no-such-path", ""),
    ];
    for (request, status, kind, header) in cases {
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(answer.contains("connection: close") && answer.contains(header), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["type"], format!("urn:mailroom:problem:{kind}"));
        assert_eq!(body["status"], status);
    }
    assert_eq!(server.sockets.connected(), 0);
}

#[tokio::test]
async fn turns_away_clients_beyond_the_cap() {
    let server = Server::start(Config { max_clients: 1, ..Config::default() });
    let mut first = Client::connect(&server).await;
    let answer = exchange(&server, HANDSHAKE.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    first.0.close(None).await.unwrap();
    eventually(|| server.sockets.connected() == 0).await;
    Client::connect(&server).await.subscribe("a@x.test").await;
}

#[tokio::test]
async fn sends_what_happens_in_order() {
    let server = Server::start(Config::default());
    let mut client = Client::connect(&server).await;
    assert_eq!(client.subscribe("a@x.test").await, "m0-0-0");
    client.subscribe("b@x.test").await;
    for n in 0..500 {
        server.world.receive(if n % 2 == 0 { "a@x.test" } else { "b@x.test" }, &n.to_string(), Some(""));
    }
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let subject: u32 = client.subject().await.parse().unwrap();
        if subject.is_multiple_of(2) { even.push(subject) } else { odd.push(subject) }
    }
    assert_eq!(even, (0..500).step_by(2).collect::<Vec<_>>());
    assert_eq!(odd, (1..500).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn replays_what_was_missed_then_goes_on_live() {
    let server = Server::start(Config { page: 7, ..Config::default() });
    let cursors: Vec<_> =
        (0..50).map(|n| server.world.receive("a@x.test", &n.to_string(), Some("")).to_string()).collect();
    for from in [0, 13, 48, 49] {
        let mut client = Client::connect(&server).await;
        client.say(json!({"type": "subscribe", "mailbox": "A@X.test", "since": cursors[from]})).await;
        let answer = client.hear().await;
        assert_eq!(answer, json!({"type": "subscribed", "mailbox": "a@x.test", "cursor": cursors[from]}));
        for n in from + 1..50 {
            assert_eq!(client.subject().await, n.to_string());
        }
        client.settle().await;
    }
    let mut all = Client::connect(&server).await;
    all.say(json!({"type": "subscribe", "mailbox": "*", "since": "s0-0"})).await;
    assert_eq!(all.hear().await["cursor"], "s0-0");
    let mut cursor = Value::Null;
    for n in 0..50 {
        let event = all.hear().await;
        assert_eq!(event["message"]["subject"], n.to_string());
        cursor = event["cursor"].clone();
    }
    server.world.receive("b@x.test", "live", Some(""));
    assert_eq!(all.subject().await, "live");
    assert_eq!(cursor, "s1-32");
}

#[tokio::test]
async fn loses_and_repeats_nothing_while_mail_comes_in() {
    let server = Server::start(Config { page: 5, ..Config::default() });
    let world = server.world.clone();
    let sender = std::thread::spawn(move || {
        for n in 0..20_000 {
            world.receive("a@x.test", &n.to_string(), Some(""));
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut since = "m0-0-0".to_owned();
    let mut next = 0;
    while next < 20_000 {
        let mut client = Client::connect(&server).await;
        client.say(json!({"type": "subscribe", "mailbox": "a@x.test", "since": since})).await;
        assert_eq!(client.hear().await["type"], "subscribed");
        for _ in 0..(20_000 - next).min(1_700) {
            let event = client.hear().await;
            assert_eq!(event["message"]["subject"], next.to_string());
            since = event["cursor"].as_str().unwrap().to_owned();
            next += 1;
        }
    }
    sender.join().unwrap();
}

#[tokio::test]
async fn says_reset_when_a_cursor_cannot_be_continued() {
    let server = Server::start(Config::default());
    let old = server.world.receive("a@x.test", "old", Some("")).to_string();
    let mut live = Client::connect(&server).await;
    live.subscribe("a@x.test").await;
    let reborn = server.world.reborn("a@x.test").to_string();
    assert_eq!(live.hear().await, json!({"type": "reset", "mailbox": "a@x.test", "cursor": reborn}));
    let mut late = Client::connect(&server).await;
    late.say(json!({"type": "subscribe", "mailbox": "a@x.test", "since": old})).await;
    assert_eq!(late.hear().await["type"], "subscribed");
    assert_eq!(late.hear().await, json!({"type": "reset", "mailbox": "a@x.test", "cursor": reborn}));
    server.world.receive("a@x.test", "new", Some(""));
    assert_eq!((live.subject().await, late.subject().await), ("new".into(), "new".into()));
}

#[tokio::test]
async fn a_slow_reader_is_served_from_the_store_and_harms_nobody() {
    // It reads nothing until the quick one has all, which takes a busy machine a while.
    let server = Server::start(Config { write_timeout: Period::secs(300), ..Config::default() });
    let mut slow = Client::connect(&server).await;
    slow.subscribe("a@x.test").await;
    let mut quick = Client::connect(&server).await;
    quick.subscribe("a@x.test").await;
    let text = "x".repeat(2_000);
    let world = server.world.clone();
    let sender = std::thread::spawn(move || {
        for n in 0..20_000 {
            world.receive("a@x.test", &format!("{n} {text}"), Some(""));
            if n % 20 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    for n in 0..20_000 {
        assert!(quick.subject().await.starts_with(&format!("{n} ")), "{n}");
    }
    sender.join().unwrap();
    let before = server.world.pages.load(Ordering::SeqCst);
    for n in 0..20_000 {
        assert!(slow.subject().await.starts_with(&format!("{n} ")), "{n}");
    }
    let paged = server.world.pages.load(Ordering::SeqCst) - before;
    assert!(paged > 50, "only {paged} pages: what the client did not take was kept in memory");
    server.world.receive("a@x.test", "live", Some(""));
    assert_eq!(slow.subject().await, "live");
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_with_1013() {
    let server = Server::start(Config { write_timeout: Period::millis(300), ..Config::default() });
    let mut client = Client::connect(&server).await;
    client.subscribe("a@x.test").await;
    let text = "x".repeat(10_000);
    for n in 0..5_000 {
        server.world.receive("a@x.test", &format!("{n} {text}"), Some(""));
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    eventually(|| server.world.subscribers("a@x.test") == 0).await;
    assert_eq!(client.closed().await, Some(1013));
    eventually(|| server.sockets.connected() == 0).await;
}

#[tokio::test]
async fn holds_a_thousand_subscriptions_and_no_more() {
    let server = Server::start(Config::default());
    let mut client = Client::connect(&server).await;
    for n in 0..1_001 {
        client.say(json!({"type": "subscribe", "mailbox": format!("u{n}@x.test")})).await;
    }
    let mut refused = 0;
    for _ in 0..1_001 {
        let answer = client.hear().await;
        if answer["type"] == "error" {
            assert_eq!(answer["problem"]["status"], 429);
            assert_eq!(answer["mailbox"], "u1000@x.test");
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    for n in 0..1_000 {
        server.world.receive(&format!("u{n}@x.test"), &n.to_string(), Some(""));
    }
    let mut heard = Vec::new();
    for _ in 0..1_000 {
        heard.push(client.subject().await.parse::<u32>().unwrap());
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..1_000).collect::<Vec<_>>());
    // One that is held may be replaced; one that is left makes room.
    client.subscribe("u7@x.test").await;
    client.say(json!({"type": "unsubscribe", "mailbox": "u3@x.test"})).await;
    client.subscribe("u1000@x.test").await;
    assert_eq!((server.world.subscribers("u3@x.test"), server.world.subscribers("u7@x.test")), (0, 1));
    server.world.receive("u3@x.test", "unheard", Some(""));
    server.world.receive("u7@x.test", "once", Some(""));
    assert_eq!(client.subject().await, "once");
    client.settle().await;
    client.0.close(None).await.unwrap();
    eventually(|| server.world.subscribers("u7@x.test") == 0).await;
}

#[tokio::test]
async fn a_second_subscription_replaces_the_first_only_when_it_succeeds() {
    let server = Server::start(Config::default());
    let mut client = Client::connect(&server).await;
    client.subscribe("a@x.test").await;
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test", "since": "nonsense"})).await;
    assert_eq!(client.problem().await, ("bad-cursor".into(), json!("a@x.test")));
    server.world.receive("a@x.test", "first", Some(""));
    assert_eq!(client.subject().await, "first");
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test", "q": "subject:second"})).await;
    assert_eq!(client.hear().await["type"], "subscribed");
    assert_eq!(server.world.subscribers("a@x.test"), 1);
    server.world.receive("a@x.test", "unwanted", Some(""));
    server.world.receive("a@x.test", "second", Some(""));
    assert_eq!(client.subject().await, "second");
}

#[tokio::test]
async fn filters_new_messages_and_nothing_else() {
    let server = Server::start(Config::default());
    let mut client = Client::connect(&server).await;
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test", "q": "token"})).await;
    client.hear().await;
    server.world.receive("a@x.test", "one", Some("your token is here"));
    server.world.receive("a@x.test", "two", Some("nothing"));
    // Read from the store, the text has to be fetched; those behind it wait their turn.
    server.world.receive("a@x.test", "three token", None);
    server.world.receive("a@x.test", "four", None);
    server.world.receive("a@x.test", "five", Some("token"));
    let deleted = server.world.announce("a@x.test", None, |_, _| Event::Expired { through_uid: 2 });
    for subject in ["one", "three token", "five"] {
        assert_eq!(client.subject().await, subject);
    }
    let event = client.hear().await;
    assert_eq!(event["type"], "messages.expired");
    assert_eq!(event["cursor"], deleted.to_string());
    assert_eq!(server.world.texts.load(Ordering::SeqCst), 2);
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test", "q": "before:never"})).await;
    assert_eq!(client.problem().await, ("bad-query".into(), json!("a@x.test")));
}

#[tokio::test]
async fn answers_bad_requests_and_goes_on() {
    let server = Server::start(Config { max_message: Bytes(1_000), ..Config::default() });
    let mut client = Client::connect(&server).await;
    for text in ["", "{", "[]", r#"{"type":"dance"}"#, r#"{"type":"subscribe"}"#] {
        client.0.send(Message::text(text)).await.unwrap();
        assert_eq!(client.problem().await, ("bad-json".into(), Value::Null), "{text}");
    }
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test", "sinse": "x"})).await;
    assert_eq!(client.problem().await, ("bad-json".into(), json!("a@x.test")));
    client.say(json!({"type": "subscribe", "mailbox": "nonsense"})).await;
    assert_eq!(client.problem().await, ("bad-address".into(), json!("nonsense")));
    client.say(json!({"type": "subscribe", "mailbox": "nobody@x.test"})).await;
    assert_eq!(client.problem().await, ("no-such-mailbox".into(), json!("nobody@x.test")));
    client.0.send(Message::binary(vec![0; 10])).await.unwrap();
    assert_eq!(client.problem().await.0, "unsupported-media-type");
    client.0.send(Message::text("x".repeat(1_001))).await.unwrap();
    assert_eq!(client.problem().await.0, "too-large");
    server.world.down.store(true, Ordering::SeqCst);
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test"})).await;
    assert_eq!(client.problem().await, ("unavailable".into(), json!("a@x.test")));
    server.world.down.store(false, Ordering::SeqCst);
    client.subscribe("a@x.test").await;
}

#[tokio::test]
async fn a_token_opens_its_own_mailbox_only() {
    let server = Server::start(Config::default());
    server.world.closed.store(true, Ordering::SeqCst);
    let mut client = Client::connect(&server).await;
    client.say(json!({"type": "subscribe", "mailbox": "a@x.test"})).await;
    assert_eq!(client.problem().await.0, "token-needed");
    for (mailbox, token) in [("a@x.test", "wrong"), ("a@x.test", "b@x.test"), ("nobody@x.test", "nobody@x.test")] {
        client.say(json!({"type": "subscribe", "mailbox": mailbox, "token": token})).await;
        assert_eq!(client.problem().await, ("no-such-mailbox".into(), json!(mailbox)));
    }
    client.say(json!({"type": "subscribe", "mailbox": "*", "token": "b@x.test"})).await;
    let answer = client.hear().await;
    assert_eq!((&answer["type"], &answer["mailbox"]), (&json!("subscribed"), &json!("*")));
    server.world.receive("a@x.test", "another's", Some(""));
    server.world.receive("b@x.test", "its own", Some(""));
    assert_eq!(client.subject().await, "its own");
    // A client that can set headers needs no token in the message.
    let mut request = HANDSHAKE.replace("Host:", "Authorization: Bearer a@x.test\r\nHost:").into_bytes();
    request.extend(frame(0x81, br#"{"type":"subscribe","mailbox":"a@x.test"}"#));
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(&request).await.unwrap();
    read_until(&mut stream, r#"{"type":"subscribed","mailbox":"a@x.test","cursor":"m1-1-1"}"#).await;
}

#[tokio::test]
async fn puts_fragments_together_and_answers_pings_between_them() {
    let server = Server::start(Config::default());
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let (head, tail) = br#"{"type":"subscribe","mailbox":"a@x.test"}"#.split_at(9);
    let bytes =
        [HANDSHAKE.as_bytes(), &frame(0x01, head), &frame(0x89, b"now"), &frame(0x80, tail), &frame(0x88, b"\x03\xe8")]
            .concat();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut answer = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    let after = text.split_once("\r\n\r\n").unwrap().1;
    assert!(after.contains("now"), "{after}");
    assert!(answer.ends_with(b"\x88\x02\x03\xe8"), "{after}");
}

#[tokio::test]
async fn closes_who_breaks_the_protocol() {
    let server = Server::start(Config::default());
    for (bytes, code) in [
        (vec![0x81, 0x01, b'a'], 1002u16),
        (frame(0x80, b"continues nothing"), 1002),
        (frame(0x81, &[0xff]), 1007),
        ([vec![0x81, 0xff], 100_000_000u64.to_be_bytes().to_vec(), vec![0; 4]].concat(), 1009),
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(&[HANDSHAKE.as_bytes(), &bytes].concat()).await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        let mut rest = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!((rest[0], &rest[2..4]), (0x88, &code.to_be_bytes()[..]));
    }
    eventually(|| server.sockets.connected() == 0).await;
}

#[tokio::test]
async fn answers_a_close_with_its_code() {
    let server = Server::start(Config::default());
    let mut client = Client::connect(&server).await;
    client.subscribe("a@x.test").await;
    let code = CloseCode::Library(4_321);
    client.0.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await.unwrap();
    assert_eq!(client.closed().await, Some(4_321));
    eventually(|| server.world.subscribers("a@x.test") == 0 && server.sockets.connected() == 0).await;
}

#[tokio::test]
async fn pings_and_gives_up_who_is_silent() {
    let config = Config {
        ping: Period::millis(100),
        silence: Period::millis(350),
        close_timeout: Period::millis(100),
        ..Config::default()
    };
    let server = Server::start(config);
    let mut client = Client::connect(&server).await;
    let answers = async {
        // The library answers pings as it reads.
        let mut pings = 0;
        while pings < 8 {
            pings += u32::from(matches!(client.message().await, Message::Ping(_)));
        }
    };
    timeout(LIMIT, answers).await.unwrap();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    let mut rest = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.starts_with(&[0x89, 0, 0x89, 0]), "{rest:?}");
    let close = rest.windows(4).find(|bytes| bytes[0] == 0x88).unwrap();
    assert_eq!(close[2..], 1011u16.to_be_bytes());
}

#[tokio::test]
async fn a_stop_closes_everyone_with_1012() {
    let server = Server::start(Config::default());
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(&server).await;
        client.subscribe("a@x.test").await;
        clients.push(client);
    }
    let sockets = server.sockets.clone();
    let stopped = tokio::spawn(async move { sockets.stop(Duration::ZERO, LIMIT).await });
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(1012));
    }
    drop(clients);
    assert_eq!(timeout(LIMIT, stopped).await.unwrap().unwrap(), 0);
    assert_eq!(server.world.subscribers("a@x.test"), 0);
    let answer = exchange(&server, HANDSHAKE.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_panic_hurts_one_client_alone() {
    let server = Server::start(Config::default());
    let mut other = Client::connect(&server).await;
    other.subscribe("a@x.test").await;
    let mut client = Client::connect(&server).await;
    client.subscribe("a@x.test").await;
    client.say(json!({"type": "subscribe", "mailbox": PANIC})).await;
    assert_eq!(client.closed().await, Some(1011));
    drop(client);
    eventually(|| server.sockets.connected() == 1 && server.world.subscribers("a@x.test") == 1).await;
    server.world.receive("a@x.test", "still here", Some(""));
    assert_eq!(other.subject().await, "still here");
}

#[tokio::test]
async fn follows_on_when_a_publisher_dies() {
    let server = Server::start(Config { retry: Period::millis(20), ..Config::default() });
    let mut client = Client::connect(&server).await;
    client.subscribe("a@x.test").await;
    for n in 0..30 {
        if n % 3 == 0 {
            server.world.kill("a@x.test");
        }
        server.world.down.store(n % 5 == 0, Ordering::SeqCst);
        server.world.receive("a@x.test", &n.to_string(), Some(""));
        if n % 4 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    server.world.down.store(false, Ordering::SeqCst);
    for n in 0..30 {
        assert_eq!(client.subject().await, n.to_string());
    }
}
