//! `mailroom doctor`: looks at this machine with the eyes of the configuration, and says of each thing whether it will do,
//! what is wrong with it and what to do.
//!
//! It changes nothing but a small file in the data directory, to time the disk, and an object in object storage, to try it,
//! both of which it removes. It may run beside `serve`. Map: [`system`] limits, memory and clock; [`kernel`] its settings;
//! [`front`] proxies and who ends it; [`passwords`] those of the example files; [`ports`] who listens where; [`running`] what a
//! server that runs already tells both; [`disk`] data directory and the database in it;
//! [`database`] a database server; [`mod@redis`] what nodes share; [`broker`] the queue before the database; [`cold`] object
//! storage. What is wrong with certificates is said by [`crate::tls::Trouble`].

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::serve;

mod broker;
mod cold;
mod database;
mod disk;
mod front;
mod kernel;
mod passwords;
mod ports;
mod redis;
mod running;
mod system;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    serve: serve::Options,
    /// Print an array of objects instead of lines
    #[arg(long)]
    json: bool,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Worth knowing; nothing to do.
    Notice,
    /// It works, with less than it could.
    Warn,
    /// `serve` would not start, would lose mail, could not show what it has, or strangers could come in.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty when all is well.
    pub advice: String,
}

impl Check {
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), advice: String::new() }
    }

    pub fn notice(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Notice, found: found.into(), advice: advice.into() }
    }

    pub fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, found: found.into(), advice: advice.into() }
    }

    pub fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, found: found.into(), advice: advice.into() }
    }

    /// `value` against two floors: below `need` it fails, below `want` it warns.
    pub fn floor(name: &'static str, value: u64, need: u64, want: u64, found: String, advice: String) -> Self {
        match value {
            _ if value < need => Self::fail(name, found, advice),
            _ if value < want => Self::warn(name, found, advice),
            _ => Self::ok(name, found),
        }
    }
}

/// Prints the report; the exit code is 1 when anything fails.
///
/// # Errors
/// The configuration cannot be read, or standard output not written.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (config, findings) = serve::examine(&options.serve)?;
    let mut checks: Vec<Check> = Vec::new();
    checks.extend(findings.problems.iter().map(|p| Check::fail("configuration", p.to_string(), "mend it")));
    checks.extend(findings.warnings.iter().map(|p| Check::warn("configuration", p.to_string(), "be sure it is meant")));
    if checks.is_empty() {
        checks.push(Check::ok("configuration", "sound"));
    }
    checks.extend(system::checks(&config));
    checks.extend(kernel::checks());
    checks.extend(front::checks(&config));
    checks.extend(passwords::checks(&config));
    checks.extend(ports::checks(&config));
    // With a database server nothing lies in the data directory.
    checks.extend(database::checks(&config).unwrap_or_else(|| disk::checks(&config)));
    checks.extend(redis::checks(&config));
    checks.extend(broker::checks(&config));
    checks.extend(cold::checks(&config));
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&checks)?)?;
    } else {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        out.write_all(as_text(&checks, color).as_bytes())?;
    }
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    Ok(ExitCode::from(u8::from(failed)))
}

fn as_text(checks: &[Check], color: bool) -> String {
    let mut out = String::new();
    for check in checks {
        let (word, code) = match check.level {
            Level::Ok => ("ok  ", "32"),
            Level::Notice => ("note", "36"),
            Level::Warn => ("warn", "33"),
            Level::Fail => ("FAIL", "31"),
        };
        let word = if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        out.push_str(&format!("{word}  {:<14} {}\n", check.name, check.found));
        if !check.advice.is_empty() {
            out.push_str(&format!("      {:<14} -> {}\n", "", check.advice));
        }
    }
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    out.push_str(&match (count(Level::Fail), count(Level::Warn)) {
        (0, 0) => "everything is well\n".to_owned(),
        (fails, 1) => format!("{fails} failed, 1 warning\n"),
        (fails, warns) => format!("{fails} failed, {warns} warnings\n"),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_has_three_outcomes() {
        let level = |value| Check::floor("x", value, 10, 20, String::new(), String::new()).level;
        assert_eq!([level(9), level(10), level(19), level(20)], [Level::Fail, Level::Warn, Level::Warn, Level::Ok]);
    }

    #[test]
    fn advice_stands_under_what_is_wrong() {
        let text = as_text(&[Check::ok("memory", "8 GiB"), Check::fail("disk", "full", "make room")], false);
        assert_eq!(
            text,
            "ok    memory         8 GiB\nFAIL  disk           full\n                     -> make room\n1 failed, 0 warnings\n"
        );
    }

    #[test]
    fn one_warning_is_one_and_a_notice_is_none() {
        let notice = || Check::notice("descriptors", "20000", "enough for most");
        assert!(as_text(&[notice()], false).ends_with("everything is well\n"));
        assert!(as_text(&[notice(), Check::warn("disk", "slow", "x")], false).ends_with("0 failed, 1 warning\n"));
    }
}
