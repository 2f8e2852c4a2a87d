//! Whether messages may be taken from the broker: not while the database is away or full, nor when the server stops.
//!
//! Consumers ask after a failure; one probe, which writes a body and takes it back, answers all who wait. While it is away the
//! probe is repeated at growing pauses. Once it succeeds consumers try one message of each queue, and the first that is stored
//! lets all take as before. A probe cannot know everything: several messages that fail alone, one after the other, are the
//! database's failure, too. Between failures a look now and then tells a node that has nothing to write.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::metrics as names;
use crate::mail::id::DeliveryId;
use crate::store::Store;

/// What consumers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Take from the queues.
    Take,
    /// Rest: the database is away.
    Rest,
    /// It seems to be back: store one message of each queue at a time, until one is stored.
    Try,
    /// Finish what was taken, and end.
    Stop,
}

/// How often a node that hears nothing of the database looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long it may take to answer; with [`LOOK`] less than consumers wait before they hand back.
const PATIENCE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Consumers that ask at one time: one a queue.
const ASKING: usize = 300;
/// Different messages that fail alone without one in between that is stored: it is not them.
const SEVERAL: usize = 3;
/// Bytes of a body that a probe writes; as many as what did not fit, where that is more.
const BODY: usize = 64 << 10;

enum Ask {
    /// Whether the database takes a body of so many bytes.
    Look(Question),
    /// The trial is over: a message was stored, or it is known that it failed by itself.
    Resume,
}

struct Question {
    size: usize,
    /// It does not, as is known already.
    away: bool,
    answer: oneshot::Sender<bool>,
}

/// The consumers' side.
#[derive(Clone, Debug)]
pub struct Monitor {
    ask: mpsc::Sender<Ask>,
    mode: watch::Receiver<Mode>,
    /// What failed alone since something was stored.
    alone: Arc<Mutex<HashSet<DeliveryId>>>,
}

impl Monitor {
    /// Whether the database takes a body of `size` bytes, as of now. When not, everyone rests.
    pub async fn is_there(&self, size: usize) -> bool {
        self.look(size, false).await
    }

    /// The database has no room for `size` bytes: everyone rests from here on.
    pub async fn is_full(&self, size: usize) {
        self.look(size, true).await;
    }

    async fn look(&self, size: usize, away: bool) -> bool {
        let (answer, heard) = oneshot::channel();
        let asked = self.ask.send(Ask::Look(Question { size, away, answer })).await;
        asked.is_ok() && heard.await.unwrap_or(false)
    }

    /// A message failed alone although the database is there; false when too many did, since something was stored, for that to
    /// be true. Then everyone rests.
    pub async fn fails_alone(&self, id: DeliveryId, size: usize) -> bool {
        let several = {
            let mut alone = self.alone.lock();
            if alone.len() < SEVERAL {
                alone.insert(id);
            }
            alone.len() >= SEVERAL
        };
        if several {
            tracing::error!("several messages fail one after the other: it is the database that takes none");
            self.is_full(size).await;
        } else {
            self.resume();
        }
        !several
    }

    /// A message was stored.
    pub fn stored(&self) {
        let mut alone = self.alone.lock();
        if !alone.is_empty() {
            alone.clear();
        }
        drop(alone);
        self.resume();
    }

    /// Ends a trial, if there is one.
    fn resume(&self) {
        if self.mode() == Mode::Try {
            // With so many asking one of them is heard.
            let _ = self.ask.try_send(Ask::Resume);
        }
    }

    /// Waits until the server stops.
    pub async fn stopped(&mut self) {
        // A watch that is gone has stopped, too.
        let _ = self.mode.wait_for(|mode| *mode == Mode::Stop).await;
    }

    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// Waits until it is another than `mode`.
    pub async fn other_than(&mut self, mode: Mode) -> Mode {
        match self.mode.wait_for(|now| *now != mode).await {
            Ok(now) => *now,
            Err(_) => Mode::Stop,
        }
    }
}

/// The other side, to be driven by [`Watch::run`].
pub struct Watch {
    asked: mpsc::Receiver<Ask>,
    mode: watch::Sender<Mode>,
    store: Store,
    /// Before the next probe; short again once a message was stored.
    pause: Duration,
    /// Bytes that the database must take before it is back.
    size: usize,
}

/// A pair of them.
pub fn watch(store: Store) -> (Monitor, Watch) {
    metrics::gauge!(names::AWAY).set(0.0);
    let (ask, asked) = mpsc::channel(ASKING);
    let (mode, heard) = watch::channel(Mode::Take);
    let monitor = Monitor { ask, mode: heard, alone: Arc::default() };
    (monitor, Watch { asked, mode, store, pause: FIRST_PAUSE, size: BODY })
}

impl Watch {
    /// Answers until the server stops.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let stopped = async move {
            // A sender that is gone has stopped, too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                first = self.asked.recv() => {
                    let Some(first) = first else { break };
                    self.heed(first).await;
                }
                () = tokio::time::sleep(LOOK) => {
                    if tokio::time::timeout(PATIENCE, self.store.answers()).await.is_ok_and(|answers| answers) {
                        continue;
                    }
                    self.rest();
                }
            }
            if *self.mode.borrow() == Mode::Rest {
                tokio::select! {
                    () = &mut stopped => break,
                    () = self.come_back() => {}
                }
            }
        }
        self.mode.send_replace(Mode::Stop);
        // Whoever asks from here on hears that the channel is closed.
    }

    async fn heed(&mut self, first: Ask) {
        match first {
            Ask::Look(question) => self.answer(question).await,
            Ask::Resume => self.resume(),
        }
    }

    /// Looks once for all who ask by now.
    async fn answer(&mut self, first: Question) {
        let Question { mut size, mut away, answer } = first;
        let mut answers = vec![answer];
        while let Ok(next) = self.asked.try_recv() {
            match next {
                Ask::Look(next) => {
                    size = size.max(next.size);
                    away |= next.away;
                    answers.push(next.answer);
                }
                Ask::Resume => self.resume(),
            }
        }
        let there = !away && self.probe(size).await;
        if !there {
            self.size = self.size.max(size);
            self.rest();
        }
        for answer in answers {
            let _ = answer.send(there);
        }
    }

    async fn probe(&self, size: usize) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.store.probe(size.max(BODY))).await, Ok(Ok(())))
    }

    fn rest(&self) {
        if self.mode.send_replace(Mode::Rest) != Mode::Rest {
            tracing::warn!("the database is away or full: what is in the broker waits there");
            metrics::gauge!(names::AWAY).set(1.0);
        }
    }

    /// The trial went well.
    fn resume(&mut self) {
        let resumed = self.mode.send_if_modified(|mode| {
            let tried = *mode == Mode::Try;
            if tried {
                *mode = Mode::Take;
            }
            tried
        });
        if resumed {
            (self.pause, self.size) = (FIRST_PAUSE, BODY);
            tracing::info!("taking from the broker as before");
        }
    }

    /// Looks until the database takes what it must. Whoever asks meanwhile hears no at once.
    async fn come_back(&mut self) {
        loop {
            let end = tokio::time::Instant::now() + self.pause;
            while let Ok(Some(asked)) = tokio::time::timeout_at(end, self.asked.recv()).await {
                // A trial that is over was one before.
                if let Ask::Look(question) = asked {
                    self.size = self.size.max(question.size);
                    let _ = question.answer.send(false);
                }
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if self.probe(self.size).await {
                break;
            }
        }
        tracing::info!("the database is back: trying a message of each queue");
        metrics::gauge!(names::AWAY).set(0.0);
        self.mode.send_replace(Mode::Try);
    }
}
