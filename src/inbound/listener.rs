//! Accepts SMTP connections: one socket, an accepting task on each arbiter, a session actor for each connection that
//! finds a place; others hear 421 and are closed.
//!
//! Built by `app`. Ends when [`Sessions::drain`] is called: no more connections, 421 to idle sessions, the others end
//! after what they have under way.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::gate::Crowded;
use super::metrics as names;
use super::session::{Drain, Site, SmtpSession};
use crate::mail::id::SessionId;
use crate::smtp::reply;

/// A bound listener.
pub struct Listener {
    socket: StdListener,
    local: SocketAddr,
}

/// The sessions that are open and the switch that stops accepting.
#[derive(Clone)]
pub struct Sessions {
    open: Arc<Mutex<HashMap<u64, Addr<SmtpSession>>>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { open: Arc::default(), stop: Arc::new(watch::Sender::new(false)) }
    }
}

impl Sessions {
    /// Stops accepting and asks every session to end; true once none is left, false when `limit` is over first.
    pub async fn drain(&self, limit: Duration) -> bool {
        let _ = self.stop.send(true);
        let until = tokio::time::Instant::now() + limit;
        loop {
            let left: Vec<_> = {
                let mut open = self.open.lock();
                open.retain(|_, session| session.connected());
                open.values().cloned().collect()
            };
            if left.is_empty() {
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
            Ok((stream, peer)) => open(stream, peer.ip().to_canonical(), &site, &sessions),
            Err(error) => {
                // Out of descriptors, most likely: accepting again at once would only burn the processor.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn open(stream: TcpStream, client: IpAddr, site: &Arc<Site>, sessions: &Sessions) {
    let place = match site.gate.enter(client) {
        Ok(place) => place,
        Err(crowded) => return turn_away(&stream, client, crowded),
    };
    metrics::counter!(names::CONNECTIONS, "outcome" => "accepted").increment(1);
    // Replies are whole when they are written: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let id = SessionId(rand::random());
    let addr = SmtpSession::new(Arc::clone(site), id, client, stream, place, sessions.clone()).start();
    sessions.open.lock().insert(id.0, addr);
}

fn turn_away(stream: &TcpStream, client: IpAddr, crowded: Crowded) {
    let (outcome, farewell) = match crowded {
        Crowded::InAll => ("over_cap", reply::TOO_MANY_SESSIONS),
        Crowded::FromClient => ("over_client_cap", reply::TOO_MANY_SESSIONS_FROM_CLIENT),
    };
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
