//! Drives one client: polls its actor, writes what the actor made, pings, and notices who is gone.
//!
//! One task a client. The actor is polled only when everything it made before is written, so a client that does not
//! read stops its actor, whose inbox fills, which is what marks it behind. An event that finds the socket writable is
//! written in the turn in which it arrives. Ends when either side closes, when the client takes or says nothing for
//! too long, when the server stops, or when the actor panics, which hurts this client alone.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::Shared;
use super::link::Link;
use super::registry::Member;
use super::{metrics, wire};

/// How often one client is served before others have their turn.
const TURNS: usize = 32;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The actor said all it had to say.
    Finished,
    /// The connection broke.
    Gone,
    /// The client took nothing for too long.
    Slow,
    /// The client said nothing for too long.
    Silent,
    Stopping,
    Panicked,
}

impl End {
    /// What the client is told, when the actor has not told it yet.
    const fn close(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Finished | Self::Gone => None,
            Self::Slow => Some((1013, "too slow, try again later")),
            Self::Silent => Some((1011, "no answer to pings")),
            Self::Stopping => Some((1012, "the server stops")),
            Self::Panicked => Some((1011, "internal error")),
        }
    }
}

/// See the module. `S`: what the actor writes.
pub struct Drive<S> {
    shared: Arc<Shared>,
    link: Rc<Link>,
    output: Option<S>,
    /// Made by the actor, being written.
    chunk: Bytes,
    member: Member,
    next_ping: Instant,
    /// Since when the client takes nothing.
    blocked: Option<Instant>,
}

impl<S, E> Drive<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// `first` is written before anything the actor makes.
    #[must_use]
    pub fn new(shared: Arc<Shared>, link: Rc<Link>, output: S, first: Bytes, member: Member) -> Self {
        let next_ping = Instant::now() + shared.config.ping.0;
        Self { shared, link, output: Some(output), chunk: first, member, next_ping, blocked: None }
    }

    /// Serves the client until the connection ends.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, 700 bytes more a client")]
    pub fn run(mut self) -> impl Future<Output = ()> {
        async move {
            let end = {
                let mut timer = pin!(sleep_until(self.next_ping));
                std::future::poll_fn(|cx| self.poll_serve(cx, timer.as_mut())).await
            };
            self.drop_actor();
            if end != End::Gone {
                let last = self.last_words(end);
                // Boxed, so that those who are served do not hold room for it.
                Box::pin(timeout(self.shared.config.close_timeout.0, self.link.finish(last))).await.unwrap_or_default();
            }
            let reason = self.reason(end);
            metrics::closed(reason);
            tracing::debug!(reason, "websocket closed");
        }
    }

    /// Lets the actor take leave of its publishers. If it panicked once, it may again.
    fn drop_actor(&mut self) {
        let output = self.output.take();
        if catch_unwind(AssertUnwindSafe(|| drop(output))).is_err() {
            self.link.reason.set("panic");
        }
    }

    /// What the client gets yet: what it had not taken, and why it is closed.
    fn last_words(&mut self, end: End) -> Bytes {
        self.link.make_room();
        let mut last = BytesMut::from(&self.chunk[..]);
        if let Some((code, text)) = end.close() {
            last.extend_from_slice(&wire::close(code, text));
        }
        last.freeze()
    }

    fn reason(&self, end: End) -> &'static str {
        match end {
            End::Finished => self.link.reason.get(),
            End::Gone => "gone",
            End::Slow => "slow",
            End::Silent => "silent",
            End::Stopping => "stopping",
            End::Panicked => "panic",
        }
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<End> {
        for _ in 0..TURNS {
            if self.member.is_stopping(cx.waker()) {
                return Poll::Ready(End::Stopping);
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) if self.blocked.take().is_some() => timer.as_mut().reset(self.deadline()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                Poll::Pending => return self.poll_blocked(cx, timer),
            }
            match self.poll_output(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.chunk = chunk;
                    continue;
                }
                Poll::Ready(Some(Err(end))) => return Poll::Ready(end),
                Poll::Ready(None) => return Poll::Ready(End::Finished),
                Poll::Pending => {}
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.link.heard.get() + self.shared.config.silence.0 {
                return Poll::Ready(End::Silent);
            }
            if now >= self.next_ping {
                self.next_ping = now + self.shared.config.ping.0;
                self.chunk = wire::ping();
            }
            timer.as_mut().reset(self.deadline());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn deadline(&self) -> Instant {
        self.next_ping.min(self.link.heard.get() + self.shared.config.silence.0)
    }

    /// The client takes nothing now.
    fn poll_blocked(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<End> {
        let limit = self.shared.config.write_timeout.0;
        let since = *self.blocked.get_or_insert_with(|| {
            let now = Instant::now();
            timer.as_mut().reset(now + limit);
            now
        });
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= since + limit {
                return Poll::Ready(End::Slow);
            }
            timer.as_mut().reset(since + limit);
        }
        Poll::Pending
    }

    /// Writes the chunk to its end.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.chunk.is_empty() {
            let count = ready!(self.link.poll_write(cx, &mut self.chunk))?;
            self.shared.metrics.bytes.increment(count as u64);
            if let Some(blocked) = &mut self.blocked {
                // It takes something, so it is there, even while its pongs wait to be read.
                *blocked = Instant::now();
                self.link.heard.set(*blocked);
            }
        }
        self.link.unwritten.set(0);
        Poll::Ready(Ok(()))
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, End>>> {
        let Some(output) = &mut self.output else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(output).poll_next(cx))) {
            Ok(poll) => poll.map(|item| item.map(|chunk| chunk.map_err(|_| End::Panicked))),
            Err(_) => Poll::Ready(Some(Err(End::Panicked))),
        }
    }
}
