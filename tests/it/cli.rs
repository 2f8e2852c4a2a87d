//! The binary as an operator meets it: exit codes, one line a failure, help.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn mailroom(arguments: &[&str]) -> Output {
    with_environment(arguments, &[])
}

fn with_environment(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailroom"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The last words on standard error, without the log.
fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter_map(|line| line.strip_prefix("mailroom: ")).collect::<Vec<_>>().join("\n")
}

/// Flags for a server that takes free ports and keeps its data in `data`.
fn on_free_ports(data: &Path) -> Vec<String> {
    let flags = ["--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--data"];
    flags.iter().map(|flag| (*flag).to_owned()).chain([data.display().to_string()]).collect()
}

fn serve(data: &Path, more: &[&str]) -> Output {
    let flags = on_free_ports(data);
    let replaced = |flag: &str| more.contains(&flag);
    let mut arguments: Vec<&str> = Vec::new();
    for pair in flags.chunks(2).filter(|pair| !replaced(&pair[0])) {
        arguments.extend(pair.iter().map(String::as_str));
    }
    arguments.extend(more);
    mailroom(&arguments)
}

#[test]
fn the_printed_example_is_a_configuration_that_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let example = mailroom(&["config", "example"]);
    assert_eq!(code(&example), 0);
    let path = dir.path().join("mailroom.toml");
    std::fs::write(&path, &example.stdout).unwrap();
    let path = path.to_str().unwrap();
    for arguments in [&["config", "check", "--config", path][..], &["config", "check", path]] {
        let checked = mailroom(arguments);
        assert_eq!((code(&checked), out(&checked)), (0, format!("ok: {path}\n")));
    }
    assert_eq!(out(&mailroom(&["config", "check"])), "ok: defaults and environment, no file\n");
    assert_eq!(code(&mailroom(&["config", "check", path, "--config", path])), 64);
}

#[test]
fn config_check_serve_and_doctor_refuse_alike_what_would_break_the_server() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value, line) in [
        ("MAILROOM__LOG__LEVEL", "verbose", "log.level: \"verbose\" will not do; possible: "),
        ("MAILROOM__DATABASE__URL", "oracle://x", "database.url: \"oracle://x\" will not do; possible: "),
        ("MAILROOM__DOMAINS__ACCEPT", "ex ample.com", "domains.accept: \"ex ample.com\" will not do; possible: "),
        ("MAILROOM_SMTP__MAX_SESSIONS", "5", "MAILROOM_SMTP__MAX_SESSIONS: is not read: the prefix is MAILROOM__; "),
    ] {
        let checked = with_environment(&["config", "check"], &[(name, value)]);
        assert_eq!((code(&checked), out(&checked).lines().count()), (78, 1));
        assert!(out(&checked).starts_with(line), "{}", out(&checked));
        let flags = on_free_ports(dir.path());
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let served = with_environment(&flags, &[(name, value)]);
        assert_eq!(code(&served), 78);
        assert!(failure(&served).starts_with(line), "{}", failure(&served));
        let doctor = with_environment(&[&["doctor"], &flags[..]].concat(), &[(name, value)]);
        assert_eq!(code(&doctor), 1);
        assert!(out(&doctor).contains(line), "{}", out(&doctor));
    }
}

/// URLs that will not do, each of which has a password in it that its writer may have forgotten to escape.
const WITH_PASSWORDS: &[(&str, &str)] = &[
    ("DATABASE__URL", "postgress://ann:hunter2@db.example/mail"),
    ("DATABASE__URL", "postgres:/ann:hunter2@db.example/mail"),
    ("DATABASE__URL", "ann:hunter2@db.example"),
    ("DATABASE__URL", "postgres://ann:hunt?er2@db.example/mail"),
    ("DATABASE__URL", "postgres://ann:hunt#er2@db.example/mail"),
    ("DATABASE__URL", "postgres://ann:hunt/er2@db.example/mail"),
    ("DATABASE__URL", "postgres://ann:hunter2@db.example:port/mail"),
    ("DATABASE__URL", "postgress://db.example/mail?user=ann&password=hunter2"),
    ("DATABASE__URL", "mysql://ann:hunter2@db.example/mail?sslrootcert=/ca.pem"),
    ("DATABASE__URL", "mysql://ann:hunt?ssl-mode=er2@db.example/mail"),
    ("DATABASE__REPLICAS", "postgress://ann:hunter2@db.example/mail"),
    ("DATABASE__QUEUE", "postgres://ann:hunter2@db.example/mail"),
    ("REDIS__URL", "radish://ann:hunter2@cache.example"),
    ("REDIS__URL", "redis://:hunt?er2@cache.example"),
    ("REDIS__URL", "redis://:hunt#er2@cache.example"),
    ("REDIS__URL", "redis://:hunter2@cache.example:port"),
    ("REDIS__URL", "redis://:hunter2@cache.example/db"),
    ("REDIS__URL", "redis://:hunter2@a.example, valkeys://:hunter2@b.example"),
    ("REDIS__SHARDS", "redis://:hunter2@cache.example"),
    ("BROKER__URL", "ampq://ann:hunter2@mq.example/%2f"),
    ("BROKER__URL", "amqp:ann:hunter2@mq.example"),
    ("BROKER__URL", "amqp://ann:hunt?er2@mq.example/%2f"),
    ("BROKER__URL", "amqp://ann:hunt#er2@mq.example:port"),
    ("BROKER__URL", "amqp://ann:hunter2@[::1]:5672/%2f"),
    ("BROKER__QUEUES", "amqp://ann:hunter2@mq.example/%2f"),
    ("COLD__URL", "s3://KEY:hunter2@bucket"),
    ("COLD__URL", "s4://KEY:hunter2/bucket"),
    ("COLD__URL", "KEY:hunter2@bucket"),
    ("COLD__ENDPOINT", "https://KEY:hunter2@minio.example:9000"),
    ("COLD__TIMEOUT", "s3://KEY:hunter2@bucket"),
];

#[test]
fn no_command_repeats_the_password_of_a_url_that_will_not_do() {
    let dir = tempfile::tempdir().unwrap();
    let flags = on_free_ports(dir.path());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let serve = [&["serve"][..], &flags].concat();
    let doctor = [&["doctor"][..], &flags].concat();
    let data = dir.path().display().to_string();
    let of = |command: &[&'static str]| [command, &["--data", &data]].concat().join("\n");
    let others = [of(&["check"]), of(&["migrate"]), of(&["archive"]), of(&["queue", "dead", "list"])];
    for (name, url) in WITH_PASSWORDS {
        let name = format!("MAILROOM__{name}");
        let silent = |arguments: &[&str]| {
            let output = with_environment(arguments, &[(&name, url)]);
            let said = format!("{}{}", out(&output), String::from_utf8_lossy(&output.stderr));
            assert!(!["hunt", "er2"].iter().any(|part| said.contains(part)), "{arguments:?} {name}={url}: {said}");
            (code(&output), said)
        };
        for arguments in [&["config", "check"][..], &serve, &doctor] {
            let (code, said) = silent(arguments);
            assert!(code != 0, "{arguments:?} {name}={url}: {said}");
            let setting = name.trim_start_matches("MAILROOM__").replace("__", ".").to_lowercase();
            assert!(said.contains(&setting), "{arguments:?} {name}={url} does not say which setting: {said}");
        }
        if name.ends_with("__URL") {
            for command in &others {
                silent(&command.split('\n').collect::<Vec<_>>());
            }
        }
    }
    // From a file, where it may not even be TOML.
    let file = dir.path().join("mailroom.toml");
    for text in
        ["url = postgres://ann:hunter2@db/mail", "url = \"postgres://ann:hunter2@db/mail", "url = \"x:hunter2@y\""]
    {
        std::fs::write(&file, format!("[database]\n{text}\n")).unwrap();
        for command in [&["config", "check", "--config"][..], &["doctor", "--config"], &["serve", "--config"]] {
            let output = mailroom(&[command, &[file.to_str().unwrap()]].concat());
            let said = format!("{}{}", out(&output), String::from_utf8_lossy(&output.stderr));
            assert!(code(&output) != 0 && !said.contains("hunter2"), "{command:?} {text}: {said}");
        }
    }
}

#[test]
fn an_address_may_be_a_port_alone() {
    let listening = |addr: &str| out(&mailroom(&["config", "check", "--smtp", addr, "--http", addr, "--ops", addr]));
    for addr in ["24526", ":24526", "localhost:24526"] {
        assert!(
            listening(addr).contains("ops.listen: 127.0.0.1:24526 will not do beside smtp.listen at 127.0.0.1:24526")
        );
    }
    let refused = mailroom(&["--smtp", "mail.example:25"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(code(&refused), 64);
    assert!(text.contains("\"mail.example:25\" is not an address to listen on, such as"), "{text}");
}

#[test]
fn config_check_prints_everything_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mailroom.toml");
    std::fs::write(&path, "[smtp]\nmax_sesions = 5\nread_timeout = 30\n").unwrap();
    let path = path.to_str().unwrap();
    let checked = with_environment(&["config", "check", "--config", path], &[("MAILROOM__HTP__LISTEN", "x")]);
    let text = String::from_utf8_lossy(&checked.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(code(&checked), 78, "{text}");
    assert_eq!(lines[0], format!("{path}:2: unknown setting smtp.max_sesions; did you mean max_sessions?"));
    assert!(lines[1].starts_with(&format!("{path}:3: smtp.read_timeout: \"30\" is not a time")), "{text}");
    assert!(lines[1].ends_with("for example read_timeout = \"30s\""), "{text}");
    assert_eq!(lines[2], "MAILROOM__HTP__LISTEN: unknown section [htp]; did you mean [http]?");
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_taken_port_is_one_line_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, what) in [("--smtp", "SMTP"), ("--http", "HTTP"), ("--ops", "operations")] {
        let output = serve(dir.path(), &[flag, &addr]);
        assert_eq!(code(&output), 69, "{}", failure(&output));
        assert_eq!(
            failure(&output),
            format!(
                "cannot listen on {addr} for {what}: the port is taken; stop the program that has it, or choose another \
                 with {flag}"
            )
        );
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_one_line_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = serve(&file.join("data"), &[]);
    assert_eq!(code(&output), 73);
    let failure = failure(&output);
    assert!(failure.contains(file.to_str().unwrap()) && failure.contains("--data"), "{failure}");
    assert_eq!(failure.lines().count(), 1);
}

#[test]
fn a_file_in_place_of_the_directory_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("afile");
    std::fs::write(&file, "").unwrap();
    for data in [file.clone(), file.join("data")] {
        let output = serve(&data, &[]);
        assert_eq!(code(&output), 73);
        assert_eq!(failure(&output), format!("{} is not a directory; choose another with --data", file.display()));
    }
    let output = serve(Path::new("/proc/x"), &[]);
    assert_eq!(code(&output), 73);
    assert!(failure(&output).starts_with("/proc/x cannot be made: No such file or directory"), "{}", failure(&output));
}

#[test]
fn check_tells_a_database_that_is_not_there_from_one_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = mailroom(&["check", "--data", dir.path().to_str().unwrap()]);
    assert_eq!(code(&nothing), 69);
    assert!(failure(&nothing).ends_with("mailroom.db: there is no database"), "{}", failure(&nothing));
    let file = dir.path().join("afile");
    std::fs::write(&file, "").unwrap();
    let hidden = mailroom(&["check", "--data", file.to_str().unwrap()]);
    assert_eq!(code(&hidden), 74);
    assert!(failure(&hidden).contains("mailroom.db cannot be read: Not a directory"), "{}", failure(&hidden));
}

/// The log of a server that ran while `during` did, with what it said of its addresses.
fn log_of(data: &Path, during: impl FnOnce(&[String])) -> String {
    log_with(data, &[], during)
}

/// The same in an environment.
fn log_with(data: &Path, environment: &[(&str, &str)], during: impl FnOnce(&[String])) -> String {
    use std::io::{BufRead, BufReader, Read};
    // The soft limit is the hard one then: there is nothing to raise.
    let script = format!("ulimit -n $(ulimit -Hn); exec {} \"$@\"", env!("CARGO_BIN_EXE_mailroom"));
    let mut child = Command::new("sh")
        .args(["-c", &script, "mailroom"])
        .args(on_free_ports(data))
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said: Vec<_> = BufReader::new(child.stdout.take().unwrap()).lines().take(5).map(|line| line.unwrap()).collect();
    during(&said);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success());
    log
}

#[test]
fn a_log_says_nothing_of_descriptors_that_were_not_raised() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(dir.path(), |said| assert_eq!(said.len(), 5));
    assert!(log.contains("stopped") && !log.contains("descriptor"), "{log}");
}

#[test]
fn a_refused_message_is_one_line_of_the_log() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(dir.path(), |said| {
        let addr = said[2].split_whitespace().last().unwrap();
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mail = "HELO x.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\none\ntwo\r\n.\r\nQUIT\r\n";
        stream.write_all(mail.as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert!(answers.contains("550 5.6.0 Message contains a lone LF; lines end with CR LF\r\n"), "{answers}");
    });
    let lines: Vec<_> = log.lines().filter(|line| line.contains("refused")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["reply"], "bare_lf");
    assert_eq!(line["reason"], "Message contains a lone LF; lines end with CR LF");
    assert!(line["session.id"].is_string(), "{line}");
}

#[test]
fn a_redis_that_is_away_from_the_start_is_one_line_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let [dead] = crate::support::process::free_addresses();
    let url = format!("redis://{dead}");
    let log = log_with(dir.path(), &[("MAILROOM__REDIS__URL", &url)], |said| {
        let ops = said[3].split_whitespace().last().unwrap();
        let ops = ops.trim_start_matches("http://").trim_end_matches("/health");
        let health = || exchange(ops, "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let begun = Instant::now();
        while !health().contains("refused") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", health());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let lines: Vec<_> = log.lines().filter(|line| line.contains("Redis is away")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    let why = line["why"].as_str().unwrap();
    assert!(why.contains("refused") && !why.contains("Error occurred"), "{line}");
}

/// What is sent there, and what is answered until the end.
fn exchange(addr: &str, text: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_proxy_that_nobody_named_is_told_of_in_the_log_and_by_doctor() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = String::new();
    let log = log_of(dir.path(), |said| {
        let place = |line: usize| said[line].split_whitespace().last().unwrap();
        let ops = place(3).trim_start_matches("http://").trim_end_matches("/health");
        let http = place(1).trim_start_matches("http://").trim_end_matches('/');
        let doctor = || out(&on_data(&["doctor", "--smtp", "0", "--http", "0", "--ops", ops, "--data"], dir.path()));
        assert!(!doctor().contains("does not name"), "nothing has come yet");
        for _ in 0..3 {
            let answer = exchange(place(2), "PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n");
            assert!(answer.contains("\r\n421 4.3.5 "), "{answer}");
            let request = "GET /v1/domains HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                           x-forwarded-for: 203.0.113.9\r\n\r\n";
            let answer = exchange(http, request);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        report = doctor();
    });
    for (what, setting) in
        [("PROXY header", "[smtp] proxy_protocol_from"), ("X-Forwarded-For", "[http] trusted_proxies")]
    {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
        assert_eq!(lines.len(), 1, "once in a while: {log}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((line["level"].as_str(), line["peer"].as_str()), (Some("WARN"), Some("127.0.0.1")), "{line}");
        assert!(line["message"].as_str().unwrap().contains(setting), "{line}");
        let told = format!("heard {what} from a peer that {setting} does not name, 3 times");
        let told = told.replace("heard PROXY", "heard a PROXY");
        assert!(report.contains(&told), "{report}");
    }
}

/// Runs a command that takes a directory last.
fn on_data(arguments: &[&str], data: &Path) -> Output {
    let data = data.display().to_string();
    mailroom(&[arguments, &[&data]].concat())
}

#[test]
fn open_mailboxes_are_not_shown_to_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let output = serve(dir.path(), &["--http", "0.0.0.0:0"]);
    assert_eq!(code(&output), 78);
    let failure = failure(&output);
    assert!(failure.contains("insecure_open") && failure.lines().count() == 1, "{failure}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was started");
}

#[test]
fn a_command_without_its_target_says_that_all_may_be_meant() {
    for words in [&["queue", "dead", "requeue"][..], &["export", "--format", "mbox", "out"]] {
        let output = mailroom(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(code(&output) == 64 && said.contains("--all"), "{said}");
    }
}

#[test]
fn a_wrong_command_line_is_64_and_help_is_0() {
    assert_eq!(code(&mailroom(&["srve"])), 64);
    assert_eq!(code(&mailroom(&["--smtp", "nowhere"])), 64);
    for help in [&["--help"][..], &["stress", "smtp", "--help"], &["sink", "--help"]] {
        assert_eq!(code(&mailroom(help)), 0);
    }
    let sink = mailroom(&["sink", "--help"]);
    assert!(String::from_utf8_lossy(&sink.stdout).contains("MAIL FROM:<>"), "its limits are told");
}

/// A server in a process of its own; killed when dropped.
struct Running {
    child: std::process::Child,
}

impl Running {
    fn start(data: &Path) -> Self {
        Self::with_log(data, Stdio::null())
    }

    fn with_log(data: &Path, log: Stdio) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_mailroom"))
            .args(on_free_ports(data))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Where it says that it listens, by the words before the address.
    fn addresses(&mut self) -> Vec<String> {
        use std::io::{BufRead, BufReader};
        let out = self.child.stdout.take().unwrap();
        BufReader::new(out).lines().take(5).map(|line| line.unwrap()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < within {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serve_says_where_it_listens_holds_its_data_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let mut server = Running::start(dir.path());
    let greeting = server.addresses().join("\n");
    for word in ["dashboard", "SMTP", "health", data] {
        assert!(greeting.contains(word), "{greeting}");
    }

    for command in [
        &["migrate", "--data", data][..],
        &["serve", "--data", data, "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"],
    ] {
        let output = mailroom(command);
        assert_eq!(code(&output), 75, "{}", failure(&output));
        assert!(failure(&output).contains(data), "{}", failure(&output));
    }

    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(Duration::from_secs(30)), Some(0));
    assert_eq!(code(&mailroom(&["migrate", "--data", data])), 0);
}

/// A full disk under the log is no reason to stop.
#[test]
fn a_log_that_takes_nothing_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut server = Running::with_log(dir.path(), full.into());
    assert_eq!(server.addresses().len(), 5);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(Duration::from_secs(30)), Some(0));
}

#[test]
fn doctor_reports_each_thing_as_json_and_fails_on_a_foreign_port() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut arguments = vec!["doctor", "--json"];
    let flags = on_free_ports(dir.path());
    arguments.extend(flags.iter().map(String::as_str));
    let report = |arguments: &[&str]| -> (i32, Vec<serde_json::Value>) {
        let output = mailroom(arguments);
        (code(&output), serde_json::from_slice(&output.stdout).unwrap())
    };
    let (_, checks) = report(&arguments);
    let names: Vec<_> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in ["descriptors", "somaxconn", "SMTP", "HTTP", "operations", "disk", "database", "clock", "memory"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let position = arguments.iter().position(|argument| *argument == "--ops").unwrap();
    arguments[position + 1] = &addr;
    let (exit, checks) = report(&arguments);
    let check = checks.iter().find(|check| check["name"] == "operations").unwrap();
    assert_eq!((exit, check["level"].as_str()), (1, Some("fail")), "{check}");
}

#[test]
fn stress_sends_to_the_sink_and_counts() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let sink = Command::new(env!("CARGO_BIN_EXE_mailroom"))
        .args(["sink", "--listen", &addr, "--threads", "8"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _sink = Running { child: sink };
    let start = Instant::now();
    while std::net::TcpStream::connect(&addr).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "the sink does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    for body in ["text", "random", "mixed"] {
        let output = mailroom(&["stress", "smtp", &addr, "-c", "4", "-n", "40", "--body", body, "--json"]);
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&result["done"], &result["failed"], code(&output)), (&40.into(), &0.into(), 0), "{result}");
        assert_eq!(result["latency_ms"]["count"], 40);
    }
    let refused = mailroom(&["stress", "smtp", "127.0.0.1:1", "-c", "1", "-n", "1", "--json"]);
    assert_eq!(code(&refused), 1);
}

#[test]
fn doctor_says_whether_redis_answers_and_fits() {
    let redis = crate::support::servers::Redis::start();
    let line = |url: &str| {
        let report = out(&with_environment(&["doctor"], &[("MAILROOM__REDIS__URL", url)]));
        report.lines().find(|line| line.contains("redis ")).map(str::to_owned)
    };
    let well = line(&redis.url()).unwrap();
    assert!(well.starts_with("ok") && well.contains(&redis.address.to_string()), "{well}");
    let [dead] = crate::support::process::free_addresses();
    let away = line(&format!("redis://user:s3cret@{dead}")).unwrap();
    assert!(away.starts_with("warn") && away.contains("does not answer") && !away.contains("s3cret"), "{away}");
    assert_eq!(line(""), None);
}
