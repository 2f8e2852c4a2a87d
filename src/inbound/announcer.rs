//! Takes what the writer committed to those who listen: each event to its mailbox's actor, all of them to the
//! actor for `*`. Runs on the writer's thread and waits for nobody: an actor with a full inbox is marked and
//! reads the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::dev::SendError;
use parking_lot::{Mutex, RwLock};

use super::everything::{Ahead, AllHeard, Everything};
use super::mailbox::{Heard, Tidy};
use super::map::Map;
use crate::cluster::redis::Hint;
use crate::mail::address::MailboxKey;
use crate::mail::event::{Announced, Event};
use crate::store::Announce;

/// See the module.
#[derive(Clone, Default)]
pub struct Announcer {
    pub map: Arc<Map>,
    pub stream: Arc<StreamShared>,
}

/// What the actor for `*` shares with the announcer.
#[derive(Default)]
pub struct StreamShared {
    /// The stamp of the last event that its subscribers were told; none while it has none.
    pub place: Mutex<Option<i64>>,
    /// Someone follows `*`.
    pub listening: AtomicBool,
    /// A batch found its inbox full: it reads what it missed from the store.
    pub lagging: AtomicBool,
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
            if entry.shared.listening.load(Ordering::SeqCst) {
                tell(Heard(Arc::clone(event)), &entry.shared.lagging, |heard| entry.addr.try_send(heard));
            }
        });
    }

    fn tell_everything(&self, after: i64, events: Vec<Arc<Announced>>) {
        if events.is_empty() || !self.stream.listening.load(Ordering::SeqCst) {
            return;
        }
        match self.stream.to.read().as_ref() {
            Some(to) => tell(AllHeard { after, events }, &self.stream.lagging, |heard| to.try_send(heard)),
            None => self.stream.lagging.store(true, Ordering::SeqCst),
        }
    }
}

/// What other nodes committed, and what the database is known to have.
impl Announcer {
    /// Events of another node: in the order of each mailbox, each with its stamp of the stream, which is dense there.
    pub fn heard(&self, events: Vec<Arc<Announced>>) {
        for event in &events {
            self.tell_mailbox(event);
        }
        if !self.stream.listening.load(Ordering::SeqCst) {
            return;
        }
        let mut run: Vec<Arc<Announced>> = Vec::new();
        for event in events {
            if run.last().is_some_and(|last| last.stream.stamp + 1 != event.stream.stamp) {
                self.tell_run(std::mem::take(&mut run));
            }
            run.push(event);
        }
        self.tell_run(run);
    }

    fn tell_run(&self, run: Vec<Arc<Announced>>) {
        if let Some(first) = run.first() {
            self.tell_everything(first.stream.stamp - 1, run);
        }
    }

    /// A mailbox is ahead of what its subscribers were told, which its actor reads from the store.
    pub fn hint(&self, hint: &Hint) {
        self.look(&hint.mailbox);
        self.ahead(hint.stream.stamp);
    }

    /// Makes the actor of a mailbox that is followed look at the store.
    pub fn look(&self, mailbox: &MailboxKey) {
        self.map.with(mailbox, |entry| {
            entry.shared.valid_until.store(0, Ordering::SeqCst);
            if entry.shared.listening.load(Ordering::SeqCst) {
                entry.shared.lagging.store(true, Ordering::SeqCst);
                // Where its inbox is full, something in it makes it look.
                let _ = entry.addr.try_send(Tidy);
            }
        });
    }

    /// The stream has reached this stamp.
    pub fn ahead(&self, stamp: i64) {
        if let (true, Some(to)) = (self.stream.listening.load(Ordering::SeqCst), self.stream.to.read().as_ref()) {
            tell(Ahead(stamp), &self.stream.lagging, |ahead| to.try_send(ahead));
        }
    }
}

/// Tells an actor, or marks that it was not told.
fn tell<M>(message: M, lagging: &AtomicBool, send: impl Fn(M) -> Result<(), SendError<M>>) {
    if let Err(unsent) = send(message) {
        lagging.store(true, Ordering::SeqCst);
        // It may have emptied its inbox before the mark was there: then nothing else would make it look. Where the inbox
        // is still full, something in it will.
        let _ = send(unsent.into_inner());
    }
}

impl Announce for Announcer {
    fn announce(&self, after: i64, events: Vec<Arc<Announced>>) {
        for event in &events {
            self.tell_mailbox(event);
        }
        self.tell_everything(after, events);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn who_empties_a_full_inbox_before_it_is_marked_looks_all_the_same() {
        let lagging = AtomicBool::new(false);
        let (full, handled) = (RefCell::new(true), RefCell::new(Vec::new()));
        tell("event", &lagging, |event| {
            if full.replace(false) {
                // What is in the inbox is handled at once: its actor finds no mark.
                assert!(!lagging.swap(false, Ordering::SeqCst));
                return Err(SendError::Full(event));
            }
            handled.borrow_mut().push((event, lagging.swap(false, Ordering::SeqCst)));
            Ok(())
        });
        assert_eq!(handled.take(), [("event", true)], "the actor is sent something after the mark");
        tell("next", &lagging, |_| Ok(()));
        assert!(!lagging.load(Ordering::SeqCst));
    }
}
