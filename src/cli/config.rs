//! `mailroom config`: prints an example, or says what is wrong with a configuration.

use std::io::Write;
use std::process::ExitCode;

use crate::config::{check, example};

use super::{exit, serve};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print every setting with its meaning and default, as a file to edit
    Example,
    /// Read the configuration as `serve` would and print everything that is wrong, or "ok"
    Check(serve::Options),
}

/// Runs one of them.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let options = match command {
        Command::Example => {
            out.write_all(example().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Check(options) => options,
    };
    let config = match serve::read(options) {
        Ok(config) => config,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(ExitCode::from(exit::CONFIG));
        }
    };
    let findings = check(&config);
    for problem in &findings.problems {
        writeln!(out, "{problem}")?;
    }
    for warning in &findings.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    if !findings.problems.is_empty() {
        return Ok(ExitCode::from(exit::CONFIG));
    }
    writeln!(out, "ok")?;
    Ok(ExitCode::SUCCESS)
}
