//! The ways to the writers: one to each, shared out by mailbox, so that what happens to a mailbox stays in order.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::mpsc;

use super::incoming::Incoming;
use super::writer::Inbox;
use super::writer::requests::Request;
use crate::mail::address::MailboxKey;

/// Changes that may wait for a writer; callers wait for a place.
const REQUESTS: usize = 256;

/// The way to one writer.
#[derive(Debug)]
struct Lane {
    deliveries: mpsc::Sender<Incoming>,
    requests: mpsc::Sender<Request>,
}

/// See the module. Never empty.
#[derive(Debug)]
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// So many lanes, in which `waiting` deliveries may wait in all, and where each ends.
    pub fn new(count: usize, waiting: usize) -> (Self, Vec<Inbox>) {
        let count = count.max(1);
        let lane = |_| {
            let (deliveries, delivered) = mpsc::channel((waiting / count).max(1));
            let (requests, requested) = mpsc::channel(REQUESTS);
            (Lane { deliveries, requests }, Inbox::new(delivered, requested))
        };
        let (lanes, inboxes) = (0..count).map(lane).unzip();
        (Self(lanes), inboxes)
    }

    fn of(&self, key: Option<&MailboxKey>) -> Option<&Lane> {
        let mut hasher = DefaultHasher::new();
        key.filter(|_| self.0.len() > 1).hash(&mut hasher);
        let index = hasher.finish() % self.0.len() as u64;
        // What is about no mailbox goes to the first.
        let index = if key.is_some() { index } else { 0 };
        self.0.get(usize::try_from(index).unwrap_or(0))
    }

    /// Hands over a delivery.
    ///
    /// # Errors
    /// Gives it back when too many wait, or the writer is gone.
    pub fn deliver(&self, incoming: Incoming) -> Result<(), Box<Incoming>> {
        let Some(lane) = self.of(incoming.parts.first().map(|part| &part.mailbox)) else {
            return Err(Box::new(incoming));
        };
        lane.deliveries.try_send(incoming).map_err(|refused| Box::new(refused.into_inner()))
    }

    /// Hands over a request; false when the writer is gone.
    pub async fn ask(&self, request: Request) -> bool {
        match self.of(request.mailbox()) {
            Some(lane) => lane.requests.send(request).await.is_ok(),
            None => false,
        }
    }

    /// Tells every writer to stop after what it was given; each answers when it has.
    pub async fn close(&self) -> Vec<tokio::sync::oneshot::Receiver<()>> {
        let mut closed = Vec::with_capacity(self.0.len());
        for lane in &self.0 {
            let (reply, answer) = tokio::sync::oneshot::channel();
            // An error is a writer that is gone already.
            if lane.requests.send(Request::Close(reply)).await.is_ok() {
                closed.push(answer);
            }
        }
        closed
    }

    /// Deliveries that wait.
    pub fn queued(&self) -> usize {
        self.0.iter().map(|lane| lane.deliveries.max_capacity() - lane.deliveries.capacity()).sum()
    }

    /// Whether a writer is gone.
    pub fn is_closed(&self) -> bool {
        self.0.iter().any(|lane| lane.requests.is_closed())
    }

    /// The queues of deliveries, for who looks whether the writers are busy.
    pub fn deliveries(&self) -> Vec<mpsc::WeakSender<Incoming>> {
        self.0.iter().map(|lane| lane.deliveries.downgrade()).collect()
    }
}
