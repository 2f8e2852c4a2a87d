//! The threads of a generator, and the live line beside them.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::load::{Budget, Load};
use super::meter::{Latencies, Meter, Totals, latencies, take_recent};

/// How often the main thread looks whether the others are done.
const TICK: Duration = Duration::from_millis(50);

/// What one connection's task works with.
#[derive(Clone)]
pub struct Worker {
    pub budget: Arc<Budget>,
    pub meter: Arc<Meter>,
    /// Its number over all threads.
    pub index: u32,
}

/// Everything measured, when all threads are done.
pub struct Outcome {
    pub elapsed: Duration,
    pub totals: Totals,
    pub latencies: Latencies,
}

/// Runs `task` once for each connection, spread over the threads, until all have returned.
///
/// # Errors
/// A thread or its runtime cannot be made.
pub fn run_connections<T, F>(load: &Load, task: T) -> anyhow::Result<Outcome>
where
    T: Fn(Worker) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    crate::startup::raise_descriptor_limit();
    let budget = Arc::new(Budget::new(load));
    let started = Instant::now();
    let mut meters = Vec::new();
    let mut threads = Vec::new();
    let mut first = 0;
    for number in 0..load.threads.max(1) {
        let meter = Arc::new(Meter::new());
        meters.push(Arc::clone(&meter));
        let (share, budget, task) = (load.share(number), Arc::clone(&budget), task.clone());
        let worker = move |index| Worker { budget: Arc::clone(&budget), meter: Arc::clone(&meter), index };
        let indexes = first..first + share;
        first += share;
        threads.push(
            thread::Builder::new().name(format!("stress-{number}")).spawn(move || run_thread(indexes, worker, task))?,
        );
    }
    let mut all = watch(&meters, load, started, || threads.iter().all(thread::JoinHandle::is_finished));
    for thread in threads {
        thread.join().ok().context("a thread of the generator panicked")??;
    }
    let _ = all.add(take_recent(meters.iter().map(Arc::as_ref)));
    Ok(Outcome { elapsed: started.elapsed(), totals: Totals::of(meters.iter().map(Arc::as_ref)), latencies: all })
}

fn run_thread<T, F>(indexes: std::ops::Range<u32>, worker: impl Fn(u32) -> Worker, task: T) -> anyhow::Result<()>
where
    T: Fn(Worker) -> F,
    F: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = Rc::new(tokio::task::LocalSet::new());
    let tasks: Vec<_> = indexes.map(|index| local.spawn_local(task(worker(index)))).collect();
    let all = async {
        for task in tasks {
            task.await.context("a connection of the generator panicked")?;
        }
        anyhow::Ok(())
    };
    local.block_on(&runtime, all)
}

/// Prints the live line each second until `finished`; returns the latencies of all seconds.
fn watch(meters: &[Arc<Meter>], load: &Load, started: Instant, finished: impl Fn() -> bool) -> Latencies {
    let live = !load.json && std::io::stderr().is_terminal();
    let mut all = latencies();
    let mut line_due = started + Duration::from_secs(1);
    let mut before = 0;
    while !finished() {
        thread::sleep(TICK);
        if Instant::now() < line_due {
            continue;
        }
        line_due += Duration::from_secs(1);
        let recent = take_recent(meters.iter().map(Arc::as_ref));
        let totals = Totals::of(meters.iter().map(Arc::as_ref));
        if live {
            print_line(&live_line(started.elapsed(), totals.done - before, &recent, &totals));
        }
        before = totals.done;
        let _ = all.add(&recent);
    }
    if live {
        print_line("");
    }
    all
}

fn live_line(elapsed: Duration, rate: u64, recent: &Latencies, totals: &Totals) -> String {
    format!(
        "{:>4}s  {rate:>8}/s  mean {:>8.2} ms  p99 {:>8.2} ms  open {:>6}  failed {}",
        elapsed.as_secs(),
        recent.mean() / 1_000.0,
        recent.value_at_quantile(0.99) as f64 / 1_000.0,
        totals.open,
        totals.failed(),
    )
}

/// Over the line before; the escape clears what was longer.
fn print_line(line: &str) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "\r{line}\x1b[K");
    let _ = err.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_works_and_everything_is_counted() {
        let load = Load { concurrency: 7, duration: None, count: Some(100), rate: None, threads: 3, json: true };
        let outcome = run_connections(&load, |worker: Worker| async move {
            worker.meter.opened();
            while let Some(ticket) = worker.budget.next().await {
                if ticket.number % 10 == 0 {
                    worker.meter.failed("tenth");
                } else {
                    worker.meter.done(ticket.since.elapsed(), 1);
                }
                tokio::task::yield_now().await;
            }
            worker.meter.closed();
        })
        .unwrap();
        assert_eq!((outcome.totals.done, outcome.totals.failed(), outcome.totals.open), (90, 10, 0));
        assert_eq!(outcome.latencies.len(), 90);
    }
}
