//! Takes what the writer committed to those who listen: each event to its mailbox's actor, all of them to the
//! actor for `*`. Runs on the writer's thread and waits for nobody: an actor with a full inbox is marked and
//! reads the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::RwLock;

use super::everything::{AllHeard, Everything};
use super::mailbox::Heard;
use super::map::Map;
use crate::mail::event::{Announced, Event};
use crate::store::Announce;

/// See the module.
#[derive(Default)]
pub struct Announcer {
    pub map: Arc<Map>,
    pub stream: Arc<StreamShared>,
}

/// What the actor for `*` shares with the announcer.
#[derive(Default)]
pub struct StreamShared {
    /// Someone follows `*`.
    pub listening: AtomicBool,
    /// A batch found its inbox full: it reads what it missed from the store.
    pub lagging: AtomicBool,
    /// Stamp of the last event announced.
    last: AtomicI64,
    to: RwLock<Option<actix::Addr<Everything>>>,
}

impl StreamShared {
    /// The living actor, set by itself when it starts.
    pub fn set(&self, addr: actix::Addr<Everything>) {
        *self.to.write() = Some(addr);
    }
}

impl Announcer {
    fn tell_mailbox(&self, event: &Arc<Announced>) {
        let deleted = matches!(event.event, Event::MailboxDeleted {});
        self.map.with(&event.mailbox, |entry| {
            if deleted {
                entry.shared.valid_until.store(0, Ordering::SeqCst);
            }
            if entry.shared.listening.load(Ordering::SeqCst) && entry.addr.try_send(Heard(Arc::clone(event))).is_err() {
                entry.shared.lagging.store(true, Ordering::SeqCst);
            }
        });
    }

    fn tell_everything(&self, events: Vec<Arc<Announced>>) {
        let Some(last) = events.last().map(|event| event.stream.stamp) else { return };
        let after = self.stream.last.swap(last, Ordering::SeqCst);
        if !self.stream.listening.load(Ordering::SeqCst) {
            return;
        }
        let to = self.stream.to.read();
        let sent = to.as_ref().is_some_and(|to| to.try_send(AllHeard { after, events }).is_ok());
        if !sent {
            self.stream.lagging.store(true, Ordering::SeqCst);
        }
    }
}

impl Announce for Announcer {
    fn announce(&self, events: Vec<Arc<Announced>>) {
        for event in &events {
            self.tell_mailbox(event);
        }
        self.tell_everything(events);
    }
}
