//! A node's part in taking from the queues: one connection, a [`Task`] a queue, and a look at all of them now and then.
//!
//! The broker gives each queue to one node, the first that asks. A node that has more than its share of the queues that mail comes
//! to lets go of the rest: it goes to the end of their lines, and the next node has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::select;
use futures_util::stream::FuturesUnordered;
use lapin::Connection;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::Notify;

use super::config::BrokerConfig;
use super::consumer::{End, Task};
use super::link::{self, Pauses};
use super::monitor::{Mode, Monitor};
use super::publisher::Publisher;
use super::topology::{self, LARGE_PREFETCH, Names};
use super::{Condition, metrics as names};
use crate::store::Store;

/// Between two looks at the queues.
const LOOK: Duration = Duration::from_secs(5);
/// A node that let go of a queue stays away from it so long, so that another is before it.
const LET_GO: Duration = Duration::from_secs(1);

/// A node's turn at one queue.
#[derive(Debug, Default)]
pub struct Turn {
    /// It had something since the last look: the queue is this node's.
    pub had: AtomicBool,
    /// Another node is to have it.
    pub let_go: Notify,
}

/// What all of a node's consumers have.
#[derive(Clone)]
pub struct Consumers {
    pub config: BrokerConfig,
    pub store: Store,
    pub monitor: Monitor,
    pub publisher: Publisher,
    pub condition: Arc<Condition>,
}

impl Consumers {
    /// Keeps a connection and takes from every queue, until the server stops.
    pub async fn run(mut self) {
        let mut pauses = Pauses::default();
        while self.monitor.mode() != Mode::Stop {
            let why = match link::connect(&self.config, "consumer").await {
                Ok(connection) => match self.serve(&connection).await {
                    Ok(()) => {
                        let _ = connection.close(200, "the server stops".into()).await;
                        return;
                    }
                    Err(trouble) => {
                        pauses.reset();
                        trouble.to_string()
                    }
                },
                Err(no_link) => no_link.to_string(),
            };
            tracing::warn!(reason = why, "taking from the broker was interrupted");
            let pause = tokio::time::sleep(pauses.pause());
            select(std::pin::pin!(self.monitor.stopped()), std::pin::pin!(pause)).await;
        }
    }

    /// Ends without an error when the server stops.
    async fn serve(&self, connection: &Connection) -> Result<(), topology::Trouble> {
        topology::declare(connection, &self.config).await?;
        let queues = Names::new(&self.config);
        // Nothing ever comes from there: its consumers are how nodes count each other.
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let presence = connection.create_channel().await?;
        let _present = presence.basic_consume(queues.number().as_str().into(), "".into(), options, arguments).await?;
        let mut tasks = FuturesUnordered::new();
        let mut turns = Vec::new();
        for queue in queues.mail() {
            let turn = Arc::<Turn>::default();
            if queue == queues.large() {
                tasks.push(self.drain(connection, queue, LARGE_PREFETCH, turn));
            } else {
                tasks.push(self.drain(connection, queue, self.config.prefetch, Arc::clone(&turn)));
                turns.push(turn);
            }
        }
        let lengths = self.watch_queues(connection, &queues, &turns);
        let mut lengths = std::pin::pin!(lengths);
        loop {
            tokio::select! {
                ended = tasks.next() => match ended {
                    Some(ended) => ended?,
                    None => return Ok(()),
                },
                failed = &mut lengths => return Err(failed.into()),
            }
        }
    }

    /// Takes from one queue until the server stops or the connection fails.
    async fn drain(
        &self,
        connection: &Connection,
        queue: String,
        prefetch: u16,
        turn: Arc<Turn>,
    ) -> Result<(), lapin::Error> {
        let mut monitor = self.monitor.clone();
        loop {
            let mode = monitor.other_than(Mode::Rest).await;
            if mode == Mode::Stop {
                return Ok(());
            }
            let channel = connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let task = Task::new(self.clone(), queue.clone(), channel, Arc::clone(&turn), (prefetch, mode));
            match task.consume().await? {
                End::Stop => return Ok(()),
                End::LetGo => tokio::time::sleep(LET_GO).await,
                End::Away => {}
            }
        }
    }

    /// Looks at the queues now and then; ends with the connection.
    async fn watch_queues(&self, connection: &Connection, queues: &Names, turns: &[Arc<Turn>]) -> lapin::Error {
        loop {
            match self.look(connection, queues).await {
                Ok(nodes) => share(turns, nodes),
                Err(error) => return error,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Notes how long the queues are; returns how many nodes take from them.
    async fn look(&self, connection: &Connection, queues: &Names) -> Result<usize, lapin::Error> {
        let channel = connection.create_channel().await?;
        let (mut mail, mut large) = (0, 0);
        for queue in queues.mail() {
            let (waiting, _) = topology::look(&channel, &queue).await?;
            if queue == queues.large() { large += u64::from(waiting) } else { mail += u64::from(waiting) }
        }
        let (dead, _) = topology::look(&channel, &queues.dead()).await?;
        let dead = u64::from(dead);
        // A queue with a single active consumer tells of that one alone.
        let (_, nodes) = topology::look(&channel, &queues.number()).await?;
        self.condition.depths(mail + large, dead);
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        for (queue, depth) in [("mail", mail), ("large", large), ("dead", dead)] {
            metrics::gauge!(names::DEPTH, "queue" => queue).set(depth as f64);
        }
        channel.close(200, "looked".into()).await?;
        Ok(usize::try_from(nodes).unwrap_or(1))
    }
}

/// Lets go of what is more than this node's share.
fn share(turns: &[Arc<Turn>], nodes: usize) {
    let had: Vec<_> = turns.iter().filter(|turn| turn.had.swap(false, Ordering::Relaxed)).collect();
    let share = turns.len().div_ceil(nodes.max(1));
    for turn in had.iter().skip(share) {
        turn.let_go.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_node_lets_go_of_what_is_more_than_its_share() {
        let turns: Vec<Arc<Turn>> = (0..16).map(|_| Arc::default()).collect();
        let let_go = |had: usize, nodes: usize| {
            turns.iter().take(had).for_each(|turn| turn.had.store(true, Ordering::Relaxed));
            share(&turns, nodes);
            turns.iter().filter(|turn| turn.let_go.notified().now_or_never().is_some()).count()
        };
        assert_eq!(let_go(16, 1), 0);
        assert_eq!(let_go(16, 2), 8);
        assert_eq!(let_go(8, 2), 0);
        assert_eq!(let_go(16, 3), 10);
        assert_eq!(let_go(0, 3), 0, "it was asked once, and had nothing since");
        assert_eq!(let_go(16, 0), 0);
    }
}
