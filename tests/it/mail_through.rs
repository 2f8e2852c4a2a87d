//! Every sample message through SMTP, the store and the API: stored, read back byte for byte, and no answer is a 500.
//! `tests/mail/` is the project's own; `../shared/corpus/` (or `MAILROOM_CORPUS`) is sent where it is there. Messages made
//! to hurt a parser stall nobody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailroom::inbound::config::BareLineEnds;
use mailroom::smtp::data::encode;
use serde_json::Value;

use crate::flows::without_trace;
use crate::support::{Api, PATIENCE, SmtpClient, TestServer, message};

const MAILBOX: &str = "samples@example.com";
/// What one message may cost everyone else, in a debug build on a busy machine.
const UNHARMED: Duration = Duration::from_secs(1);

/// Messages of a folder and of those in it, by name.
fn read_all(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        let ending = path.extension().unwrap_or_default();
        if path.is_dir() {
            found.extend(read_all(&path));
        } else if ["eml", "msg"].iter().any(|known| ending == *known) {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let named = std::env::var_os("MAILROOM_CORPUS").map(PathBuf::from);
    let root = named.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"));
    if named.is_none() && !root.is_dir() {
        println!("no corpus in {}: only the project's own messages are sent", root.display());
        return Vec::new();
    }
    let messages = read_all(&root);
    assert!(!messages.is_empty(), "{} holds no messages", root.display());
    messages
}

/// A CR or LF that stands alone, or a NUL: what SMTP does not carry.
fn is_bare(raw: &[u8]) -> bool {
    let lone = |at: usize| match raw[at] {
        b'\r' => raw.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || raw[at - 1] != b'\r',
        byte => byte == 0,
    };
    (0..raw.len()).any(lone)
}

/// Each line end as CRLF, as mail programs send a file; what `normalise` makes of lone ones, NUL left out.
fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let mut crlf = Vec::with_capacity(raw.len() + raw.len() / 30);
    for (at, &byte) in raw.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && raw[at - 1] == b'\r' => {}
            b'\r' | b'\n' => crlf.extend_from_slice(b"\r\n"),
            byte => crlf.push(byte),
        }
    }
    crlf
}

/// What the server has when `sent` was sent: the last line ends, too.
fn whole(mut sent: Vec<u8>) -> Vec<u8> {
    if !sent.is_empty() && !sent.ends_with(b"\r\n") {
        sent.extend_from_slice(b"\r\n");
    }
    sent
}

async fn send(smtp: &mut SmtpClient, name: &str, raw: &[u8]) -> String {
    let reply = smtp.send("ann@sender.test", &[MAILBOX], raw).await;
    assert!(!reply.is_empty(), "{name}: the session was closed");
    reply
}

/// Asks for everything that the API shows of the newest message; its source must be `sent`.
async fn read_back(api: &Api, name: &str, sent: &[u8]) -> Value {
    let list = api.json(&format!("/v1/mailboxes/{MAILBOX}/messages?limit=1")).await;
    let base = format!("/v1/mailboxes/{MAILBOX}/messages/{}", list["items"][0]["id"].as_str().expect(name));
    let raw = api.get(&format!("{base}/raw")).await;
    assert_eq!(raw.status, 200, "{name}");
    assert!(without_trace(raw.body) == sent, "{name}: the source is not what was sent");
    let detail = api.get(&base).await;
    assert_eq!(detail.status, 200, "{name}: {}", detail.text());
    let detail = detail.json();
    let html = api.get(&format!("{base}/html")).await;
    assert_eq!(html.status, 200, "{name}: {}", html.text());
    let attachments = detail["attachments"].as_array().unwrap();
    for attachment in attachments {
        let part = api.get(&format!("{base}/attachments/{}", attachment["n"])).await;
        assert_eq!((part.status.as_u16(), &Value::from(part.body.len())), (200, &attachment["size"]), "{name}");
    }
    let none = api.get(&format!("{base}/attachments/{}", attachments.len())).await;
    assert_eq!((none.status.as_u16(), none.json()["status"].as_u64()), (404, Some(404)), "{name}");
    list["items"][0].clone()
}

#[actix::test]
async fn every_sample_is_stored_and_read_back_byte_for_byte() {
    let server = TestServer::start().await;
    let api = server.api().kept();
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let own = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail"));
    assert!(own.len() >= 60, "only {} messages", own.len());
    let (mut stored, mut refused) = (0, Vec::new());
    for (name, raw) in own.into_iter().chain(corpus()) {
        if is_bare(&raw) {
            let reply = send(&mut smtp, &name, &raw).await;
            assert!(reply.starts_with("550 5.6.0"), "{name}: {reply}");
        }
        let sent: Vec<u8> = with_crlf(&raw).into_iter().filter(|byte| *byte != 0).collect();
        let reply = send(&mut smtp, &name, &sent).await;
        if reply.starts_with("250 2.0.0") {
            stored += 1;
            read_back(&api, &name, &whole(sent)).await;
        } else {
            let name = name.rsplit('/').next().unwrap().to_owned();
            refused.push((name, reply[..9].to_owned()));
        }
    }
    // 60 Received headers are a loop.
    assert_eq!(refused, [("many_received.eml".to_owned(), "554 5.4.6".to_owned())]);
    let mailbox = api.json(&format!("/v1/mailboxes/{MAILBOX}")).await;
    assert_eq!(mailbox["messages"], stored);
    println!("{stored} messages went through");
    smtp.quit().await;
    server.stop().await;
}

#[actix::test]
async fn a_normalising_listener_takes_lone_line_ends_as_crlf() {
    let server = TestServer::with(|config| config.smtp.bare_line_ends = BareLineEnds::Normalise).await;
    let api = server.api().kept();
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let own = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail"));
    let bare = own.into_iter().chain(corpus()).filter(|(_, raw)| is_bare(raw) && !raw.contains(&0));
    let mut stored = 0;
    for (name, raw) in bare {
        let reply = send(&mut smtp, &name, &raw).await;
        assert!(reply.starts_with("250 2.0.0"), "{name}: {reply}");
        read_back(&api, &name, &with_crlf(&whole(raw))).await;
        stored += 1;
    }
    assert!(stored > 0, "no sample has lone line ends");
    smtp.quit().await;
    server.stop().await;
}

/// Messages at the edge of the size limit that cost a parser most.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let head = "Subject: hostile\r\nFrom: a@example.com\r\n";
    let multipart = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let many = |count: usize, part: fn(usize) -> String| (0..count).map(part).collect::<String>();
    let bodies = [
        ("300,000 nested messages", "Content-Type: message/rfc822\r\n\r\n".repeat(300_000)),
        ("100,000 parts", format!("{multipart}{}--b--\r\n", "--b\r\n\r\nx\r\n".repeat(100_000))),
        (
            "10,000 parts, nearly too many",
            format!(
                "{multipart}{}--b--\r\n",
                "--b\r\nContent-Disposition: attachment; filename=x\r\n\r\nx\r\n".repeat(9_990)
            ),
        ),
        (
            "50,000 nested multiparts",
            many(50_000, |n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")),
        ),
        (
            "60,000 open tags",
            format!("Content-Type: text/html\r\n\r\n{}", "<div><b style='a:url(x)'>\r\n".repeat(60_000)),
        ),
        (
            "5,000 header lines of encoded words",
            format!(
                "Content-Type: text/plain\r\n{}\r\ntext\r\n",
                "X-Word: =?utf-8?Q?=E2=82=AC?= =?utf-8?B?4oKs?=\r\n".repeat(5_000)
            ),
        ),
    ];
    bodies.into_iter().map(|(name, body)| (name, format!("{head}{body}").into_bytes())).collect()
}

/// Sends one small message after the other and asks for the list, until told to stop; how long the longest took.
async fn bystander(
    server: std::net::SocketAddr,
    http: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
) -> (usize, Duration) {
    let (api, mut longest, mut sent) = (Api::new(http).kept(), Duration::ZERO, 0);
    let mut smtp = SmtpClient::connect(server).await;
    smtp.hello().await;
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let reply = smtp.send("ann@sender.test", &["other@example.com"], message("small", "text").as_bytes()).await;
        assert!(reply.starts_with("250 "), "{reply}");
        longest = longest.max(began.elapsed());
        let began = Instant::now();
        assert_eq!(api.get("/v1/mailboxes/other@example.com/messages?limit=1").await.status, 200);
        longest = longest.max(began.elapsed());
        sent += 1;
    }
    smtp.quit().await;
    (sent, longest)
}

#[actix::test]
async fn messages_made_to_hurt_stall_nobody_and_are_kept() {
    let server = TestServer::start().await;
    let (smtp, http) = (server.smtp_address(), server.app.http);
    // On threads of their own: what the test itself does must not count.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let bystander = std::thread::spawn(move || actix::System::new().block_on(bystander(smtp, http, stopped)));
    let mut threads = Vec::new();
    for (number, (name, raw)) in hostile().into_iter().enumerate() {
        let mut wire = Vec::new();
        encode(&raw, &mut wire);
        threads.push(std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let mut client = SmtpClient::connect(smtp).await;
                client.hello().await;
                let mailbox = format!("hostile{number}@example.com");
                for line in ["MAIL FROM:<>", &format!("RCPT TO:<{mailbox}>"), "DATA"] {
                    assert!(client.command(line).await.starts_with(['2', '3']), "{name}");
                }
                client.write(&wire).await;
                let reply = client.reply().await;
                assert!(reply.starts_with("250 2.0.0"), "{name}: {reply}");
                client.quit().await;
                let api = Api::new(http);
                let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages")).await;
                assert_eq!(list["items"][0]["subject"], "hostile", "{name}");
                let base = format!("/v1/mailboxes/{mailbox}/messages/{}", list["items"][0]["id"].as_str().unwrap());
                let began = Instant::now();
                for path in [base.clone(), format!("{base}/html"), format!("/v1/mailboxes/{mailbox}/messages?q=text")] {
                    assert_eq!(api.get(&path).await.status, 200, "{name}: {path}");
                }
                assert!(began.elapsed() < PATIENCE, "{name}: read in {:?}", began.elapsed());
                let source = api.get(&format!("{base}/raw")).await.body;
                assert!(without_trace(source) == raw, "{name}: the source is not what was sent");
                println!("{name}: {} bytes, read in {:?}", raw.len(), began.elapsed());
            });
        }));
    }
    for thread in threads {
        let ended = tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
        assert!(ended.is_ok(), "see above");
    }
    stop.store(true, Ordering::SeqCst);
    let (sent, longest) = tokio::task::spawn_blocking(move || bystander.join()).await.unwrap().expect("unharmed");
    println!("{sent} messages meanwhile, the slowest in {longest:?}");
    assert!(sent > 0 && longest < UNHARMED, "{sent} messages meanwhile, the slowest in {longest:?}");
    server.stop().await;
}
