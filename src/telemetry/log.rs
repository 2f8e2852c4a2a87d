//! The log on standard error: text for people, one JSON object a line for machines.

use std::io::IsTerminal;

use anyhow::anyhow;
use tracing_subscriber::fmt::format::FmtSpan;

use super::config::{LogConfig, LogFormat};

/// Sends every event at or above the configured level to standard error, from now to the end of the process.
///
/// # Errors
/// The level cannot be read, or a log is installed already.
pub fn install(config: &LogConfig) -> anyhow::Result<()> {
    let filter = config.filter().map_err(|text| anyhow!(text))?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        // It would say on standard error that standard error cannot be written to, and panic in whoever logged.
        .log_internal_errors(false)
        .with_target(true);
    let installed = if wants_json(config.format, std::io::stderr().is_terminal()) {
        base.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        base.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).try_init()
    };
    installed.map_err(|error| anyhow!("the log cannot be installed: {error}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic hurts one session and is a line of the log like any other, so that whoever reads the log as JSON sees it too.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(location, thread, %backtrace, "panic: {message}");
}

fn wants_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_text_on_a_terminal_and_json_elsewhere() {
        assert!(!wants_json(LogFormat::Auto, true));
        assert!(wants_json(LogFormat::Auto, false));
        assert!(!wants_json(LogFormat::Text, false));
        assert!(wants_json(LogFormat::Json, true));
    }
}
