//! Who is connected: counts the clients, holds the cap, and wakes all of them when the server stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::metrics::Metrics;

/// See the module.
pub struct Registry {
    metrics: Arc<Metrics>,
    max: usize,
    stopping: AtomicBool,
    connected: AtomicUsize,
    wakers: Mutex<HashMap<u64, Waker>>,
    next: std::sync::atomic::AtomicU64,
    empty: Notify,
}

/// One client in the registry, for as long as this lives.
pub struct Member {
    registry: Arc<Registry>,
    id: u64,
    watched: bool,
}

impl Registry {
    #[must_use]
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            max,
            stopping: AtomicBool::new(false),
            connected: AtomicUsize::new(0),
            wakers: Mutex::default(),
            next: std::sync::atomic::AtomicU64::new(0),
            empty: Notify::new(),
        })
    }

    /// Lets a client in; None when there are too many, or when the server stops.
    pub fn join(self: &Arc<Self>) -> Option<Member> {
        let member =
            Member { registry: Arc::clone(self), id: self.next.fetch_add(1, Ordering::Relaxed), watched: false };
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

    /// Tells every client to close, lets no new one in, and waits until all are gone or `limit` is over; how many are
    /// left then.
    pub async fn stop(&self, limit: Duration) -> usize {
        self.stopping.store(true, Ordering::SeqCst);
        let wakers: Vec<Waker> = self.wakers.lock().drain().map(|(_, waker)| waker).collect();
        wakers.into_iter().for_each(Waker::wake);
        let gone = async {
            loop {
                let empty = self.empty.notified();
                if self.connected() == 0 {
                    return;
                }
                empty.await;
            }
        };
        let _ = tokio::time::timeout(limit, gone).await;
        self.connected()
    }
}

impl Member {
    /// Whether to close now. Otherwise `waker` is woken when the time comes.
    pub fn is_stopping(&mut self, waker: &Waker) -> bool {
        if !self.watched {
            self.watched = true;
            self.registry.wakers.lock().insert(self.id, waker.clone());
        }
        self.registry.is_stopping()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.registry.wakers.lock().remove(&self.id);
        self.registry.metrics.active.decrement(1.0);
        if self.registry.connected.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.registry.empty.notify_waiters();
        }
    }
}
