//! RabbitMQ with an epmd of its own, without plugins.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mailroom::cluster::broker::topology::{self, Names};
use mailroom::cluster::broker::{BrokerConfig, link};
use rustix::process::Signal;

use super::super::PATIENCE;
use super::super::certificates::{Authority, Signed};
use super::super::confirmed::Queues;
use super::super::process::free_addresses;
use super::database::QUEUES;
use super::running::{Running, Words, directory};

/// The name server first, in the same group, so that nothing begins one that outlives all.
const SCRIPT: &str = r#"epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & exec "$0""#;

pub struct RabbitMq {
    running: Running,
    environment: Vec<(String, String)>,
    /// Where it speaks TLS when it does.
    pub tls: SocketAddr,
}

impl RabbitMq {
    pub fn start() -> Self {
        Self::begin(|_| String::new())
    }

    /// With a second port for TLS, for clients that show a certificate of the same authority.
    pub fn with_tls(authority: &Authority, own: &Signed) -> Self {
        Self::begin(|address| {
            format!(
                "listeners.ssl.1 = {address}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
                authority.file(),
                own.certificate,
                own.key
            )
        })
    }

    fn begin(more: impl FnOnce(SocketAddr) -> String) -> Self {
        let ([address, distribution, epmd, tls], directory) = (free_addresses(), directory());
        let config = format!("{CONFIG}{}", more(tls));
        let path = |name: &str| directory.join(name).to_str().expect("a path in text").to_owned();
        for (name, text) in [("plugins", "[].\n"), ("rabbitmq.conf", config.as_str()), ("env", "")] {
            std::fs::write(directory.join(name), text).expect("writes");
        }
        let environment = [
            ("HOME", path("")),
            ("ERL_CRASH_DUMP", path("erl_crash.dump")),
            ("ERL_EPMD_PORT", epmd.port().to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODENAME", format!("mailroom{}@localhost", address.port())),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", address.port().to_string()),
            ("RABBITMQ_DIST_PORT", distribution.port().to_string()),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("logs")),
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_CONF_ENV_FILE", path("env")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}".into()),
        ];
        let environment: Vec<_> = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let program = |name: &str| programs().join(name).to_str().expect("text").to_owned();
        let server = with(Words::new(["sh", "-c", SCRIPT, &program("rabbitmq-server")]), &environment);
        let probe = with(Words::new([&program("rabbitmqctl"), "--quiet", "await_startup"]), &environment);
        Self { running: Running::start(server, probe, directory, address), environment, tls }
    }

    /// What `rabbitmqctl` says.
    pub fn control<const N: usize>(&self, words: [&str; N]) -> String {
        let program = programs().join("rabbitmqctl");
        with(Words::new([program.to_str().expect("text"), "--quiet"]).and(words), &self.environment).run()
    }

    /// A vhost that nobody used, and where to find it.
    pub fn fresh(&self) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.control(["add_vhost", &name]);
        self.control(["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]);
        self.url(&name)
    }

    /// The URL of a vhost; `%2f` is the one that is there from the beginning.
    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@{}/{vhost}", self.running.address)
    }

    /// Messages in the queues of a prefix of the first vhost, once nobody takes from them any more; blocks the thread. What is
    /// still on its way from one who was killed has come by then, too.
    pub fn left(&self, prefix: &str) -> Queues {
        let config = BrokerConfig { url: self.url("%2f"), prefix: prefix.into(), queues: QUEUES, ..Default::default() };
        let look = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(left(&config))
        };
        // The caller's thread has a runtime of its own.
        std::thread::spawn(look).join().expect("an answer")
    }

    pub fn stop(&mut self) {
        self.running.stop(Signal::TERM);
    }
}

async fn left(config: &BrokerConfig) -> Queues {
    let connection = link::connect(config, "look").await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let end = Instant::now() + PATIENCE;
    let (mut last, mut looks) = (None, 0);
    while looks < SAME {
        tokio::time::sleep(POLL).await;
        let (mut now, mut taken) = (Queues::new(), false);
        for queue in Names::new(config).mail() {
            // One who was killed early has not made it.
            let Ok((messages, consumers)) = topology::look(&channel, &queue).await else { return Queues::new() };
            now.insert(queue, messages.into());
            taken |= consumers > 0;
        }
        assert!(Instant::now() < end, "somebody takes from the queues of {} still", config.prefix);
        looks = if !taken && last.as_ref() == Some(&now) { looks + 1 } else { 0 };
        last = Some(now);
    }
    connection.close(200, "looked".into()).await.expect("closes");
    last.unwrap_or_default()
}

/// Looks that must say the same, and the time between two.
const SAME: u32 = 3;
const POLL: Duration = Duration::from_millis(10);

/// Small and quick, with alarms that a machine of tests does not raise.
const CONFIG: &str =
    "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.8\nlog.console.level = warning\n";

impl Deref for RabbitMq {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for RabbitMq {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

fn with(words: Words, environment: &[(String, String)]) -> Words {
    environment.iter().fold(words, |words, (name, value)| words.set(name, value))
}

/// Debian's own wrappers want to be another user.
fn programs() -> PathBuf {
    let versions = Path::new("/usr/lib/rabbitmq/lib");
    let found = std::fs::read_dir(versions).expect("RabbitMQ: scripts/setup.sh installs it").flatten();
    found.map(|entry| entry.path().join("sbin")).find(|path| path.is_dir()).expect("a version of RabbitMQ")
}
