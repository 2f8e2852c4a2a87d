//! A panic anywhere on the live path: nobody else notices, no 250 is false, no event is lost, and everything goes on
//! without a restart.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use mailroom::inbound::fail::Victim;
use mailroom::mail::address::{MailboxKey, Plus};
use mailroom::store::Fault;

use crate::support::servers::Engine;
use crate::support::{SmtpClient, Socket, TestServer, confirmed, message, until};

/// The one that dies belongs to `hurt@`; nobody who sends to another one may notice.
const HURT: &str = "hurt@example.com";
const OTHER: &str = "other@example.com";
const SENDERS: usize = 4;
const KILLS: usize = 10;

/// What the senders did.
#[derive(Default)]
struct Sent {
    /// Subjects that were answered 250.
    answered: RefCell<BTreeSet<String>>,
    /// Those that were not.
    refused: RefCell<BTreeSet<String>>,
    enough: Cell<bool>,
}

impl Sent {
    fn answered(&self) -> usize {
        self.answered.borrow().len()
    }
}

/// Sends over one session to both mailboxes and to ones that nobody knows yet, until there is enough.
async fn sender(number: usize, server: std::net::SocketAddr, sent: Rc<Sent>) {
    let mut smtp = SmtpClient::connect(server).await;
    smtp.hello().await;
    for n in 0.. {
        if sent.enough.get() {
            break;
        }
        let fresh = format!("fresh-{number}-{n}@example.com");
        let to = [HURT, OTHER, &fresh][n % 3];
        let subject = format!("{to} {number}-{n}");
        let reply = smtp.send("ann@sender.test", &[to], message(&subject, "text").as_bytes()).await;
        assert!(!reply.is_empty(), "the session was closed");
        if reply.starts_with("250 ") {
            sent.answered.borrow_mut().insert(subject);
        } else {
            assert!(reply.starts_with("451 "), "{reply}");
            sent.refused.borrow_mut().insert(subject);
            assert!(smtp.command("RSET").await.starts_with("250 "));
        }
    }
    smtp.quit().await;
}

/// Reads one socket, which must stay open and never hear `reset`, until the message `end`; all subjects in order.
async fn witness(mut socket: Socket, end: &'static str) -> Vec<String> {
    let mut subjects = Vec::new();
    loop {
        let frame = socket.hear().await;
        assert_eq!(frame["type"], "message.received", "{frame}");
        let subject = frame["message"]["subject"].as_str().unwrap().to_owned();
        if subject == end {
            return subjects;
        }
        subjects.push(subject);
    }
}

/// Sends under load while `fail` is called again and again; returns what was refused.
async fn survives(fail: impl AsyncFn(&TestServer)) -> BTreeSet<String> {
    let server = TestServer::start().await;
    let mut witnesses = Vec::new();
    for (mailbox, end) in [(HURT, "end hurt"), (OTHER, "end other"), ("*", "end other")] {
        let mut socket = Socket::connect(server.app.http).await;
        socket.subscribe(mailbox).await;
        witnesses.push((mailbox, actix::spawn(witness(socket, end))));
    }
    let sent = Rc::new(Sent::default());
    let senders: Vec<_> =
        (0..SENDERS).map(|n| actix::spawn(sender(n, server.smtp_address(), Rc::clone(&sent)))).collect();
    for _ in 0..KILLS {
        let before = sent.answered();
        until("mail goes on", async || sent.answered() >= before + 12).await;
        fail(&server).await;
    }
    let before = sent.answered();
    until("mail goes on after the last one", async || sent.answered() >= before + 30).await;
    sent.enough.set(true);
    for sender in senders {
        sender.await.expect("no session noticed more than a 451");
    }
    // What a failure held up comes after others, and must not come after the end.
    confirmed::is_stored(server.app.http).await;
    server.deliver(HURT, &message("end hurt", "text")).await;
    server.deliver(OTHER, &message("end other", "text")).await;
    for (mailbox, witness) in witnesses {
        let mut seen = witness.await.expect("no socket noticed");
        seen.retain(|subject| subject != "end hurt");
        let expected: BTreeSet<_> = {
            let answered = sent.answered.borrow();
            answered.iter().filter(|subject| mailbox == "*" || subject.starts_with(mailbox)).cloned().collect()
        };
        let once: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(once.len(), seen.len(), "{mailbox}: an event came twice");
        assert_eq!(once, expected, "{mailbox}: events are what was answered 250");
    }
    let mut stored = BTreeSet::new();
    let api = server.api();
    let mut page = String::new();
    loop {
        let list = api.json(&format!("/v1/messages?limit=500{page}")).await;
        for item in list["items"].as_array().unwrap() {
            let subject = item["subject"].as_str().unwrap();
            assert!(subject.starts_with("end ") || stored.insert(subject.to_owned()), "{subject} is there twice");
        }
        let Some(next) = list["next_cursor"].as_str() else { break };
        page = format!("&page={next}");
    }
    assert_eq!(stored, *sent.answered.borrow(), "the store has what was answered 250");
    server.stop().await;
    sent.refused.take()
}

#[actix::test]
async fn a_panic_in_a_mailbox_hurts_only_what_is_under_way_to_it() {
    let hurt = MailboxKey::parse(HURT, Plus::Same).unwrap();
    let refused = survives(async |server: &TestServer| {
        server.app.inbound.fail_for_test(&Victim::Mailbox(hurt.clone())).await;
    })
    .await;
    assert!(refused.iter().all(|subject| subject.starts_with(HURT)), "{refused:?}");
}

#[actix::test]
async fn nobody_notices_a_panic_in_the_registry() {
    let refused = survives(async |server: &TestServer| {
        server.app.inbound.fail_for_test(&Victim::Registry).await;
    })
    .await;
    assert_eq!(refused, BTreeSet::new());
}

#[actix::test]
async fn nobody_notices_a_panic_in_the_actor_for_all_mailboxes() {
    let refused = survives(async |server: &TestServer| {
        server.app.inbound.fail_for_test(&Victim::Everything).await;
    })
    .await;
    assert_eq!(refused, BTreeSet::new());
}

#[actix::test]
async fn a_panic_of_the_writer_before_the_commit_is_a_451_for_its_batch_unless_a_queue_has_it() {
    let refused = survives(async |server: &TestServer| server.faults.arm(Fault::PanicBeforeCommit)).await;
    if Engine::chosen().has_broker() {
        assert_eq!(refused, BTreeSet::new());
    } else {
        assert!(!refused.is_empty() && refused.len() <= SENDERS * KILLS, "{refused:?}");
    }
}

#[actix::test]
async fn a_panic_of_the_writer_after_the_commit_is_a_250_and_one_event() {
    let refused = survives(async |server: &TestServer| server.faults.arm(Fault::PanicAfterCommit)).await;
    assert_eq!(refused, BTreeSet::new());
}

#[actix::test]
async fn a_commit_with_an_unknown_outcome_is_a_250_and_exactly_one_message() {
    let refused = survives(async |server: &TestServer| server.faults.arm(Fault::CommitUnknown)).await;
    assert_eq!(refused, BTreeSet::new());
}
