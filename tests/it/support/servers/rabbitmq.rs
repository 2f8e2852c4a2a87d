//! RabbitMQ with an epmd of its own, without plugins.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::super::certificates::{Authority, Signed};
use super::super::process::free_addresses;
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

    pub fn stop(&mut self) {
        self.running.stop(Signal::TERM);
    }
}

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
