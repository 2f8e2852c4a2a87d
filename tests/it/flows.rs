//! The live path with clients that nobody here wrote: Python's `smtplib`, `swaks`, `curl` for SMTP, for the API and for
//! event streams, each a process of its own with a time limit. What a client sent is what `raw` shows, byte for byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use awc::http::StatusCode;
use mailroom::mail::units::Bytes;
use serde_json::{Value, json};

use crate::support::{Api, Socket, TestServer};

/// Seconds that a client may take; `timeout` of coreutils ends it with status 124 then.
const LIMIT: &str = "60";

/// A command under the time limit.
fn command(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT, program]).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Names the Debian package of a program that is not there.
fn is_there(program: &str, package: &str) {
    let found = std::env::split_paths(&std::env::var_os("PATH").expect("a PATH")).any(|dir| dir.join(program).exists());
    assert!(found, "{program} is missing: install the Debian package {package}");
}

/// Runs a client to its end on a thread of its own; `input` is its standard input.
async fn output(mut command: Command, input: &[u8]) -> Output {
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(input).unwrap();
    stdin.rewind().unwrap();
    command.stdin(stdin);
    tokio::task::spawn_blocking(move || command.output().expect("timeout, of the Debian package coreutils"))
        .await
        .expect("the client ends")
}

/// As [`output`]; what it wrote, which must be all it had to say.
async fn run(command: Command, input: &[u8]) -> String {
    let name = format!("{command:?}");
    let output = output(command, input).await;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {name}\n{said}\n{complained}", output.status);
    said.into_owned()
}

/// The newest message of a mailbox: its summary, and its source without the trace headers that were added.
async fn newest(api: &Api, mailbox: &str) -> (Value, Vec<u8>) {
    let mailbox = percent_encoding::utf8_percent_encode(mailbox, percent_encoding::NON_ALPHANUMERIC).to_string();
    let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages")).await;
    let item = list["items"][0].clone();
    let path = format!("/v1/mailboxes/{mailbox}/messages/{}/raw", item["id"].as_str().expect("a message"));
    let answer = api.get(&path).await;
    assert_eq!(answer.status, StatusCode::OK);
    (item, without_trace(answer.body))
}

/// What follows `Return-Path:` and `Received:`, which must be there.
pub fn without_trace(raw: Vec<u8>) -> Vec<u8> {
    assert!(raw.starts_with(b"Return-Path: <"), "{}", String::from_utf8_lossy(&raw[..raw.len().min(200)]));
    let mut lines = raw.split_inclusive(|byte| *byte == b'\n').skip(1).peekable();
    let received = lines.next().expect("Received");
    assert!(received.starts_with(b"Received: from "), "{}", String::from_utf8_lossy(received));
    while lines.next_if(|line| line.starts_with(b"\t")).is_some() {}
    lines.flatten().copied().collect()
}

#[track_caller]
fn assert_same(found: &[u8], sent: &[u8]) {
    let at = found.iter().zip(sent).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 60)]).into_owned();
    assert!(found == sent, "differ at {at}: {:?} instead of {:?}", show(found), show(sent));
}

#[actix::test]
async fn python_smtplib_sends_all_kinds_of_mail() {
    is_there("python3", "python3");
    let server = TestServer::start().await;
    let address = server.smtp_address();
    let mut python = command("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/flows/send.py"));
    python.args([address.ip().to_string(), address.port().to_string()]);
    let said = run(python, b"").await;
    let api = server.api();
    let mut count = 0;
    for line in said.lines() {
        let sent: Value = serde_json::from_str(line).unwrap();
        let hex = sent["hex"].as_str().unwrap();
        let mut bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        if !bytes.ends_with(b"\r\n") {
            bytes.extend_from_slice(b"\r\n");
        }
        let refused = sent["refused"].as_object().unwrap();
        for to in sent["to"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()) {
            if let Some(code) = refused.get(to) {
                assert_eq!((code, to.starts_with("many1")), (&json!(452), true), "{to}");
                let list = api.json(&format!("/v1/mailboxes/{to}/messages")).await;
                assert_eq!(list["items"], json!([]), "{to}");
                continue;
            }
            assert_same(&newest(&api, to).await.1, &bytes);
            count += 1;
        }
    }
    assert_eq!(count, 19, "recipients that got a message");
    let (item, _) = newest(&api, "attachments@example.com").await;
    assert_eq!((&item["subject"], &item["attachments"]), (&json!("With attachments, für alle"), &json!(2)));
    let path = format!("/v1/mailboxes/attachments@example.com/messages/{}", item["id"].as_str().unwrap());
    let file = api.get(&format!("{path}/attachments/0")).await;
    assert_eq!(file.body, (0..=255u8).cycle().take(256 * 40).collect::<Vec<_>>());
    let names = api.json(&path).await;
    assert_eq!(names["attachments"][1]["name"], "übersicht.csv");
    let (item, _) = newest(&api, "用户@例子.test").await;
    assert_eq!(item["subject"], "Привет, 用户");
    assert_eq!(item["from"], json!({"name": "Иван", "address": "иван@пример.test"}));
    assert_eq!(item["mailbox"], "用户@xn--fsqu00a.test");
    let (item, _) = newest(&api, "bounce@example.com").await;
    let path = format!("/v1/mailboxes/bounce@example.com/messages/{}", item["id"].as_str().unwrap());
    assert_eq!(api.json(&path).await["envelope"]["reverse_path"], "");
    server.stop().await;
}

#[actix::test]
async fn swaks_sends_and_a_socket_sees_it_at_once() {
    is_there("swaks", "swaks");
    let server = TestServer::with(|config| config.smtp.max_message_size = Bytes::kib(64)).await;
    let mut socket = Socket::connect(server.app.http).await;
    socket.subscribe("hello@example.com").await;
    let to_server = |more: &[&str]| {
        let mut swaks = command("swaks");
        swaks.args(["--to", "hello@example.com", "--server", &server.smtp_address().to_string()]).args(more);
        swaks
    };
    // As in the README.
    let said = run(to_server(&[]), b"").await;
    assert!(said.contains("250 2.0.0 "), "{said}");
    let event = socket.hear().await;
    assert_eq!(event["type"], "message.received");
    let (item, raw) = newest(&server.api(), "hello@example.com").await;
    assert_eq!(item, event["message"]);
    let text = String::from_utf8(raw).unwrap();
    assert!(item["subject"].as_str().unwrap().starts_with("test "), "{item}");
    assert!(text.contains("X-Mailer: swaks") && text.contains("This is a test mailing"), "{text}");

    let sent = b"Subject: exact\r\nFrom: <ann@sender.test>\r\n\r\n.\r\n..two\r\n\r\n8-bit: \xc3\xbc\xff\r\n";
    let options = ["--pipeline", "--from", "ann@sender.test", "--helo", "[127.0.0.1]", "--data", "-"];
    // swaks ends what it is given with a CRLF of its own.
    run(to_server(&options), sent.trim_ascii_end()).await;
    assert_eq!(socket.hear().await["message"]["subject"], "exact");
    assert_same(&newest(&server.api(), "hello@example.com").await.1, sent);

    // Over the announced size: refused at MAIL, which swaks tells with its status.
    let large = format!("Subject: large\r\n\r\n{}", "x".repeat(100_000));
    let refused = output(to_server(&["--data", "-"]), large.as_bytes()).await;
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("552 5.3.4"), "{said:.2000}");
    assert_eq!(server.api().subjects("hello@example.com").await.len(), 2);
    server.stop().await;
}

#[actix::test]
async fn curl_sends_mail() {
    is_there("curl", "curl");
    let server = TestServer::start().await;
    let url = format!("smtp://{}/client.test", server.smtp_address());
    let send = |more: &[&str]| {
        let mut curl = command("curl");
        curl.args(["-sS", &url, "--mail-from", "ann@sender.test", "-T", "-"]).args(more);
        curl
    };
    let sent = b"Subject: from curl\r\n\r\n.\r\n.dot\r\n..\r\nend\r\n";
    run(send(&["--mail-rcpt", "one@example.com", "--mail-rcpt", "two@example.com"]), sent).await;
    for mailbox in ["one@example.com", "two@example.com"] {
        assert_same(&newest(&server.api(), mailbox).await.1, sent);
    }
    run(send(&["--mail-rcpt", "lf@example.com", "--crlf"]), b"Subject: from curl\n\n.\nend\n").await;
    assert_same(&newest(&server.api(), "lf@example.com").await.1, b"Subject: from curl\r\n\r\n.\r\nend\r\n");
    // Lone LF: refused at the dot.
    let refused = output(send(&["--mail-rcpt", "lf@example.com"]), b"Subject: bare\n\ntext\n").await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(server.api().subjects("lf@example.com").await, ["from curl"]);
    server.stop().await;
}

/// Calls the API with curl: status and body.
async fn api_call(server: &TestServer, path: &str, more: &[&str]) -> (u16, Vec<u8>) {
    let mut curl = command("curl");
    curl.args(["-sS", "-w", "%{stderr}%{http_code}"]).args(more).arg(format!("http://{}{path}", server.app.http));
    let output = output(curl, b"").await;
    let status = String::from_utf8_lossy(&output.stderr).parse().expect("a status and nothing else");
    (status, output.stdout)
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

#[actix::test]
async fn curl_makes_a_mailbox_waits_for_its_mail_and_removes_it() {
    is_there("curl", "curl");
    let server = TestServer::start().await;
    let make = ["--json", r#"{"address": "wait@example.com", "ttl": "1h"}"#];
    let (status, body) = api_call(&server, "/v1/mailboxes", &make).await;
    assert_eq!((status, &parsed(&body)["address"]), (201, &json!("wait@example.com")));
    assert_eq!(api_call(&server, "/v1/mailboxes", &make).await.0, 409);

    let base = "/v1/mailboxes/wait@example.com/messages";
    let sent = "Subject: Your code\r\n\r\nYour code is 482913. See https://example.com/verify?a=1\r\n";
    let since = parsed(&api_call(&server, base, &[]).await.1)["cursor"].as_str().unwrap().to_owned();
    let path = format!("{base}/wait?timeout=30s&q=subject:code&since={since}");
    let (waited, ()) = tokio::join!(api_call(&server, &path, &[]), server.deliver("wait@example.com", sent));
    let found = parsed(&waited.1);
    assert_eq!((waited.0, &found["codes"]), (200, &json!(["482913"])), "{found}");
    assert_eq!(found["links"][0]["url"], "https://example.com/verify?a=1");

    let one = format!("{base}/{}", found["id"].as_str().unwrap());
    assert_same(&without_trace(api_call(&server, &format!("{one}/raw"), &[]).await.1), sent.as_bytes());
    let (status, body) = api_call(&server, &one, &["-X", "PATCH", "--json", r#"{"is_read": true}"#]).await;
    assert_eq!((status, &parsed(&body)["is_read"]), (200, &json!(true)));
    let (status, body) = api_call(&server, &format!("{base}?unread=true"), &[]).await;
    assert_eq!((status, &parsed(&body)["items"]), (200, &json!([])));
    assert_eq!(api_call(&server, &one, &["-X", "DELETE"]).await.0, 204);
    let (status, problem) = api_call(&server, &one, &[]).await;
    assert_eq!((status, &parsed(&problem)["status"]), (404, &json!(404)));
    assert_eq!(api_call(&server, "/v1/mailboxes/wait@example.com", &["-X", "DELETE"]).await.0, 204);
    server.stop().await;
}

/// `curl -N` on an event stream; ended when dropped.
struct Stream {
    child: Child,
    lines: BufReader<File>,
}

impl Stream {
    fn open(server: &TestServer, path: &str, more: &[&str]) -> Self {
        let mut curl = command("curl");
        curl.args(["-sSN"]).args(more).arg(format!("http://{}{path}", server.app.http));
        let mut child = curl.spawn().unwrap();
        let out: std::os::fd::OwnedFd = child.stdout.take().unwrap().into();
        Self { child, lines: BufReader::new(out.into()) }
    }

    /// The next event's id and data, or none at the end of the stream, which the time limit of the client ends too.
    async fn next(self) -> (Self, Option<(String, Value)>) {
        let read = move || {
            let mut stream = self;
            let (mut id, mut line) = (String::new(), String::new());
            while stream.lines.read_line(&mut line).unwrap() > 0 {
                if let Some(text) = line.trim_end().strip_prefix("id: ") {
                    text.clone_into(&mut id);
                }
                if let Some(data) = line.strip_prefix("data: ") {
                    let data = serde_json::from_str(data).unwrap();
                    return (stream, Some((id, data)));
                }
                line.clear();
            }
            (stream, None)
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // TERM, so that `timeout` passes it on.
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

#[actix::test]
async fn curl_follows_an_event_stream_and_goes_on_where_it_stopped() {
    is_there("curl", "curl");
    let server = TestServer::start().await;
    let path = "/v1/mailboxes/sse@example.com/events";
    let (stream, first) = Stream::open(&server, path, &[]).next().await;
    assert_eq!(first.unwrap().1["type"], "subscribed");
    server.deliver("sse@example.com", "Subject: one\r\n\r\ntext\r\n").await;
    let (stream, event) = stream.next().await;
    let (id, event) = event.unwrap();
    assert_eq!(event["message"]["subject"], "one");
    drop(stream);
    server.deliver("sse@example.com", "Subject: two\r\n\r\ntext\r\n").await;
    let again = Stream::open(&server, path, &["-H", &format!("Last-Event-ID: {id}")]);
    let (again, subscribed) = again.next().await;
    assert_eq!(subscribed.unwrap().1["type"], "subscribed");
    let (again, event) = again.next().await;
    assert_eq!(event.unwrap().1["message"]["subject"], "two");
    let (ended, _) = tokio::join!(again.next(), server.stop());
    assert!(ended.1.is_none(), "a stop ends the stream");
}
