//! The program itself in a process of its own, for what only a process can show: being killed, being traced.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::servers::Engine;
use super::servers::database::QUEUES;
use super::{Api, PATIENCE, POLL, SmtpClient, confirmed};

/// Killed when dropped.
pub struct Process {
    child: Child,
    /// The child stands before the program and has it as a child of its own.
    wrapped: bool,
    pub smtp: SocketAddr,
    pub http: SocketAddr,
    pub ops: SocketAddr,
}

/// How to start one; the ports stay the same over restarts.
#[derive(Clone)]
pub struct Plan {
    /// Which version of it.
    pub program: PathBuf,
    pub data: PathBuf,
    pub smtp: SocketAddr,
    pub http: SocketAddr,
    pub ops: SocketAddr,
    /// What stands before the program, such as `strace` with its options.
    pub wrapper: Vec<String>,
    /// The wrapper stays and runs the program as its child.
    pub traced: bool,
    pub environment: Vec<(String, String)>,
}

impl Plan {
    pub fn new(data: &Path) -> Self {
        let [smtp, http, ops] = free_addresses();
        let mut environment = vec![
            ("MAILROOM__DATABASE__MIN_FREE".into(), "1B".into()),
            ("MAILROOM__RUNTIME__DRAIN".into(), "0s".into()),
        ];
        let database = Engine::chosen().database(data);
        if let Some(redis) = database.redis() {
            let prefix = database.name.clone();
            let settings = [("DATABASE__URL", database.url.clone()), ("REDIS__URL", redis), ("REDIS__PREFIX", prefix)];
            environment.extend(settings.map(|(name, value)| (format!("MAILROOM__{name}"), value)));
        }
        if let Some(broker) = database.broker() {
            let queues = QUEUES.to_string();
            let settings = [("BROKER__URL", broker), ("BROKER__PREFIX", database.name), ("BROKER__QUEUES", queues)];
            environment.extend(settings.map(|(name, value)| (format!("MAILROOM__{name}"), value)));
        }
        let program = env!("CARGO_BIN_EXE_mailroom").into();
        Self { program, data: data.to_owned(), smtp, http, ops, wrapper: Vec::new(), traced: false, environment }
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The command line, for those who start it in their own way.
    pub fn command(&self) -> Command {
        let program = self.program.as_os_str();
        let mut words = self.wrapper.iter().map(OsStr::new).chain([program]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg("serve").arg("--data").arg(&self.data);
        for (flag, address) in [("--smtp", self.smtp), ("--http", self.http), ("--ops", self.ops)] {
            command.arg(flag).arg(address.to_string());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("MAILROOM__LOG__LEVEL", "warn").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(&self) -> Process {
        confirmed::begins(self.http, self.ops, confirmed::waiting(&self.data));
        let child = self.command().spawn().expect("the program starts");
        Process { child, wrapped: self.traced, smtp: self.smtp, http: self.http, ops: self.ops }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Process {
        let mut process = self.spawn();
        process.ready().await;
        process
    }
}

impl Process {
    async fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        let client = awc::Client::default();
        loop {
            let answer = client.get(format!("http://{}/health/ready", self.ops)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                panic!("the program ended instead of getting ready: {status}");
            }
            assert!(Instant::now() < end, "the program does not get ready");
            tokio::time::sleep(POLL).await;
        }
        confirmed::takes_mail(self.http).await;
    }

    /// The process of the program itself.
    pub fn id(&self) -> u32 {
        let id = self.child.id();
        if !self.wrapped {
            return id;
        }
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("a child of ours");
        children.split_whitespace().next().expect("it runs").parse().expect("a process id")
    }

    /// SIGKILL, as a power cut for everything but the page cache.
    pub fn kill(mut self) {
        if self.wrapped {
            // The wrapper ends with it.
            self.signal(rustix::process::Signal::KILL);
        } else {
            self.child.kill().expect("kills");
        }
        self.child.wait().expect("is gone");
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("a process id"), signal).expect("a process of ours");
    }

    /// SIGSTOP: it stands still and keeps everything that it holds.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().expect("is gone")
    }

    pub fn api(&self) -> Api {
        Api::new(self.http)
    }

    pub async fn smtp(&self) -> SmtpClient {
        SmtpClient::connect(self.smtp).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses that were free a moment ago, all different. They lie below the ports that the system gives to clients, so
/// that nobody gets one of them by chance while the program is restarted.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    std::array::from_fn(|_| {
        let mut tried = 0..PORTS.len();
        let found = tried.find_map(|_| {
            let n = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = PORTS.start + u16::try_from(n % u32::from(PORTS.end - PORTS.start)).expect("a port");
            TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()
        });
        found.expect("a free port")
    })
}

const PORTS: std::ops::Range<u16> = 12_000..32_000;
