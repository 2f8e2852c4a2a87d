//! The parts of a cluster, each a process that a test can take away.

use super::load::Door;
use crate::deploy::nginx::Nginx;
use crate::support::process::Plan;
use crate::support::servers::{Postgres, RabbitMq, Redis};
use crate::support::{Api, Process};

pub const NODES: usize = 3;

pub struct Cluster {
    pub postgres: Postgres,
    pub redis: Redis,
    pub rabbit: Option<RabbitMq>,
    pub nginx: Nginx,
    plans: Vec<Plan>,
    nodes: Vec<Option<Process>>,
    _directories: Vec<tempfile::TempDir>,
}

impl Cluster {
    pub async fn start(rabbit: Option<RabbitMq>) -> Self {
        let (postgres, redis) = (Postgres::start(), Redis::start());
        postgres.sql("postgres", "CREATE DATABASE cluster");
        let broker = rabbit.as_ref().map_or_else(String::new, |rabbit| rabbit.url("/"));
        let directories: Vec<_> = (0..NODES).map(|_| tempfile::tempdir().unwrap()).collect();
        let plan = |directory: &tempfile::TempDir| {
            Plan::new(directory.path())
                .set("MAILROOM__DATABASE__URL", &postgres.url("cluster"))
                .set("MAILROOM__REDIS__URL", &redis.url())
                .set("MAILROOM__HTTP__TRUSTED_PROXIES", "127.0.0.1")
                .set("MAILROOM__SMTP__PROXY_PROTOCOL_FROM", "127.0.0.1")
                .set("MAILROOM__BROKER__URL", &broker)
        };
        let plans: Vec<Plan> = directories.iter().map(plan).collect();
        let mut nodes = Vec::new();
        for plan in &plans {
            nodes.push(Some(plan.start().await));
        }
        let http: Vec<_> = plans.iter().map(|plan| plan.http).collect();
        let smtp: Vec<_> = plans.iter().map(|plan| plan.smtp).collect();
        let nginx = Nginx::start(&http, &smtp).await;
        Self { postgres, redis, rabbit, nginx, plans, nodes, _directories: directories }
    }

    pub fn node(&self, n: usize) -> &Process {
        self.nodes[n].as_ref().expect("it runs")
    }

    pub fn kill_node(&mut self, n: usize) {
        self.nodes[n].take().expect("it runs").kill();
    }

    pub async fn start_node(&mut self, n: usize) {
        self.nodes[n] = Some(self.plans[n].start().await);
    }

    /// SIGTERM, then the next one in its place.
    pub async fn restart_node(&mut self, n: usize) {
        let node = self.nodes[n].take().expect("it runs");
        let ended = tokio::task::spawn_blocking(move || node.terminate()).await.expect("ends");
        assert!(ended.success(), "{ended}");
        self.start_node(n).await;
    }

    pub fn door(&self) -> Door {
        Door { smtp: self.nginx.smtp, http: self.nginx.http }
    }

    /// One node's API, without nginx and its limits.
    pub fn api(&self) -> Api {
        self.node(0).api().kept()
    }

    /// Every node ends as it should.
    pub fn stop(self) {
        for node in self.nodes.into_iter().flatten() {
            let ended = node.terminate();
            assert!(ended.success(), "{ended}");
        }
    }
}
