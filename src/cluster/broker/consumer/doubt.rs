//! What a consumer does when the store failed: whether it is the database, the company, or the message itself.
//!
//! The first is asked of [`super::super::monitor`]: then nothing counts. In company messages are tried one by one. What fails by
//! itself is counted after a pause, in a header: the broker's own counter grows with every return, whatever it was for.

use std::time::Duration;

use super::{Task, Verdict};
use crate::cluster::broker::message::Mail;
use crate::cluster::broker::metrics as names;
use crate::cluster::broker::publisher::{Letter, Sent};
use crate::cluster::broker::window::State;

/// A message that fails in company is tried alone as often before it counts as its own failure.
const ALONE: u32 = 3;
/// Before the first failure of a message by itself is counted, twice as long before the next: what is the database's shows by
/// then.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Task {
    /// Whether the database takes a message like this one, as far as can be known. When not, everyone rests.
    async fn trusts(&mut self, tag: u64) -> bool {
        match self.lacking.take() {
            Some(size) => {
                self.all.monitor.is_full(size).await;
                false
            }
            None => self.all.monitor.is_there(self.size(tag)).await,
        }
    }

    /// Something failed: whether the database takes anything. If it does, what failed is tried by itself.
    pub(super) async fn doubt(&mut self) -> Result<bool, lapin::Error> {
        for tag in self.window.tags(State::Failed) {
            let mut tries = 0;
            loop {
                if !self.trusts(tag).await {
                    return Ok(false);
                }
                if tries == ALONE {
                    if !self.fail(tag).await {
                        return Ok(false);
                    }
                    break;
                }
                tries += 1;
                self.ask(tag).await;
                if self.settled(tag).await != State::Failed {
                    break;
                }
            }
            self.acknowledge().await?;
        }
        Ok(true)
    }

    /// Hears verdicts until this message has its own.
    async fn settled(&mut self, tag: u64) -> State {
        loop {
            let state = self.window.peek(tag).map_or(State::Settled, |held| held.state);
            match state {
                State::Asked => {}
                State::Again => self.ask(tag).await,
                State::Failed | State::Paused | State::Done | State::Settled => return state,
            }
            // It holds a sender of its own: there is always one.
            let Some((of, verdict)) = self.verdicts.recv().await else { return State::Settled };
            self.hear(of, verdict);
        }
    }

    /// It failed by itself, which counts after a pause. False when so many do that it is the database: then nothing counts.
    async fn fail(&mut self, tag: u64) -> bool {
        let Some(held) = self.window.peek(tag) else { return true };
        let (size, failed) = (held.data.len(), held.failed);
        let Ok(id) = Mail::decode(&held.data).map(|mail| mail.id) else { return true };
        if !self.all.monitor.fails_alone(id, size).await {
            return false;
        }
        tracing::error!(queue = self.queue, message.id = %id, failed, "a message cannot be stored although the database is there");
        self.window.set(tag, State::Paused);
        self.tell_after(pause(failed), tag, Verdict::Count);
        true
    }

    /// Counts a failure: the message goes to the end of its queue with its count, or to the dead letters. Those behind it were
    /// stored before it in any case.
    pub(super) fn count(&self, tag: u64) {
        let Some(held) = self.window.peek(tag) else { return };
        let (failed, data) = (held.failed + 1, held.data.clone());
        if failed >= u32::from(self.all.config.delivery_limit) {
            return self.bury(tag, data, ("failed", format!("it failed too often: {failed} times")));
        }
        metrics::counter!(names::REQUEUED, "reason" => "failed").increment(1);
        let told = self.told.clone();
        let done = Box::new(move |sent| {
            let _ = told.try_send((tag, Verdict::Moved(sent == Sent::Has)));
        });
        let id = Mail::decode(&data).ok().map(|mail| mail.id);
        self.all.publisher.send(Letter { queue: self.queue.clone(), id, data, failed, dead: None, done });
    }
}

/// How long to wait before one more failure counts.
fn pause(failed: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_counts_after_a_longer_pause() {
        assert_eq!([0, 1, 2, 5, 6, 10_000].map(|failed| pause(failed).as_secs()), [1, 2, 4, 32, 60, 60]);
    }
}
