//! What a client network may do: refused in the words of each protocol, counted over all nodes, and by each alone while
//! Redis is away.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use awc::http::{Method, StatusCode};
use mailroom::cluster::limits::{Kind, Limits, LimitsConfig};
use mailroom::cluster::redis::{RedisConfig, Servers};
use mailroom::mail::units::Period;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::nodes::{Nodes, redis_is};
use crate::support::servers::{Engine, Redis};
use crate::support::{PATIENCE, SmtpClient, TestServer, message};

#[actix::test]
async fn requests_over_the_limit_hear_429_and_when_to_come_back() {
    let server = TestServer::with(|config| {
        config.limits.requests = "1/m".parse().unwrap();
        config.limits.requests_burst = 3;
    })
    .await;
    let api = server.api();
    for _ in 0..3 {
        assert_eq!(api.get("/v1/server").await.status, StatusCode::OK);
    }
    let refused = api.get("/v1/server").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["type"], "urn:mailroom:problem:too-many-requests");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=61).contains(&wait), "{wait}");
    server.deliver("ann@mailroom.test", &message("mail", "has no limit here")).await;
    server.stop().await;
}

#[actix::test]
async fn behind_a_proxy_each_of_its_clients_counts() {
    let server = TestServer::with(|config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.requests = "1/m".parse().unwrap();
        config.limits.requests_burst = 2;
        config.limits.connections = "1/m".parse().unwrap();
        config.limits.connections_burst = 2;
    })
    .await;
    let ask = async |client: &str| {
        let headers = [("x-forwarded-for", client)];
        server.api().call(Method::GET, "/v1/server", &headers, None).await.status
    };
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let answers = [ask(client).await, ask(client).await, ask(client).await];
        assert_eq!(answers, [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS], "{client}");
    }
    // A WebSocket is a connection of the client that the proxy names.
    let shake = async |client: &str| {
        let mut stream = TcpStream::connect(server.app.http).await.unwrap();
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        String::from_utf8_lossy(&status).into_owned()
    };
    for client in ["192.0.2.1", "192.0.2.2"] {
        let answers = [shake(client).await, shake(client).await, shake(client).await];
        assert_eq!(answers, ["HTTP/1.1 101", "HTTP/1.1 101", "HTTP/1.1 429"], "{client}");
    }
    server.stop().await;
}

#[actix::test]
async fn connections_over_the_limit_hear_421_or_429() {
    let server = TestServer::with(|config| {
        config.limits.connections = "1/m".parse().unwrap();
        config.limits.connections_burst = 2;
    })
    .await;
    drop(server.smtp().await);
    drop(server.smtp().await);
    let mut smtp = SmtpClient::connect_raw(server.smtp_address()).await;
    let reply = smtp.reply().await;
    assert!(reply.starts_with("421 4.7.0 "), "{reply}");
    assert!(smtp.is_closed().await);
    let mut http = TcpStream::connect(server.app.http).await.unwrap();
    let mut text = String::new();
    // Closed after it was said; nobody waits for a request.
    let _ = http.read_to_string(&mut text).await;
    assert!(text.starts_with("HTTP/1.1 429 ") && text.contains("retry-after: "), "{text}");
    let body = text.split("\r\n\r\n").nth(1).unwrap();
    assert!(text.contains(&format!("content-length: {}\r\n", body.len())));
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], 429);
    server.stop().await;
}

#[actix::test]
async fn messages_over_the_limit_hear_451_and_the_session_goes_on() {
    let server = TestServer::with(|config| {
        config.limits.messages = "1/m".parse().unwrap();
        config.limits.messages_burst = 2;
    })
    .await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    for n in 0..2 {
        let mail = message(&format!("{n}"), "text");
        assert!(smtp.send("ann@sender.test", &["bob@mailroom.test"], mail.as_bytes()).await.starts_with("250 "));
    }
    assert!(smtp.command("MAIL FROM:<ann@sender.test>").await.starts_with("250 "));
    assert!(smtp.command("RCPT TO:<bob@mailroom.test>").await.starts_with("250 "));
    let reply = smtp.command("DATA").await;
    assert!(reply.starts_with("451 4.7.1 "), "{reply}");
    assert!(smtp.command("RSET").await.starts_with("250 "));
    assert_eq!(server.api().subjects("bob@mailroom.test").await.len(), 2);
    server.stop().await;
}

#[actix::test]
async fn two_nodes_count_together_and_each_alone_without_redis() {
    let mut redis = Redis::start();
    let url = redis.url();
    let nodes = Nodes::start(Engine::Postgres, |config| {
        config.redis.url = Servers::one(url.clone());
        config.redis.reconcile = Period::secs(1);
        // Whoever is not answered in time counts alone, by the default of 100 ms on a busy machine too.
        config.redis.timeout = Period::secs(2);
        config.limits.requests = "1/h".parse().unwrap();
        config.limits.requests_burst = 20;
    })
    .await;
    let ask = async |count: u32| {
        let mut admitted = 0;
        for n in 0..count {
            let node = if n % 2 == 0 { &nodes.one } else { &nodes.two };
            admitted += u32::from(node.api().get("/v1/server").await.status == StatusCode::OK);
        }
        admitted
    };
    assert_eq!(ask(50).await, 20);
    redis.kill();
    for node in [&nodes.one, &nodes.two] {
        redis_is(node, false).await;
    }
    let began = Instant::now();
    let alone = ask(60).await;
    assert_eq!(alone, 40, "each node its own burst");
    // Each of the sixty would wait its limit of 100 ms twice or more.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    redis.restart().await;
    for node in [&nodes.one, &nodes.two] {
        redis_is(node, true).await;
    }
    assert_eq!(ask(30).await, 20, "Redis came back empty");
    nodes.stop().await;
}

#[actix::test]
async fn what_is_taken_ahead_is_bounded() {
    let redis = Redis::start();
    let config = RedisConfig { url: Servers::one(redis.url()), timeout: Period::secs(2), ..RedisConfig::default() };
    let limits = LimitsConfig { requests: "200/s".parse().unwrap(), requests_burst: 40, ..LimitsConfig::default() };
    let node = || {
        let handle = mailroom::cluster::redis::Redis::new(&config).unwrap().unwrap();
        actix::spawn(handle.clone().tend(|_| ()));
        (Limits::new(&limits, 0, Some((handle.clone(), "test"))), handle)
    };
    let ((one, first), (two, second)) = (node(), node());
    while !first.is_up() || !second.is_up() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let client: IpAddr = "192.0.2.1".parse().unwrap();
    let before: u64 = calls(&redis);
    let (began, mut admitted, mut asked) = (Instant::now(), 0_u64, 0_u64);
    // At least half of what the rate allows by then; a busy machine may ask for it a little later.
    while began.elapsed() < Duration::from_millis(500) || admitted < 90 {
        assert!(began.elapsed() < PATIENCE, "{admitted} of {asked}");
        for limits in [&one, &two] {
            asked += 1;
            admitted += u64::from(limits.admit(Kind::Requests, client).await.is_ok());
        }
    }
    let rate = 200 * u64::try_from(began.elapsed().as_millis()).unwrap() / 1_000;
    assert!(admitted <= 40 + rate + 20, "{admitted} of {asked}, {rate} by the rate");
    let scripts = calls(&redis) - before;
    assert!(scripts < admitted / 3, "{scripts} questions for {admitted} of {asked}");
}

/// How often the script ran.
fn calls(redis: &Redis) -> u64 {
    let stats = redis.command(["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_eval:"));
    let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}
