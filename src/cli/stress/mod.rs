//! `mailroom stress`: load generators for SMTP, API and WebSocket, of any server that speaks them.
//!
//! A generator must not be what limits a measurement: each runs its connections as tasks on `--threads` threads that share
//! nothing but counters. Map: [`load`] how much and how fast (the shared options), [`meter`] what was measured, [`run`] the
//! threads and the live line, [`report`] the final words; [`smtp`], [`api`] and [`ws`] the generators over [`smtp_client`],
//! [`http_client`], [`ws_client`] and [`ws_drive`]; [`body`] writes the messages.

use std::process::ExitCode;

mod api;
mod body;
mod http_client;
mod load;
mod meter;
mod report;
mod run;
mod smtp;
mod smtp_client;
mod ws;
mod ws_client;
mod ws_drive;
mod ws_frame;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Send messages over SMTP
    Smtp(smtp::Options),
    /// Ask the HTTP API
    Api(api::Options),
    /// Hold WebSocket clients, and measure from the final dot to the frame
    Ws(ws::Options),
}

/// Runs one generator to its end; the exit code is 1 when anything failed.
///
/// # Errors
/// The target does not answer at all, or the options contradict each other.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let failed = match command {
        Command::Smtp(options) => smtp::run(options)?,
        Command::Api(options) => api::run(options)?,
        Command::Ws(options) => ws::run(options)?,
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
