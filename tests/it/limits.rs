//! What a client may cost, what a mailbox takes, who is known, and how a server ends: over real ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use awc::http::StatusCode;
use futures_util::future::join_all;
use mailroom::inbound::config::AccessMode;
use mailroom::mail::units::{Bytes, Count, Limit, Period};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::process::Plan;
use crate::support::socket::Heard;
use crate::support::{Api, PATIENCE, SmtpClient, Socket, TestServer, message, until};

/// The greeting that a client at `from` hears, and its connection.
async fn greeted(from: Ipv4Addr, server: SocketAddr) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(from), 0).into()).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    let mut greeting = [0; 200];
    let n = timeout(PATIENCE, stream.read(&mut greeting)).await.expect("a greeting").unwrap();
    (stream, String::from_utf8_lossy(&greeting[..n]).into_owned())
}

#[actix::test]
async fn one_client_hears_421_beyond_its_share_and_others_do_not() {
    let server = TestServer::with(|config| config.smtp.max_sessions_per_client = 2).await;
    let (one, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let address = server.smtp_address();
    let (first, greeting) = greeted(one, address).await;
    assert!(greeting.starts_with("220 "), "{greeting}");
    let (_second, greeting) = greeted(one, address).await;
    assert!(greeting.starts_with("220 "), "{greeting}");
    let (mut third, greeting) = greeted(one, address).await;
    assert!(greeting.starts_with("421 4.7.0"), "{greeting}");
    assert_eq!(timeout(PATIENCE, third.read(&mut [0])).await.unwrap().unwrap(), 0, "closed");
    let (_others, greeting) = greeted(other, address).await;
    assert!(greeting.starts_with("220 "), "{greeting}");
    drop(first);
    until("its place is free", async || greeted(one, address).await.1.starts_with("220 ")).await;
    server.stop().await;
}

/// Says hello, names a sender, declares a size, names a recipient and says DATA; the reply to that.
async fn data_from(stream: &mut TcpStream, size: usize) -> String {
    let mut reply = String::new();
    let size = format!("MAIL FROM:<ann@sender.test> SIZE={size}\r\n");
    for line in ["EHLO client.test\r\n", &size, "RCPT TO:<bob@example.com>\r\n", "DATA\r\n"] {
        stream.write_all(line.as_bytes()).await.unwrap();
        reply = heard(stream).await;
    }
    reply
}

async fn heard(stream: &mut TcpStream) -> String {
    let mut reply = [0; 1_000];
    let n = timeout(PATIENCE, stream.read(&mut reply)).await.expect("a reply").unwrap();
    String::from_utf8_lossy(&reply[..n]).into_owned()
}

/// Whether a client of its own delivers a message of 200 KB.
async fn another_delivers(server: &TestServer) -> bool {
    let (mut stream, _) = greeted(Ipv4Addr::new(127, 0, 0, 2), server.smtp_address()).await;
    let message = format!("{}.\r\n", "0123456789abcdef\r\n".repeat(11_000));
    let reply = data_from(&mut stream, message.len()).await;
    if !reply.starts_with("354") {
        assert!(reply.starts_with("452 4.3.1"), "{reply}");
        return false;
    }
    stream.write_all(message.as_bytes()).await.unwrap();
    heard(&mut stream).await.starts_with("250")
}

#[actix::test]
async fn one_client_cannot_take_all_the_room_that_messages_have() {
    const SIZE: usize = 250_000;
    let server = TestServer::with(|config| {
        config.smtp.max_message_size = Bytes::kib(256);
        config.smtp.max_bytes_in_flight = Bytes::mib(1);
        config.smtp.max_bytes_in_flight_per_client = Bytes::kib(384);
    })
    .await;
    // Announced, and not sent: twice what there is room for.
    let mut slow = Vec::new();
    for _ in 0..8 {
        let (mut stream, _) = greeted(Ipv4Addr::LOCALHOST, server.smtp_address()).await;
        if data_from(&mut stream, SIZE).await.starts_with("354") {
            slow.push(stream);
        }
        assert!(another_delivers(&server).await, "{} have announced", slow.len());
    }
    assert!(slow.len() > 4, "what is announced takes no room: {}", slow.len());
    // Sent, but for the end.
    for (sent, stream) in slow.iter_mut().enumerate() {
        stream.write_all("0123456789abcdef\r\n".repeat(SIZE / 18 - 1).as_bytes()).await.unwrap();
        assert!(another_delivers(&server).await, "{} have sent", sent + 1);
    }
    drop(slow);
    server.stop().await;
}

#[actix::test]
async fn a_client_that_takes_no_replies_is_cut_off() {
    let server = TestServer::with(|config| {
        config.smtp.max_sessions = 1;
        config.smtp.read_timeout = Period::secs(300);
        config.smtp.write_timeout = Period::millis(300);
    })
    .await;
    let stuck = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // Small pieces and a small window, so that little fits into the connection.
    stuck.set_tcp_mss(536).unwrap();
    stuck.set_recv_buffer_size(4_096).unwrap();
    stuck.connect(&server.smtp_address().into()).unwrap();
    stuck.set_nonblocking(true).unwrap();
    let (mut replies, mut commands) = TcpStream::from_std(stuck.into()).unwrap().into_split();
    let began = Instant::now();
    // More than the system keeps for a connection, however large it has let buffers grow (4 MiB).
    const ASKED: usize = 60_000;
    let asks = actix::spawn(async move { commands.write_all("EHLO client.test\r\n".repeat(ASKED).as_bytes()).await });
    // It holds the only place until the server gives it up; the read timeout is far away.
    until("the place is free", async || {
        let mut next = SmtpClient::connect_raw(server.smtp_address()).await;
        next.reply().await.starts_with("220 ")
    })
    .await;
    assert!(began.elapsed() >= Duration::from_millis(300), "cut off before the limit");
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, replies.read_to_end(&mut rest)).await.expect("closed");
    let replies = String::from_utf8_lossy(&rest).matches("250 ").count();
    assert!(read.is_err() || replies < ASKED, "{replies} replies arrived");
    let asked = timeout(PATIENCE, asks).await.expect("closed").unwrap();
    assert!(asked.is_err() || read.is_err() || replies < ASKED);
    server.stop().await;
}

/// Sends a message line by line, as slowly as a line each 20 ms, until something is answered; what, and when.
async fn trickle(server: &TestServer, line: &str) -> (String, Duration) {
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<slow@example.com>", "DATA"] {
        assert!(smtp.command(command).await.starts_with(['2', '3']));
    }
    let began = Instant::now();
    let write = async |smtp: &mut SmtpClient| {
        loop {
            smtp.write(line.as_bytes()).await;
            if let Ok(reply) = timeout(Duration::from_millis(20), smtp.reply()).await {
                return reply;
            }
        }
    };
    let reply = timeout(PATIENCE, write(&mut smtp)).await.expect("the server had enough in time");
    (reply, began.elapsed())
}

#[actix::test]
async fn a_message_that_comes_too_slowly_is_given_up() {
    let server = TestServer::with(|config| {
        config.smtp.read_timeout = Period::millis(400);
        config.smtp.min_data_rate = Bytes::kib(64);
    })
    .await;
    let (reply, took) = trickle(&server, "slow\r\n").await;
    assert!(reply.starts_with("421 4.4.2 Message comes in too slowly"), "{reply}");
    assert!(took >= Duration::from_millis(400), "before the first read timeout: {took:?}");
    assert_eq!(server.api().subjects("slow@example.com").await, [""; 0]);
    server.stop().await;
}

#[actix::test]
async fn a_message_that_takes_too_long_is_given_up_however_fast_it_comes() {
    let server = TestServer::with(|config| {
        config.smtp.read_timeout = Period::millis(400);
        config.smtp.data_timeout = Period::millis(600);
        config.smtp.min_data_rate = Bytes(1);
    })
    .await;
    let (reply, took) = trickle(&server, &"0123456789\r\n".repeat(100)).await;
    assert!(reply.starts_with("421 4.4.2 Message comes in too slowly"), "{reply}");
    assert!(took >= Duration::from_millis(600), "{took:?}");
    server.stop().await;
}

#[actix::test]
async fn a_loop_is_refused_and_one_hop_less_is_not() {
    let server = TestServer::start().await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let hops = |count: usize| {
        let hop = "Received: from a.test by b.test; Sat, 21 Nov 2026 09:30:00 +0000\r\n";
        format!("{}{}", hop.repeat(count), message("hops", "text"))
    };
    let reply = smtp.send("ann@sender.test", &["loop@example.com"], hops(51).as_bytes()).await;
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    let reply = smtp.send("ann@sender.test", &["loop@example.com"], hops(50).as_bytes()).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert_eq!(server.api().subjects("loop@example.com").await, ["hops"]);
    smtp.quit().await;
    server.stop().await;
}

#[actix::test]
async fn a_full_mailbox_is_refused_at_rcpt_for_itself_alone() {
    let server = TestServer::start().await;
    let api = server.api();
    let made = api.post("/v1/mailboxes", json!({"address": "small@example.com", "max_messages": 2})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    server.deliver("small@example.com", &message("one", "text")).await;
    server.deliver("small@example.com", &message("two", "text")).await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    assert!(smtp.command("MAIL FROM:<ann@sender.test>").await.starts_with("250 "));
    let reply = smtp.command("RCPT TO:<small@example.com>").await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    assert!(smtp.command("RCPT TO:<other@example.com>").await.starts_with("250 2.1.5"));
    assert!(smtp.command("DATA").await.starts_with("354 "));
    assert!(smtp.data(message("three", "text").as_bytes()).await.starts_with("250 2.0.0"));
    assert_eq!(api.subjects("small@example.com").await, ["two", "one"]);
    assert_eq!(api.subjects("other@example.com").await, ["three"]);
    // Room again, by a deletion and by a change of the rule.
    let list = api.json("/v1/mailboxes/small@example.com/messages").await;
    let one = format!("/v1/mailboxes/small@example.com/messages/{}", list["items"][1]["id"].as_str().unwrap());
    assert_eq!(api.delete(&one).await.status, StatusCode::NO_CONTENT);
    server.deliver("small@example.com", &message("four", "text")).await;
    let reply = smtp.send("ann@sender.test", &["small@example.com"], b"").await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    api.patch("/v1/mailboxes/small@example.com", json!({"when_full": "drop_oldest"})).await;
    server.deliver("small@example.com", &message("five", "text")).await;
    assert_eq!(api.subjects("small@example.com").await, ["five", "four"]);
    server.stop().await;
}

#[actix::test]
async fn what_is_too_large_for_a_mailbox_is_refused_as_soon_as_its_size_is_known() {
    let server = TestServer::with(|config| config.mailboxes.max_bytes = Limit::of(Bytes::kib(100))).await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    assert!(smtp.command("MAIL FROM:<ann@sender.test> SIZE=200000").await.starts_with("250 "));
    let reply = smtp.command("RCPT TO:<bytes@example.com>").await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    assert!(smtp.command("RSET").await.starts_with("250 "));
    // Undeclared: admitted at RCPT, a temporary refusal at the dot.
    let large = message("large", &"0123456789\r\n".repeat(15_000));
    let reply = smtp.send("ann@sender.test", &["bytes@example.com"], large.as_bytes()).await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    // Beside what is there already, and for all recipients when it does not fit for one.
    server.deliver("bytes@example.com", &message("half", &"0123456789\r\n".repeat(5_000))).await;
    let half = message("other half", &"0123456789\r\n".repeat(5_000));
    let both = ["empty@example.com", "bytes@example.com"];
    assert!(smtp.send("ann@sender.test", &both, half.as_bytes()).await.starts_with("452 4.2.2"));
    assert_eq!(server.api().subjects("bytes@example.com").await, ["half"]);
    assert_eq!(server.api().subjects("empty@example.com").await, [""; 0]);
    server.stop().await;
}

#[actix::test]
async fn simultaneous_messages_do_not_overfill_a_mailbox() {
    let server = TestServer::with(|config| config.mailboxes.max_messages = Limit::of(Count(5))).await;
    // Twelve are admitted while nothing is stored; their dots come together.
    let mut ready = Vec::new();
    for _ in 0..12 {
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<count@example.com>", "DATA"] {
            assert!(smtp.command(command).await.starts_with(['2', '3']));
        }
        ready.push(smtp);
    }
    let text = message("together", "text");
    let replies = join_all(ready.iter_mut().map(|smtp| smtp.data(text.as_bytes()))).await;
    let stored = replies.iter().filter(|reply| reply.starts_with("250 2.0.0")).count();
    assert!(replies.iter().all(|reply| reply.starts_with("250 ") || reply.starts_with("452 4.2.2")), "{replies:?}");
    assert_eq!((stored, server.api().subjects("count@example.com").await.len()), (5, 5));
    server.stop().await;
}

#[actix::test]
async fn a_message_larger_than_its_mailbox_does_not_drive_out_the_others() {
    let server = TestServer::start().await;
    let rule = json!({"address": "drop@example.com", "max_bytes": 100_000, "when_full": "drop_oldest"});
    assert_eq!(server.api().post("/v1/mailboxes", rule).await.status, StatusCode::CREATED);
    let half = |subject: &str| message(subject, &"0123456789\r\n".repeat(4_000));
    server.deliver("drop@example.com", &half("one")).await;
    server.deliver("drop@example.com", &half("two")).await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    assert!(smtp.command("MAIL FROM:<ann@sender.test> SIZE=200000").await.starts_with("250 "));
    let reply = smtp.command("RCPT TO:<drop@example.com>").await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    assert!(smtp.command("RSET").await.starts_with("250 "));
    let large = message("large", &"0123456789\r\n".repeat(15_000));
    let reply = smtp.send("ann@sender.test", &["drop@example.com"], large.as_bytes()).await;
    assert!(reply.starts_with("452 4.2.2"), "{reply}");
    assert_eq!(server.api().subjects("drop@example.com").await, ["two", "one"]);
    server.deliver("drop@example.com", &half("three")).await;
    assert_eq!(server.api().subjects("drop@example.com").await, ["three", "two"]);
    server.stop().await;
}

#[actix::test]
async fn with_tokens_only_mailboxes_that_were_made_receive() {
    let server = TestServer::with(|config| config.mailboxes.access = AccessMode::Token).await;
    let api = server.api();
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let refused = async |smtp: &mut SmtpClient| {
        let reply = smtp.send("ann@sender.test", &["made@mailroom.test"], b"").await;
        assert!(reply.starts_with("550 5.1.1"), "{reply}");
        assert!(smtp.command("RSET").await.starts_with("250 "));
    };
    let mut former: Option<Api> = None;
    for round in 0..3 {
        refused(&mut smtp).await;
        let made = api.post("/v1/mailboxes", json!({"address": "made@mailroom.test"})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{round}: {}", made.text());
        let subject = format!("round {round}");
        let reply = smtp.send("ann@sender.test", &["made@mailroom.test"], message(&subject, "text").as_bytes()).await;
        assert!(reply.starts_with("250 2.0.0"), "{round}: {reply}");
        let path = "/v1/mailboxes/made@mailroom.test";
        assert_eq!(api.get(path).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(api.with_token("mrt_wrong").get(path).await.status, StatusCode::NOT_FOUND);
        let owner = api.with_token(made.json()["token"].as_str().unwrap());
        assert_eq!(owner.subjects("made@mailroom.test").await, [subject]);
        if let Some(former) = former {
            assert_eq!(former.get(path).await.status, StatusCode::NOT_FOUND, "it opened the one before");
        }
        assert_eq!(owner.delete(path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(owner.get(path).await.status, StatusCode::NOT_FOUND, "its token is gone with it");
        former = Some(owner);
    }
    refused(&mut smtp).await;
    // Deleted between RCPT and the dot: nothing is stored, and the sender hears so.
    let made = api.post("/v1/mailboxes", json!({"address": "made@mailroom.test"})).await.json();
    for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<made@mailroom.test>", "DATA"] {
        assert!(smtp.command(command).await.starts_with(['2', '3']));
    }
    let owner = api.with_token(made["token"].as_str().unwrap());
    assert_eq!(owner.delete("/v1/mailboxes/made@mailroom.test").await.status, StatusCode::NO_CONTENT);
    let reply = smtp.data(message("late", "text").as_bytes()).await;
    assert!(reply.starts_with('4') || reply.starts_with("550 5.1.1"), "{reply}");
    refused(&mut smtp).await;
    smtp.quit().await;
    server.stop().await;
}

#[actix::test]
async fn mail_for_other_domains_is_refused() {
    let server = TestServer::with(|config| {
        config.domains.accept = vec!["example.com".into(), "*.example.net".into()];
    })
    .await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    assert!(smtp.command("MAIL FROM:<ann@sender.test>").await.starts_with("250 "));
    for (to, expected) in [
        ("a@example.com", "250 2.1.5"),
        ("a@EXAMPLE.COM", "250 2.1.5"),
        ("a@deep.example.net", "250 2.1.5"),
        ("a@mailroom.test", "250 2.1.5"),
        ("a@example.org", "550 5.1.2"),
        ("a@notexample.com", "550 5.1.2"),
        ("a@example.com.evil.test", "550 5.1.2"),
    ] {
        let reply = smtp.command(&format!("RCPT TO:<{to}>")).await;
        assert!(reply.starts_with(expected), "{to}: {reply}");
    }
    server.stop().await;
}

#[actix::test]
async fn sigterm_ends_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path());
    let server = plan.start().await;
    let mut socket = Socket::connect(server.http).await;
    socket.subscribe("*").await;
    let mut idle = server.smtp().await;
    let mut busy = server.smtp().await;
    busy.hello().await;
    for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<last@example.com>", "DATA"] {
        assert!(busy.command(command).await.starts_with(['2', '3']));
    }
    let began = Instant::now();
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    let farewell = idle.reply().await;
    assert!(farewell.starts_with("421 4.3.2"), "{farewell}");
    assert!(idle.is_closed().await);
    let reply = busy.data(message("promised", "text").as_bytes()).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    let event = socket.hear().await;
    assert_eq!(event["message"]["subject"], "promised", "{event}");
    let code = match socket.hear_within(PATIENCE).await {
        Heard::Closed(code) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, Some(1012));
    drop(socket);
    let status = ended.await.unwrap();
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let again = plan.start().await;
    assert_eq!(again.api().subjects("last@example.com").await, ["promised"]);
}
