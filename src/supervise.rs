//! Keeps singleton actors alive over a panic. actix's `Supervisor` does not restart after one: the mailbox of the actor
//! closes for good. So a singleton stands behind a [`Handle`], which builds a new one from its factory when
//! the address is dead; the address changes, the handle stays.
//!
//! Requests that were waiting in the dead actor fail; whoever sent them sends again or reports "unavailable".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use parking_lot::RwLock;

type Factory<A> = Box<dyn Fn() -> Addr<A> + Send + Sync>;

/// A singleton actor that is built again when it died.
pub struct Handle<A: Actor> {
    inner: Arc<Inner<A>>,
}

struct Inner<A: Actor> {
    name: &'static str,
    addr: RwLock<Addr<A>>,
    factory: Factory<A>,
    restarts: AtomicU64,
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// The actor did not answer: it died on the way, or took longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer")]
pub struct NoAnswer;

impl<A: Actor<Context = Context<A>>> Handle<A> {
    /// Builds the actor with `factory`, now and whenever it is found dead. `name` is for logs and metrics.
    pub fn new(name: &'static str, factory: impl Fn() -> Addr<A> + Send + Sync + 'static) -> Self {
        let addr = RwLock::new(factory());
        Self { inner: Arc::new(Inner { name, addr, factory: Box::new(factory), restarts: AtomicU64::new(0) }) }
    }

    /// Calls `act` with the address of a living actor.
    pub fn with<R>(&self, act: impl FnOnce(&Addr<A>) -> R) -> R {
        {
            let addr = self.inner.addr.read();
            if addr.connected() {
                return act(&addr);
            }
        }
        self.rebuild();
        act(&self.inner.addr.read())
    }

    /// Sends a request and waits at most `limit` for its answer.
    ///
    /// # Errors
    /// [`NoAnswer`] when the actor died on the way or did not answer in time; it may still handle the request.
    pub async fn ask<M>(&self, message: M, limit: Duration) -> Result<M::Result, NoAnswer>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
        A::Context: ToEnvelope<A, M>,
    {
        let request = self.with(|addr| addr.send(message)).timeout(limit);
        request.await.map_err(|_| NoAnswer)
    }

    /// How often the actor was built again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.inner.restarts.load(Ordering::Relaxed)
    }

    /// Builds the actor again if it died; called now and then, so that one with timers does not wait for a request.
    pub fn check(&self) {
        self.with(|_| ());
    }

    fn rebuild(&self) {
        let mut addr = self.inner.addr.write();
        if addr.connected() {
            return;
        }
        *addr = (self.inner.factory)();
        self.inner.restarts.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("actor_restarts_total", "actor" => self.inner.name).increment(1);
        tracing::error!(actor = self.inner.name, "a supervised actor died and was started again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fragile;

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Answer(bool);

    impl Handler<Answer> for Fragile {
        type Result = u32;

        fn handle(&mut self, message: Answer, _: &mut Context<Self>) -> u32 {
            assert!(!message.0, "told to die");
            7
        }
    }

    #[actix::test]
    async fn is_built_again_after_a_panic() {
        let handle = Handle::new("fragile", || Fragile.start());
        let limit = Duration::from_secs(5);
        assert_eq!(handle.ask(Answer(false), limit).await, Ok(7));
        assert_eq!(handle.ask(Answer(true), limit).await, Err(NoAnswer));
        assert_eq!(handle.ask(Answer(false), limit).await, Ok(7));
        assert_eq!(handle.restarts(), 1);
    }
}
