//! The whole application in this process, on free ports, in a temporary directory.

use std::net::SocketAddr;
use std::sync::OnceLock;

use mailroom::app::{App, Extras};
use mailroom::cluster::redis::Servers;
use mailroom::config::Config;
use mailroom::store::Faults;
use mailroom::telemetry::Recorder;

use super::servers::Engine;
use super::servers::database::QUEUES;
use super::{Api, SmtpClient, confirmed};

/// Must be stopped with [`TestServer::stop`] where the test looks at what a stop does; dropping it is enough elsewhere.
pub struct TestServer {
    pub app: App,
    pub faults: Faults,
    pub config: Config,
    pub data: tempfile::TempDir,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with the defaults, changed by `change`.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), change).await
    }

    /// As [`TestServer::with`], on the data that another one left.
    pub async fn on(data: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.runtime.data = data.path().to_owned();
        let database = Engine::chosen().database(data.path());
        config.database.url.clone_from(&database.url);
        if let Some(url) = database.redis() {
            (config.redis.url, config.redis.prefix) = (Servers::one(url), database.name.clone());
        }
        if let Some(url) = database.broker() {
            (config.broker.url, config.broker.prefix, config.broker.queues) = (url, database.name, QUEUES);
        }
        config.smtp.listen = vec!["smtp://127.0.0.1:0".into()];
        config.smtp.hostname = "mx.mailroom.test".into();
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.ops.listen = "127.0.0.1:0".parse().unwrap();
        config.database.min_free = mailroom::mail::units::Bytes(1);
        change(&mut config);
        let faults = Faults::default();
        let app = launch(&config, &faults).await;
        Self { app, faults, config, data }
    }

    /// Stops and starts again on the same data, with the same settings.
    pub async fn restart(self) -> Self {
        let Self { app, faults, config, data } = self;
        app.stop().await;
        let app = launch(&config, &faults).await;
        Self { app, faults, config, data }
    }

    pub async fn stop(self) -> tempfile::TempDir {
        self.app.stop().await;
        self.data
    }

    pub fn smtp_address(&self) -> SocketAddr {
        self.app.smtp[0]
    }

    pub async fn smtp(&self) -> SmtpClient {
        SmtpClient::connect(self.smtp_address()).await
    }

    pub fn api(&self) -> Api {
        Api::new(self.app.http)
    }

    /// Delivers one message and fails unless it is answered 250; with a broker, too, it is stored before the next one is sent.
    pub async fn deliver(&self, to: &str, message: &str) {
        let mut smtp = self.smtp().await;
        smtp.hello().await;
        let reply = smtp.send("ann@sender.test", &[to], message.as_bytes()).await;
        assert!(reply.starts_with("250 "), "{reply}");
        smtp.quit().await;
        confirmed::is_stored(self.app.http).await;
    }
}

async fn launch(config: &Config, faults: &Faults) -> App {
    let extras = Extras { recorder: Some(recorder()), faults: faults.clone() };
    let waiting = confirmed::waiting(&config.runtime.data);
    let app = App::start(config.clone(), extras).await.expect("the server starts");
    confirmed::begins(app.http, app.ops, waiting);
    confirmed::takes_mail(app.http).await;
    app
}

/// One for the process: a recorder can be installed only once.
fn recorder() -> Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| Recorder::install().expect("the first recorder of this process")).clone()
}
