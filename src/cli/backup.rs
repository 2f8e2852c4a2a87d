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
    let Copied { segments, linked, bytes } = backup::backup(&config, &options.target)?;
    let mebibytes = bytes >> 20;
    writeln!(
        std::io::stdout(),
        "copied to {}: {segments} segments ({linked} of them linked), {mebibytes} MiB of mail",
        options.target.display()
    )?;
    if options.no_verify {
        return Ok(ExitCode::SUCCESS);
    }
    let summary = check::look(&backup::config_of(&options.target, &config), false)?;
    Ok(if summary.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
