//! `mailroom config`: prints an example, or says what is wrong with a configuration.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Findings, Problem, Problems, example};
use crate::startup::StartError;

use super::{exit, serve};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print every setting with its meaning and default, as a file to edit
    Example,
    /// Read the configuration as `serve` would and print everything that is wrong, or "ok"
    Check(Options),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The file to check, like --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: serve::Options,
}

/// Runs one of them.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Example => {
            std::io::stdout().write_all(example().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(options) => check(options),
    }
}

fn check(options: &Options) -> anyhow::Result<ExitCode> {
    let mut serve = options.serve.clone();
    serve.place.config = serve.place.config.or_else(|| options.file.clone());
    let Findings { problems, warnings } = match serve::examine(&serve) {
        Ok((_, findings)) => findings,
        Err(StartError::Config(Problems(problems))) => Findings { problems, warnings: Vec::new() },
        Err(error) => return Err(error.into()),
    };
    let mut out = std::io::stdout().lock();
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    for line in problems.iter().map(Problem::to_string).chain(warnings) {
        writeln!(out, "{line}")?;
    }
    if !problems.is_empty() {
        return Ok(ExitCode::from(exit::CONFIG));
    }
    match &serve.place.config {
        Some(file) => writeln!(out, "ok: {}", file.display())?,
        None => writeln!(out, "ok: defaults and environment, no file")?,
    }
    Ok(ExitCode::SUCCESS)
}
