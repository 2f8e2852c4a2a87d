//! Mail through RabbitMQ: what was answered 250 is stored once, whoever is killed meanwhile.

mod away;
mod dead;
mod full;
mod killed;
mod large;
mod through;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use mailroom::cluster::broker::BrokerConfig;
use mailroom::cluster::broker::message::Mail;
use mailroom::cluster::broker::topology::{self, Names};
use mailroom::config::Config;

use crate::support::servers::RabbitMq;
use crate::support::servers::database::rabbitmq as shared;
use crate::support::{Api, SmtpClient, TestServer, message, until};

/// A server in this process with a broker, ready.
async fn server(url: &str, change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(|config| {
        config.broker.url = url.to_owned();
        change(config);
    })
    .await;
    ready(&server).await;
    server
}

async fn ready(server: &TestServer) {
    until("the broker takes mail", async || status(server).trouble.is_none()).await;
}

fn status(server: &TestServer) -> mailroom::cluster::broker::BrokerStatus {
    server.app.broker.as_ref().unwrap().status()
}

/// One message; the reply to its end.
async fn send(to: SocketAddr, recipients: &[&str], subject: &str) -> String {
    let mut smtp = SmtpClient::connect(to).await;
    smtp.hello().await;
    let reply = smtp.send("ann@sender.test", recipients, message(subject, "text").as_bytes()).await;
    smtp.quit().await;
    reply
}

/// Lines of text that nothing makes smaller.
pub fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 58) as u8)
    };
    let text: String = (0..bytes).map(|_| byte()).collect();
    text.as_bytes().chunks(900).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\r\n")
}

/// Waits until a mailbox has these, oldest first.
async fn has(api: &Api, mailbox: &str, subjects: &[String]) {
    until(&format!("{mailbox} has {} messages", subjects.len()), async || {
        let mut found = all_subjects(api, mailbox).await;
        found.reverse();
        if found.len() >= subjects.len() {
            assert_eq!(found, subjects, "{mailbox}");
        }
        found == subjects
    })
    .await;
}

/// All of them, newest first; none when nobody can say.
async fn all_subjects(api: &Api, mailbox: &str) -> Vec<String> {
    let (mut subjects, mut page) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/mailboxes/{mailbox}/messages?limit=500{page}");
        let Ok(list) = api.try_call(awc::http::Method::GET, &path, &[], None).await else { return subjects };
        if list.status != 200 {
            return subjects;
        }
        let list = list.json();
        let items = list["items"].as_array().unwrap();
        subjects.extend(items.iter().map(|item| item["subject"].as_str().unwrap().to_owned()));
        match list["next_cursor"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => return subjects,
        }
    }
}

/// What the queues of a broker hold.
pub struct Queues {
    connection: Connection,
    names: Names,
}

impl Queues {
    pub async fn of(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        Self { connection, names: Names::new(&BrokerConfig::default()) }
    }

    /// Messages that nobody has taken.
    async fn waiting(&self) -> u32 {
        let channel = self.connection.create_channel().await.unwrap();
        let mut waiting = 0;
        for queue in self.names.mail() {
            waiting += topology::look(&channel, &queue).await.unwrap().0;
        }
        channel.close(200, "looked".into()).await.unwrap();
        waiting
    }

    pub async fn dead(&self) -> u32 {
        let channel = self.connection.create_channel().await.unwrap();
        let (count, _) = topology::look(&channel, &self.names.dead()).await.unwrap();
        channel.close(200, "looked".into()).await.unwrap();
        count
    }

    async fn put(&self, mail: Mail) {
        let queue = self.names.of(&mail.parts[0].mailbox, 0);
        self.put_bytes(&queue, &mail.encode()).await;
    }

    async fn put_bytes(&self, queue: &str, bytes: &[u8]) {
        let channel = self.connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = channel.basic_publish("".into(), queue.into(), options, bytes, properties).await.unwrap();
        assert!(sent.await.unwrap().take_message().is_none(), "{queue}");
        channel.close(200, "sent".into()).await.unwrap();
    }
}

/// Several who send as fast as they can, and what they heard.
struct Senders {
    log: Rc<Log>,
    running: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    /// What was answered 250, by mailbox, in the order of each sender.
    answered: RefCell<BTreeMap<String, Vec<String>>>,
    count: Cell<usize>,
    refused: Cell<usize>,
    enough: Cell<bool>,
}

impl Senders {
    /// `count` of them; each goes to the next of `addresses` when one does not answer.
    fn start(count: usize, addresses: &[SocketAddr]) -> Self {
        let log = Rc::new(Log::default());
        let running = (0..count).map(|n| actix::spawn(sender(n, addresses.to_vec(), Rc::clone(&log))));
        let running = running.collect();
        Self { log, running }
    }

    fn answered(&self) -> usize {
        self.log.count.get()
    }

    /// Waits for so many more.
    async fn more(&self, count: usize) {
        let before = self.answered();
        until(&format!("{count} more are answered 250"), async || self.answered() >= before + count).await;
    }

    async fn stop(self) -> Rc<Log> {
        self.log.enough.set(true);
        for task in self.running {
            task.await.unwrap();
        }
        self.log
    }
}

async fn sender(number: usize, addresses: Vec<SocketAddr>, log: Rc<Log>) {
    let mailbox = format!("box{number}@example.com");
    let mut n = 0;
    let mut turn = number;
    while !log.enough.get() {
        turn += 1;
        let Some(mut smtp) = SmtpClient::try_connect(addresses[turn % addresses.len()]).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !log.enough.get() {
            n += 1;
            let subject = format!("{number}-{n}");
            if !smtp.try_send(&mailbox, &message(&subject, &"text ".repeat(200))).await {
                log.refused.set(log.refused.get() + 1);
                tokio::time::sleep(Duration::from_millis(20)).await;
                break;
            }
            log.answered.borrow_mut().entry(mailbox.clone()).or_default().push(subject);
            log.count.set(log.count.get() + 1);
        }
    }
}

impl Log {
    /// Everything that was answered 250 is there once. What was not may be there, once.
    async fn is_stored(&self, api: &Api) {
        let answered = self.answered.borrow().clone();
        for (mailbox, sent) in answered {
            let sent: BTreeSet<String> = sent.into_iter().collect();
            until(&format!("everything is in {mailbox}"), async || {
                let found = all_subjects(api, &mailbox).await;
                let once: BTreeSet<String> = found.iter().cloned().collect();
                assert_eq!(once.len(), found.len(), "{mailbox}: something is there twice");
                once.is_superset(&sent)
            })
            .await;
        }
    }
}
