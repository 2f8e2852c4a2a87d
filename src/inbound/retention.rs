//! Sees to it that what has ended goes and that its space is given back: asks the store, in small steps, between
//! deliveries.
//!
//! A singleton behind a `Handle`, driven by its own timer. A failing store is asked again at the next turn; one that was
//! closed ends it. While the clock cannot be [`super::trusted`], or is far ahead of the database server's, it waits.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use parking_lot::Mutex;

use super::metrics as names;
use super::trusted::{Change, Look, Reading, Trusted};
use crate::clock;
use crate::mail::time::Timestamp;
use crate::store::{Store, StoreError};

/// How soon to go on when a step left more to do.
const NEXT_STEP: Duration = Duration::from_millis(5);

/// See the module.
pub struct Retention {
    store: Store,
    every: Duration,
    trusted: Arc<Mutex<Trusted>>,
}

/// What this process knows of its clock when it opens `store`. Kept outside of the actor, so that one that is built again
/// knows it too.
#[must_use]
pub fn trusted(store: &Store) -> Arc<Mutex<Trusted>> {
    Arc::new(Mutex::new(Trusted::new(store.last_commit(), reading())))
}

fn reading() -> Reading {
    Reading { time: clock::now_micros(), passed: clock::passed_micros() }
}

impl Retention {
    #[must_use]
    pub const fn new(store: Store, every: Duration, trusted: Arc<Mutex<Trusted>>) -> Self {
        Self { store, every, trusted }
    }

    /// The time of day, unless it cannot be trusted.
    fn now(&self) -> Option<Timestamp> {
        let reading = reading();
        let Look { ahead, change } = self.trusted.lock().look(reading);
        let ahead = Duration::from_micros(ahead.max(0).unsigned_abs());
        metrics::gauge!(names::CLOCK_AHEAD).set(ahead.as_secs_f64());
        match change {
            None => {}
            Some(Change::Ahead) => tracing::warn!(
                ahead_seconds = ahead.as_secs(),
                "the clock is ahead of the time that passed, or the server was off: nothing that has expired is removed for \
                 an hour, in case the clock is set back"
            ),
            Some(Change::Back) => tracing::info!("the clock is back: what it would have ended stays"),
            Some(Change::Believed) => {
                tracing::warn!("the clock has stayed ahead for an hour: what has expired by it is removed now");
            }
        }
        ahead.is_zero().then_some(Timestamp(reading.time))
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let compared = async move { store.compare_clocks().await };
        ctx.spawn(compared.into_actor(self).map(|compared, actor, ctx| match compared {
            Ok(None) => actor.pass(ctx),
            // The store says it.
            Ok(Some(ahead)) => {
                metrics::gauge!(names::CLOCK_AHEAD).set(ahead.as_secs_f64());
                actor.wait(ctx);
            }
            Err(error) => {
                actor.failed(&error);
                actor.wait(ctx);
            }
        }));
    }

    /// Comes again at the next turn.
    fn wait(&self, ctx: &mut Context<Self>) {
        if self.store.is_closed() {
            return ctx.stop();
        }
        ctx.run_later(self.every, Self::step);
    }

    fn failed(&self, error: &StoreError) {
        if !self.store.is_closed() {
            tracing::warn!(%error, "cannot remove what has expired");
        }
    }

    fn pass(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let Some(now) = self.now() else { return self.wait(ctx) };
        let work = async move {
            // What is about to go is not moved first.
            let more = store.expire(now).await? || store.compact().await?;
            Ok::<_, StoreError>(more)
        };
        ctx.spawn(work.into_actor(self).map(|more, actor, ctx| match more {
            Ok(true) => drop(ctx.run_later(NEXT_STEP, Self::step)),
            Ok(false) => actor.wait(ctx),
            Err(error) => {
                actor.failed(&error);
                actor.wait(ctx);
            }
        }));
    }
}

impl Actor for Retention {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.step(ctx);
    }
}
