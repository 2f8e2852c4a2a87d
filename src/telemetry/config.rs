//! `[log]`: how much is said, and in which form.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::settings::{Check, Wrong};

/// Libraries that tell an operator nothing at "info"; a level of their own in the setting wins over this. The client of the
/// broker has three errors for each connection that fails, all of which are told here in one; what a database server has to
/// say of a statement is for who wrote it.
const LIBRARIES: &str = "actix_server=warn,sea_orm_migration=warn,sqlx=warn,sqlx::postgres::notice=off,lapin=off";

crate::settings! {
    /// The log, on standard error. Bodies, tokens and passwords are never in it.
    pub struct LogConfig {
        /// "text" for people, "json" (an object a line) for machines, "auto": text on a terminal and json elsewhere.
        pub format: LogFormat = LogFormat::Auto,
        /// "error", "warn", "info", "debug" or "trace"; a part of the program may have its own, as in
        /// "info,mailroom::store=debug", and be "off". Libraries are quiet unless they have a level here, as in "info,lapin=error".
        pub level: String = "info".into(),
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

const POSSIBLE: &str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\", and behind commas PART=LEVEL, as in \
     \"info,mailroom::store=debug\"";

impl LogConfig {
    /// The filter that `level` asks for.
    ///
    /// # Errors
    /// What is wrong with it, with an example.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        let refused = || format!("log.level: {:?} will not do; possible: {POSSIBLE}", self.level);
        if !is_filter(&self.level) {
            return Err(refused());
        }
        EnvFilter::builder().parse(format!("{LIBRARIES},{}", self.level)).map_err(|_| refused())
    }
}

impl Check for LogConfig {
    fn check(&self, wrong: &mut Wrong) {
        if self.filter().is_err() {
            wrong.refuse_text("level", &self.level, POSSIBLE);
        }
    }
}

/// The library takes any word for a part of the program: with `verbose` it would log nothing at all.
fn is_filter(text: &str) -> bool {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_part = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
    };
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    let whole = directives.iter().filter(|directive| !directive.contains('=')).count();
    whole <= 1
        && directives.iter().all(|directive| match directive.split_once('=') {
            None => is_level(directive),
            Some((part, level)) => is_part(part) && (is_level(level) || level.eq_ignore_ascii_case("off")),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(level: &str) -> LogConfig {
        LogConfig { level: level.into(), ..LogConfig::default() }
    }

    #[test]
    fn a_level_for_all_and_levels_for_parts_are_a_filter() {
        for level in ["error", "warn", "info", "debug", "trace", "INFO", "info,mailroom::store=debug", "sqlx=off, warn"]
        {
            assert!(config(level).filter().is_ok(), "{level}");
        }
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_asked_for() {
        let says = |level: &str, library: &str| {
            let filter = config(level).filter().unwrap().to_string();
            let of = |name: &str| {
                filter.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
            };
            of(library)
        };
        for library in ["lapin", "sqlx::postgres::notice"] {
            assert_eq!(says("debug", library).as_deref(), Some("off"), "{library}");
        }
        assert_eq!(says("info,lapin=error", "lapin").as_deref(), Some("error"));
    }

    #[test]
    fn what_would_silence_the_log_is_refused() {
        for level in [
            "",
            "verbose",
            "off",
            "mailroom",
            "mailroom=loud",
            "info,",
            "info,debug",
            "=info",
            "a b=info",
            "[s]=info",
            "info;debug",
            "2",
        ] {
            assert!(config(level).filter().is_err(), "{level:?}");
            assert_eq!(Wrong::of(&config(level)).len(), 1, "{level:?}");
        }
    }
}
