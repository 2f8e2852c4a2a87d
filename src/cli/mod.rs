//! The command line: one subcommand a file. `main` calls [`main`], which runs one of them. Several show how far they are
//! with a [`meter`].
//!
//! Every failure is printed once, here, as one line (a wrong configuration: one line a problem), and becomes an exit
//! code of [`exit`].

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

mod archive;
mod backup;
mod check;
mod config;
mod doctor;
pub mod exit;
mod export;
mod meter;
mod migrate;
mod queue;
mod serve;
mod sink;
mod stress;

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 a check found something wrong; 64 the command line is wrong; 69 something needed is not there \
(a port is taken, a server does not answer); 73 a directory cannot be made or written, or is not empty where it must be; \
74 reading or writing failed; 75 the data directory is in use; 78 the configuration is wrong.";

/// A mail platform in one binary: receives over SMTP, stores durably, shows and pushes every message.
#[derive(Debug, Parser)]
#[command(name = "mailroom", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive, store, show and push mail (what happens without a command)
    Serve(serve::Options),
    /// Print an example of the configuration, or check one
    #[command(subcommand)]
    Config(config::Command),
    /// Look at this machine and say what would go wrong
    Doctor(doctor::Options),
    /// Bring the database to this version's schema
    Migrate(migrate::Options),
    /// Look at all mail and say what is damaged, beside a running server or without one
    Check(check::Options),
    /// Copy the data directory while mail flows
    Backup(backup::Options),
    /// Look at what lies in the broker, and bring back what could not be stored
    #[command(subcommand)]
    Queue(queue::Command),
    /// Move the bodies of old messages to object storage now
    Archive(archive::Options),
    /// Write messages as mbox, Maildir or eml files, beside a running server or without one
    #[command(override_usage = "mailroom export [OPTIONS] --format <FORMAT> <--mailbox <ADDRESS> | --all> <OUT>")]
    Export(export::Options),
    /// Put load on a server and measure it
    #[command(subcommand)]
    Stress(stress::Command),
    /// Receive mail and throw it away (or into a directory), to test a sender
    Sink(sink::Options),
}

/// Runs the command that the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            print_failure(&error);
            ExitCode::from(exit::code(&error))
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        None => serve::run(&arguments.serve).map(|()| ExitCode::SUCCESS),
        Some(Command::Serve(options)) => serve::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Config(command)) => config::run(&command),
        Some(Command::Doctor(options)) => doctor::run(&options),
        Some(Command::Migrate(options)) => migrate::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Check(options)) => check::run(&options),
        Some(Command::Backup(options)) => backup::run(&options),
        Some(Command::Queue(command)) => queue::run(&command).map(|()| ExitCode::SUCCESS),
        Some(Command::Archive(options)) => archive::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Export(options)) => export::run(&options),
        Some(Command::Stress(command)) => stress::run(&command),
        Some(Command::Sink(options)) => sink::run(&options).map(|()| ExitCode::SUCCESS),
    }
}

/// `--help` and `--version` are answers, not failures.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::USAGE),
    }
}

fn print_failure(error: &anyhow::Error) {
    for line in format!("{error:#}").lines() {
        eprintln!("mailroom: {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_takes_the_same_flags() {
        let bare = Arguments::try_parse_from(["mailroom", "--data", "/d", "--smtp", "127.0.0.1:25"]).unwrap();
        assert!(bare.command.is_none());
        let named = Arguments::try_parse_from(["mailroom", "serve", "--data", "/d", "--smtp", "127.0.0.1:25"]).unwrap();
        let Some(Command::Serve(options)) = named.command else { panic!("not serve") };
        assert_eq!(options, bare.serve);
    }

    #[test]
    fn an_unknown_command_is_a_usage_error() {
        assert!(Arguments::try_parse_from(["mailroom", "srve"]).is_err());
    }
}
