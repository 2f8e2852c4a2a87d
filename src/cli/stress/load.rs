//! How much load: the options that all generators share, and the ticket each unit of work begins with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mail::units::Period;

#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Connections at once
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    pub concurrency: u32,
    /// Stop after this time [default: 10s]
    #[arg(short, long, value_name = "TIME", conflicts_with = "count")]
    pub duration: Option<Period>,
    /// Stop after so many
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Start so many a second, evenly; latency then counts from when each was due
    #[arg(short, long, value_name = "PER SECOND")]
    pub rate: Option<f64>,
    /// Threads to share the connections
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub threads: u32,
    /// Print the result as JSON, and no live line
    #[arg(long)]
    pub json: bool,
}

impl Load {
    /// Connections of thread number `thread`: an even share, the rest to the first ones.
    pub fn share(&self, thread: u32) -> u32 {
        let threads = self.threads.max(1);
        self.concurrency / threads + u32::from(thread < self.concurrency % threads)
    }
}

/// Hands out tickets until the count or the time is used up; shared by all threads.
#[derive(Debug)]
pub struct Budget {
    start: Instant,
    issued: AtomicU64,
    count: u64,
    deadline: Option<Instant>,
    interval: Option<Duration>,
}

/// Leave to do one unit of work.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Counts from 0 over all threads.
    pub number: u64,
    /// From when its latency counts.
    pub since: Instant,
}

impl Budget {
    /// A budget that starts now.
    pub fn new(load: &Load) -> Self {
        let start = Instant::now();
        let duration = match (load.duration, load.count) {
            (Some(period), _) => Some(period.0),
            (None, Some(_)) => None,
            (None, None) => Some(Duration::from_secs(10)),
        };
        Self {
            start,
            issued: AtomicU64::new(0),
            count: load.count.unwrap_or(u64::MAX),
            deadline: duration.map(|duration| start + duration),
            interval: load.rate.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate)),
        }
    }

    /// The next ticket, once it is due; `None` when the load is over.
    pub async fn next(&self) -> Option<Ticket> {
        let number = self.issue()?;
        let Some(due) = self.due(number) else {
            return Some(Ticket { number, since: Instant::now() });
        };
        if self.deadline.is_some_and(|deadline| due >= deadline) {
            return None;
        }
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        Some(Ticket { number, since: due })
    }

    /// A ticket that needs no waiting; `None` as well when the load is paced.
    pub fn next_now(&self) -> Option<Ticket> {
        if self.interval.is_some() {
            return None;
        }
        Some(Ticket { number: self.issue()?, since: Instant::now() })
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.issued.load(Ordering::Relaxed) >= self.count
    }

    fn issue(&self) -> Option<u64> {
        if self.is_over() {
            return None;
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        (number < self.count).then_some(number)
    }

    fn due(&self, number: u64) -> Option<Instant> {
        let interval = self.interval?;
        Some(self.start + Duration::from_secs_f64(interval.as_secs_f64() * number as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load { concurrency: 10, duration: None, count: Some(3), rate: None, threads: 4, json: false }
    }

    #[test]
    fn threads_share_all_connections() {
        let shares: Vec<_> = (0..4).map(|thread| load().share(thread)).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
    }

    #[tokio::test]
    async fn a_count_is_handed_out_exactly() {
        let budget = Budget::new(&load());
        let mut numbers = Vec::new();
        while let Some(ticket) = budget.next().await {
            numbers.push(ticket.number);
        }
        assert_eq!(numbers, [0, 1, 2]);
        assert!(budget.is_over());
    }

    #[tokio::test]
    async fn a_rate_spaces_tickets_and_counts_latency_from_when_they_were_due() {
        let budget = Budget::new(&Load { rate: Some(100.0), ..load() });
        let start = Instant::now();
        let mut last = None;
        while let Some(ticket) = budget.next().await {
            last = Some(ticket.since);
        }
        assert!(start.elapsed() >= Duration::from_millis(19));
        let spread = last.unwrap() - budget.start;
        assert_eq!(spread.as_millis(), 20);
        assert!(budget.next_now().is_none());
    }
}
