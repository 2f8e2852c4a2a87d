//! `mailroom stress ws`: holds WebSocket clients; with `--smtp` also sends mail and measures from the final dot to the frame.
//!
//! One process has as many clients as its descriptors and the ports of its source addresses allow (some 28,000 an
//! address); more come from several processes, or from several `--source` addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::api::split_url;
use super::body::BodyKind;
use super::load::Load;
use super::report;
use super::run::{Worker, run_connections};
use super::smtp::resolve;
use super::ws_client::Client;
use super::ws_drive::{Board, send_mail};
use crate::mail::units::{Bytes, Period};

/// Connections are opened by so many tasks of a thread at once, so that the listener's backlog holds.
const OPENING: usize = 64;

/// Frames of the last messages may still be on their way.
const GRACE: Duration = Duration::from_secs(2);

/// How long all clients together may take to be subscribed.
const OPEN_WITHIN: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// WebSocket to subscribe at
    #[arg(default_value = "ws://127.0.0.1:8080/v1/ws", value_name = "URL")]
    pub target: String,
    /// Clients of this process
    #[arg(short, long, default_value_t = 100, value_name = "N")]
    pub clients: u32,
    /// Spread the clients over so many mailboxes; "*" subscribes each to all mail
    #[arg(short, long, default_value = "100")]
    pub mailboxes: String,
    /// Domain of the mailboxes
    #[arg(long, default_value = "mailroom.test")]
    pub domain: String,
    /// Token that opens the mailboxes
    #[arg(long)]
    pub token: Option<String>,
    /// Connect from these addresses in turn (127.0.0.2, …)
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    pub source: Vec<IpAddr>,
    /// Send mail to this server once all clients are subscribed
    #[arg(long, value_name = "TARGET")]
    pub smtp: Option<String>,
    /// Messages a second
    #[arg(short, long, default_value_t = 50.0, value_name = "PER SECOND", requires = "smtp")]
    pub rate: f64,
    /// SMTP connections
    #[arg(long, default_value_t = 20, value_name = "N", requires = "smtp")]
    pub senders: u32,
    /// Size of a message
    #[arg(short, long, default_value = "10KiB", requires = "smtp")]
    pub size: Bytes,
    /// What messages are made of
    #[arg(short, long, value_enum, default_value = "text", requires = "smtp")]
    pub body: BodyKind,
    /// How long to hold the clients once all are subscribed
    #[arg(short, long, default_value = "10s", value_name = "TIME")]
    pub duration: Period,
    /// Threads to share the clients
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub threads: u32,
    /// Print the result as JSON, and no live line
    #[arg(long)]
    pub json: bool,
}

/// Runs to the end; returns how many clients, messages and frames failed or are missing.
///
/// # Errors
/// A target has no address, or no client could subscribe in time.
pub fn run(options: &Options) -> anyhow::Result<u64> {
    let (host, path) = split_url(&options.target)?;
    let place = Place { addr: resolve(&host)?, host, path: if path.is_empty() { "/v1/ws".into() } else { path } };
    let smtp = options.smtp.as_deref().map(resolve).transpose()?;
    let load = Load {
        concurrency: options.clients,
        duration: None,
        count: Some(u64::MAX),
        rate: None,
        threads: options.threads,
        json: options.json,
    };
    let hub = Arc::new(Hub {
        options: options.clone(),
        place,
        board: Board::default(),
        subscribed: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        opening: (0..options.threads.max(1)).map(|_| tokio::sync::Semaphore::new(OPENING)).collect(),
    });
    let (stop, stopped) = watch::channel(false);
    let director = {
        let hub = Arc::clone(&hub);
        thread::Builder::new().name("stress-director".into()).spawn(move || {
            let driven = direct(&hub, smtp);
            let _ = stop.send(true);
            driven
        })?
    };
    let task_hub = Arc::clone(&hub);
    let mut outcome = run_connections(&load, move |worker| follow(worker, Arc::clone(&task_hub), stopped.clone()))?;
    let driven = director.join().ok().context("the director panicked")??;
    outcome.elapsed = driven.held;
    let failed = outcome.totals.failed() + driven.failed + hub.board.missing();
    report::print("frames", &outcome, extra(&hub, &driven), options.json)?;
    Ok(failed)
}

/// What all clients share.
struct Hub {
    options: Options,
    place: Place,
    board: Board,
    subscribed: AtomicU64,
    refused: AtomicU64,
    opening: Vec<tokio::sync::Semaphore>,
}

struct Place {
    addr: SocketAddr,
    host: String,
    path: String,
}

/// What came of the time in which all clients were subscribed.
struct Driven {
    opened_in: Duration,
    held: Duration,
    sent: u64,
    failed: u64,
}

/// Waits for the clients, sends mail or waits, then gives the last frames time to come.
fn direct(hub: &Hub, smtp: Option<SocketAddr>) -> anyhow::Result<Driven> {
    let start = Instant::now();
    let settled = || hub.subscribed.load(Ordering::Relaxed) + hub.refused.load(Ordering::Relaxed);
    while settled() < u64::from(hub.options.clients) && start.elapsed() < OPEN_WITHIN {
        thread::sleep(Duration::from_millis(10));
    }
    let opened_in = start.elapsed();
    anyhow::ensure!(hub.subscribed.load(Ordering::Relaxed) > 0, "no client could subscribe at {}", hub.options.target);
    let holding = Instant::now();
    let (mut sent, mut failed) = (0, 0);
    match smtp {
        Some(addr) => {
            let totals = send_mail(&hub.options, addr, &hub.board)?;
            (sent, failed) = (totals.done, totals.failed());
        }
        None => thread::sleep(hub.options.duration.0),
    }
    let held = holding.elapsed();
    let grace = Instant::now();
    while smtp.is_some() && hub.board.missing() > 0 && grace.elapsed() < GRACE {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Driven { opened_in, held, sent, failed })
}

/// One client: subscribes, then listens until told to stop.
async fn follow(worker: Worker, hub: Arc<Hub>, mut stopped: watch::Receiver<bool>) {
    let mut client = match subscribe(&hub, worker.index).await {
        Ok(client) => client,
        Err(error) => {
            worker.meter.failed(&format!("subscribe: {error}"));
            hub.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    worker.meter.opened();
    hub.subscribed.fetch_add(1, Ordering::Relaxed);
    hub.board.subscribed(mailbox_number(&hub.options, worker.index));
    loop {
        let listened = tokio::select! {
            _ = stopped.changed() => break,
            listened = client.listen(|text| {
                if let Some(latency) = hub.board.frame(text) {
                    worker.meter.done(latency, text.len() as u64);
                }
            }) => listened,
        };
        if let Err(error) = listened {
            worker.meter.failed(&format!("listen: {error}"));
            worker.meter.closed();
            return;
        }
    }
    client.close().await;
    worker.meter.closed();
}

async fn subscribe(hub: &Hub, index: u32) -> std::io::Result<Client> {
    let slot = index % hub.options.threads.max(1);
    let _permit = match hub.opening.get(slot as usize) {
        Some(semaphore) => semaphore.acquire().await.ok(),
        None => None,
    };
    let sources = &hub.options.source;
    let source = sources.get(index as usize % sources.len().max(1)).map(|ip| SocketAddr::new(*ip, 0));
    let mut client = Client::open(hub.place.addr, source, &hub.place.host, &hub.place.path).await?;
    let mailbox = match mailbox_number(&hub.options, index) {
        Some(number) => mailbox(number, &hub.options.domain),
        None => "*".into(),
    };
    let mut request = serde_json::json!({"type": "subscribe", "mailbox": mailbox});
    if let (Some(object), Some(token)) = (request.as_object_mut(), &hub.options.token) {
        object.insert("token".into(), token.clone().into());
    }
    client.send(&request.to_string()).await?;
    let mut answer = None;
    while answer.is_none() {
        let heard = client.listen(|text| answer = answer.take().or_else(|| Some(text.to_vec())));
        tokio::time::timeout(Duration::from_secs(60), heard).await??;
    }
    let answer: Value = serde_json::from_slice(&answer.unwrap_or_default()).unwrap_or_default();
    match answer.get("type").and_then(Value::as_str) {
        Some("subscribed") => Ok(client),
        other => Err(std::io::Error::other(format!("answered {}", other.unwrap_or("with no type")))),
    }
}

/// Which mailbox client `index` follows; `None` for all mail.
fn mailbox_number(options: &Options, index: u32) -> Option<u64> {
    let count: u64 = options.mailboxes.parse().ok()?;
    Some(u64::from(index) % count.max(1))
}

/// The address of mailbox `number`.
pub fn mailbox(number: u64, domain: &str) -> String {
    format!("stress-{number}@{domain}")
}

fn extra(hub: &Hub, driven: &Driven) -> Map<String, Value> {
    let mut extra = Map::new();
    extra.insert("target".into(), hub.options.target.clone().into());
    extra.insert("clients".into(), hub.subscribed.load(Ordering::Relaxed).into());
    extra.insert("opened_in_seconds".into(), driven.opened_in.as_secs_f64().into());
    if hub.options.smtp.is_some() {
        extra.insert("messages_sent".into(), driven.sent.into());
        extra.insert("messages_refused".into(), driven.failed.into());
        extra.insert("frames_missing".into(), hub.board.missing().into());
        extra.insert("frames_repeated".into(), hub.board.repeated().into());
        extra.insert("from_final_250_ms".into(), report::latency_json(&hub.board.since_verdict()));
    }
    extra
}
