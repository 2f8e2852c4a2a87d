//! Redis: one server, or a cluster of three.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::certificates::{Authority, Signed};
use super::super::process::free_addresses;
use super::running::{Running, Words, directory};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

pub struct Redis {
    running: Running,
    /// What `redis-cli` needs to be let in.
    client: Vec<String>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with([])
    }

    /// With settings such as `--maxmemory 1mb`, two words each.
    pub fn with<const N: usize>(settings: [&str; N]) -> Self {
        Self::begin("--port", Words::default().and(settings), Vec::new())
    }

    /// With TLS and nothing else, for clients that show a certificate of the same authority.
    pub fn with_tls<const N: usize>(authority: &Authority, own: &Signed, settings: [&str; N]) -> Self {
        let ca = authority.file();
        let words = Words::default()
            .and(["--port", "0", "--tls-ca-cert-file", &ca, "--tls-auth-clients", "yes"])
            .and(["--tls-cert-file", &own.certificate, "--tls-key-file", &own.key])
            .and(settings);
        // What is wrong with a certificate is not for this client to find.
        let client = ["--tls", "--insecure", "--cert", &own.certificate, "--key", &own.key];
        Self::begin("--tls-port", words, client.map(str::to_owned).into())
    }

    fn begin(port: &str, settings: Words, client: Vec<String>) -> Self {
        let ([address], directory) = (free_addresses(), directory());
        let server =
            Words::new(["redis-server", port, &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
                .and(["--appendonly", "no", "--daemonize", "no", "--dir", directory.to_str().expect("a path in text")])
                .then(settings);
        let probe = cli(address.port()).and_all(&client).and(["PING"]);
        Self { running: Running::start(server, probe, directory, address), client }
    }

    pub fn url(&self) -> String {
        let scheme = if self.client.is_empty() { "redis" } else { "rediss" };
        format!("{scheme}://{}/", self.running.address)
    }

    /// One command and its answer.
    pub fn command<const N: usize>(&self, words: [&str; N]) -> String {
        self.try_command(words).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same where an error is an answer, such as `MOVED`.
    pub fn try_command<const N: usize>(&self, words: [&str; N]) -> Result<String, String> {
        cli(self.running.address.port()).and_all(&self.client).and(words).output()
    }

    pub fn stop(&mut self) {
        self.running.stop(Signal::TERM);
    }
}

impl Deref for Redis {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

fn cli(port: u16) -> Words {
    Words::new(["redis-cli", "-e", "-h", "127.0.0.1", "-p", &port.to_string()])
}

/// Three masters without replicas that share the slots.
pub struct RedisCluster {
    pub nodes: [Redis; 3],
}

impl RedisCluster {
    pub fn start() -> Self {
        Self::of(Redis::with)
    }

    /// All of it with TLS, also between the nodes.
    pub fn with_tls(authority: &Authority, own: &Signed) -> Self {
        Self::of(|settings| {
            let [a, b, c, d, e, f, g, h] = settings;
            let tls = ["--tls-cluster", "yes", "--tls-replication", "yes"];
            let [i, j, k, l] = tls;
            Redis::with_tls(authority, own, [a, b, c, d, e, f, g, h, i, j, k, l])
        })
    }

    fn of(node: impl Fn([&str; 8]) -> Redis) -> Self {
        let nodes: [(Redis, u16); 3] = std::array::from_fn(|_| {
            let [bus] = free_addresses();
            let bus = bus.port();
            let node = node([
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus.to_string(),
                "--cluster-node-timeout",
                "2000",
                "--cluster-config-file",
                "nodes.conf",
            ]);
            (node, bus)
        });
        let share = SLOTS.div_ceil(nodes.len());
        for (n, (node, _)) in nodes.iter().enumerate() {
            let (first, last) = (n * share, SLOTS.min((n + 1) * share) - 1);
            node.command(["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for (node, bus) in &nodes[1..] {
            nodes[0].0.command(["CLUSTER", "MEET", "127.0.0.1", &node.address.port().to_string(), &bus.to_string()]);
        }
        let cluster = Self { nodes: nodes.map(|(node, _)| node) };
        cluster.wait();
        cluster
    }

    /// Waits until every node knows all others and all slots are served; blocks the thread.
    pub fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        let whole = |node: &Redis| {
            let info = node.command(["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        while !self.nodes.iter().all(whole) {
            assert!(Instant::now() < end, "the cluster does not come together: {}", self.nodes[0].said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first node; it tells of the others.
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }
}
