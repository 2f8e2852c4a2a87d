//! A server that is told to go: it says so first, goes on serving, then closes its ports without losing anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use awc::http::{Method, StatusCode};
use mailroom::mail::units::Period;
use tokio::net::TcpStream;

use crate::support::process::Plan;
use crate::support::socket::Heard;
use crate::support::{Api, PATIENCE, SmtpClient, Socket, TestServer, message, until};

#[actix::test]
async fn a_draining_server_is_not_ready_and_serves_on() {
    let server = TestServer::with(|config| config.runtime.drain = Period::secs(5)).await;
    let (http, ops, smtp) = (server.app.http, server.app.ops, server.smtp_address());
    let api = Api::new(http).kept();
    assert_eq!(api.get("/v1/domains").await.header("connection"), None);
    let mut idle = server.smtp().await;
    idle.hello().await;
    let mut socket = Socket::connect(http).await;
    socket.subscribe("bob@example.com").await;
    let drained = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&drained);
    let begun = Instant::now();
    let ending = actix::spawn(async move {
        server.app.drain().await;
        done.store(true, Ordering::SeqCst);
        server.stop().await;
    });
    until("the first answer of a draining server", async || {
        api.get("/v1/domains").await.header("connection") == Some("close")
    })
    .await;
    let ready = Api::new(ops).get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(Api::new(ops).get("/health/live").await.status, StatusCode::OK);
    // Files, errors and what is turned away say it too.
    for (path, host) in [("/", "localhost"), ("/nothing", "localhost"), ("/v1/domains", "evil.test")] {
        let answer = api.call(Method::GET, path, &[("host", host)], None).await;
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
    }
    let mut late = SmtpClient::connect(smtp).await;
    late.hello().await;
    let reply = late.send("ann@sender.test", &["bob@example.com"], message("late", "x").as_bytes()).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(socket.hear().await["message"]["subject"], "late");
    assert!(!drained.load(Ordering::SeqCst), "all this was while it drained");

    assert!(matches!(socket.hear_within(PATIENCE).await, Heard::Closed(Some(1012))));
    assert!(begun.elapsed() >= Duration::from_secs(5), "sockets stay until the ports are closed");
    assert!(idle.reply().await.starts_with("421 "));
    assert!(late.reply().await.starts_with("421 "));
    assert!(TcpStream::connect(http).await.is_err() && TcpStream::connect(smtp).await.is_err());
    ending.await.unwrap();
}

#[actix::test]
async fn the_port_is_closed_while_clients_are_still_served() {
    let server = TestServer::start().await;
    let http = server.app.http;
    // Its message is under way when the server stops.
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<bob@example.com>", "DATA"] {
        assert!(smtp.command(command).await.starts_with(['2', '3']));
    }
    let ending = actix::spawn(server.stop());
    let begun = Instant::now();
    while TcpStream::connect(http).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the port is not closed");
    }
    assert!(smtp.data(message("promised", "x").as_bytes()).await.starts_with("250 "));
    assert!(smtp.reply().await.starts_with("421 "));
    ending.await.unwrap();
}

/// Calls an address with a new connection each time, or mostly, until told to stop. A refused connection is one that was not
/// sent; everything else must be answered.
async fn caller(addresses: Vec<std::net::SocketAddr>, stop: Arc<AtomicBool>, made: Arc<AtomicUsize>) -> Vec<String> {
    let (mut failed, mut n) = (Vec::new(), 0_usize);
    while !stop.load(Ordering::SeqCst) {
        n += 1;
        let mut answered = false;
        for turn in 0..addresses.len() {
            let address = addresses[(n + turn) % addresses.len()];
            match once(address, n).await {
                Ok(()) => answered = true,
                Err(Failed::NotSent) => continue,
                Err(Failed::Lost(why)) => failed.push(why),
            }
            break;
        }
        if answered {
            made.fetch_add(1, Ordering::SeqCst);
        }
    }
    failed
}

enum Failed {
    /// The connection was refused.
    NotSent,
    Lost(String),
}

/// One POST, which nobody may repeat, on a connection of its own.
async fn once(address: std::net::SocketAddr, n: usize) -> Result<(), Failed> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await.map_err(|_| Failed::NotSent)?;
    let body = format!("{{\"local_part\":\"m{}x{n}\"}}", address.port());
    let request = format!(
        "POST /v1/mailboxes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let lost = |error: std::io::Error| Failed::Lost(error.to_string());
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(lost)?;
    let answer = String::from_utf8_lossy(&answer);
    let good = answer.starts_with("HTTP/1.1 201 ") || answer.starts_with("HTTP/1.1 409 ");
    if good { Ok(()) } else { Err(Failed::Lost(answer.into_owned())) }
}

#[actix::test]
async fn a_rolling_restart_loses_no_request_that_was_sent() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plans = directories.each_ref().map(|data| Plan::new(data.path()).set("MAILROOM__RUNTIME__DRAIN", "300ms"));
    let mut nodes = Vec::new();
    for plan in &plans {
        nodes.push(plan.start().await);
    }
    let addresses: Vec<_> = plans.iter().map(|plan| plan.http).collect();
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> =
        (0..8).map(|_| actix::spawn(caller(addresses.clone(), Arc::clone(&stop), Arc::clone(&made)))).collect();
    for _ in 0..2 {
        for plan in &plans {
            let before = made.load(Ordering::SeqCst);
            until("requests are made", async || made.load(Ordering::SeqCst) > before + 50).await;
            let node = nodes.remove(0);
            let ended = tokio::task::spawn_blocking(move || node.terminate()).await.unwrap();
            assert!(ended.success(), "{ended}");
            nodes.push(plan.start().await);
        }
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        let failed = caller.await.unwrap();
        assert!(failed.is_empty(), "{} requests were lost: {}", failed.len(), failed[0]);
    }
}
