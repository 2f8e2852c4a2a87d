//! `mailroom stress api`: GETs over kept connections.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::http_client::{Connection, get};
use super::load::Load;
use super::report;
use super::run::{Worker, run_connections};
use super::smtp::resolve;

const BACK_OFF: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Server to ask, with a path to ask for that alone
    #[arg(default_value = "http://127.0.0.1:8080", value_name = "URL")]
    target: String,
    #[command(flatten)]
    load: Load,
    /// What to ask for, when the target has no path
    #[arg(long, value_enum, default_value = "list")]
    call: Call,
    /// The mailbox to read
    #[arg(short, long, default_value = "stress-0@mailroom.test", value_name = "ADDRESS")]
    mailbox: String,
    /// Token that opens it
    #[arg(long)]
    token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Call {
    /// The first page of the mailbox
    List,
    /// One of its messages, parsed
    Message,
}

/// Host with port, and path, of an `http://` URL.
pub fn split_url(url: &str) -> anyhow::Result<(String, String)> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
    let Some(rest) = rest else { bail!("{url}: only http:// (and ws://) is measured") };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    Ok((host, path.to_owned()))
}

/// Runs to the end of the load; returns how many failed.
///
/// # Errors
/// The URL is not one, the server does not answer, or the mailbox has no message to read.
pub fn run(options: &Options) -> anyhow::Result<u64> {
    let (host, path) = split_url(&options.target)?;
    let addr = resolve(&host)?;
    let path = if path.is_empty() { path_of(options, addr, &host)? } else { path };
    let request = get(&host, &path, options.token.as_deref());
    let outcome = run_connections(&options.load, move |worker| drive(worker, addr, request.clone().into()))?;
    let mut extra = Map::new();
    extra.insert("target".into(), format!("http://{host}{path}").into());
    extra.insert("connections".into(), options.load.concurrency.into());
    report::print("requests", &outcome, extra, options.load.json)?;
    Ok(outcome.totals.failed())
}

fn path_of(options: &Options, addr: SocketAddr, host: &str) -> anyhow::Result<String> {
    let mailbox = utf8_percent_encode(&options.mailbox, NON_ALPHANUMERIC);
    let list = format!("/v1/mailboxes/{mailbox}/messages");
    if options.call == Call::List {
        return Ok(format!("{list}?limit=20"));
    }
    let request = get(host, &format!("{list}?limit=1"), options.token.as_deref());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime
        .block_on(async { Connection::open(addr).await?.ask(&request, true).await })
        .with_context(|| format!("{} does not answer", options.target))?;
    let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let id = page.pointer("/items/0/id").and_then(Value::as_str);
    let id = id.with_context(|| format!("{} has no message to read (status {})", options.mailbox, answer.status))?;
    Ok(format!("{list}/{id}"))
}

async fn drive(worker: Worker, addr: SocketAddr, request: Rc<[u8]>) {
    let mut connection: Option<Connection> = None;
    while let Some(ticket) = worker.budget.next().await {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(addr).await {
                Ok(open) => open,
                Err(error) => {
                    worker.meter.failed(&format!("connect: {}", error.kind()));
                    tokio::time::sleep(BACK_OFF).await;
                    continue;
                }
            },
        };
        match open.ask(&request, false).await {
            Ok(answer) if answer.status < 300 => {
                worker.meter.done(ticket.since.elapsed(), answer.len);
                connection = (!answer.close).then_some(open);
            }
            Ok(answer) => {
                worker.meter.failed(&format!("status {}", answer.status));
                connection = (!answer.close).then_some(open);
            }
            Err(error) => worker.meter.failed(&error.kind().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_host_and_path() {
        let split = |url| split_url(url).unwrap();
        assert_eq!(split("http://127.0.0.1:8080"), ("127.0.0.1:8080".into(), String::new()));
        assert_eq!(split("http://h/v1/x?y=1"), ("h:80".into(), "/v1/x?y=1".into()));
        assert!(split_url("https://h").is_err());
    }
}
