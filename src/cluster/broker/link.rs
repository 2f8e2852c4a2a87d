//! A connection to the broker.

use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::config::BrokerConfig;

/// A broker that says nothing for two of these is gone. Shorter than its own default, which is a minute.
const HEARTBEAT: u16 = 10;
/// For TCP, TLS and the broker's greeting.
const CONNECT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NoLink {
    #[error("[broker] url: {0}")]
    Url(String),
    #[error("[broker] {0}")]
    File(String),
    #[error("it does not answer")]
    Silent,
    #[error("{0}")]
    Refused(#[from] lapin::Error),
}

/// Connects, once. `name` is what the broker shows of the connection.
///
/// # Errors
/// [`NoLink`].
pub async fn connect(config: &BrokerConfig, name: &str) -> Result<Connection, NoLink> {
    let mut uri: AMQPUri = config.uri().map_err(NoLink::Url)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    let properties = ConnectionProperties::default().with_connection_name(format!("mailroom {name}").into());
    let tls = config.tls().map_err(NoLink::File)?.map(|tls| RustlsConnector::from(tls.config()));
    let connecting = Connection::connector(
        uri,
        lapin::runtime::default_runtime()?,
        // Not the library's own way, which believes the public authorities beside those of the settings.
        async move |uri, runtime| {
            let host = uri.authority.host;
            let place = runtime.to_socket_addrs((host.clone(), uri.authority.port));
            let stream = AsyncTcpStream::connect(&runtime, place).await?;
            match &tls {
                Some(tls) => Ok(stream.into_rustls(tls, &host).await?),
                None => Ok(stream),
            }
        },
        properties,
    );
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(NoLink::Silent),
    }
}

/// Pauses between attempts: longer and longer, never quite the same on two nodes.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(rand::random_range(0.75..1.0))
    }

    /// It worked: the next pause is short again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
