//! `mailroom queue`: what lies in the broker. `dead` are the messages that could not be stored, and the way back.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::serve::Place;
use crate::cluster::broker::BrokerConfig;
use crate::cluster::broker::dead::{DeadLetter, DeadLetters, Fate};
use crate::mail::id::DeliveryId;

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Messages that could not be stored
    #[command(subcommand)]
    Dead(Dead),
}

#[derive(Clone, Debug, Subcommand)]
pub enum Dead {
    /// One line a message, the oldest first
    List {
        #[command(flatten)]
        place: Place,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// What is known of one, and the message itself
    Show {
        #[command(flatten)]
        place: Place,
        /// As `list` shows it
        id: DeliveryId,
        /// Only the message, byte for byte as it was received
        #[arg(long)]
        raw: bool,
    },
    /// Send one, or all, back to be stored
    #[command(override_usage = "mailroom queue dead requeue [OPTIONS] <ID | --all>")]
    Requeue {
        #[command(flatten)]
        place: Place,
        /// As `list` shows it
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<DeliveryId>,
        /// All that are there, in place of ID
        #[arg(long)]
        all: bool,
    },
    /// Throw one away for good
    Drop {
        #[command(flatten)]
        place: Place,
        /// As `list` shows it
        id: DeliveryId,
    },
}

/// Runs it.
///
/// # Errors
/// There is no broker, it does not answer, or there is no such letter.
pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Dead(dead) = command;
    let (Dead::List { place, .. } | Dead::Show { place, .. } | Dead::Requeue { place, .. } | Dead::Drop { place, .. }) =
        dead;
    let config = place.read()?.broker;
    anyhow::ensure!(config.is_used(), "there is no broker: [broker] url is empty");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(act(&config, dead))
}

async fn act(config: &BrokerConfig, dead: &Dead) -> anyhow::Result<()> {
    let mut letters = DeadLetters::open(config).await?;
    let mut out = std::io::stdout().lock();
    let mut failed = None;
    let mut found = 0usize;
    let mut write = |out: &mut std::io::StdoutLock<'_>, bytes: &[u8]| {
        if let Err(error) = out.write_all(bytes) {
            failed.get_or_insert(error);
        }
    };
    let is = |letter: &DeadLetter, id: &DeliveryId| letter.id.as_ref() == Some(id);
    let done = letters
        .each(|letter| match dead {
            Dead::List { json, .. } => {
                found += 1;
                let line = if *json { format!("{}\n", described(letter)) } else { line(letter) };
                write(&mut out, line.as_bytes());
                Fate::Stay
            }
            Dead::Show { id, raw, .. } if is(letter, id) => {
                found += 1;
                let text = if *raw { String::new() } else { format!("{:#}\n\n", described(letter)) };
                write(&mut out, text.as_bytes());
                match letter.raw() {
                    Ok(message) => write(&mut out, &message),
                    Err(why) => write(&mut out, format!("({why})\n").as_bytes()),
                }
                Fate::Stay
            }
            Dead::Requeue { all: true, .. } => Fate::Requeue,
            Dead::Requeue { id: Some(id), .. } if is(letter, id) => Fate::Requeue,
            Dead::Drop { id, .. } if is(letter, id) => Fate::Drop,
            _ => Fate::Stay,
        })
        .await;
    letters.close().await?;
    let done = done?;
    if let Some(error) = failed.filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        return Err(error.into());
    }
    match dead {
        Dead::List { .. } => {}
        Dead::Show { id, .. } => anyhow::ensure!(found > 0, "there is no dead letter {id}"),
        Dead::Requeue { id: Some(id), .. } | Dead::Drop { id, .. } => {
            anyhow::ensure!(done > 0, "there is no dead letter {id}");
        }
        Dead::Requeue { .. } => {}
    }
    let said = match dead {
        Dead::Requeue { .. } => writeln!(out, "{done} sent back"),
        Dead::Drop { .. } => writeln!(out, "{done} thrown away"),
        Dead::List { .. } | Dead::Show { .. } => Ok(()),
    };
    // It is done, whether anybody hears it or not.
    Ok(said.or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?)
}

fn recipients(letter: &DeadLetter) -> Vec<&str> {
    letter.mail.iter().flat_map(|mail| &mail.parts).map(|part| part.mailbox.as_str()).collect()
}

fn described(letter: &DeadLetter) -> Value {
    let mail = letter.mail.as_ref();
    json!({
        "id": letter.id.map(|id| id.to_string()),
        "reason": letter.reason,
        "queue": letter.queue,
        "received_at": mail.map(|mail| mail.received_at.rfc3339()),
        "reverse_path": mail.map(|mail| &mail.envelope.reverse_path),
        "mailboxes": recipients(letter),
        "subject": mail.map(|mail| mail.summary.subject.to_string()),
        "size": mail.map(|mail| mail.body.size),
    })
}

/// What strangers wrote is shown without control characters.
fn line(letter: &DeadLetter) -> String {
    let id = letter.id.map_or_else(|| "-".repeat(36), |id| id.to_string());
    let (at, size, subject) = match &letter.mail {
        Some(mail) => (mail.received_at.rfc3339(), mail.body.size, mail.summary.subject.to_string()),
        None => ("-".into(), letter.data.len() as u64, "(unreadable)".into()),
    };
    let text = format!("{id}  {at}  {size:>9}  {}  {subject:?}  [{}]", recipients(letter).join(","), letter.reason);
    format!("{}\n", text.replace(char::is_control, " "))
}
