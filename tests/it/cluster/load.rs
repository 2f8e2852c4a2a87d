//! Senders and sockets that go on whatever happens, and write down what they were told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::socket::{Heard, Socket};
use crate::support::{Api, SmtpClient, message, until};

const SENDERS: usize = 6;
const MAILBOXES: usize = 5;
/// Sockets for each mailbox, and as many for all.
const SOCKETS: usize = 3;
/// Mail that is to be taken before it is said that the load goes on.
const MORE: usize = 60;
/// What an event may take at most, whatever was lost on the way.
const LATEST: Duration = Duration::from_secs(30);

/// Where senders and sockets come in: nginx, or a node.
#[derive(Clone, Copy)]
pub struct Door {
    pub smtp: SocketAddr,
    pub http: SocketAddr,
}

/// What everyone writes down. A message is told by its number, which is its subject.
#[derive(Default)]
struct Notes {
    next: usize,
    answered: BTreeMap<usize, usize>,
    /// Nothing is sent any more.
    sent: bool,
    /// Nobody listens any more.
    stop: bool,
}

/// What one socket heard.
struct View {
    /// None follows all.
    mailbox: Option<usize>,
    heard: BTreeSet<usize>,
    since: Option<String>,
    resets: usize,
}

type Shared = Rc<RefCell<Notes>>;

pub struct Load {
    notes: Shared,
    views: Vec<Rc<RefCell<View>>>,
    senders: Vec<JoinHandle<()>>,
}

fn address(mailbox: usize) -> String {
    format!("box{mailbox}@example.com")
}

async fn send(door: SocketAddr, notes: Shared) {
    let mut client = None;
    while !notes.borrow().sent {
        if client.is_none() {
            client = SmtpClient::try_connect(door).await;
        }
        let Some(session) = &mut client else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let number = {
            let mut notes = notes.borrow_mut();
            notes.next += 1;
            notes.next
        };
        let mailbox = number % MAILBOXES;
        if session.try_send(&address(mailbox), &message(&number.to_string(), "under load")).await {
            notes.borrow_mut().answered.insert(number, mailbox);
        } else {
            client = None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn listen(door: SocketAddr, notes: Shared, view: Rc<RefCell<View>>) {
    let name = view.borrow().mailbox.map_or("*".to_owned(), address);
    while !notes.borrow().stop {
        if let Some(mut socket) = Socket::try_connect(door, None).await {
            let since = view.borrow().since.clone();
            if socket.follow(&name, since.as_deref()).await {
                hear(&mut socket, &notes, &view).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Until the connection is over.
async fn hear(socket: &mut Socket, notes: &Shared, view: &Rc<RefCell<View>>) {
    while !notes.borrow().stop {
        match socket.hear_within(Duration::from_millis(500)).await {
            Heard::Frame(frame) => {
                let mut view = view.borrow_mut();
                match frame["type"].as_str() {
                    Some("subscribed") if view.since.is_none() => view.since = cursor(&frame),
                    Some("message.received") => {
                        let subject = frame["message"]["subject"].as_str().expect("a subject");
                        // Who follows all hears of mail beside the load, too.
                        let number = subject.parse::<usize>();
                        assert!(number.is_ok() || view.mailbox.is_none(), "{subject} is no number");
                        view.heard.extend(number);
                        view.since = cursor(&frame);
                    }
                    Some("reset") => {
                        view.resets += 1;
                        view.since = cursor(&frame);
                    }
                    // The server could not follow: the client asks again.
                    Some("error") => return,
                    _ => {}
                }
            }
            Heard::Closed(_) => return,
            Heard::Nothing => {}
        }
    }
}

fn cursor(frame: &Value) -> Option<String> {
    frame["cursor"].as_str().map(str::to_owned)
}

impl Load {
    /// Starts when every socket follows: from then on each misses nothing. Senders are shared out to the doors, and so are the
    /// sockets of each mailbox.
    pub async fn start(doors: &[Door]) -> Self {
        let notes = Shared::default();
        let mut views = Vec::new();
        for (n, mailbox) in (0..MAILBOXES).map(Some).chain([None]).flat_map(|mailbox| [mailbox; SOCKETS]).enumerate() {
            let view = View { mailbox, heard: BTreeSet::new(), since: None, resets: 0 };
            let view = Rc::new(RefCell::new(view));
            actix::spawn(listen(doors[n % doors.len()].http, notes.clone(), view.clone()));
            views.push(view);
        }
        until("every socket follows", async || views.iter().all(|view| view.borrow().since.is_some())).await;
        let senders = (0..SENDERS).map(|n| actix::spawn(send(doors[n % doors.len()].smtp, notes.clone()))).collect();
        Self { notes, views, senders }
    }

    /// Mail is taken.
    pub async fn goes_on(&self, when: &str) {
        let before = self.notes.borrow().answered.len();
        until(&format!("mail is taken: {when}"), async || self.notes.borrow().answered.len() > before + MORE).await;
    }

    /// Every socket hears what was taken until now.
    pub async fn catches_up(&self, when: &str) {
        let answered = self.notes.borrow().answered.clone();
        let end = Instant::now() + LATEST;
        for view in &self.views {
            loop {
                let Some(missing) = view.borrow().missing(&answered) else { break };
                assert!(Instant::now() < end, "{when}: {missing}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Stops, and compares what was told with what is stored, as a node shows it.
    pub async fn ends_well(mut self, api: &Api) {
        self.notes.borrow_mut().sent = true;
        for sender in std::mem::take(&mut self.senders) {
            sender.await.expect("it stops");
        }
        // Behind a broker the last of them are answered before they are stored.
        self.catches_up("at the end").await;
        self.notes.borrow_mut().stop = true;
        let answered = self.notes.borrow().answered.clone();
        for mailbox in 0..MAILBOXES {
            let stored = numbers(api, &address(mailbox)).await;
            let once: BTreeSet<usize> = stored.iter().copied().collect();
            assert_eq!(once.len(), stored.len(), "a message is there twice");
            for (number, _) in answered.iter().filter(|(_, to)| **to == mailbox) {
                assert!(once.contains(number), "{number} was answered 250 and is not there");
            }
            for view in &self.views {
                let view = view.borrow();
                if view.mailbox == Some(mailbox) {
                    assert!(view.heard.is_subset(&once), "a socket heard of what is not there");
                }
            }
        }
        assert!(self.views.iter().all(|view| view.borrow().resets == 0), "a socket had to start over");
    }
}

impl View {
    fn missing(&self, answered: &BTreeMap<usize, usize>) -> Option<String> {
        let wanted = answered.iter().filter(|(_, to)| self.mailbox.is_none_or(|mailbox| mailbox == **to));
        let missing: Vec<usize> =
            wanted.map(|(number, _)| *number).filter(|number| !self.heard.contains(number)).collect();
        let first = missing.first()?;
        Some(format!("a socket of {:?} misses {} messages, the first is {first}", self.mailbox, missing.len()))
    }
}

/// All messages of a mailbox.
async fn numbers(api: &Api, mailbox: &str) -> Vec<usize> {
    let (mut numbers, mut page) = (Vec::new(), String::new());
    loop {
        let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages?limit=100{page}")).await;
        for item in list["items"].as_array().expect("items") {
            numbers.push(item["subject"].as_str().expect("a subject").parse().expect("a number"));
        }
        match list["next_cursor"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => return numbers,
        }
    }
}
