//! Readers that stop: marked behind, harming nobody, complete when they read again, closed when they never do. The
//! server is a process of its own, so that its metrics are its own.

use std::time::{Duration, Instant};

use crate::support::process::{Plan, Process};
use crate::support::socket::Heard;
use crate::support::{Api, PATIENCE, SmtpClient, Socket, message, until};

/// What the system takes in for a client that does not read.
const SMALL: u32 = 4_096;
/// Mailboxes that each message goes to: as many events.
const MAILBOXES: usize = 10;

struct Sender {
    smtp: SmtpClient,
    sent: usize,
}

impl Sender {
    async fn new(server: &Process) -> Self {
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        Self { smtp, sent: 0 }
    }

    /// One message to all mailboxes; its events are long.
    async fn send(&mut self) {
        let to: Vec<_> = (0..MAILBOXES).map(|n| format!("m{n}@example.com")).collect();
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        let long = message(&format!("{} {}", self.sent, "x".repeat(900)), "text");
        let reply = self.smtp.send("ann@sender.test", &to, long.as_bytes()).await;
        assert!(reply.starts_with("250 "), "{reply}");
        self.sent += 1;
    }
}

/// All events of the next message, which must be the one numbered `number`.
async fn next(socket: &mut Socket, number: usize) {
    for _ in 0..MAILBOXES {
        let event = socket.hear().await;
        assert_eq!(event["type"], "message.received", "{event}");
        let subject = event["message"]["subject"].as_str().unwrap();
        assert!(subject.starts_with(&format!("{number} ")), "{subject:.20} instead of {number}");
    }
}

/// Sends one message and reads it; how long that took after the 250.
async fn latency(sender: &mut Sender, quick: &mut Socket) -> Duration {
    sender.send().await;
    let began = Instant::now();
    next(quick, sender.sent - 1).await;
    began.elapsed()
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of[of.len() / 2]
}

/// The value of a metric whose line begins with `name`; zero when it is not there.
async fn metric(server: &Process, name: &str) -> f64 {
    let text = Api::new(server.ops).get("/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

async fn reader(server: &Process, buffer: Option<u32>) -> Socket {
    let mut socket = Socket::try_connect(server.http, buffer).await.unwrap();
    socket.subscribe("*").await;
    socket
}

#[actix::test]
async fn a_reader_that_stops_is_behind_harms_nobody_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Plan::new(dir.path()).set("MAILROOM__SOCKETS__WRITE_TIMEOUT", "120s").start().await;
    let mut sender = Sender::new(&server).await;
    let mut quick = reader(&server, None).await;
    let mut usual = Vec::new();
    for _ in 0..20 {
        usual.push(latency(&mut sender, &mut quick).await);
    }
    let mut slow = reader(&server, Some(SMALL)).await;
    let first = sender.sent;
    let end = Instant::now() + PATIENCE;
    while metric(&server, "subscribers_behind_total").await < 1.0 {
        assert!(Instant::now() < end, "never marked behind after {} messages", sender.sent);
        for _ in 0..10 {
            latency(&mut sender, &mut quick).await;
        }
    }
    let mut stuck = Vec::new();
    for _ in 0..100 {
        stuck.push(latency(&mut sender, &mut quick).await);
    }
    for number in first..sender.sent {
        next(&mut slow, number).await;
    }
    latency(&mut sender, &mut quick).await;
    next(&mut slow, sender.sent - 1).await;
    until("nobody is behind", async || metric(&server, "websocket_subscriptions_behind").await == 0.0).await;
    drop(slow);
    // Before and after: other work on this machine may have begun meanwhile.
    let mut after = Vec::new();
    for _ in 0..20 {
        after.push(latency(&mut sender, &mut quick).await);
    }
    let (usual, stuck) = (median(usual).max(median(after)), median(stuck));
    assert!(stuck < usual * 3 + Duration::from_millis(50), "{stuck:?} beside a slow reader, {usual:?} without");
}

#[actix::test]
async fn a_reader_that_never_reads_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Plan::new(dir.path()).set("MAILROOM__SOCKETS__WRITE_TIMEOUT", "1s").start().await;
    let mut sender = Sender::new(&server).await;
    let mut quick = reader(&server, None).await;
    let mut stuck = reader(&server, Some(SMALL)).await;
    let end = Instant::now() + PATIENCE;
    while metric(&server, r#"websocket_closed_total{reason="slow"}"#).await < 1.0 {
        assert!(Instant::now() < end, "never closed after {} messages", sender.sent);
        latency(&mut sender, &mut quick).await;
    }
    until("only one is left", async || metric(&server, "websocket_connections_active").await == 1.0).await;
    let code = loop {
        match stuck.hear_within(PATIENCE).await {
            Heard::Frame(_) => {}
            Heard::Closed(code) => break code,
            Heard::Nothing => panic!("still open"),
        }
    };
    assert!(matches!(code, Some(1013) | None), "{code:?}");
    latency(&mut sender, &mut quick).await;
}
