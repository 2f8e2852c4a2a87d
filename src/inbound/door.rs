//! Inbound's door: admits recipients from the map without asking anyone where it can, and makes a delivery of each
//! message.
//!
//! Called by sessions on their own threads. Parsing and compressing happen here, before the writer, so that they
//! run side by side; what is large or may fail goes to a blocking pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Arbiter;

use super::delivery::{Delivery, Load, Verdict};
use super::mailbox::Append;
use super::map::Map;
use super::policy::Policy;
use super::registry::{Registry, Resolve};
use crate::clock;
use crate::handoff::{Answer, Deliver, Door, Refusal};
use crate::mail::address::{Address, MailboxKey, Plus};
use crate::mail::summary::{Summary, summarize, summarize_headers};
use crate::mail::time::Timestamp;
use crate::store::bodies::encode;
use crate::store::{Body, Outlet, Part, Store};
use crate::supervise::Handle;

/// Messages up to this size are parsed and compressed where they arrive.
const INLINE_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Clone)]
pub struct InboundDoor {
    pub map: Arc<Map>,
    pub registry: Handle<Registry>,
    pub policy: Arc<Policy>,
    pub plus: Plus,
    pub store: Store,
    /// Where whole deliveries go.
    pub outlet: Arc<dyn Outlet>,
    /// After the dot: how long a delivery that no writer has begun may wait.
    pub commit_timeout: Duration,
}

impl InboundDoor {
    /// Gives each mailbox its part; one that was retired meanwhile is looked up once more, and one that has to be asked whether
    /// `size` bytes fit.
    async fn spread(&self, delivery: Arc<Delivery>, keys: Vec<MailboxKey>, size: u64, arbiter: actix::ArbiterHandle) {
        for key in keys {
            let append = Append(Arc::clone(&delivery));
            let offered = if self.weighs(&key) { Err(append) } else { self.offer(&key, append) };
            let Err(append) = offered else { continue };
            let refusal = match (Resolve { key: key.clone(), size, arbiter: arbiter.clone() }).ask(&self.registry).await
            {
                Ok(()) => match self.offer(&key, append) {
                    Ok(()) => continue,
                    Err(_) => Refusal::Unavailable,
                },
                Err(refusal) => refusal,
            };
            delivery.refuse(refusal);
            return;
        }
    }

    /// Whether this mailbox's quota must be looked at after the dot, when the size is known: the store does that itself, but what
    /// goes to a queue first is stored whatever its size.
    fn weighs(&self, key: &MailboxKey) -> bool {
        self.policy.is_queued() && self.map.with(key, |entry| entry.shared.quota.load(Ordering::SeqCst)) == Some(true)
    }

    /// Sends to the mailbox if what is known of it still holds.
    fn offer(&self, key: &MailboxKey, append: Append) -> Result<(), Append> {
        let now = clock::now_micros();
        let valid = self.map.with(key, |entry| entry.shared.is_valid(now));
        if valid == Some(true) { self.map.send(key, append) } else { Err(append) }
    }

    fn send(&self, message: Deliver, prepared: Prepared) -> Answer<Verdict> {
        let arbiter = Arbiter::current();
        let parts = parts(&message.recipients, self.plus, self.policy.automatic());
        let keys: Vec<_> = parts.iter().map(|part| part.mailbox.clone()).collect();
        let Deliver { id, received_at, envelope, data, .. } = message;
        let size = if self.policy.is_queued() { data.len() as u64 } else { 0 };
        let Prepared { body, summary } = prepared;
        let load = Load { id, received_at, envelope, body, summary, parts };
        let (delivery, verdict) = Delivery::new(load, Arc::clone(&self.outlet));
        let late = Arc::downgrade(&delivery);
        let limit = self.commit_timeout;
        if let [key] = keys.as_slice()
            && !self.weighs(key)
            && self.offer(key, Append(Arc::clone(&delivery))).is_ok()
        {
            drop(delivery);
        } else {
            let door = self.clone();
            actix::spawn(async move { door.spread(delivery, keys, size, arbiter).await });
        }
        Answer::Later(Box::pin(async move {
            tokio::pin!(verdict);
            match tokio::time::timeout(limit, &mut verdict).await {
                Ok(heard) => heard.unwrap_or(Err(Refusal::Unavailable)),
                Err(_) if late.upgrade().is_some_and(|delivery| delivery.give_up()) => Err(Refusal::Unavailable),
                // Handed over: only the outlet knows now, and the answer must be its answer.
                Err(_) => verdict.await.unwrap_or(Err(Refusal::Unavailable)),
            }
        }))
    }
}

impl Door for InboundDoor {
    fn admit(&self, recipient: &Address, size: u64) -> Answer<Result<(), Refusal>> {
        if self.store.status().no_space {
            return Answer::Now(Err(Refusal::NoSpace));
        }
        let key = recipient.mailbox_key(self.plus);
        if !self.policy.accepts_domain(key.domain()) {
            return Answer::Now(Err(Refusal::UnknownDomain));
        }
        let now = Timestamp(clock::now_micros());
        let known = self.map.touch(&key, now, |entry| {
            let shared = &entry.shared;
            !shared.quota.load(Ordering::SeqCst) && shared.is_valid(now.0)
        });
        if known == Some(true) {
            return Answer::Now(Ok(()));
        }
        let registry = self.registry.clone();
        let resolve = Resolve { key, size, arbiter: Arbiter::current() };
        Answer::Later(Box::pin(async move { resolve.ask(&registry).await }))
    }

    fn deliver(&self, message: Deliver) -> Answer<Result<(), Refusal>> {
        if message.data.len() <= INLINE_BYTES {
            let prepared = prepare(&message.data);
            return self.send(message, prepared);
        }
        let door = self.clone();
        Answer::Later(Box::pin(async move {
            let prepared = tokio::task::spawn_blocking(move || (prepare(&message.data), message)).await;
            let Ok((prepared, message)) = prepared else { return Err(Refusal::Unavailable) };
            match door.send(message, prepared) {
                Answer::Now(verdict) => verdict,
                Answer::Later(verdict) => verdict.await,
            }
        }))
    }
}

struct Prepared {
    body: Body,
    summary: Arc<Summary>,
}

/// What the writer needs of the message itself. A parser that fails on it costs the summary, never the message.
fn prepare(data: &[u8]) -> Prepared {
    let attempt = |parse: fn(&[u8]) -> Summary| catch_unwind(AssertUnwindSafe(|| parse(data)));
    let summary = attempt(summarize).or_else(|_| attempt(summarize_headers)).unwrap_or_else(|_| Summary::unreadable());
    Prepared { body: encode(data), summary: Arc::new(summary) }
}

/// Recipients that meet in one mailbox are one part; parts are in the order of their first recipient.
fn parts(recipients: &[Address], plus: Plus, create: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let (written, mailbox) = (recipient.to_string(), recipient.mailbox_key(plus));
        match parts.iter_mut().find(|part| part.mailbox == mailbox) {
            Some(part) => part.recipients.push(written),
            None => parts.push(Part { mailbox, recipients: vec![written], create }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_of_one_mailbox_are_one_part() {
        let to = |written: &str| Address::parse(written).unwrap();
        let made = parts(&[to("Bob+1@d.test"), to("al@d.test"), to("bob@D.test")], Plus::Same, true);
        assert_eq!(made.len(), 2);
        assert_eq!(made[0].recipients, ["Bob+1@d.test", "bob@D.test"]);
    }
}
