//! `mailroom serve`: reads the configuration, installs log and metrics, starts `app`, and stops it at a signal.
//!
//! A first SIGTERM or SIGINT lets everything that was promised finish, SIGTERM after a drain; a second one ends the process
//! at once.

use std::io::Write;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, Extras};
use crate::config::{Config, Findings, Flag, Problems, Sources, check, load, strangers};
use crate::settings::Listen;
use crate::startup::StartError;
use crate::store::engine;
use crate::telemetry::{self, Recorder};

/// The flags of `serve`; every other setting is in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    pub place: Place,
    /// Receive SMTP here instead of 127.0.0.1:2525; a port alone is one of 127.0.0.1
    #[arg(long, value_name = "ADDR")]
    pub smtp: Option<Listen>,
    /// Serve dashboard, API and WebSocket here instead of 127.0.0.1:8080
    #[arg(long, value_name = "ADDR")]
    pub http: Option<Listen>,
    /// Serve health and metrics here instead of 127.0.0.1:8025
    #[arg(long, value_name = "ADDR")]
    pub ops: Option<Listen>,
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
/// The configuration is wrong, or something could not be started.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (config, findings) = examine(options)?;
    if !findings.problems.is_empty() {
        return Err(StartError::Config(Problems(findings.problems)).into());
    }
    telemetry::log::install(&config.log)?;
    for warning in findings.warnings {
        tracing::warn!(setting = warning.place, "{}", warning.text);
    }
    let recorder = Recorder::install()?;
    actix::System::new().block_on(serve(config, recorder))
}

async fn serve(config: Config, recorder: Recorder) -> anyhow::Result<()> {
    // Before the start, so that a stop is heard while the store recovers.
    let mut stop = Stop::new()?;
    let store = config.store();
    let (what, place) = match engine::name(&store) {
        Some(server) => ("database", server),
        None => ("data", store.data.display().to_string()),
    };
    let extras = Extras { recorder: Some(recorder), ..Extras::default() };
    let app = tokio::select! {
        app = App::start(config, extras) => app?,
        name = stop.asked() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
    };
    greet(&app, (what, &place))?;
    let name = stop.asked().await;
    tracing::info!(signal = name, "stopping");
    let end = async {
        // Whoever stops it by hand knows that it is gone.
        if name == TERMINATE {
            app.drain().await;
        }
        app.stop().await;
    };
    tokio::select! {
        () = end => {}
        name = stop.asked() => tracing::warn!(signal = name, "stopped at once; what was answered 250 is durable"),
    }
    Ok(())
}

const TERMINATE: &str = "SIGTERM";

/// The signals that ask for a stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATE,
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tells who started it where everything is. A reader that is gone is no failure.
fn greet(app: &App, (what, place): (&str, &str)) -> std::io::Result<()> {
    let smtp: Vec<_> = app.smtp.iter().map(ToString::to_string).collect();
    let text = format!(
        "Mailroom {}\n  dashboard, API      http://{}/\n  SMTP                {}\n  health, metrics     \
         http://{}/health\n  {what:<18}  {place}\n",
        env!("CARGO_PKG_VERSION"),
        app.http,
        smtp.join(", "),
        app.ops,
    );
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The configuration that these flags and this environment give, and what is to be said of it.
///
/// # Errors
/// [`StartError::Config`] with everything that cannot be read.
pub fn examine(options: &Options) -> Result<(Config, Findings), StartError> {
    let Findings { mut problems, mut warnings } = strangers(&environment());
    let config = match read(options) {
        Ok(config) => config,
        Err(StartError::Config(Problems(mut all))) => {
            all.append(&mut problems);
            return Err(StartError::Config(Problems(all)));
        }
        Err(error) => return Err(error),
    };
    let found = check(&config);
    problems.extend(found.problems);
    warnings.extend(found.warnings);
    Ok((config, Findings { problems, warnings }))
}

/// The configuration that these flags and this environment give.
///
/// # Errors
/// [`StartError::Config`] with everything that is wrong.
pub fn read(options: &Options) -> Result<Config, StartError> {
    let mut flags = options.place.flags();
    let uri = |addr: Listen| toml::Value::Array(vec![format!("smtp://{addr}").into()]);
    let text = |addr: Listen| toml::Value::String(addr.to_string());
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
