//! A delivery that joins itself: one shared object with a part for each distinct mailbox. Whoever fills the last
//! part hands the whole to its outlet (the store's writer, or the queue before it); a refusal gives it up for all.
//!
//! State changes by compare-and-swap: open → handed over, or open → given up. Dropped while open it answers
//! "unavailable", which covers every panic on the way. After it was handed over only the outlet's verdict counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::map::Hold;
use crate::handoff::Refusal;
use crate::mail::envelope::Envelope;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Summary;
use crate::mail::time::Timestamp;
use crate::store::{Body, Incoming, Outlet, Part, Repeat, WriteFailed};

const OPEN: u8 = 0;
const HANDED_OVER: u8 = 1;
const GIVEN_UP: u8 = 2;

/// What the session hears of its delivery.
pub type Verdict = Result<(), Refusal>;

/// A message on its way to the writer.
pub struct Delivery {
    state: AtomicU8,
    unfilled: AtomicUsize,
    load: Mutex<Option<Open>>,
    outlet: Arc<dyn Outlet>,
}

/// What the writer will get.
pub struct Load {
    pub id: DeliveryId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub body: Body,
    pub summary: Arc<Summary>,
    pub parts: Vec<Part>,
}

struct Open {
    load: Load,
    holds: Vec<Hold>,
    verdict: oneshot::Sender<Verdict>,
}

impl Delivery {
    /// A delivery with one open part for each of `load.parts`, which will go to `outlet`.
    #[must_use]
    pub fn new(load: Load, outlet: Arc<dyn Outlet>) -> (Arc<Self>, oneshot::Receiver<Verdict>) {
        let (verdict, heard) = oneshot::channel();
        let unfilled = AtomicUsize::new(load.parts.len());
        let open = Open { holds: Vec::with_capacity(load.parts.len()), load, verdict };
        let delivery = Self { state: AtomicU8::new(OPEN), unfilled, load: Mutex::new(Some(open)), outlet };
        (Arc::new(delivery), heard)
    }

    /// A mailbox takes its part and stays in memory until the verdict. The last one hands over.
    pub fn fill(&self, hold: Hold) {
        if let Some(open) = self.load.lock().as_mut() {
            open.holds.push(hold);
        }
        if self.unfilled.fetch_sub(1, Ordering::AcqRel) == 1 && self.leave_open(HANDED_OVER) {
            self.hand_over();
        }
    }

    /// A mailbox refuses its part: nobody gets the message.
    pub fn refuse(&self, refusal: Refusal) {
        if self.leave_open(GIVEN_UP) {
            self.answer(Err(refusal));
        }
    }

    /// The session waits no longer. False when it was handed over before: then the verdict will come.
    pub fn give_up(&self) -> bool {
        let given_up = self.leave_open(GIVEN_UP);
        if given_up {
            self.load.lock().take();
        }
        given_up
    }

    fn leave_open(&self, to: u8) -> bool {
        self.state.compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn answer(&self, verdict: Verdict) {
        if let Some(open) = self.load.lock().take() {
            // A session that is gone needs no answer.
            let _ = open.verdict.send(verdict);
        }
    }

    fn hand_over(&self) {
        let Some(Open { load, holds, verdict }) = self.load.lock().take() else { return };
        let done = Box::new(move |stored: Result<(), WriteFailed>| {
            drop(holds);
            let _ = verdict.send(stored.map_err(refusal));
        });
        let Load { id, received_at, envelope, body, summary, parts } = load;
        let (envelope, repeat) = (Arc::new(envelope), Repeat::Never);
        let incoming = Incoming { id, received_at, envelope, body, summary, parts, repeat, done };
        if let Err(returned) = self.outlet.append(incoming) {
            (returned.done)(Err(WriteFailed::Failed));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.refuse(Refusal::Unavailable);
    }
}

/// What the sender hears when the message was not taken.
const fn refusal(failed: WriteFailed) -> Refusal {
    match failed {
        WriteFailed::MailboxFull => Refusal::MailboxFull,
        WriteFailed::NoSpace => Refusal::NoSpace,
        WriteFailed::TooLarge => Refusal::TooLarge,
        WriteFailed::MailboxGone | WriteFailed::Failed => Refusal::Unavailable,
    }
}
