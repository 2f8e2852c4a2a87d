//! Redis: one server, or a cluster of three.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::process::free_addresses;
use super::running::{Running, Words, directory};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

pub struct Redis(Running);

impl Redis {
    pub fn start() -> Self {
        Self::with([])
    }

    /// With settings such as `--maxmemory 1mb`, two words each.
    pub fn with<const N: usize>(settings: [&str; N]) -> Self {
        let ([address], directory) = (free_addresses(), directory());
        let port = address.port().to_string();
        let server = Words::new(["redis-server", "--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .and(["--appendonly", "no", "--daemonize", "no", "--dir", directory.to_str().expect("a path in text")])
            .and(settings);
        let probe = cli(address.port()).and(["PING"]);
        Self(Running::start(server, probe, directory, address))
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.0.address)
    }

    /// One command and its answer.
    pub fn command<const N: usize>(&self, words: [&str; N]) -> String {
        self.try_command(words).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same where an error is an answer, such as `MOVED`.
    pub fn try_command<const N: usize>(&self, words: [&str; N]) -> Result<String, String> {
        cli(self.0.address.port()).and(words).output()
    }

    pub fn stop(&mut self) {
        self.0.stop(Signal::TERM);
    }
}

impl Deref for Redis {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.0
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
        let nodes: [(Redis, u16); 3] = std::array::from_fn(|_| {
            let [bus] = free_addresses();
            let bus = bus.port();
            let node = Redis::with([
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
