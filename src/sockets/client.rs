//! One connection to the HTTP port, from its acceptance on: its place among all and among those of its client, and the
//! time that the client may take.
//!
//! [`super::upgrade`] makes one for each accepted socket and gives it to the HTTP service, which reads and writes through
//! it; a WebSocket takes the bare socket out and keeps the [`Place`].
//!
//! Invariant: who keeps an answer waiting for `write_timeout` while taking less than [`PROGRESS`] of it, and who neither
//! sends nor takes anything for `idle_timeout`, gets an error in place of the socket, which ends the connection and drops
//! all that was held for it. A body cannot see this itself: nobody asks it for more while the socket is full.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::error::DispatchError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::link::limit_unsent;
use super::metrics;
use super::upgrade::Http;
use crate::cluster::limits::Kind;
use crate::inbound::gate::{Crowded, Gate, Place};
use crate::settings::Network;

/// Bytes of an answer that a client must take within `write_timeout` of keeping it waiting: some 500 a second, which
/// the slowest link has and a client that only pretends to read has not.
const PROGRESS: usize = 16 * 1024;
/// Unsent bytes that the kernel holds for one connection. Besides the memory, it makes each bit that is sent show as
/// progress; by default the kernel says so only once a third of its buffer is free.
const UNSENT: u32 = 128 * 1024;

/// See the module.
pub struct Client {
    io: TcpStream,
    place: Option<Place>,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// When the client last sent or took something.
    active: Instant,
    idle: Option<Pin<Box<Sleep>>>,
    stall: Stall,
    /// Wakes the connection when it was stalled for too long; there while it is.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How long a client kept answers waiting, since it last took [`PROGRESS`] of them.
#[derive(Default)]
struct Stall {
    waited: Duration,
    taken: usize,
    /// Since when it does.
    since: Option<Instant>,
}

/// A place for a connection, or a short farewell.
pub(super) async fn admit(io: TcpStream, http: Http) -> Result<(Client, Option<SocketAddr>), DispatchError> {
    let peer = io.peer_addr().ok();
    let place = match (&http.gate, peer) {
        (Some(gate), Some(peer)) => Some(enter(gate, peer, &http.proxies, &io)?),
        _ => None,
    };
    if let Some(peer) = peer.filter(|peer| !is_proxy(*peer, &http.proxies))
        && let Err(refused) = http.limits.admit(Kind::Connections, peer.ip()).await
    {
        metrics::refused("rate");
        return Err(turn_away(&io, &too_many(refused.retry_after())));
    }
    // Answers are whole when they are written: waiting for more would only delay them.
    let _ = io.set_nodelay(true);
    limit_unsent(&io, UNSENT);
    let (idle_timeout, write_timeout) = (http.idle_timeout, http.write_timeout);
    let (active, stall) = (Instant::now(), Stall::default());
    Ok((Client { io, place, idle_timeout, write_timeout, active, idle: None, stall, stalled: None }, peer))
}

/// The clients of a proxy are counted when they ask for something.
fn enter(gate: &Arc<Gate>, peer: SocketAddr, proxies: &[Network], io: &TcpStream) -> Result<Place, DispatchError> {
    const FAREWELL: &str =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 10\r\nconnection: close\r\n\r\n";
    let place = if is_proxy(peer, proxies) { gate.enter_proxy() } else { gate.enter(peer.ip()) };
    place.map_err(|crowded| {
        metrics::refused(match crowded {
            Crowded::InAll => "all",
            Crowded::FromClient => "client",
        });
        turn_away(io, FAREWELL)
    })
}

fn is_proxy(peer: SocketAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|network| network.contains(peer.ip()))
}

/// Says one thing and closes.
fn turn_away(io: &TcpStream, farewell: &str) -> DispatchError {
    // A fresh connection has room for it; nobody waits for one that has not. Asked of the system itself: tokio does not know
    // yet that the socket is writable.
    let _ = socket2::SockRef::from(io).send(farewell.as_bytes());
    DispatchError::Io(io::ErrorKind::ConnectionRefused.into())
}

/// The answer to whoever connects too often, with the problem document that requests over their limit get.
fn too_many(retry_after: u64) -> String {
    const BODY: &str = concat!(
        r#"{"type":"urn:mailroom:problem:too-many-requests","#,
        r#""title":"This client asks for more than it may","status":429}"#
    );
    format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: {retry_after}\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    )
}

impl Client {
    /// The bare socket, and the place to keep as long as it is open.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Place>) {
        (self.io, self.place)
    }

    /// Ends a connection on which nothing happened for long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let timeout = self.idle_timeout;
        let sleep = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        while sleep.as_mut().poll(cx).is_ready() {
            let end = self.active + timeout;
            if end <= Instant::now() {
                metrics::cut("idle");
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep.as_mut().reset(end);
        }
        Ok(())
    }

    /// Ends a connection that took too little of its answer for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let end = self.stall.wait(Instant::now(), self.write_timeout);
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if sleep.as_mut().poll(cx).is_ready() {
            metrics::cut("stalled");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Stall {
    /// The socket is full: the time when that will have been too long.
    fn wait(&mut self, now: Instant, timeout: Duration) -> Instant {
        *self.since.get_or_insert(now) + timeout.saturating_sub(self.waited)
    }

    /// The socket took so many bytes.
    fn took(&mut self, count: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        // Nothing to remember of who never kept us waiting.
        self.taken = if self.waited.is_zero() { 0 } else { self.taken.saturating_add(count) };
        if self.taken >= PROGRESS {
            (self.waited, self.taken) = (Duration::ZERO, 0);
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_read(cx, buffer) {
            Poll::Pending => {
                this.poll_idle(cx)?;
                Poll::Pending
            }
            Poll::Ready(result) => {
                this.active = Instant::now();
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Pending => {
                this.poll_stalled(cx)?;
                Poll::Pending
            }
            Poll::Ready(result) => {
                let count = result?;
                this.active = Instant::now();
                this.stall.took(count, this.active);
                this.stalled = None;
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.get_mut().io).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Keeps the answer waiting for so many seconds, then takes so many bytes; false when that was too long.
    fn turn(stall: &mut Stall, now: &mut Instant, seconds: u64, bytes: usize) -> bool {
        let end = stall.wait(*now, LIMIT);
        *now += Duration::from_secs(seconds);
        let in_time = stall.wait(*now, LIMIT) > *now;
        assert_eq!(end > *now, in_time);
        stall.took(bytes, *now);
        in_time
    }

    #[test]
    fn who_takes_nothing_is_cut_off() {
        let (mut stall, mut now) = (Stall::default(), Instant::now());
        assert!(turn(&mut stall, &mut now, 29, 0));
        assert!(!turn(&mut stall, &mut now, 1, 0));
    }

    #[test]
    fn a_byte_now_and_then_is_no_progress() {
        let (mut stall, mut now) = (Stall::default(), Instant::now());
        assert!(turn(&mut stall, &mut now, 14, 100));
        assert!(turn(&mut stall, &mut now, 14, 100));
        assert!(!turn(&mut stall, &mut now, 2, 100));
    }

    #[test]
    fn a_slow_reader_that_goes_on_is_kept() {
        let (mut stall, mut now) = (Stall::default(), Instant::now());
        for _ in 0..100 {
            assert!(turn(&mut stall, &mut now, 14, PROGRESS / 2));
        }
    }

    #[test]
    fn time_between_answers_does_not_count() {
        let (mut stall, mut now) = (Stall::default(), Instant::now());
        assert!(turn(&mut stall, &mut now, 20, 10));
        now += Duration::from_secs(1_000);
        assert!(turn(&mut stall, &mut now, 5, 10));
    }
}
