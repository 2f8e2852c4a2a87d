//! Order and completeness of what clients are told: many senders and many sockets that come and go, over changes,
//! deletions, mailboxes that end and return, a restart, a SIGKILL and a restored backup. Each client's view, made of a
//! list and of events alone, ends equal to the store. `MAILROOM_TEST_SEED` repeats the choices of a run; it is printed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use awc::http::Method;
use mailroom::mail::cursor::{Cursor, StreamCursor};
use mailroom::mail::units::Period;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::process::Plan;
use crate::support::socket::Heard;
use crate::support::{Api, PATIENCE, SmtpClient, Socket, TestServer, message, until};

const MAILBOXES: usize = 5;
const SENDERS: usize = 8;
const CHANGERS: usize = 3;
/// Clients for each mailbox, and for all of them.
const CLIENTS: usize = 3;

/// How much happens.
#[derive(Clone, Copy)]
struct Size {
    reconnects: usize,
    messages: usize,
    changes: usize,
}

/// What all tasks share.
struct Run {
    size: Size,
    smtp: Cell<SocketAddr>,
    http: Cell<SocketAddr>,
    reconnects: Cell<usize>,
    resets: Cell<usize>,
    /// Subjects answered 250 of the mailbox that nothing is deleted from.
    kept: RefCell<Vec<String>>,
    /// Goes up when the server forgets what it answered, because a backup is put in its place.
    history: Cell<u32>,
    ended: Cell<bool>,
}

impl Run {
    /// Waits until the clients came far enough for `done` of `all`, so that everything happens side by side.
    async fn pace(&self, done: usize, all: usize) {
        until("clients that reconnect", async || self.reconnects.get() * all >= done * self.size.reconnects).await;
    }
}

fn address(n: usize) -> String {
    format!("m{n}@example.com")
}

async fn send(run: Rc<Run>, number: usize, mut rng: StdRng) {
    let mut smtp = None;
    let count = run.size.messages / SENDERS;
    for n in 0..count {
        run.pace(n, count).await;
        let (to, subject) = (rng.random_range(0..MAILBOXES), format!("{number}-{n}"));
        loop {
            match &mut smtp {
                None => {
                    smtp = SmtpClient::try_connect(run.smtp.get()).await;
                    tokio::task::yield_now().await;
                }
                Some(client) => {
                    let history = run.history.get();
                    if client.try_send(&address(to), &message(&subject, "text")).await {
                        if to == 0 && run.history.get() == history {
                            run.kept.borrow_mut().push(subject);
                        }
                    } else {
                        smtp = None;
                    }
                    break;
                }
            }
        }
    }
}

/// Marks, deletes, empties and ends mailboxes; the first one is only marked.
async fn change(run: Rc<Run>, mut rng: StdRng) {
    let count = run.size.changes / CHANGERS;
    for n in 0..count {
        run.pace(n, count).await;
        let (api, box_number) = (Api::new(run.http.get()), rng.random_range(0..MAILBOXES));
        let mailbox = format!("/v1/mailboxes/{}", address(box_number));
        let kind = if box_number == 0 { 0 } else { rng.random_range(0..100) };
        if kind >= 96 {
            // Made by mail or by this call, it ends soon; the next message begins its next life.
            let soon = json!({"ttl": "100ms"});
            let _ = api.try_call(Method::PATCH, &mailbox, &[], Some(soon)).await;
            continue;
        }
        if kind >= 90 {
            let path = if kind >= 93 { mailbox } else { format!("{mailbox}/messages") };
            let _ = api.try_call(Method::DELETE, &path, &[], None).await;
            continue;
        }
        let listed = api.try_call(Method::GET, &format!("{mailbox}/messages?limit=50"), &[], None).await;
        let Ok(listed) = listed else { continue };
        let items = listed.json()["items"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            continue;
        }
        let id = items[rng.random_range(0..items.len())]["id"].as_str().unwrap().to_owned();
        let path = format!("{mailbox}/messages/{id}");
        let _ = match kind {
            0..70 => api.try_call(Method::PATCH, &path, &[], Some(json!({"is_read": rng.random::<bool>()}))).await,
            _ => api.try_call(Method::DELETE, &path, &[], None).await,
        };
    }
}

/// (mailbox, id) to (uid, is_read, subject).
type View = BTreeMap<(String, String), (u64, bool, String)>;

fn put(view: &mut View, item: &Value) {
    let text = |name: &str| item[name].as_str().unwrap().to_owned();
    let value = (item["uid"].as_u64().unwrap(), item["is_read"].as_bool().unwrap(), text("subject"));
    view.insert((text("mailbox"), text("id")), value);
}

/// The whole list and the cursor of its first page; none while the server is away.
async fn list(http: SocketAddr, name: &str) -> Option<(View, String)> {
    let path = if name == "*" { "/v1/messages".to_owned() } else { format!("/v1/mailboxes/{name}/messages") };
    let (api, mut view, mut cursor, mut page) = (Api::new(http).kept(), View::new(), None, String::new());
    loop {
        let answer = api.try_call(Method::GET, &format!("{path}?limit=500{page}"), &[], None).await.ok()?;
        if !answer.status.is_success() {
            return None;
        }
        let list = answer.json();
        list["items"].as_array().unwrap().iter().for_each(|item| put(&mut view, item));
        let cursor = cursor.get_or_insert_with(|| list["cursor"].as_str().unwrap().to_owned());
        match list["next_cursor"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => return Some((view, cursor.clone())),
        }
    }
}

/// A client of one mailbox or of all, with what it believes.
struct Client {
    run: Rc<Run>,
    name: String,
    rng: StdRng,
    view: View,
    /// Where it stands; none before its first list.
    cursor: Option<String>,
}

/// The place of a cursor in its order: incarnation (zero for the stream over all) and value.
fn place(cursor: &str) -> (u64, i128) {
    match cursor.parse::<Cursor>() {
        Ok(cursor) => (cursor.incarnation, i128::from(cursor.modseq)),
        Err(_) => (0, i128::from(cursor.parse::<StreamCursor>().expect("a cursor").stamp)),
    }
}

impl Client {
    /// Lives until its view has the last message of every mailbox that it follows.
    async fn live(mut self) -> (String, View) {
        while !(self.run.ended.get() && self.is_complete()) {
            if self.cursor.is_none() || self.rng.random_bool(0.1) {
                let Some((view, cursor)) = list(self.run.http.get(), &self.name).await else { continue };
                (self.view, self.cursor) = (view, Some(cursor));
                continue;
            }
            let Some(mut socket) = Socket::try_connect(self.run.http.get(), None).await else { continue };
            if socket.follow(&self.name, self.cursor.as_deref()).await {
                self.read(&mut socket).await;
            }
            self.run.reconnects.set(self.run.reconnects.get() + 1);
            match self.rng.random_range(0..3) {
                0 => socket.reset(),
                1 => socket.leave().await,
                _ => drop(socket),
            }
        }
        (self.name, self.view)
    }

    fn is_complete(&self) -> bool {
        let ends = self.view.values().filter(|(_, _, subject)| subject == "end").count();
        ends == if self.name == "*" { MAILBOXES } else { 1 }
    }

    async fn read(&mut self, socket: &mut Socket) {
        let last = self.run.ended.get();
        let frames = self.rng.random_range(0..400);
        let until = tokio::time::Instant::now() + Duration::from_millis(self.rng.random_range(0..60));
        for n in 0.. {
            if last && self.is_complete() || !last && n >= frames {
                return;
            }
            let left = if last { PATIENCE } else { until.saturating_duration_since(tokio::time::Instant::now()) };
            match socket.hear_within(left).await {
                Heard::Frame(frame) => {
                    if !self.take(&frame).await {
                        return;
                    }
                }
                Heard::Closed(_) => return,
                Heard::Nothing => {
                    assert!(!last, "{} does not end; it stands at {:?}", self.name, self.cursor);
                    return;
                }
            }
        }
    }

    /// Applies one frame; false when it connects again.
    async fn take(&mut self, frame: &Value) -> bool {
        let kind = frame["type"].as_str().unwrap();
        match kind {
            "subscribed" => return true,
            "error" => return false,
            "reset" => {
                self.run.resets.set(self.run.resets.get() + 1);
                // Goes on here from the cursor of the reset, or connects again with that of the list.
                let Some((view, cursor)) = list(self.run.http.get(), &self.name).await else {
                    self.cursor = None;
                    return false;
                };
                let stay = self.rng.random::<bool>();
                let at = frame["cursor"].as_str().unwrap().to_owned();
                (self.view, self.cursor) = (view, Some(if stay { at } else { cursor }));
                return stay;
            }
            _ => {}
        }
        let cursor = frame["cursor"].as_str().unwrap();
        let (now, before) = (place(cursor), place(self.cursor.as_deref().unwrap()));
        assert!(now > before, "{}: {kind} at {now:?} after {before:?}", self.name);
        self.cursor = Some(cursor.to_owned());
        let mailbox = frame["mailbox"].as_str().unwrap();
        assert!(self.name == "*" || self.name == mailbox, "{}: {frame}", self.name);
        match kind {
            "message.received" | "message.updated" => put(&mut self.view, &frame["message"]),
            "message.deleted" => {
                self.view.remove(&(mailbox.to_owned(), frame["id"].as_str().unwrap().to_owned()));
            }
            "messages.expired" => {
                let through = frame["through_uid"].as_u64().unwrap();
                self.view.retain(|(owner, _), (uid, ..)| owner != mailbox || *uid > through);
            }
            "mailbox.deleted" => self.view.retain(|(owner, _), _| owner != mailbox),
            other => panic!("{other}"),
        }
        true
    }
}

/// Everyone at work.
struct Play {
    run: Rc<Run>,
    writers: Vec<JoinHandle<()>>,
    clients: Vec<JoinHandle<(String, View)>>,
}

impl Play {
    fn begin(smtp: SocketAddr, http: SocketAddr, size: Size) -> Self {
        let seed = std::env::var("MAILROOM_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        println!("MAILROOM_TEST_SEED={seed}");
        let mut seeds = StdRng::seed_from_u64(seed);
        let mut rng = || StdRng::seed_from_u64(seeds.random());
        let run = Rc::new(Run {
            size,
            smtp: Cell::new(smtp),
            http: Cell::new(http),
            reconnects: Cell::default(),
            resets: Cell::default(),
            kept: RefCell::default(),
            history: Cell::default(),
            ended: Cell::default(),
        });
        let mut writers = Vec::new();
        writers.extend((0..SENDERS).map(|n| actix::spawn(send(Rc::clone(&run), n, rng()))));
        writers.extend((0..CHANGERS).map(|_| actix::spawn(change(Rc::clone(&run), rng()))));
        let names = (0..MAILBOXES).map(address).chain(["*".to_owned()]);
        let clients = names
            .flat_map(|name| std::iter::repeat_n(name, CLIENTS))
            .map(|name| Client { run: Rc::clone(&run), name, rng: rng(), view: View::new(), cursor: None })
            .map(|client| actix::spawn(client.live()))
            .collect();
        Self { run, writers, clients }
    }

    /// Waits until all is sent and done, and compares every view with the store.
    async fn end(self) {
        let Self { run, writers, clients } = self;
        for writer in writers {
            writer.await.unwrap();
        }
        run.pace(1, 1).await;
        let (api, mut smtp) = (Api::new(run.http.get()), SmtpClient::connect(run.smtp.get()).await);
        smtp.hello().await;
        for n in 0..MAILBOXES {
            // Those that were to end soon have ended already, or stay now.
            api.patch(&format!("/v1/mailboxes/{}", address(n)), json!({"ttl": "never"})).await;
            assert!(smtp.try_send(&address(n), &message("end", "text")).await);
        }
        smtp.quit().await;
        run.ended.set(true);
        let mut stored = BTreeMap::new();
        for name in (0..MAILBOXES).map(address).chain(["*".to_owned()]) {
            stored.insert(name.clone(), list(run.http.get(), &name).await.unwrap().0);
        }
        for client in clients {
            let (name, view) = client.await.expect("a client that heard everything in order");
            assert_eq!(view, stored[&name], "{name}");
        }
        let mut subjects: Vec<_> = stored[&address(0)].values().map(|(_, _, subject)| subject.clone()).collect();
        subjects.sort();
        for subject in run.kept.borrow().iter() {
            let count = subjects.iter().filter(|stored| *stored == subject).count();
            assert_eq!(count, 1, "{subject} was answered 250 and is there {count} times");
        }
        println!("{} reconnects, {} resets", run.reconnects.get(), run.resets.get());
    }
}

#[actix::test]
async fn every_view_ends_equal_to_the_store() {
    let mut server = TestServer::with(|config| config.mailboxes.idle = Period::millis(50)).await;
    let size = Size { reconnects: 1_000, messages: 3_000, changes: 900 };
    let play = Play::begin(server.smtp_address(), server.app.http, size);
    play.run.pace(1, 2).await;
    server = server.restart().await;
    play.run.smtp.set(server.smtp_address());
    play.run.http.set(server.app.http);
    play.end().await;
    server.stop().await;
}

#[actix::test]
async fn every_view_outlives_a_kill_and_a_restored_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let plan = Plan::new(&data).set("MAILROOM__MAILBOXES__IDLE", "50ms");
    let mut server = plan.start().await;
    let play = Play::begin(plan.smtp, plan.http, Size { reconnects: 800, messages: 1_600, changes: 600 });
    let run = Rc::clone(&play.run);
    for quarter in [1, 2] {
        run.pace(quarter, 5).await;
        server.kill();
        server = plan.start().await;
    }
    run.pace(3, 5).await;
    let answered = run.kept.borrow().clone();
    let mut backup = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    backup.arg("backup").arg(&copy).arg("--data").arg(&data);
    let output = tokio::task::spawn_blocking(move || backup.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    run.pace(4, 5).await;
    server.kill();
    // What came after the copy is forgotten; what was answered before is not.
    run.history.set(1);
    run.kept.replace(answered);
    let resets = run.resets.get();
    std::fs::rename(&data, dir.path().join("old")).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    server = plan.start().await;
    play.end().await;
    assert!(run.resets.get() > resets, "cursors of another history go on");
    server.kill();
}
