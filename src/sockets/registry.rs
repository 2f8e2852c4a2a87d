//! Who is connected: counts the clients, holds the cap, and lets all of them go when the server stops, one after the
//! other: whoever is told to leave comes back at once, to another node, and not all may come to it in the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::metrics::Metrics;

/// How many clients are let go in a second, unless there is too little time for that.
const LEAVING: f64 = 1_000.0;
/// Between two groups of them.
const STEP: Duration = Duration::from_millis(10);

/// See the module.
pub struct Registry {
    metrics: Arc<Metrics>,
    max: usize,
    stopping: AtomicBool,
    /// Clients whose turn is below this are to leave.
    leaving: AtomicU64,
    connected: AtomicUsize,
    /// By their turns.
    wakers: Mutex<BTreeMap<u64, Waker>>,
    next: AtomicU64,
    empty: Notify,
}

/// One client in the registry, for as long as this lives.
pub struct Member {
    registry: Arc<Registry>,
    /// When it is to leave, as a part of all numbers; no two have the same.
    turn: u64,
    watched: bool,
}

impl Registry {
    #[must_use]
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            max,
            stopping: AtomicBool::new(false),
            leaving: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
            wakers: Mutex::default(),
            next: AtomicU64::new(0),
            empty: Notify::new(),
        })
    }

    /// Lets a client in; None when there are too many, or when the server stops.
    pub fn join(self: &Arc<Self>) -> Option<Member> {
        // An odd factor: all turns are different, and those of any run of clients lie evenly over all numbers.
        let turn = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let member = Member { registry: Arc::clone(self), turn, watched: false };
        self.metrics.active.increment(1.0);
        let before = self.connected.fetch_add(1, Ordering::SeqCst);
        (before < self.max && !self.is_stopping()).then_some(member)
    }

    /// How many are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Lets no new client in and tells each to close, within `spread` at most; waits until all are gone or `limit` is over.
    /// How many are left then.
    pub async fn stop(&self, spread: Duration, limit: Duration) -> usize {
        self.stopping.store(true, Ordering::SeqCst);
        let until = tokio::time::Instant::now() + limit;
        self.let_go(spread).await;
        let gone = async {
            loop {
                let empty = self.empty.notified();
                if self.connected() == 0 {
                    return;
                }
                empty.await;
            }
        };
        let _ = tokio::time::timeout_at(until, gone).await;
        self.connected()
    }
}

/// Whose turn has come when so much of the time has passed.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of all"
)]
fn turn_at(passed: Duration, spread: Duration) -> u64 {
    if passed >= spread {
        return u64::MAX;
    }
    // What is rounded to 2^64 becomes the largest number.
    (passed.as_secs_f64() / spread.as_secs_f64() * u64::MAX as f64) as u64
}

impl Registry {
    /// Wakes them in the order of their turns, evenly over the time.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    async fn let_go(&self, spread: Duration) {
        let wanted = Duration::from_secs_f64(self.connected() as f64 / LEAVING);
        let spread = spread.min(wanted);
        let begun = tokio::time::Instant::now();
        loop {
            let passed = begun.elapsed();
            let turn = turn_at(passed, spread);
            self.leaving.store(turn, Ordering::SeqCst);
            let due = {
                let mut wakers = self.wakers.lock();
                let later = wakers.split_off(&turn);
                std::mem::replace(&mut *wakers, later)
            };
            due.into_values().for_each(Waker::wake);
            if passed >= spread {
                return;
            }
            tokio::time::sleep(STEP.min(spread)).await;
        }
    }
}

impl Member {
    /// Whether to close now. Otherwise `waker` is woken when the time comes.
    pub fn is_stopping(&mut self, waker: &Waker) -> bool {
        if !self.watched {
            self.watched = true;
            self.registry.wakers.lock().insert(self.turn, waker.clone());
        }
        self.turn < self.registry.leaving.load(Ordering::SeqCst)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.registry.wakers.lock().remove(&self.turn);
        self.registry.metrics.active.decrement(1.0);
        if self.registry.connected.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.registry.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;
    use std::time::Instant;

    use super::*;

    #[derive(Default)]
    struct Times(Mutex<Vec<Instant>>);

    impl Wake for Times {
        fn wake(self: Arc<Self>) {
            self.0.lock().push(Instant::now());
        }
    }

    fn registry(clients: usize) -> (Arc<Registry>, Vec<Member>, Arc<Times>) {
        let registry = Registry::new(clients, Arc::new(Metrics::new()));
        let times = Arc::<Times>::default();
        let waker = Waker::from(Arc::clone(&times));
        let mut members: Vec<_> = (0..clients).map(|_| registry.join().unwrap()).collect();
        assert!(members.iter_mut().all(|member| !member.is_stopping(&waker)));
        (registry, members, times)
    }

    #[test]
    fn turns_lie_evenly_over_the_time() {
        let (_registry, members, _) = registry(10_000);
        for percent in [0, 1, 10, 25, 50, 75, 99] {
            let turn = turn_at(Duration::from_millis(percent), Duration::from_millis(100));
            let before = members.iter().filter(|member| member.turn < turn).count();
            assert!(before.abs_diff(usize::try_from(percent).unwrap() * 100) < 20, "{before} at {percent} %");
        }
        assert_eq!(turn_at(Duration::ZERO, Duration::ZERO), u64::MAX);
    }

    #[actix_web::test]
    async fn many_clients_are_let_go_one_after_the_other() {
        let (registry, mut members, times) = registry(1_000);
        assert!(registry.join().is_none());
        let left = registry.stop(Duration::from_millis(300), Duration::from_millis(310)).await;
        assert_eq!(left, 1_000, "nobody of these leaves");
        let times = times.0.lock();
        assert_eq!(times.len(), 1_000);
        assert!(times[999] - times[0] >= Duration::from_millis(250), "{:?}", times[999] - times[0]);
        assert!(members.iter_mut().all(|member| member.is_stopping(Waker::noop())));
    }

    #[actix_web::test]
    async fn few_clients_are_let_go_at_once() {
        let (registry, members, times) = registry(3);
        drop(members.into_iter().next());
        assert_eq!(registry.stop(Duration::from_secs(3_600), Duration::from_millis(100)).await, 0);
        assert_eq!(times.0.lock().len(), 0, "those that are gone are not told");
    }
}
