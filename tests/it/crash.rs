//! Killed with SIGKILL under load, over and over: what was answered 250 is there once and whole, and nothing else is.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use awc::http::Method;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::servers::Engine;
use crate::support::{Api, PATIENCE, process::Plan, until};

const KILLS: usize = 24;
const SENDERS: usize = 6;
/// Where every sender sends to.
const SHARED: [&str; 4] = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
/// Large messages come here and most are deleted again, so that segments are emptied and removed meanwhile.
const CHURN: &str = "churn@example.com";
const LARGE: usize = 300 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing was heard after the dot, or the dot never came.
    Unknown,
    Answered,
    Refused,
}

/// A message that somebody tried to send. Its number is its subject, and its contents follow from that.
struct Sent {
    sender: usize,
    to: Vec<String>,
    size: usize,
    fate: Fate,
}

impl Sent {
    fn contents(&self, number: usize) -> Vec<u8> {
        let mut rng = StdRng::seed_from_u64(number as u64);
        let mut text = format!("From: Load <load@sender.test>\r\nSubject: {number}\r\n\r\n").into_bytes();
        while text.len() < self.size {
            match rng.random_range(0..8) {
                0 => text.extend_from_slice(b".\r\n"),
                1 => text.extend_from_slice(b"..the same words, again and again\r\n"),
                _ => {
                    let length = rng.random_range(1..900);
                    text.extend((0..length).map(|_| match rng.random::<u8>() {
                        0 | b'\r' | b'\n' => b'x',
                        byte => byte,
                    }));
                    text.extend_from_slice(b"\r\n");
                }
            }
        }
        text
    }
}

/// What everyone writes down.
#[derive(Default)]
struct Log {
    sent: Vec<Sent>,
    answered: usize,
    /// Numbers of messages in [`CHURN`] that somebody asked to delete, and those of which the server said they are gone.
    doomed: HashSet<usize>,
    deleted: HashSet<usize>,
}

type Shared = Rc<RefCell<Log>>;

/// A client that ends as soon as the server does.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Option<Self> {
        let mut client = Self(BufReader::new(TcpStream::connect(address).await.ok()?));
        client.reply().await?;
        client.command("EHLO load.test").await?;
        Some(client)
    }

    async fn reply(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a reply in time").ok()?;
            if read == 0 || !line.ends_with("\r\n") {
                return None;
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some(line);
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.get_mut().write_all(bytes).await.ok()
    }

    async fn command(&mut self, line: &str) -> Option<String> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// The reply to the dot, or an earlier refusal.
    async fn send(&mut self, to: &[String], contents: &[u8]) -> Option<String> {
        let mut commands = String::from("MAIL FROM:<load@sender.test> BODY=8BITMIME\r\n");
        for to in to {
            commands.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        self.write(commands.as_bytes()).await?;
        let mut replies = Vec::new();
        for _ in 0..to.len() + 2 {
            replies.push(self.reply().await?);
        }
        if !replies.last()?.starts_with("354") || replies.iter().any(|reply| reply.starts_with('4')) {
            panic!("nothing here is to be refused before the dot: {replies:?}");
        }
        let mut wire = Vec::new();
        mailroom::smtp::data::encode(contents, &mut wire);
        self.write(&wire).await?;
        self.reply().await
    }
}

/// Sends until the server is gone.
async fn send(sender: usize, address: SocketAddr, log: Shared, mut rng: StdRng) {
    let kept = sender.is_multiple_of(2);
    while let Some(mut client) = Client::connect(address).await {
        loop {
            let (to, size) = choose(sender, &mut rng);
            let (number, contents) = {
                let mut log = log.borrow_mut();
                let sent = Sent { sender, to: to.clone(), size, fate: Fate::Unknown };
                let number = log.sent.len();
                let contents = sent.contents(number);
                log.sent.push(sent);
                (number, contents)
            };
            let Some(reply) = client.send(&to, &contents).await else { return };
            let fate = if reply.starts_with("250 2.0.0") { Fate::Answered } else { Fate::Refused };
            log.borrow_mut().sent[number].fate = fate;
            log.borrow_mut().answered += usize::from(fate == Fate::Answered);
            if !kept {
                if client.command("QUIT").await.is_none() {
                    return;
                }
                break;
            }
        }
    }
}

fn choose(sender: usize, rng: &mut StdRng) -> (Vec<String>, usize) {
    if sender == 0 {
        return (vec![CHURN.into()], LARGE);
    }
    let mut to = vec![format!("only-{sender}@example.com")];
    if rng.random_ratio(1, 3) {
        to.extend(SHARED.iter().take(rng.random_range(1..=SHARED.len())).map(|to| (*to).to_owned()));
    }
    let size = if rng.random_ratio(1, 40) { LARGE } else { rng.random_range(80..12_000) };
    (to, size)
}

/// Deletes three of four large messages until the server is gone.
async fn delete(api: Api, log: Shared) {
    let path = format!("/v1/mailboxes/{CHURN}/messages");
    loop {
        let Ok(list) = api.try_call(Method::GET, &format!("{path}?limit=20"), &[], None).await else { return };
        let Some(items) = list.json()["items"].as_array().cloned() else { return };
        for item in items {
            let number: usize = item["subject"].as_str().expect("a subject").parse().expect("a number");
            if number.is_multiple_of(4) {
                continue;
            }
            log.borrow_mut().doomed.insert(number);
            let path = format!("{path}/{}", item["id"].as_str().expect("an id"));
            let Ok(answer) = api.try_call(Method::DELETE, &path, &[], None).await else { return };
            assert_eq!(answer.status, 204, "{}", answer.text());
            log.borrow_mut().deleted.insert(number);
        }
    }
}

#[actix::test]
async fn nothing_answered_250_is_lost_by_killing_the_server() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path()).set("MAILROOM__BODIES__SEGMENT_SIZE", "2MiB");
    let plan = plan.set("MAILROOM__MAILBOXES__EXPIRE_EVERY", "100ms");
    let log = Shared::default();
    for round in 0..KILLS {
        let server = plan.start().await;
        let senders = (0..SENDERS).map(|n| {
            let rng = StdRng::seed_from_u64(rng.random());
            actix::spawn(send(n, server.smtp, log.clone(), rng))
        });
        let mut tasks: Vec<_> = senders.collect();
        tasks.push(actix::spawn(delete(server.api().kept(), log.clone())));
        // A random moment: after some answers, so that a slow machine has a load as well, and a little later.
        let enough = log.borrow().answered + rng.random_range(0..80);
        until("there are answers", || async { log.borrow().answered >= enough }).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
        server.kill();
        for ended in timeout(PATIENCE, join_all(tasks)).await.expect("everyone notices") {
            ended.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        if round % 4 == 3 {
            // Also while it starts and takes in what it finds.
            let starting = plan.spawn();
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
            starting.kill();
        }
    }
    let server = plan.start().await;
    let log = std::rc::Rc::into_inner(log).expect("nobody else has it any more").into_inner();
    let count = |fate| log.sent.iter().filter(|sent| sent.fate == fate).count();
    let (answered, unknown) = (count(Fate::Answered), count(Fate::Unknown));
    println!("{answered} answered, {unknown} not, {} refused, {} deleted", count(Fate::Refused), log.deleted.len());
    assert!(answered > 10 * KILLS && unknown > KILLS, "there was a load, and it was cut off");
    let places = Check { api: server.api().kept(), log: &log }.all().await;
    complete(&log, &places);
    in_order(&log, &places);
    assert!(server.terminate().success());
}

/// Where each message was found: mailbox to number to UID.
type Places = BTreeMap<String, HashMap<usize, u64>>;

struct Check<'a> {
    api: Api,
    log: &'a Log,
}

impl Check<'_> {
    async fn all(&self) -> Places {
        let mailboxes: HashSet<&String> = self.log.sent.iter().flat_map(|sent| &sent.to).collect();
        let mut places = Places::new();
        for mailbox in mailboxes {
            places.insert(mailbox.clone(), self.mailbox(mailbox).await);
        }
        places
    }

    /// Every listed message reads whole and is there once; the counts are those of the list.
    async fn mailbox(&self, mailbox: &str) -> HashMap<usize, u64> {
        let path = format!("/v1/mailboxes/{mailbox}");
        let mut found = HashMap::new();
        let (mut page, mut last, mut bytes) = (String::new(), u64::MAX, 0);
        loop {
            let list = self.api.json(&format!("{path}/messages?limit=100{page}")).await;
            let items = list["items"].as_array().unwrap().clone();
            join_all(items.iter().map(|item| self.whole(&path, item))).await;
            for item in &items {
                let (number, uid) = (number(item), item["uid"].as_u64().unwrap());
                assert!(uid < last, "UIDs of {mailbox} go down strictly: {uid} after {last}");
                last = uid;
                bytes += item["size"].as_u64().unwrap();
                assert!(self.log.sent[number].to.iter().any(|to| to == mailbox), "{number} was not sent to {mailbox}");
                assert_eq!(found.insert(number, uid), None, "{number} is twice in {mailbox}");
            }
            match list["next_cursor"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => break,
            }
        }
        let view = self.api.json(&path).await;
        let totals = [view["messages"].as_u64(), view["unread"].as_u64(), view["bytes"].as_u64()];
        assert_eq!(totals, [Some(found.len() as u64), Some(found.len() as u64), Some(bytes)], "{mailbox}");
        found
    }

    async fn whole(&self, path: &str, item: &serde_json::Value) {
        let number = number(item);
        let raw = self.api.get(&format!("{path}/messages/{}/raw", item["id"].as_str().unwrap())).await;
        assert_eq!(raw.status, 200, "{number}: {}", raw.text());
        assert_eq!(Some(raw.body.len() as u64), item["size"].as_u64(), "{number}");
        let sent = self.log.sent[number].contents(number);
        assert!(raw.body.ends_with(&sent), "{number} in {path} is not what was sent");
        let trace = &raw.body[..raw.body.len() - sent.len()];
        assert!(trace.starts_with(b"Return-Path: <load@sender.test>\r\nReceived: "), "{number} in {path}");
    }
}

fn number(item: &serde_json::Value) -> usize {
    item["subject"].as_str().unwrap().parse().unwrap()
}

/// What was answered is in each of its mailboxes; what was not is in all of them or in none; what is deleted is gone.
fn complete(log: &Log, places: &Places) {
    for (number, sent) in log.sent.iter().enumerate() {
        let there = sent.to.iter().filter(|to| places[*to].contains_key(&number)).count();
        let whole = there == sent.to.len();
        match (log.deleted.contains(&number), log.doomed.contains(&number)) {
            (true, _) => assert_eq!(there, 0, "{number} was deleted"),
            (false, true) => {}
            (false, false) if sent.fate == Fate::Answered => {
                assert!(whole, "{number} was answered 250 and is in {there} of {:?}", sent.to);
            }
            (false, false) => assert!(whole || there == 0, "{number} is in {there} of {:?}", sent.to),
        }
    }
}

/// A sender sent one after the other: so are the UIDs, also over restarts. In a broker large messages wait in a queue of their own.
fn in_order(log: &Log, places: &Places) {
    let broker = Engine::chosen().has_broker();
    for (mailbox, found) in places {
        let mut last: HashMap<(usize, bool), u64> = HashMap::new();
        let mut numbers: Vec<_> = found.iter().collect();
        numbers.sort_unstable();
        for (number, uid) in numbers {
            let sent = &log.sent[*number];
            let before = last.insert((sent.sender, broker && sent.size >= LARGE), *uid);
            assert!(before.is_none_or(|before| before < *uid), "{number} in {mailbox}: {uid} after {before:?}");
        }
    }
}
