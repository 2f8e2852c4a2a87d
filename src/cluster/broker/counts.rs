//! How far each queue is, as this node knows: what the broker confirmed to it, and what it has taken and settled.
//!
//! The publisher and the consumers count, `/health` shows. A queue keeps its order and what is settled is counted without gaps, so
//! once as much is settled as was confirmed at some moment, everything confirmed by then is stored (as long as no connection to
//! the broker was lost: what was on the way then may be counted twice, or was never confirmed).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::topology::Names;

/// Messages of one queue since this node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The broker said that it has them.
    pub confirmed: u64,
    /// Taken by this node, and in the database or with the dead letters, they and all that it took before them.
    pub settled: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Counts(BTreeMap<String, (AtomicU64, AtomicU64)>);

impl Counts {
    /// Of all queues that mail is taken from.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        Self(names.mail().into_iter().map(|queue| (queue, Default::default())).collect())
    }

    /// The broker has one more in this queue; dead letters are not counted.
    pub fn confirmed(&self, queue: &str) {
        if let Some((confirmed, _)) = self.0.get(queue) {
            confirmed.fetch_add(1, Ordering::Release);
        }
    }

    /// This node is through with so many more of this queue.
    pub fn settled(&self, queue: &str, count: u64) {
        if let Some((_, settled)) = self.0.get(queue) {
            settled.fetch_add(count, Ordering::Release);
        }
    }

    /// By queue.
    #[must_use]
    pub fn now(&self) -> BTreeMap<String, Passed> {
        let load = |count: &AtomicU64| count.load(Ordering::Acquire);
        let passed = |(confirmed, settled): &(_, _)| Passed { confirmed: load(confirmed), settled: load(settled) };
        self.0.iter().map(|(queue, counts)| (queue.clone(), passed(counts))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::BrokerConfig;
    use super::*;

    #[test]
    fn counts_each_queue_and_no_dead_letters() {
        let names = Names::new(&BrokerConfig { queues: 2, ..BrokerConfig::default() });
        let counts = Counts::new(&names);
        for queue in ["mailroom.mail.1", "mailroom.mail.1", "mailroom.large", &names.dead()] {
            counts.confirmed(queue);
        }
        counts.settled("mailroom.mail.1", 2);
        let passed = |confirmed, settled| Passed { confirmed, settled };
        let now: Vec<_> = counts.now().into_iter().collect();
        let expected = [("large", passed(1, 0)), ("mail.0", passed(0, 0)), ("mail.1", passed(2, 2))];
        assert_eq!(now, expected.map(|(queue, passed)| (format!("mailroom.{queue}"), passed)));
    }
}
