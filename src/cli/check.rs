//! `mailroom check`: looks at all mail in a data directory, beside a server or without one.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::meter::Meter;
use super::serve::Place;
use crate::store::check::{self, Finding, Summary, Watch};

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// One JSON object a line: what was found, then the summary
    #[arg(long)]
    json: bool,
    /// Do not read what lies in object storage
    #[arg(long)]
    no_cold: bool,
}

/// Looks at everything and prints what is wrong.
///
/// # Errors
/// There is nothing to look at, or it cannot be read.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.place.read()?.store();
    let summary = look(&config, options.json, options.no_cold)?;
    let is_well = summary.damaged == 0 && (options.no_cold || summary.skipped == 0);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at a data directory and prints what is found.
///
/// # Errors
/// As [`run`].
pub fn look(config: &crate::store::Config, json: bool, no_cold: bool) -> anyhow::Result<Summary> {
    let mut printer = Printer { json, meter: Meter::of_a_terminal() };
    let summary = check::check_but(config, no_cold, &mut printer);
    printer.meter.clear();
    let summary = summary?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", json!({ "summary": summary }))?;
    } else {
        writeln!(out, "{}", tell(&summary))?;
    }
    Ok(summary)
}

fn tell(summary: &Summary) -> String {
    let Summary { messages, whole, gone, mailboxes, segments, objects, skipped, bytes, damaged } = summary;
    let gone = if *gone == 0 { String::new() } else { format!(", {gone} were deleted meanwhile") };
    let skipped = match skipped {
        0 => String::new(),
        skipped => format!(", {skipped} in object storage were not looked at"),
    };
    let looked_at = if skipped.is_empty() { "" } else { " that was looked at" };
    let objects = if *objects == 0 { String::new() } else { format!(" {objects} objects,") };
    let verdict =
        if *damaged == 0 { format!("nothing{looked_at} is damaged") } else { format!("{damaged} things are damaged") };
    let mebibytes = bytes >> 20;
    format!(
        "{whole} of {messages} messages are whole{gone}{skipped}; {mailboxes} mailboxes, {segments} segments,{objects} \
         {mebibytes} MiB read: {verdict}"
    )
}

/// Prints findings as they come, and on a terminal how far it is.
struct Printer {
    json: bool,
    meter: Meter,
}

impl Watch for Printer {
    fn found(&mut self, finding: &Finding) {
        self.meter.clear();
        let line = if self.json { json!({ "finding": finding }).to_string() } else { finding.to_string() };
        // Nobody reads on: the exit code still tells.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    fn progress(&mut self, done: u64, of: u64) {
        if !self.json {
            self.meter.show(|| format!("{done} of {of} messages"));
        }
    }
}
