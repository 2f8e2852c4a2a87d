//! A node that is stopped in the middle of its work holds up nobody, and what it was about to do is done once or not at
//! all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use crate::support::process::Plan;
use crate::support::servers::Engine;
use crate::support::{Process, SmtpClient, message, until};

const BOXES: [&str; 3] = ["a@example.com", "b@example.com", "c@example.com"];

/// Sends one after the other; subjects answered 250, and those whose answer was not heard.
#[derive(Default)]
struct Sent {
    answered: RefCell<Vec<String>>,
    stop: Cell<bool>,
}

async fn send(to: &str, name: String, node: &Process, sent: &Sent) {
    let mut n = 0;
    let mut smtp = None;
    while !sent.stop.get() {
        n += 1;
        let subject = format!("{name}-{n}");
        if smtp.is_none() {
            smtp = SmtpClient::try_connect(node.smtp).await;
        }
        let Some(client) = smtp.as_mut() else { continue };
        if client.try_send(to, &message(&subject, "text")).await {
            sent.answered.borrow_mut().push(subject);
        } else {
            smtp = None;
        }
    }
}

fn node(engine: Engine, directory: &Path, shared: &Path) -> Plan {
    Plan::new(directory).set("MAILROOM__DATABASE__URL", &engine.database(shared).url)
}

async fn a_stopped_node(engine: Engine) {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plans = [1, 2].map(|n: usize| node(engine, directories[n].path(), directories[0].path()));
    let (first, second) = (plans[0].start().await, plans[1].start().await);
    let (stopped, going) = (Sent::default(), Sent::default());
    let lanes = |node, sent, who: &'static str| {
        let lanes = (0..6).map(move |lane| send(BOXES[lane % 3], format!("{who}{lane}"), node, sent));
        futures_util::future::join_all(lanes)
    };
    let script = async {
        for _ in 0..3 {
            until("both are at work", || async {
                stopped.answered.borrow().len() > 20 && going.answered.borrow().len() > 20
            })
            .await;
            first.pause();
            let before = going.answered.borrow().len();
            // The server ends what the stopped one had begun after 10 s; without that the other would wait for ever.
            until("the other goes on", || async { going.answered.borrow().len() > before + 30 }).await;
            first.resume();
            let before = stopped.answered.borrow().len();
            until("the first goes on", || async { stopped.answered.borrow().len() > before + 10 }).await;
        }
        stopped.stop.set(true);
        going.stop.set(true);
    };
    futures_util::join!(script, lanes(&first, &stopped, "s"), lanes(&second, &going, "g"));
    let mut listed: BTreeMap<String, u32> = BTreeMap::new();
    for mailbox in BOXES {
        let (api, mut page) = (second.api(), String::new());
        loop {
            let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages?limit=100{page}")).await;
            for item in list["items"].as_array().unwrap() {
                *listed.entry(item["subject"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            match list["next_cursor"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => break,
            }
        }
    }
    for subject in stopped.answered.borrow().iter().chain(going.answered.borrow().iter()) {
        assert_eq!(listed.get(subject), Some(&1), "{subject} was answered 250");
    }
    assert!(listed.values().all(|count| *count == 1), "a message is there twice");
}

#[actix::test]
async fn a_stopped_node_on_postgres_holds_up_nobody() {
    a_stopped_node(Engine::Postgres).await;
}

#[actix::test]
async fn a_stopped_node_on_mariadb_holds_up_nobody() {
    a_stopped_node(Engine::MariaDb).await;
}
