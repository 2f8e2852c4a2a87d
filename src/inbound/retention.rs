//! Sees to it that what has ended goes and that its space is given back: asks the store, in small steps, between
//! deliveries.
//!
//! A singleton behind a `Handle`, driven by its own timer. A failing store is asked again at the next turn; one that was
//! closed ends it.

use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::clock;
use crate::mail::time::Timestamp;
use crate::store::{Store, StoreError};

/// How soon to go on when a step left more to do.
const NEXT_STEP: Duration = Duration::from_millis(5);

/// See the module.
pub struct Retention {
    store: Store,
    every: Duration,
}

impl Retention {
    #[must_use]
    pub const fn new(store: Store, every: Duration) -> Self {
        Self { store, every }
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let work = async move {
            let now = Timestamp(clock::now_micros());
            // What is about to go is not moved first.
            let more = store.expire(now).await? || store.compact(now).await?;
            Ok::<_, StoreError>(more)
        };
        ctx.spawn(work.into_actor(self).map(|more, actor, ctx| {
            let wait = match more {
                Ok(true) => NEXT_STEP,
                Ok(false) => actor.every,
                Err(_) if actor.store.is_closed() => return ctx.stop(),
                Err(error) => {
                    tracing::warn!(%error, "cannot remove what has expired");
                    actor.every
                }
            };
            ctx.run_later(wait, Self::step);
        }));
    }
}

impl Actor for Retention {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.step(ctx);
    }
}
