//! `mailroom backup`: copies a data directory while mail flows, and looks at the copy.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::check;
use super::serve::Place;
use crate::store::backup::{self, BackupError, Copied};
use crate::store::engine;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the copy goes: an empty directory, or one that is made
    #[arg(value_name = "DIR")]
    target: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Do not look at every message of the copy
    #[arg(long)]
    no_verify: bool,
    /// Do not read what lies in object storage when looking at the copy
    #[arg(long)]
    no_cold: bool,
}

/// Makes the copy; `mailroom serve --data DIR` runs on it.
///
/// # Errors
/// Something is in the way. A copy that is damaged is left there, and is exit code 1.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.place.read()?.store();
    if let Some(place) = engine::name(&config) {
        return Err(BackupError::Server(place).into());
    }
    let Copied { segments, linked, bytes, objects, cold_bytes } = backup::backup(&config, &options.target)?;
    let mebibytes = bytes >> 20;
    writeln!(
        std::io::stdout(),
        "copied to {}: {segments} segments ({linked} of them linked), {mebibytes} MiB of mail",
        options.target.display()
    )?;
    if objects > 0 {
        writeln!(
            std::io::stdout(),
            "not copied: {objects} objects ({} MiB of mail) in object storage at {}; the copy needs them there",
            cold_bytes >> 20,
            if config.cold.url.is_empty() { "a place that [cold] url does not name" } else { config.cold.shown() },
        )?;
    }
    if options.no_verify {
        return Ok(ExitCode::SUCCESS);
    }
    let summary = check::look(&backup::config_of(&options.target, &config), false, options.no_cold)?;
    Ok(if summary.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
