//! A server's processes: started, killed, paused, and gone when the test is.
//!
//! A keeper in a process group of its own reads a pipe that only the test process holds. At its end, which comes even when
//! the test process is killed, it kills the server's group and removes the directory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long a server may take until it answers, or until it is gone.
const LONGEST: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Kills the group `$0` and removes the directory `$1` once its input ends.
const KEEPER: &str = r#"cat >/dev/null; kill -KILL "-$0" 2>/dev/null; sleep 0.1; rm -rf -- "$1""#;

/// A command line and its environment.
#[derive(Clone, Debug, Default)]
pub struct Words {
    words: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Words {
    pub fn new<const N: usize>(words: [&str; N]) -> Self {
        Self { words: words.map(str::to_owned).into(), environment: Vec::new() }
    }

    /// The same run by another user, where this one is allowed to: servers that refuse to be root.
    pub fn by(mut self, user: &Account) -> Self {
        if user.other {
            let before = [
                "setpriv".to_owned(),
                format!("--reuid={}", user.uid),
                format!("--regid={}", user.gid),
                "--clear-groups".to_owned(),
                "--".to_owned(),
            ];
            self.words.splice(0..0, before);
        }
        self
    }

    pub fn and<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.words.extend(words.map(str::to_owned));
        self
    }

    /// All of the other's words behind these.
    pub fn then(mut self, other: Self) -> Self {
        self.words.extend(other.words);
        self.environment.extend(other.environment);
        self
    }

    /// The same words from a list.
    pub fn and_all(mut self, words: &[String]) -> Self {
        self.words.extend_from_slice(words);
        self
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end; what it wrote.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn output(&self) -> Result<String, String> {
        let shown = self.words.join(" ");
        let done = self.command().output().map_err(|error| format!("{shown}: {error}"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if done.status.success() {
            return Ok(said(&done.stdout));
        }
        Err(format!("{shown}: {}: {} {}", done.status, said(&done.stdout), said(&done.stderr)))
    }

    pub fn run(&self) -> String {
        self.output().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A user of this system that a server runs as.
pub struct Account {
    uid: u32,
    gid: u32,
    /// Not the one that runs the tests.
    other: bool,
}

impl Account {
    /// `name` when the tests are run by root, the user that runs them otherwise.
    pub fn new(name: &str) -> Self {
        let own = rustix::process::getuid();
        if !own.is_root() {
            return Self { uid: own.as_raw(), gid: rustix::process::getgid().as_raw(), other: false };
        }
        let users = BufReader::new(File::open("/etc/passwd").expect("a list of users")).lines();
        let found = users.map(|line| line.expect("text")).find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[0] == name).then(|| (fields[2].parse().expect("a number"), fields[3].parse().expect("a number")))
        });
        let (uid, gid) = found.unwrap_or_else(|| panic!("no user {name}: scripts/setup.sh installs the packages"));
        Self { uid, gid, other: true }
    }

    /// Makes a directory that this user alone may look into.
    pub fn directory(&self, path: &Path) {
        std::fs::create_dir(path).expect("a new directory");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).expect("ours");
        if self.other {
            chown(path, Some(self.uid), Some(self.gid)).expect("gives it away");
        }
    }
}

impl Account {
    /// Writes a file that this user alone may read.
    pub fn file(&self, path: &Path, bytes: &[u8]) {
        std::fs::write(path, bytes).expect("writes");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("ours");
        if self.other {
            chown(path, Some(self.uid), Some(self.gid)).expect("gives it away");
        }
    }
}

/// A directory for one server, removed with it. Other users can reach what is theirs in it.
pub fn directory() -> PathBuf {
    let path = tempfile::Builder::new().prefix("mailroom-server-").tempdir().expect("a directory").keep();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("ours");
    path
}

/// A program that serves; gone when dropped.
pub struct Running {
    server: Words,
    /// Succeeds once it serves.
    probe: Words,
    pub directory: PathBuf,
    pub address: SocketAddr,
    child: Option<Child>,
    keeper: Option<(Child, ChildStdin)>,
}

impl Running {
    /// Starts `server` and waits until `probe` succeeds.
    pub fn start(server: Words, probe: Words, directory: PathBuf, address: SocketAddr) -> Self {
        let mut running = Self { server, probe, directory, address, child: None, keeper: None };
        running.launch();
        running.wait();
        running
    }

    /// Starts it again and waits for nothing.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = || File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = self.server.command();
        let child = command.current_dir(&self.directory).process_group(0).stdout(log()).stderr(log()).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{:?} does not start ({error}): scripts/setup.sh installs it", self.server.words)
        });
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, &child.id().to_string()]).arg(&self.directory).process_group(0);
        let mut keeper =
            keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell");
        let pipe = keeper.stdin.take().expect("a pipe");
        if let Some((mut old, _)) = self.keeper.replace((keeper, pipe)) {
            // It must not remove what is used again.
            let _ = old.kill();
            let _ = old.wait();
        }
        self.child = Some(child);
    }

    /// Waits until it serves; blocks the thread.
    pub fn wait(&mut self) {
        let end = Instant::now() + LONGEST;
        while let Err(error) = self.probe.output() {
            self.alive();
            assert!(Instant::now() < end, "{error}\n{}", self.said());
            std::thread::sleep(POLL);
        }
    }

    /// The same for those whose thread serves others.
    pub async fn ready(&mut self) {
        let end = Instant::now() + LONGEST;
        loop {
            let probe = self.probe.clone();
            let Err(error) = tokio::task::spawn_blocking(move || probe.output()).await.expect("runs") else { return };
            self.alive();
            assert!(Instant::now() < end, "{error}\n{}", self.said());
            tokio::time::sleep(POLL).await;
        }
    }

    fn alive(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        if let Some(status) = child.try_wait().expect("a child of ours") {
            panic!("it ended instead of serving: {status}\n{}", self.said());
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4_000)..]).into_owned()
    }

    /// SIGKILL to all its processes at once.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let family = family(child.id());
        send(&family, Signal::KILL);
        let _ = child.kill();
        child.wait().expect("is gone");
        gone(&family);
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let family = family(child.id());
        send(&family[..1], signal);
        let end = Instant::now() + LONGEST;
        while child.try_wait().expect("a child of ours").is_none() {
            assert!(Instant::now() < end, "it does not stop\n{}", self.said());
            std::thread::sleep(POLL);
        }
        send(&family[1..], Signal::KILL);
        gone(&family);
    }

    /// Sends a signal to its first process.
    pub fn signal(&self, signal: Signal) {
        send(&[self.child.as_ref().expect("it runs").id()], signal);
    }

    /// Stops all its processes in their tracks, until [`Running::resume`].
    pub fn pause(&self) {
        let id = self.child.as_ref().expect("it runs").id();
        // One that was begun meanwhile is found by another look.
        let mut stopped = 0;
        loop {
            let family = family(id);
            send(&family, Signal::STOP);
            if family.len() == stopped {
                return;
            }
            stopped = family.len();
        }
    }

    pub fn resume(&self) {
        send(&family(self.child.as_ref().expect("it runs").id()), Signal::CONT);
    }

    /// Starts it again on the same ports and data, after a kill if it runs.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch();
        self.ready().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        // At the end of its pipe the keeper removes the directory.
        if let Some((mut keeper, pipe)) = self.keeper.take() {
            drop(pipe);
            let _ = keeper.wait();
        }
    }
}

/// A process and all that it and they began.
fn family(id: u32) -> Vec<u32> {
    let mut family = vec![id];
    let mut next = 0;
    while let Some(id) = family.get(next) {
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = children
            .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|id| id.parse().ok())
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

fn send(family: &[u32], signal: Signal) {
    for id in family {
        if let Some(id) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(id, signal);
        }
    }
}

/// Waits until the ports and files of these processes are free.
fn gone(family: &[u32]) {
    let end = Instant::now() + LONGEST;
    let lives = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // A zombie has let go of everything.
        status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    };
    while family.iter().any(lives) {
        assert!(Instant::now() < end, "a killed process does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}
