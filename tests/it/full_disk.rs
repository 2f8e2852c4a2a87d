//! A full disk: mail is refused with 452 4.3.1, what was answered 250 is there, deletion works and receiving resumes by
//! itself. The server runs on a small tmpfs of its own, in a mount namespace that any user may make (`unshare -rm`).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::process::Plan;
use crate::support::{Api, PATIENCE, Process, SmtpClient, until};

const DISK: u64 = 64 << 20;
const LINE: usize = 64;
const NOISE: usize = 16_000;
const MAILBOXES: [&str; 2] = ["a@example.com", "b@example.com"];

/// A file system of [`DISK`] bytes, there as long as this is.
struct Disk {
    holder: Child,
    /// Where it lies for those in its namespace.
    at: PathBuf,
    _under: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let under = tempfile::tempdir().unwrap();
        let script = format!("mount -t tmpfs -o size={DISK} tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .arg(under.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs unshare: install util-linux");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line, "mounted\n",
            "this test needs `unshare -rm`, which this machine refuses: allow user namespaces"
        );
        Self { holder, at: under.path().to_owned(), _under: under }
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::new(&self.at.join("data"));
        let id = self.holder.id().to_string();
        plan.wrapper = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", &id].map(str::to_owned).into();
        plan
    }

    /// The same place for those outside.
    fn outside(&self) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(self.at.strip_prefix("/").unwrap())
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.outside()).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

struct Kept {
    id: String,
    to: Vec<&'static str>,
    contents: Vec<u8>,
}

/// Who sends mail and remembers what was answered 250.
struct Sender {
    smtp: SmtpClient,
    rng: StdRng,
    /// [`NOISE`] lines of [`LINE`] bytes.
    noise: Rc<str>,
    kept: Vec<Kept>,
}

impl Sender {
    async fn new(server: &Process) -> Self {
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        let mut rng = StdRng::seed_from_u64(7);
        let mut line =
            || (2..LINE).map(|_| char::from(rng.random_range(b'0'..b'z'))).chain("\r\n".chars()).collect::<String>();
        let noise = (0..NOISE).map(|_| line()).collect::<String>().into();
        Self { smtp, rng, noise, kept: Vec::new() }
    }

    /// The same in a new session.
    async fn again(self, server: &Process) -> Self {
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        Self { smtp, ..self }
    }

    /// One message of about `size` bytes that do not compress, some of them text to index; what was answered.
    async fn send(&mut self, size: usize) -> String {
        let lines = self.rng.random_range(0..NOISE - size / LINE);
        let noise = &self.noise[lines * LINE..][..size / LINE * LINE];
        let text = self.rng.random_ratio(1, 10);
        let kind = if text { "text/plain" } else { "application/octet-stream" };
        let subject = self.kept.len();
        let contents = format!("Subject: {subject}\r\nContent-Type: {kind}\r\n\r\n{noise}").into_bytes();
        let to: Vec<&str> = MAILBOXES.into_iter().take(self.rng.random_range(1..=2)).collect();
        let reply = self.smtp.send("ann@sender.test", &to, &contents).await;
        match reply.strip_prefix("250 2.0.0 Stored as ") {
            Some(id) => self.kept.push(Kept { id: id.to_owned(), to, contents }),
            None => assert!(self.smtp.command("RSET").await.starts_with("250")),
        }
        reply
    }

    /// Sends until it is refused, which must be for want of space.
    async fn fill(&mut self, size: usize) {
        loop {
            let reply = self.send(size).await;
            if !reply.starts_with("250") {
                assert!(reply.starts_with("452 4.3.1"), "{reply}");
                return;
            }
            let sent: u64 = self.kept.iter().map(|kept| kept.contents.len() as u64).sum();
            assert!(sent < 2 * DISK, "more was taken than there is room for");
        }
    }

    /// Everything answered 250 is there, whole, and nothing else.
    async fn check(&self, api: &Api) {
        for mailbox in MAILBOXES {
            let here: Vec<&Kept> = self.kept.iter().filter(|kept| kept.to.contains(&mailbox)).collect();
            let view = api.json(&format!("/v1/mailboxes/{mailbox}")).await;
            assert_eq!(view["messages"].as_u64(), Some(here.len() as u64), "{mailbox}");
            for kept in here {
                let raw = api.get(&format!("/v1/mailboxes/{mailbox}/messages/{}/raw", kept.id)).await;
                assert_eq!(raw.status, 200, "{}: {}", kept.id, raw.text());
                assert!(raw.body.ends_with(&kept.contents), "{} is not what was sent", kept.id);
            }
        }
    }

    /// Deletes the older ones over the API and leaves `keep` of ten.
    async fn delete(&mut self, api: &Api, keep: usize) {
        let kept = self.kept.split_off(self.kept.len() - self.kept.len() * keep / 10);
        for gone in std::mem::replace(&mut self.kept, kept) {
            for mailbox in gone.to {
                let answer = api.delete(&format!("/v1/mailboxes/{mailbox}/messages/{}", gone.id)).await;
                assert_eq!(answer.status, 204, "{}", answer.text());
            }
        }
    }

    /// Waits until mail is taken again.
    async fn resumes(&mut self, server: &Process) {
        let end = Instant::now() + PATIENCE;
        loop {
            // Refusals are counted in a session, and too many end it.
            self.smtp = server.smtp().await;
            self.smtp.hello().await;
            let reply = self.send(1_000).await;
            if reply.starts_with("250") {
                return;
            }
            assert!(reply.starts_with("452 4.3.1"), "{reply}");
            assert!(Instant::now() < end, "receiving does not resume");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Fills the disk, deletes, fills it again; then the same after the server was killed.
async fn full(min_free: &str, segment_size: &str, size: usize, keep: usize) {
    let disk = Disk::new();
    let plan = disk.plan().set("MAILROOM__DATABASE__MIN_FREE", min_free);
    let plan =
        plan.set("MAILROOM__BODIES__SEGMENT_SIZE", segment_size).set("MAILROOM__MAILBOXES__EXPIRE_EVERY", "200ms");
    let server = plan.start().await;
    let api = server.api().kept();
    let mut sender = Sender::new(&server).await;
    sender.fill(size).await;
    assert!(sender.kept.len() > 5);
    sender.check(&api).await;
    let free = disk.free();
    sender.delete(&api, keep).await;
    until("space is given back", || async { disk.free() > free + DISK / 4 }).await;
    sender.resumes(&server).await;
    sender.fill(size).await;
    sender.check(&api).await;

    server.kill();
    let server = plan.start().await;
    let api = server.api().kept();
    let mut sender = sender.again(&server).await;
    sender.check(&api).await;
    sender.delete(&api, 0).await;
    sender.resumes(&server).await;
    sender.check(&api).await;
    assert!(server.terminate().success());
}

#[actix::test]
async fn a_disk_filled_to_the_reserve_refuses_and_resumes() {
    full("4MiB", "1MiB", 200_000, 2).await;
}

#[actix::test]
async fn a_disk_filled_to_the_last_byte_refuses_and_resumes() {
    full("1B", "1MiB", 200_000, 2).await;
}

#[actix::test]
async fn a_disk_smaller_than_a_segment_refuses_and_resumes() {
    full("4MiB", "256MiB", 250_000, 0).await;
}

#[actix::test]
async fn free_space_below_min_free_refuses_mail_and_nothing_else() {
    let disk = Disk::new();
    let server = disk.plan().set("MAILROOM__DATABASE__MIN_FREE", "20MiB").start().await;
    let api = server.api().kept();
    let mut sender = Sender::new(&server).await;
    for _ in 0..3 {
        assert!(sender.send(10_000).await.starts_with("250"));
    }
    // Someone else fills the disk.
    let foreign = disk.outside().join("foreign");
    std::fs::write(&foreign, vec![1; usize::try_from(disk.free() - (18 << 20)).unwrap()]).unwrap();
    until("the server notices", || async { api.json("/v1/server").await["receiving"] == false }).await;
    sender.fill(10_000).await;
    sender.check(&api).await;
    sender.delete(&api, 5).await;
    sender.check(&api).await;
    let made = api.post("/v1/mailboxes", serde_json::json!({"address": "made@example.com"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    std::fs::remove_file(&foreign).unwrap();
    sender.resumes(&server).await;
    sender.check(&api).await;
    assert!(server.terminate().success());

    let server = disk.plan().set("MAILROOM__DATABASE__MIN_FREE", "1GiB").start().await;
    let mut sender = sender.again(&server).await;
    sender.fill(1_000).await;
    sender.check(&server.api()).await;
    assert!(server.terminate().success());
}
