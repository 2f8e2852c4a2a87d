//! `mailroom stress smtp`: sends messages as fast as the server takes them, or at a given rate.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};
use tokio::net::lookup_host;

use super::body::{BodyKind, Draft};
use super::load::{Load, Ticket};
use super::report;
use super::run::{Worker, run_connections};
use super::smtp_client::{Connection, Failure, Pipelining};
use crate::mail::units::Bytes;

/// Different bodies, so that no cache sees the same one always.
const DRAFTS: u64 = 8;

/// After a failed connection, so that a server which refuses is not hammered.
const BACK_OFF: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Server to send to, host and port
    #[arg(default_value = "127.0.0.1:2525", value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    load: Load,
    /// Size of a message with its header
    #[arg(short, long, default_value = "10KiB", value_name = "SIZE")]
    size: Bytes,
    /// What messages are made of
    #[arg(short, long, value_enum, default_value = "text")]
    body: BodyKind,
    /// Recipients of each message
    #[arg(long, default_value_t = 1, value_name = "N")]
    recipients: u64,
    /// Spread over so many mailboxes; "new" sends every message to one never seen before
    #[arg(short, long, default_value = "100", value_parser = Mailboxes::parse)]
    mailboxes: Mailboxes,
    /// Domain of sender and recipients
    #[arg(long, default_value = "mailroom.test")]
    domain: String,
    /// Keep connections, or make one for each message
    #[arg(long, value_enum, default_value = "kept")]
    connections: Connections,
    /// How far commands run ahead of their replies
    #[arg(long, value_enum, default_value = "group")]
    pipelining: Pipelining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Connections {
    Kept,
    Each,
}

/// Whom messages go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mailboxes {
    /// So many, in turn.
    Of(u64),
    /// Each message to one that was not there before; the number makes runs differ.
    New(u32),
}

impl Mailboxes {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "new" {
            return Ok(Self::New(rand::random()));
        }
        match text.parse() {
            Ok(count) if count > 0 => Ok(Self::Of(count)),
            _ => Err("a number above 0, or \"new\"".into()),
        }
    }

    /// The address of mailbox `number`.
    pub fn address(self, number: u64, domain: &str) -> String {
        match self {
            Self::Of(count) => format!("stress-{}@{domain}", number % count),
            Self::New(run) => format!("stress-{run:08x}-{number}@{domain}"),
        }
    }

    fn show(self) -> Value {
        match self {
            Self::Of(count) => count.into(),
            Self::New(_) => "new".into(),
        }
    }
}

/// Runs to the end of the load; returns how many failed.
///
/// # Errors
/// The target has no address, or standard output cannot be written.
pub fn run(options: &Options) -> anyhow::Result<u64> {
    let addr = resolve(&options.target)?;
    let task_options = options.clone();
    let outcome = run_connections(&options.load, move |worker| drive(worker, task_options.clone(), addr))?;
    let mut extra = Map::new();
    extra.insert("target".into(), options.target.clone().into());
    extra.insert("connections".into(), options.load.concurrency.into());
    extra.insert("kept".into(), (options.connections == Connections::Kept).into());
    extra.insert("size".into(), options.size.0.into());
    extra.insert("body".into(), json!(format!("{:?}", options.body).to_lowercase()));
    extra.insert("mailboxes".into(), options.mailboxes.show());
    extra.insert("recipients".into(), options.recipients.into());
    report::print("messages", &outcome, extra, options.load.json)?;
    Ok(outcome.totals.failed())
}

/// The first address of `target`.
///
/// # Errors
/// It has none.
pub fn resolve(target: &str) -> anyhow::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut found =
        runtime.block_on(lookup_host(target)).with_context(|| format!("{target} is not a host and port"))?;
    found.next().with_context(|| format!("{target} has no address"))
}

/// What one connection needs to make messages.
struct Sender {
    options: Options,
    from: String,
    drafts: Vec<Draft>,
}

impl Sender {
    fn new(options: Options) -> Self {
        let from = format!("stress@{}", options.domain);
        let drafts = BODIES.with(|bodies| bodies.get_or_init(|| drafts(&options)).clone());
        Self { options, from, drafts }
    }

    fn recipients(&self, ticket: Ticket) -> Vec<String> {
        let each = self.options.recipients.max(1);
        (0..each).map(|n| self.options.mailboxes.address(ticket.number * each + n, &self.options.domain)).collect()
    }

    fn draft(&mut self, ticket: Ticket) -> Option<&Draft> {
        let index = (ticket.number % DRAFTS) as usize;
        let draft = self.drafts.get_mut(index)?;
        draft.set_token(ticket.number);
        Some(draft)
    }
}

thread_local! {
    /// The bodies of this thread's connections: made once, shared by all of them, whatever their size.
    static BODIES: OnceCell<Vec<Draft>> = const { OnceCell::new() };
}

fn drafts(options: &Options) -> Vec<Draft> {
    (0..DRAFTS).map(|seed| Draft::new(options.body, options.size.as_usize(), &options.domain, seed)).collect()
}

async fn drive(worker: Worker, options: Options, addr: SocketAddr) {
    let kept = options.connections == Connections::Kept;
    let mut sender = Sender::new(options);
    while let Some(ticket) = worker.budget.next().await {
        match Connection::open(addr, None, sender.options.pipelining).await {
            Err(Failure(kind)) => {
                worker.meter.failed(&kind);
                tokio::time::sleep(BACK_OFF).await;
            }
            Ok(connection) => {
                worker.meter.opened();
                let outcome = converse(&worker, &mut sender, connection, ticket, kept).await;
                worker.meter.closed();
                if let Err(Failure(kind)) = outcome {
                    worker.meter.failed(&kind);
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// Sends `ticket` and, on a kept connection, all that follow; an error is that of the message in hand.
async fn converse(
    worker: &Worker,
    sender: &mut Sender,
    mut connection: Connection,
    mut ticket: Ticket,
    kept: bool,
) -> Result<(), Failure> {
    let deep = kept && connection.pipelining() == Pipelining::Deep;
    let mut recipients = sender.recipients(ticket);
    connection.envelope(&sender.from, &recipients).await?;
    loop {
        let ahead = if deep { worker.budget.next_now().map(|next| (next, sender.recipients(next))) } else { None };
        let from = sender.from.clone();
        let Some(draft) = sender.draft(ticket) else { return Ok(()) };
        connection.content(draft, ahead.as_ref().map(|(_, recipients)| (from.as_str(), recipients.as_slice()))).await?;
        let bytes = draft.len() as u64;
        connection.verdict().await?;
        worker.meter.done(ticket.since.elapsed(), bytes);
        if let Some((next, to)) = ahead {
            (ticket, recipients) = (next, to);
            connection.envelope_replies(recipients.len()).await?;
            continue;
        }
        let next = if kept { worker.budget.next().await } else { None };
        let Some(next) = next else {
            // The answer to QUIT belongs to no message.
            let _ = connection.quit().await;
            return Ok(());
        };
        ticket = next;
        recipients = sender.recipients(ticket);
        connection.envelope(&from, &recipients).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_are_a_number_or_new() {
        assert_eq!(Mailboxes::parse("5"), Ok(Mailboxes::Of(5)));
        assert!(matches!(Mailboxes::parse("new"), Ok(Mailboxes::New(_))));
        assert!(Mailboxes::parse("0").is_err() && Mailboxes::parse("many").is_err());
        assert_eq!(Mailboxes::Of(5).address(7, "d"), "stress-2@d");
        assert_eq!(Mailboxes::New(1).address(7, "d"), "stress-00000001-7@d");
    }
}
