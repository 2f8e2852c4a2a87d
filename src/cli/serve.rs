//! `mailroom serve`: reads the configuration, installs log and metrics, hands over to `app`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::{Config, Flag, Problems, Sources, check, load};
use crate::startup::StartError;

/// The flags of `serve`; every other setting is in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    pub place: Place,
    /// Receive SMTP here instead of 127.0.0.1:2525
    #[arg(long, value_name = "ADDR")]
    pub smtp: Option<SocketAddr>,
    /// Serve dashboard, API and WebSocket here instead of 127.0.0.1:8080
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Serve health and metrics here instead of 127.0.0.1:8025
    #[arg(long, value_name = "ADDR")]
    pub ops: Option<SocketAddr>,
}

/// Which configuration and which data: what the commands beside `serve` need of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Place {
    /// Configuration file (TOML); `mailroom config example` prints one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of everything that is kept [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Database instead of the one in the data directory
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

/// Runs until told to stop.
///
/// # Errors
/// The configuration is wrong, or `app` could not start or stop in order.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = read(options)?;
    let findings = check(&config);
    if !findings.problems.is_empty() {
        return Err(StartError::Config(Problems(findings.problems)).into());
    }
    crate::telemetry::log::install(&config.log)?;
    for warning in findings.warnings {
        tracing::warn!(setting = warning.place, "{}", warning.text);
    }
    app::run(config)
}

/// The configuration that these flags and this environment give.
///
/// # Errors
/// [`StartError::Config`] with everything that is wrong.
pub fn read(options: &Options) -> Result<Config, StartError> {
    let mut flags = options.place.flags();
    let uri = |addr: SocketAddr| toml::Value::Array(vec![format!("smtp://{addr}").into()]);
    let text = |addr: SocketAddr| toml::Value::String(addr.to_string());
    let listeners = [
        ("--smtp", "smtp", options.smtp.map(uri)),
        ("--http", "http", options.http.map(text)),
        ("--ops", "ops", options.ops.map(text)),
    ];
    for (name, section, value) in listeners {
        flags.extend(value.map(|value| Flag { name, section, key: "listen", value }));
    }
    let environment = environment();
    load(&Sources { file: options.place.config.clone(), environment, flags }).map_err(StartError::Config)
}

/// Variables that are not UTF-8 cannot be settings.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Place {
    /// The configuration without the flags of the listeners.
    ///
    /// # Errors
    /// [`StartError::Config`] with everything that is wrong.
    pub fn read(&self) -> Result<Config, StartError> {
        read(&Options { place: self.clone(), ..Options::default() })
    }

    fn flags(&self) -> Vec<Flag> {
        let data = self.data.as_ref().map(|path| Flag {
            name: "--data",
            section: "runtime",
            key: "data",
            value: path.to_string_lossy().into_owned().into(),
        });
        let database = self.database.as_ref().map(|url| Flag {
            name: "--database",
            section: "database",
            key: "url",
            value: url.clone().into(),
        });
        data.into_iter().chain(database).collect()
    }
}

pub mod app {
    pub fn run(_: crate::config::Config) -> anyhow::Result<()> {
        anyhow::bail!("not connected")
    }
    pub fn migrate(_: &crate::config::Config) -> anyhow::Result<()> {
        anyhow::bail!("not connected")
    }
    pub fn quick_check(_: &std::path::Path) -> anyhow::Result<Vec<String>> {
        anyhow::bail!("not connected")
    }
}
