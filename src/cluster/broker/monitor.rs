//! Whether messages may be taken from the broker: not while the database is away, nor when the server stops.
//!
//! Consumers ask after a failure; one probe answers all who wait. While it is away the probe is repeated at growing pauses, and
//! once it succeeds consumers take again. Between failures a look now and then tells a node that has nothing to write.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::metrics as names;
use crate::store::Store;

/// What consumers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Take from the queues.
    Take,
    /// Rest: the database is away.
    Rest,
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

/// The consumers' side.
#[derive(Clone, Debug)]
pub struct Monitor {
    ask: mpsc::Sender<oneshot::Sender<bool>>,
    mode: watch::Receiver<Mode>,
}

impl Monitor {
    /// Whether the database takes what is written, as of now. When not, everyone rests.
    pub async fn is_there(&self) -> bool {
        let (answer, heard) = oneshot::channel();
        self.ask.send(answer).await.is_ok() && heard.await.unwrap_or(false)
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
    asked: mpsc::Receiver<oneshot::Sender<bool>>,
    mode: watch::Sender<Mode>,
    store: Store,
}

/// A pair of them.
pub fn watch(store: Store) -> (Monitor, Watch) {
    metrics::gauge!(names::AWAY).set(0.0);
    let (ask, asked) = mpsc::channel(ASKING);
    let (mode, heard) = watch::channel(Mode::Take);
    (Monitor { ask, mode: heard }, Watch { asked, mode, store })
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
                    self.answer(first).await;
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

    async fn answer(&mut self, first: oneshot::Sender<bool>) {
        let there = self.probe().await;
        if !there {
            self.rest();
        }
        let mut next = Some(first);
        while let Some(answer) = next {
            let _ = answer.send(there);
            next = self.asked.try_recv().ok();
        }
    }

    async fn probe(&self) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.store.probe()).await, Ok(Ok(())))
    }

    fn rest(&self) {
        if self.mode.send_replace(Mode::Rest) == Mode::Take {
            tracing::warn!("the database is away: what is in the broker waits there");
            metrics::gauge!(names::AWAY).set(1.0);
        }
    }

    /// Looks until the database answers. Whoever asks meanwhile hears no at once.
    async fn come_back(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let end = tokio::time::Instant::now() + pause;
            while let Ok(Some(answer)) = tokio::time::timeout_at(end, self.asked.recv()).await {
                let _ = answer.send(false);
            }
            if self.probe().await {
                break;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        tracing::info!("the database is back: taking from the broker again");
        metrics::gauge!(names::AWAY).set(0.0);
        self.mode.send_replace(Mode::Take);
    }
}
