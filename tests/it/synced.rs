//! SIGKILL leaves the page cache, so it cannot show a missing sync. Here the program runs under `strace`: each final 250
//! must come after the sync of its segment and of the WAL, and after the sync of the directories of all that is new.
//!
//! The analyser is shown to notice each sync that is left out: in traces from which its lines were taken, and where the
//! kernel was told to skip the call.

use std::collections::HashMap;
use std::path::Path;

use futures_util::future::join_all;

use crate::support::process::Plan;
use crate::support::{Process, SmtpClient, message};

/// Calls by which bytes and names reach files, sockets and the disk.
const CALLS: &str = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,\
    fsync,fdatasync,syncfs,sync_file_range,msync,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,io_uring_setup";
const SENDERS: usize = 4;
const MESSAGES: usize = 12;

/// One system call; `start` and `end` are lines of the trace.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    start: usize,
    end: usize,
    /// What its first descriptor stands for: a path, or `TCP:[…]`.
    on: String,
    /// The first string among its arguments: bytes written or read, or a path.
    bytes: Vec<u8>,
    flags: String,
    result: i64,
    /// The kernel did not do it.
    injected: bool,
}

impl Call {
    fn is_sync_of(&self, path: &str) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.on == path && self.result == 0 && !self.injected
    }

    fn writes(&self) -> bool {
        self.name.starts_with("pwrite") || self.name.starts_with("write") || self.name.starts_with("send")
    }

    fn reads(&self) -> bool {
        (self.name.starts_with("read") || self.name.starts_with("recv")) && self.result > 0
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        memchr::memmem::find(&self.bytes, bytes).is_some()
    }
}

/// Reads what `strace -f -xx -yy` wrote. A call that another thread interrupted is put together again.
fn parse(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (line, text) in trace.lines().enumerate() {
        let Some((thread, text)) = text.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (line, begun.to_owned()));
        } else if let Some(rest) = text.strip_prefix("<... ") {
            let (Some((start, begun)), Some((_, rest))) = (open.remove(thread), rest.split_once(" resumed>")) else {
                panic!("a call that never began: {text}");
            };
            calls.extend(call(&format!("{begun}{rest}"), start, line));
        } else {
            calls.extend(call(text, line, line));
        }
    }
    // What was never seen to return: the writes among them count as begun, a sync as not done.
    for (start, begun) in open.into_values() {
        calls.extend(call(&format!("{begun}) = -1"), start, usize::MAX));
    }
    calls.sort_by_key(|call| call.start);
    calls
}

fn call(text: &str, start: usize, end: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    // Strings are escaped, so this is the sign before the result; `strace` pads it.
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let first = arguments.split(", ").next().unwrap_or_default();
    let on = first.split_once('<').map_or("", |(_, on)| on.strip_suffix('>').unwrap_or(on));
    let mut strings = arguments.split('"');
    let bytes = unescape(strings.nth(1).unwrap_or_default());
    Some(Call {
        name: name.to_owned(),
        start,
        end,
        on: String::from_utf8_lossy(&unescape(on)).into_owned(),
        bytes,
        flags: strings.next().unwrap_or_default().to_owned(),
        result: result.split([' ', '<']).next()?.parse().unwrap_or(-1),
        injected: result.ends_with("(INJECTED)"),
    })
}

/// Undoes `-xx`: `\x4d\x52`. What is not escaped stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, plain) = piece.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        bytes.extend_from_slice(plain.as_bytes());
    }
    bytes
}

/// What the trace shows.
#[derive(Debug, Default)]
struct Report {
    /// Final 250s.
    answers: usize,
    /// Segment files made.
    segments: usize,
    problems: Vec<String>,
}

/// Checks every final 250 in the trace.
fn analyse(calls: &[Call]) -> Report {
    let mut report = Report::default();
    let new = new_names(calls);
    report.segments = new.iter().filter(|(path, _)| path.ends_with(".seg")).count();
    for answer in calls.iter().filter(|call| call.writes() && call.holds(b"250 2.0.0 Stored as ")) {
        report.answers += 1;
        if let Err(problem) = check(calls, &new, answer) {
            report.problems.push(format!("line {}: {problem}", answer.start + 1));
        }
    }
    report
}

fn check(calls: &[Call], new: &[(String, usize)], answer: &Call) -> Result<(), String> {
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let id = text.split("Stored as ").nth(1).and_then(|rest| rest.trim_end().parse::<uuid::Uuid>().ok());
    let id = id.ok_or_else(|| format!("no id in {text:?}"))?;
    let heard = calls.iter().rfind(|call| call.on == answer.on && call.reads() && call.end < answer.start);
    let dot = heard.filter(|call| call.bytes.ends_with(b"\r\n.\r\n")).ok_or("no dot before the 250")?;
    let synced_after = |path: &str, line: usize| {
        calls.iter().any(|call| call.is_sync_of(path) && call.start > line && call.end < answer.start)
    };
    let mut stored = Vec::new();
    for (what, suffix) in [("segment", ".seg"), ("WAL", ".db-wal")] {
        let holds = |call: &&Call| call.writes() && call.on.ends_with(suffix) && call.holds(id.as_bytes());
        let written = calls.iter().find(|call| holds(call) && call.start > dot.end && call.start < answer.start);
        let written = written.ok_or_else(|| format!("{id} is not in the {what} between its dot and its 250"))?;
        let end = match what {
            "WAL" => committed(calls, written).ok_or_else(|| format!("{id} is not committed before its 250"))?,
            _ => written.end,
        };
        if !synced_after(&written.on, end) {
            return Err(format!("the {what} of {id} is not synced before its 250"));
        }
        stored.push(written.on.as_str());
    }
    for (path, made) in new
        .iter()
        .filter(|(path, made)| *made < answer.start && (!path.ends_with(".seg") || stored.contains(&path.as_str())))
    {
        let parent = Path::new(path).parent().and_then(Path::to_str).unwrap_or_default();
        if !synced_after(parent, *made) {
            return Err(format!("the directory of {path} is not synced before the 250 of {id}"));
        }
    }
    Ok(())
}

/// Where the transaction to which the page `written` belongs has reached the WAL: a page follows its head of 24 bytes, and
/// the head of a transaction's last page has the database's size at its bytes 4 to 7.
fn committed(calls: &[Call], written: &Call) -> Option<usize> {
    let head = |call: &&Call| call.writes() && call.on == written.on && call.bytes.len() == 24;
    let own = calls.iter().rfind(|call| head(call) && call.start < written.start)?;
    let last = calls.iter().find(|call| head(call) && call.start >= own.start && call.bytes[4..8] != [0; 4])?;
    let page = calls.iter().find(|call| call.writes() && call.on == written.on && call.start > last.start)?;
    Some(page.end)
}

/// Directories and files of the store that appear in the trace, each with the line after which its name is there.
fn new_names(calls: &[Call]) -> Vec<(String, usize)> {
    let mut new: Vec<(String, usize)> = Vec::new();
    for call in calls.iter().filter(|call| call.result >= 0) {
        let path = String::from_utf8_lossy(&call.bytes).into_owned();
        let kept = [".seg", ".db", ".db-wal"].iter().any(|end| path.ends_with(end));
        let made = match call.name.as_str() {
            "mkdir" | "mkdirat" => true,
            "open" | "openat" | "creat" => kept && call.flags.contains("O_CREAT"),
            _ => false,
        };
        // The index of what can be searched is made again when it is lost.
        if made
            && !path.ends_with("search.db")
            && !path.ends_with("search.db-wal")
            && !new.iter().any(|(p, _)| *p == path)
        {
            new.push((path, call.end));
        }
    }
    new
}

/// A server under `strace` with more options, in an empty directory.
async fn traced(data: &Path, trace: &Path, options: &[&str]) -> Process {
    let mut plan = Plan::new(data).set("MAILROOM__BODIES__SEGMENT_SIZE", "8KiB");
    plan.traced = true;
    plan.wrapper = ["strace", "-f", "-xx", "-yy", "-s", "1000000", "--seccomp-bpf"].map(str::to_owned).into();
    plan.wrapper.extend(["-e".to_owned(), format!("trace={CALLS}")]);
    plan.wrapper.extend(options.iter().map(|option| (*option).to_owned()));
    plan.wrapper.extend(["-o".into(), trace.to_str().expect("a path").to_owned()]);
    // Nothing is left behind when the test fails and `strace` is killed.
    plan.wrapper.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
    plan.start().await
}

/// The trace of a server that took mail from several senders at once.
async fn record(options: &[&str]) -> String {
    let version = std::process::Command::new("strace").arg("-V").output();
    assert!(version.is_ok(), "this test needs strace: install it (Debian: apt-get install strace)");
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let server = traced(&dir.path().join("new/data"), &trace, options).await;
    join_all((0..SENDERS).map(|sender| send(&server, sender))).await;
    assert!(server.terminate().success());
    std::fs::read_to_string(&trace).unwrap()
}

async fn send(server: &Process, sender: usize) {
    let mut smtp: SmtpClient = server.smtp().await;
    smtp.hello().await;
    for n in 0..MESSAGES {
        let text = message(&format!("{sender} {n}"), &format!("{sender} {n} ").repeat(20 * n * n + 1));
        let to = [format!("{sender}@example.com"), format!("{n}@example.com"), "all@example.com".into()];
        let to: Vec<&str> = to.iter().take(1 + n % 3).map(String::as_str).collect();
        let reply = smtp.send("ann@sender.test", &to, text.as_bytes()).await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }
    smtp.quit().await;
}

/// The trace as it would be if whatever is synced at `path` were not.
fn without_syncs_of(trace: &str, is: impl Fn(&str) -> bool) -> String {
    let left_out: Vec<(usize, usize)> = parse(trace)
        .iter()
        .filter(|call| matches!(call.name.as_str(), "fsync" | "fdatasync") && is(&call.on))
        .map(|call| (call.start, call.end))
        .collect();
    assert!(!left_out.is_empty(), "there is nothing to leave out");
    let kept = trace.lines().enumerate().filter(|(n, _)| !left_out.iter().any(|(start, end)| n == start || n == end));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

/// Which file's syncs are left out of a trace.
type Left = fn(&str) -> bool;

#[actix::test]
async fn every_250_comes_after_the_syncs_of_its_segment_wal_and_directory() {
    let trace = record(&[]).await;
    let calls = parse(&trace);
    let report = analyse(&calls);
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.answers, SENDERS * MESSAGES);
    assert!(report.segments >= 3, "several segments are begun: {}", report.segments);
    assert!(!calls.iter().any(|call| call.name == "io_uring_setup"), "its writes would not be seen");

    let cases: [(&str, Left, &str); 5] = [
        ("segment", |path| path.ends_with(".seg"), "the segment of "),
        ("WAL", |path| path.ends_with(".db-wal"), "the WAL of "),
        ("bodies", |path| path.ends_with("/bodies"), ".seg is not synced"),
        ("data", |path| path.ends_with("/data"), "the directory of "),
        ("above data", |path| path.ends_with("/new"), "/new/data is not synced"),
    ];
    for (what, is, says) in cases {
        let report = analyse(&parse(&without_syncs_of(&trace, is)));
        assert!(report.problems.iter().any(|problem| problem.contains(says)), "{what}: {:?}", report.problems);
    }
    // A single one that is missing shows as well.
    let wal = calls.iter().rfind(|call| call.is_sync_of(&call.on) && call.on.ends_with(".db-wal")).unwrap();
    let last_answer = calls.iter().rfind(|call| call.holds(b"250 2.0.0 Stored as ")).unwrap();
    let last = calls.iter().rfind(|call| call.is_sync_of(&wal.on) && call.end < last_answer.start);
    let fewer: Vec<Call> = calls.iter().filter(|call| call.start != last.unwrap().start).cloned().collect();
    assert!(!analyse(&fewer).problems.is_empty());
}

#[actix::test]
async fn a_sync_that_the_kernel_skips_is_noticed() {
    for (skipped, says) in [("fdatasync", "is not synced before its 250"), ("fsync", "the directory of ")] {
        let report = analyse(&parse(&record(&["-e", &format!("inject={skipped}:retval=0")]).await));
        assert_eq!(report.answers, SENDERS * MESSAGES);
        assert_eq!(report.problems.len(), report.answers, "{skipped}: {:?}", report.problems);
        assert!(report.problems.iter().all(|problem| problem.contains(says)), "{skipped}: {:?}", report.problems);
    }
}

#[test]
fn a_250_while_the_sync_is_under_way_is_noticed() {
    let id = uuid::Uuid::from_bytes(*b"0123456789abcdef");
    let page = "3 pwrite64(7</m.db-wal>, \"012345678901234567890123\", 24, 0) = 24\n\
         3 pwrite64(7</m.db-wal>, \"0123456789abcdef\", 16, 0) = 16\n";
    let trace = |wal: &[&str]| {
        let before = "1 recvfrom(5<TCP:[a]>, \"x\\x0d\\x0a.\\x0d\\x0a\", 9) = 6\n\
            2 pwrite64(6</d/1.seg>, \"0123456789abcdef\", 16, 0) = 16\n2 fdatasync(6</d/1.seg>) = 0\n";
        analyse(&parse(&format!("{before}{}", wal.concat()))).problems
    };
    let answer = format!("1 sendto(5<TCP:[a]>, \"250 2.0.0 Stored as {id}\", 9) = 9\n");
    let (begun, resumed) = ("3 fdatasync(7</m.db-wal> <unfinished ...>\n", "3 <... fdatasync resumed>)       = 0\n");
    let (whole, failed) =
        ("3 fdatasync(7</m.db-wal>) = 0\n", "3 fdatasync(7</m.db-wal>) = -1 EIO (Input/output error)\n");
    assert_eq!(trace(&[page, whole, &answer]), Vec::<String>::new());
    assert_eq!(trace(&[page, begun, resumed, &answer]), Vec::<String>::new());
    assert_eq!(trace(&[page, begun, &answer, resumed]).len(), 1, "answered too early");
    assert_eq!(trace(&[page, begun, &answer]).len(), 1, "never returned");
    assert_eq!(trace(&[page, failed, &answer]).len(), 1, "failed");
    assert_eq!(trace(&[whole, page, &answer]).len(), 1, "written after the sync");
    let open = page.replace("012345678901234567890123", "0123\\x00\\x00\\x00\\x008901234567890123");
    assert_eq!(trace(&[&open, whole, page, &answer]).len(), 1, "committed after the sync");
    assert_eq!(trace(&[&open, page, whole, &answer]), Vec::<String>::new());
}
