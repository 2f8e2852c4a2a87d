//! Two versions of the program side by side, each a real binary: this one, and the older one that `MAILROOM_TEST_OLD` names.
//! `make test-upgrade OLD=…` builds that and runs these tests; without it they are listed as ignored, and say why.

mod back;
mod beside;
mod rolling;

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::cluster::load::Door;
use crate::support::process::Plan;
use crate::support::servers::{Postgres, RabbitMq, Redis};
use crate::support::{Api, Process, message, until};

/// The name of the database.
const DATABASE: &str = "upgrade";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Old,
    New,
}

use Version::{New, Old};

impl Version {
    fn program(self) -> PathBuf {
        match self {
            New => env!("CARGO_BIN_EXE_mailroom").into(),
            Old => {
                let program = std::env::var_os("MAILROOM_TEST_OLD").map(PathBuf::from).unwrap_or_default();
                assert!(program.is_file(), "MAILROOM_TEST_OLD names no program: make test-upgrade OLD=REVISION");
                program
            }
        }
    }
}

/// Nodes of one installation, each of a version of its own, without anything in front of them.
struct Nodes {
    postgres: Postgres,
    redis: Redis,
    rabbit: Option<RabbitMq>,
    plans: Vec<Plan>,
    nodes: Vec<Option<Process>>,
    _directories: Vec<tempfile::TempDir>,
}

impl Nodes {
    /// With PostgreSQL and Redis; with a RabbitMQ before them where there is one.
    async fn start(versions: &[Version], rabbit: Option<RabbitMq>, settings: &[(&str, &str)]) -> Self {
        let (postgres, redis) = (Postgres::start(), Redis::start());
        postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        let mut nodes = Self { postgres, redis, rabbit, plans: vec![], nodes: vec![], _directories: vec![] };
        for version in versions {
            let directory = tempfile::tempdir().unwrap();
            let mut plan = Plan::new(directory.path())
                .set("MAILROOM__DATABASE__URL", &nodes.postgres.url(DATABASE))
                .set("MAILROOM__REDIS__URL", &nodes.redis.url())
                .set("MAILROOM__BROKER__URL", &nodes.broker());
            for (name, value) in settings {
                plan = plan.set(name, value);
            }
            nodes.plans.push(plan);
            nodes.nodes.push(None);
            nodes._directories.push(directory);
            nodes.launch(nodes.plans.len() - 1, *version).await;
        }
        nodes
    }

    fn broker(&self) -> String {
        self.rabbit.as_ref().map_or_else(String::new, |rabbit| rabbit.url("%2f"))
    }

    /// Starts a node that does not run, and waits until it takes mail and hears the others.
    async fn launch(&mut self, n: usize, version: Version) {
        self.plans[n].program = version.program();
        let node = self.plans[n].start().await;
        let ops = Api::new(node.ops);
        let parts = if self.rabbit.is_some() { &["redis", "broker"][..] } else { &["redis"] };
        until(&format!("{version:?} {n} has {parts:?}"), async || {
            let health = ops.json("/health").await;
            parts.iter().all(|part| health["parts"][part]["ok"] == true)
        })
        .await;
        self.nodes[n] = Some(node);
    }

    fn node(&self, n: usize) -> &Process {
        self.nodes[n].as_ref().expect("it runs")
    }

    fn kill(&mut self, n: usize) {
        self.nodes[n].take().expect("it runs").kill();
    }

    /// As docs/deployment.md says it: stop, replace, start, wait for ready.
    async fn replace(&mut self, n: usize, version: Version) {
        let node = self.nodes[n].take().expect("it runs");
        let ended = tokio::task::spawn_blocking(move || node.terminate()).await.expect("ends");
        assert!(ended.success(), "{ended}");
        self.launch(n, version).await;
    }

    /// One for each node.
    fn doors(&self) -> Vec<Door> {
        self.plans.iter().map(|plan| Door { smtp: plan.smtp, http: plan.http }).collect()
    }

    fn api(&self, n: usize) -> Api {
        self.node(n).api().kept()
    }

    /// A command on the same settings.
    fn run(&self, version: Version, words: &[&str]) -> Output {
        let plan = &self.plans[0];
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(version.program());
        command.args(words).arg("--data").arg(data.path());
        command.envs(plan.environment.iter().map(|(name, value)| (name, value))).output().unwrap()
    }

    /// Every message and every count is as it must be, and nothing became a dead letter.
    async fn are_sound(&self) {
        let done = self.run(New, &["check"]);
        assert!(done.status.success(), "{}", said(&done));
        if self.rabbit.is_some() {
            assert_eq!(crate::broker::Queues::of(&self.broker()).await.dead().await, 0, "dead letters");
        }
    }

    /// Every node that runs ends as it should.
    fn stop(self) {
        for node in self.nodes.into_iter().flatten() {
            let ended = node.terminate();
            assert!(ended.success(), "{ended}");
        }
    }
}

/// One node on SQLite, of these versions one after the other in the same data directory: each finds what all before it took.
async fn in_turn(versions: &[Version]) {
    let data = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(data.path());
    let mut subjects = Vec::new();
    for (n, version) in versions.iter().enumerate() {
        plan.program = version.program();
        let node = plan.start().await;
        for part in 0..10 {
            let subject = format!("{n} {part}");
            let mail = message(&subject, &"text ".repeat(150));
            let mut smtp = node.smtp().await;
            smtp.hello().await;
            let reply = smtp.send("ann@sender.test", &["ann@example.com"], mail.as_bytes()).await;
            assert!(reply.starts_with("250 "), "{version:?}: {reply}");
            subjects.insert(0, subject);
        }
        let api = node.api();
        assert_eq!(api.subjects("ann@example.com").await, subjects, "{version:?}");
        for item in api.json("/v1/messages?limit=100").await["items"].as_array().unwrap() {
            let path = format!("/v1/mailboxes/ann@example.com/messages/{}/raw", item["id"].as_str().unwrap());
            let raw = api.get(&path).await;
            assert!(raw.status == 200 && raw.body.ends_with(b"text \r\n"), "{version:?}: {}", raw.text());
        }
        // Half of them without a word.
        if n % 2 == 0 {
            node.kill();
        } else {
            assert!(node.terminate().success());
        }
    }
    let done = Command::new(New.program()).args(["check", "--data"]).arg(data.path()).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
