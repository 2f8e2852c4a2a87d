//! `[log]`: how much is said, and in which form.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Libraries that tell an operator nothing at "info"; a level of their own in the setting wins over this.
const LIBRARIES: &str = "actix_server=warn,sea_orm_migration=warn,sqlx=warn";

crate::settings! {
    /// The log, on standard error. Bodies, tokens and passwords are never in it.
    pub struct LogConfig {
        /// "text" for people, "json" (an object a line) for machines, "auto": text on a terminal and json elsewhere.
        pub format: LogFormat = LogFormat::Auto,
        /// "error", "warn", "info", "debug" or "trace"; a part of the program may have its own, as in
        /// "info,mailroom::store=debug".
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

impl LogConfig {
    /// The filter that `level` asks for.
    ///
    /// # Errors
    /// What is wrong with it, with an example.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        EnvFilter::builder()
            .parse(format!("{LIBRARIES},{}", self.level))
            .map_err(|error| format!("{:?} is not a log level ({error}); for example \"info\"", self.level))
    }
}
