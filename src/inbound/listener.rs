//! Accepts SMTP connections: one socket, an accepting task on each arbiter, a session actor for each connection that
//! finds a place; others hear 421 and are closed. A configured proxy names its client first (PROXY protocol).
//!
//! Built by `app`. Ends when [`Sessions::drain`] is called: a last call, then no more connections, 421 to idle sessions,
//! the others end after what they have under way.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::gate::{Crowded, Place};
use super::last_call;
use super::metrics as names;
use super::proxy::{self, Heard, Malformed};
use super::session::{Drain, Site, SmtpSession};
use crate::cluster::limits::Kind;
use crate::mail::id::SessionId;
use crate::smtp::reply::{self, Reply};

/// A bound listener.
pub struct Listener {
    socket: StdListener,
    local: SocketAddr,
}

/// The sessions that are open and the switch that stops accepting.
#[derive(Clone)]
pub struct Sessions {
    open: Arc<Mutex<HashMap<u64, Addr<SmtpSession>>>>,
    /// Connections of proxies that have not said yet for whom they come.
    waiting: Arc<AtomicUsize>,
    /// The sockets that listen, for their last call.
    listening: Arc<Mutex<Vec<StdListener>>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let stop = Arc::new(watch::Sender::new(false));
        Self { open: Arc::default(), waiting: Arc::default(), listening: Arc::default(), stop }
    }
}

impl Sessions {
    /// Closes the ports after a last call and asks every session to end; true once none is left, false when `limit` is over
    /// first.
    pub async fn drain(&self, limit: Duration) -> bool {
        let until = tokio::time::Instant::now() + limit;
        let listening = std::mem::take(&mut *self.listening.lock());
        if !listening.is_empty() {
            listening.iter().for_each(last_call::ignore_handshakes);
            tokio::time::sleep(last_call::GRACE.min(limit)).await;
        }
        let _ = self.stop.send(true);
        drop(listening);
        loop {
            let left: Vec<_> = {
                let mut open = self.open.lock();
                open.retain(|_, session| session.connected());
                open.values().cloned().collect()
            };
            if left.is_empty() && self.waiting.load(Ordering::Relaxed) == 0 {
                return true;
            }
            for session in left {
                // A session with a full inbox has work; it is asked again.
                let _ = session.try_send(Drain);
            }
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Listener {
    /// Takes a socket that listens already.
    ///
    /// # Errors
    /// When its address is gone.
    pub fn new(socket: StdListener) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    /// Where it listens, with the port that was given for port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.local
    }

    /// Accepts on each of `arbiters`.
    ///
    /// # Errors
    /// When the socket cannot be shared.
    pub fn serve(self, site: &Arc<Site>, sessions: &Sessions, arbiters: &[ArbiterHandle]) -> std::io::Result<()> {
        sessions.listening.lock().push(self.socket.try_clone()?);
        for arbiter in arbiters {
            let (socket, site, sessions) = (self.socket.try_clone()?, Arc::clone(site), sessions.clone());
            arbiter.spawn(async move {
                match TcpListener::from_std(socket) {
                    Ok(listener) => accept(listener, site, sessions).await,
                    Err(error) => tracing::error!(%error, "cannot accept on this thread"),
                }
            });
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>, sessions: Sessions) {
    let mut stop = sessions.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => receive(stream, peer.ip().to_canonical(), &site, &sessions),
            Err(error) => {
                // Out of descriptors, most likely: accepting again at once would only burn the processor.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A proxy says first for whom it comes; anyone else is the client.
fn receive(stream: TcpStream, peer: IpAddr, site: &Arc<Site>, sessions: &Sessions) {
    if !site.proxies.iter().any(|network| network.contains(peer)) {
        return open(stream, peer, Vec::new(), site, sessions);
    }
    // As many may be on their way to being a session as there may be sessions.
    let Some(waiting) = Waiting::begin(sessions, site.gate.max_sessions()) else {
        return turn_away(&stream, peer, "over_cap", reply::TOO_MANY_SESSIONS);
    };
    let (site, sessions) = (Arc::clone(site), sessions.clone());
    actix::spawn(async move {
        match tokio::time::timeout(site.proxy_timeout, introduction(&stream)).await {
            Ok(Ok((client, rest))) => open(stream, client.unwrap_or(peer), rest, &site, &sessions),
            Ok(Err(Unheard::Gone)) => tracing::debug!(proxy = %peer, "closed without a PROXY header"),
            Ok(Err(Unheard::Malformed(why))) => unheard(peer, &why.to_string()),
            Err(_) => unheard(peer, "its PROXY header did not come in time"),
        }
        drop(waiting);
    });
}

/// Why a proxy did not get to name its client.
#[derive(Debug)]
enum Unheard {
    /// It closed the connection, as a health check does.
    Gone,
    Malformed(Malformed),
}

fn unheard(proxy: IpAddr, why: &str) {
    metrics::counter!(names::CONNECTIONS, "outcome" => "no_proxy_header").increment(1);
    tracing::warn!(%proxy, why, "cut off: [smtp] proxy_protocol_from asks this peer for a PROXY header");
}

/// Reads the PROXY header: the client, and what came after the header.
async fn introduction(stream: &TcpStream) -> Result<(Option<IpAddr>, Vec<u8>), Unheard> {
    let mut heard = Vec::new();
    loop {
        stream.readable().await.map_err(|_| Unheard::Gone)?;
        let mut piece = [0; 512];
        match stream.try_read(&mut piece) {
            Ok(0) => return Err(Unheard::Gone),
            Ok(n) => heard.extend_from_slice(piece.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(Unheard::Gone),
        }
        if let Heard::Whole { length, client } = proxy::read(&heard).map_err(Unheard::Malformed)? {
            return Ok((client, heard.split_off(length)));
        }
    }
}

/// One connection whose PROXY header is awaited.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn begin(sessions: &Sessions, most: usize) -> Option<Self> {
        let waiting = Self(Arc::clone(&sessions.waiting));
        // Given back when it is dropped.
        (waiting.0.fetch_add(1, Ordering::Relaxed) < most).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn open(stream: TcpStream, client: IpAddr, first: Vec<u8>, site: &Arc<Site>, sessions: &Sessions) {
    let place = match site.gate.enter(client) {
        Ok(place) => place,
        Err(Crowded::InAll) => return turn_away(&stream, client, "over_cap", reply::TOO_MANY_SESSIONS),
        Err(Crowded::FromClient) => {
            return turn_away(&stream, client, "over_client_cap", reply::TOO_MANY_SESSIONS_FROM_CLIENT);
        }
    };
    match site.client_limits.admit_now(Kind::Connections, client) {
        Some(Ok(())) => greet(stream, client, first, place, site, sessions),
        Some(Err(_)) => turn_away(&stream, client, "over_rate", reply::TOO_MANY_CONNECTIONS),
        None => {
            let (site, sessions) = (Arc::clone(site), sessions.clone());
            actix::spawn(async move {
                match site.client_limits.admit(Kind::Connections, client).await {
                    Ok(()) => greet(stream, client, first, place, &site, &sessions),
                    Err(_) => turn_away(&stream, client, "over_rate", reply::TOO_MANY_CONNECTIONS),
                }
            });
        }
    }
}

fn greet(stream: TcpStream, client: IpAddr, first: Vec<u8>, place: Place, site: &Arc<Site>, sessions: &Sessions) {
    metrics::counter!(names::CONNECTIONS, "outcome" => "accepted").increment(1);
    // Replies are whole when they are written: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let id = SessionId(rand::random());
    let addr = SmtpSession::new(Arc::clone(site), id, client, stream, place, sessions.clone(), first).start();
    sessions.open.lock().insert(id.0, addr);
}

fn turn_away(stream: &TcpStream, client: IpAddr, outcome: &'static str, farewell: Reply) {
    metrics::counter!(names::CONNECTIONS, "outcome" => outcome).increment(1);
    tracing::debug!(%client, outcome, "turned away");
    let mut line = Vec::new();
    farewell.write(&mut line);
    // A fresh connection has room for one line. Its readiness is not known to the runtime yet, so the socket is asked.
    let _ = socket2::SockRef::from(stream).send(&line);
}

impl Sessions {
    /// Called by a session when it is dropped.
    pub(super) fn forget(&self, id: SessionId) {
        self.open.lock().remove(&id.0);
    }
}
