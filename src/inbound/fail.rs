//! Panics on demand, for the tests that prove what happens then, as `store::Faults` does for the writer. Nothing in the
//! program calls it, and without a call it costs nothing.

use actix::{Context, Handler, Message};

use super::everything::Everything;
use super::mailbox::MailboxActor;
use super::registry::Registry;
use super::{Inbound, PUBLISHER_LIMIT};
use crate::mail::address::MailboxKey;

/// Which actor is to panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    Mailbox(MailboxKey),
    Registry,
    Everything,
}

/// Panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

fn die() {
    panic!("told to, by a test");
}

impl Handler<Fail> for MailboxActor {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        die();
    }
}

impl Handler<Fail> for Registry {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        die();
    }
}

impl Handler<Fail> for Everything {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        die();
    }
}

impl Inbound {
    /// For tests: lets an actor panic at its next message, and returns when it is dead. A mailbox without one is left
    /// as it is.
    pub async fn fail_for_test(&self, victim: &Victim) {
        let _ = match victim {
            Victim::Mailbox(key) => {
                let asked = self.inner.map.with(key, |entry| entry.addr.send(Fail));
                let Some(asked) = asked else { return };
                asked.await.is_ok()
            }
            Victim::Registry => self.inner.registry.ask(Fail, PUBLISHER_LIMIT).await.is_ok(),
            Victim::Everything => self.inner.everything.ask(Fail, PUBLISHER_LIMIT).await.is_ok(),
        };
    }
}
