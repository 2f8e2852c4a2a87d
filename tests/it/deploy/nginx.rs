//! `nginx/` before two servers: addresses of clients, pushes, files that are kept, who is asked again when a server goes.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use awc::http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite;

use mailroom::tls::Files;

use super::{program, root, run};
use crate::support::certificates::{Authority, HERE};
use crate::support::process::{Plan, free_addresses};
use crate::support::{Api, Socket, TestServer, message, until};

/// A running nginx with this tree's configuration, on free ports of loopback.
pub struct Nginx {
    child: Child,
    /// Without TLS, which the test's clients do not speak.
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub smtp: SocketAddr,
    directory: tempfile::TempDir,
}

/// With everything but how to test it.
fn command(directory: &Path) -> Command {
    let mut globals = format!("daemon off; pid {}/pid;", directory.display());
    if rustix::process::geteuid().is_root() {
        // Workers of another user could not read the test's directory.
        globals.push_str(" user root;");
    }
    let mut command = program("nginx");
    command.arg("-c").arg(directory.join("nginx.conf")).arg("-g").arg(globals);
    command
}

/// In a process group of its own, so that the workers can be killed with their master. What it says goes to a socket, as under
/// systemd, where `/dev/stdout` and `/dev/stderr` cannot be opened.
fn spawn(directory: &Path) -> Child {
    let (log, _) = journal();
    let mut command = command(directory);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("it starts")
}

/// What a unit's program writes to, and where that is read.
fn journal() -> (OwnedFd, UnixStream) {
    let (written, read) = UnixStream::pair().unwrap();
    (written.into(), read)
}

/// Replaces what must be there.
fn replace(text: &mut String, old: &str, new: &str) {
    assert!(text.contains(old), "the test no longer knows this line: {old}");
    *text = text.replace(old, new);
}

/// The configuration as it is, with ports, paths and nodes of this test.
fn configure(directory: &Path, ports: [SocketAddr; 4], http: &[SocketAddr], smtp: &[SocketAddr]) {
    let [plain, tls, redirect, mail] = ports;
    for entry in fs::read_dir(root().join("nginx")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
    }
    let edit = |file: &str, changes: &[(&str, String)]| {
        let mut text = fs::read_to_string(directory.join(file)).unwrap();
        for (old, new) in changes {
            replace(&mut text, old, new);
        }
        fs::write(directory.join(file), text).unwrap();
    };
    let at = directory.display();
    let own = |name: &str| format!("{name}_temp_path {at}/{name};");
    let temporary = ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"].map(own).join("\n");
    edit(
        "http.conf",
        &[
            ("/var/cache/nginx/mailroom", format!("{at}/cache")),
            ("/var/log/nginx", at.to_string()),
            ("server_tokens off;", format!("server_tokens off;\n{temporary}")),
        ],
    );
    edit(
        "site.conf",
        &[
            ("listen 80 default_server;", format!("listen {redirect} default_server;")),
            ("    listen [::]:80 default_server;\n", String::new()),
            ("listen 443 ssl http2 default_server;", format!("listen {tls} ssl http2;\n    listen {plain};")),
            ("    listen [::]:443 ssl http2 default_server;\n", String::new()),
        ],
    );
    edit("nginx.conf", &[("/var/log/nginx", at.to_string())]);
    edit("tls.conf", &[("/etc/nginx/tls", at.to_string())]);
    edit(
        "stream.conf",
        &[
            ("listen 25 ", format!("listen {mail} ")),
            ("    listen [::]:25 so_keepalive=on backlog=4096;\n", String::new()),
            ("/var/log/nginx/access.log", format!("{at}/mail.log")),
        ],
    );
    let nodes = |file: &str, addresses: &[SocketAddr]| {
        let text = fs::read_to_string(root().join("nginx").join(file)).unwrap();
        let line = text.lines().find(|line| line.starts_with("server node1:")).expect("a node");
        let options = line.split_once(' ').unwrap().1.split_once(' ').unwrap().1;
        let lines: String = addresses.iter().map(|address| format!("server {address} {options}\n")).collect();
        fs::write(directory.join(file), lines).unwrap();
    };
    nodes("nodes-http.conf", http);
    nodes("nodes-smtp.conf", smtp);
    certificate(directory);
}

/// Signed by `ca.pem`, with which clients look at it.
fn certificate(directory: &Path) {
    let authority = Authority::new();
    let own = authority.sign(HERE);
    let text = |path: &str| fs::read_to_string(path).unwrap();
    fs::write(directory.join("ca.pem"), text(&authority.file())).unwrap();
    fs::write(directory.join("fullchain.pem"), text(&own.certificate) + &text(&authority.file())).unwrap();
    fs::write(directory.join("privkey.pem"), text(&own.key)).unwrap();
}

impl Nginx {
    /// Before these nodes.
    pub async fn start(http: &[SocketAddr], smtp: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports = free_addresses();
        configure(directory.path(), ports, http, smtp);
        let said = run(command(directory.path()).arg("-t"));
        assert!(said.contains("test is successful") && !said.contains("[warn]"), "{said}");
        let child = spawn(directory.path());
        let [http, https, _, smtp] = ports;
        let nginx = Self { child, http, https, smtp, directory };
        nginx.listens().await;
        nginx
    }

    async fn listens(&self) {
        until("nginx listens", async || tokio::net::TcpStream::connect(self.http).await.is_ok()).await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// SIGKILL, the workers too.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("is gone");
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        self.child = spawn(self.directory.path());
        self.listens().await;
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("access.log")).unwrap()
    }

    pub fn api(&self) -> Api {
        Api::new(self.http)
    }

    /// What curl says of a path over TLS: head and body.
    fn curl(&self, path: &str, options: &[&str]) -> String {
        let mut curl = program("curl");
        curl.args(["-s", "-i", "--max-time", "20", "--cacert"]).arg(self.directory.path().join("ca.pem"));
        curl.args(options).arg(format!("https://localhost:{}{path}", self.https.port()));
        run(&mut curl)
    }
}

/// A connection as a browser makes it for a WebSocket.
async fn encrypted(nginx: &Nginx) -> TlsStream<TcpStream> {
    let authority = nginx.directory.path().join("ca.pem");
    let files = Files { authority: authority.to_str().unwrap(), certificate: "", key: "" };
    let mut config = (*files.read().unwrap().config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(nginx.https).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

#[actix::test]
async fn a_socket_works_over_tls_for_pages_of_its_own_server_alone() {
    let node = node().await;
    let nginx = Nginx::start(&[node.app.http], &[node.smtp_address()]).await;
    let url = format!("wss://localhost:{}/v1/ws", nginx.https.port());
    let own = url.replace("wss:", "https:").replace("/v1/ws", "");
    let mut socket = Socket::of_page(encrypted(&nginx).await, &url, &own).await.unwrap();
    socket.subscribe("bob@example.com").await;
    for uid in 1..4 {
        mail(Ipv4Addr::new(127, 0, 0, 9), node.smtp_address(), "bob@example.com").await;
        let heard = socket.hear().await;
        assert_eq!((&heard["message"]["subject"], &heard["message"]["uid"]), (&"through nginx".into(), &uid.into()));
    }
    // The scheme that nginx tells the server is part of what a page is.
    for origin in [own.replace("https:", "http:"), "https://evil.test".to_owned()] {
        match Socket::of_page(encrypted(&nginx).await, &url, &origin).await {
            Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 403, "{origin}"),
            Err(error) => panic!("{origin}: {error}"),
            Ok(_) => panic!("{origin} was let in"),
        }
    }
    // It ends as without TLS, so that clients know when to come again.
    node.stop().await;
    match socket.hear_within(std::time::Duration::from_secs(5)).await {
        crate::support::socket::Heard::Closed(code) => assert_eq!(code, Some(1012)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_starts_where_its_output_is_a_socket_as_under_systemd() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = free_addresses::<2>();
    configure(directory.path(), free_addresses(), &nodes[..1], &nodes[1..]);
    let tested = || {
        let (log, mut read) = journal();
        let mut command = command(directory.path());
        let mut child = command.arg("-t").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        // Its ends of the socket are the last ones then.
        drop(command);
        let mut said = String::new();
        read.read_to_string(&mut said).unwrap();
        (child.wait().unwrap().success(), said)
    };
    let (starts, said) = tested();
    assert!(starts && said.contains("test is successful"), "{said}");
    // So this test notices what cannot be opened there.
    for file in ["http.conf", "stream.conf"] {
        let path = directory.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let log = text.lines().find(|line| line.starts_with("access_log ")).unwrap();
        let name = log.split(' ').nth(1).unwrap();
        fs::write(&path, text.replace(name, "/dev/stdout")).unwrap();
        let (starts, said) = tested();
        assert!(!starts && said.contains("/dev/stdout"), "{said}");
        fs::write(&path, text).unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }
}

async fn node() -> TestServer {
    TestServer::with(|config| {
        config.smtp.proxy_protocol_from = vec!["127.0.0.1".parse().unwrap()];
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await
}

/// Sends one message from an address of this machine.
async fn mail(from: Ipv4Addr, to: SocketAddr, mailbox: &str) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(from), 0).into()).unwrap();
    let mut stream = BufReader::new(socket.connect(to).await.unwrap());
    let rcpt = format!("RCPT TO:<{mailbox}>");
    let data = format!("{}.", message("through nginx", "x"));
    for line in ["", "HELO client.test", "MAIL FROM:<ann@sender.test>", &rcpt, "DATA", &data, "QUIT"] {
        if !line.is_empty() {
            stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        }
        let mut reply = String::new();
        stream.read_line(&mut reply).await.unwrap();
        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
    }
}

#[actix::test]
async fn mail_comes_from_the_client_and_is_shared_out() {
    let (one, two) = (node().await, node().await);
    let nginx = Nginx::start(&[one.app.http, two.app.http], &[one.smtp_address(), two.smtp_address()]).await;
    for _ in 0..4 {
        mail(Ipv4Addr::new(127, 0, 0, 7), nginx.smtp, "bob@example.com").await;
    }
    let mut all = 0;
    for server in [&one, &two] {
        let list = server.api().json("/v1/mailboxes/bob@example.com/messages").await;
        let items = list["items"].as_array().unwrap();
        all += items.len();
        assert!(!items.is_empty(), "each has its share");
        let id = items[0]["id"].as_str().unwrap();
        let raw = server.api().get(&format!("/v1/mailboxes/bob@example.com/messages/{id}/raw")).await.text();
        assert!(raw.contains("[127.0.0.7]") && !raw.contains("[127.0.0.1]"), "{raw}");
    }
    assert_eq!(all, 4);
    // One goes: mail finds the other, whichever's turn it is.
    two.stop().await;
    let before = one.api().subjects("bob@example.com").await.len();
    for _ in 0..4 {
        mail(Ipv4Addr::LOCALHOST, nginx.smtp, "bob@example.com").await;
    }
    assert_eq!(one.api().subjects("bob@example.com").await.len(), before + 4);
    one.stop().await;
}

#[actix::test]
async fn a_socket_is_pushed_to_through_it_and_comes_again_when_its_server_goes() {
    let (one, two) = (node().await, node().await);
    let nginx = Nginx::start(&[one.app.http, two.app.http], &[one.smtp_address()]).await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = Socket::connect(nginx.http).await;
        socket.subscribe("bob@example.com").await;
        sockets.push(socket);
    }
    for server in [&one, &two] {
        // Straight to the server: 127.0.0.9 is no proxy.
        mail(Ipv4Addr::new(127, 0, 0, 9), server.smtp_address(), "bob@example.com").await;
    }
    for socket in &mut sockets {
        assert_eq!(socket.hear().await["message"]["subject"], "through nginx", "each server has one of them");
    }
    two.stop().await;
    let mut closed = 0;
    for socket in &mut sockets {
        let heard = socket.hear_within(std::time::Duration::from_millis(300)).await;
        if let crate::support::socket::Heard::Closed(code) = heard {
            assert_eq!(code, Some(1012));
            closed += 1;
        }
    }
    assert_eq!(closed, 1);
    let mut again = Socket::connect(nginx.http).await;
    again.subscribe("bob@example.com").await;
    one.stop().await;
}

#[actix::test]
async fn files_are_kept_by_their_version_and_pages_are_asked_for_again() {
    let (one, two) = (node().await, node().await);
    let nginx = Nginx::start(&[one.app.http, two.app.http], &[one.smtp_address()]).await;
    let api = nginx.api();
    let page = api.get("/").await;
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let known = api.call(Method::GET, "/", &[("if-none-match", page.header("etag").unwrap())], None).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);

    let text = page.text();
    let asset = text.split("src=\"").find_map(|part| part.strip_prefix("assets/")).expect("a file by its version");
    let path = format!("/assets/{}", asset.split('"').next().unwrap());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let file = api.get(&path).await;
        assert_eq!(file.status, StatusCode::OK);
        assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert!(file.header("content-security-policy").is_some() && file.header("strict-transport-security").is_some());
        seen.push(file.header("x-cache-status").unwrap().to_owned());
    }
    assert_eq!(seen, ["MISS", "HIT", "HIT"]);
    let etag = api.get(&path).await.header("etag").unwrap().to_owned();
    let known = api.call(Method::GET, &path, &[("if-none-match", &etag)], None).await;
    assert_eq!((known.status, known.header("x-cache-status")), (StatusCode::NOT_MODIFIED, Some("HIT")));

    // Another version: every node is asked, and that it is not there is not remembered.
    for _ in 0..2 {
        let other = api.get("/assets/0123456789abcdef/main.js").await;
        assert_eq!((other.status, other.header("x-cache-status")), (StatusCode::NOT_FOUND, Some("MISS")));
    }
    let log = nginx.log();
    let asked = log.lines().find(|line| line.contains("0123456789abcdef")).unwrap();
    assert!(asked.contains("404, 404"), "{asked}");
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn over_tls_a_page_may_call_its_own_server_and_no_other_page() {
    let one = node().await;
    let nginx = Nginx::start(&[one.app.http], &[one.smtp_address()]).await;
    let port = nginx.https.port();
    let own = nginx.curl("/v1/domains", &["-H", &format!("Origin: https://localhost:{port}")]);
    assert!(own.starts_with("HTTP/2 200"), "{own}");
    assert!(own.to_lowercase().contains("strict-transport-security: max-age="), "{own}");
    let plain = nginx.curl("/v1/domains", &["-H", &format!("Origin: http://localhost:{port}")]);
    assert!(plain.starts_with("HTTP/2 403"), "the scheme is told to the server: {plain}");
    let foreign = nginx.curl("/v1/domains", &["-H", "Origin: https://evil.test"]);
    assert!(foreign.starts_with("HTTP/2 403"), "{foreign}");
    let rebound = nginx.curl("/v1/domains", &["-H", "Host: evil.test", "-H", "X-Forwarded-Host: localhost"]);
    assert!(rebound.starts_with("HTTP/2 421"), "{rebound}");
    let raw = "/v1/mailboxes/bob@example.com/messages/019aa000-0000-7000-8000-000000000000/raw";
    let token = nginx.curl(&format!("{raw}?token=secret"), &[]);
    assert!(token.starts_with("HTTP/2 404"), "{token}");
    until("the call is in the log", async || nginx.log().contains("/raw ")).await;
    assert!(!nginx.log().contains("secret"), "{}", nginx.log());
    for path in ["/health", "/health/ready", "/metrics"] {
        assert!(nginx.curl(path, &[]).starts_with("HTTP/2 404"), "{path}");
    }
    let old =
        program("curl").args(["-sk", "--tls-max", "1.1", &format!("https://localhost:{port}/")]).output().unwrap();
    assert!(!old.status.success(), "TLS 1.1 is refused");
    one.stop().await;
}

#[actix::test]
async fn whoever_asks_too_much_hears_429_as_the_api_says_it() {
    let one = node().await;
    let nginx = Nginx::start(&[one.app.http], &[one.smtp_address()]).await;
    let api = nginx.api().kept();
    let mut refused = None;
    for _ in 0..2_000 {
        let answer = api.get("/v1/domains").await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("2,000 at once are more than it takes");
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.json()["type"], "urn:mailroom:problem:too-many-requests");
    one.stop().await;
}

/// Calls that may be repeated, until told to stop; those that failed.
async fn call_on(nginx: SocketAddr, stop: Arc<AtomicBool>, made: Arc<AtomicUsize>) -> Vec<String> {
    let api = Api::new(nginx).kept();
    let mailbox = "/v1/mailboxes/gone@example.com";
    let calls = [
        (Method::GET, "/v1/domains", None),
        (Method::PATCH, mailbox, Some(json!({"message_ttl": "1h"}))),
        (Method::DELETE, mailbox, None),
    ];
    let mut failed = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        for (method, path, body) in calls.clone() {
            match api.try_call(method.clone(), path, &[], body).await {
                // What the limit of one client says is an answer of nginx's own.
                Ok(answer) if answer.status.as_u16() < 500 => {}
                Ok(answer) => failed.push(format!("{method} {path}: {}", answer.status)),
                Err(error) => failed.push(format!("{method} {path}: {error}")),
            }
            made.fetch_add(1, Ordering::SeqCst);
            // Under the limit of a client, so that most calls come to a server.
            tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        }
    }
    failed
}

#[actix::test]
async fn a_server_that_is_killed_costs_no_call_that_may_be_repeated() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plans =
        directories.each_ref().map(|data| Plan::new(data.path()).set("MAILROOM__HTTP__TRUSTED_PROXIES", "127.0.0.1"));
    let mut nodes = Vec::new();
    for plan in &plans {
        nodes.push(plan.start().await);
    }
    let nginx = Nginx::start(&plans.each_ref().map(|plan| plan.http), &plans.each_ref().map(|plan| plan.smtp)).await;
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> =
        (0..4).map(|_| actix::spawn(call_on(nginx.http, Arc::clone(&stop), Arc::clone(&made)))).collect();
    for plan in &plans {
        let before = made.load(Ordering::SeqCst);
        until("calls are made", async || made.load(Ordering::SeqCst) > before + 60).await;
        nodes.remove(0).kill();
        let before = made.load(Ordering::SeqCst);
        until("calls go on", async || made.load(Ordering::SeqCst) > before + 60).await;
        nodes.push(plan.start().await);
        // Until nginx believes in it again.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        let failed = caller.await.unwrap();
        assert!(failed.is_empty(), "{} calls failed: {}", failed.len(), failed[0]);
    }
}
