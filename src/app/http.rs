//! The HTTP port: the API, the dashboard and the WebSocket endpoint behind one listener.

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_server::{Server, ServerHandle};
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::accounts::part_keys::PartKeys;
use crate::accounts::{self, origin};
use crate::cluster::limits::Limits;
use crate::inbound::Inbound;
use crate::inbound::config::AccessMode;
use crate::inbound::gate::{Caps, Gate};
use crate::inbound::last_call;
use crate::inbound::subscription::{Page, Paged, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId};
use crate::mail::address::{AddressError, MailboxKey};
use crate::mail::event::Announced;
use crate::sockets::outside::{Access, Denied, Foreign};
use crate::sockets::{self, Http, Outside, Sockets, http_service};
use crate::store::Store;
use crate::web;
use crate::web::views::SmtpAddress;

/// The running listener.
pub struct Web {
    /// Where it listens; with port 0 configured, the port it got.
    pub address: SocketAddr,
    pub sockets: Sockets,
    handle: ServerHandle,
    /// The listening socket, to close the port while connections go on.
    port: TcpListener,
    leaving: Arc<AtomicBool>,
    stopping: watch::Sender<bool>,
}

/// How many connections it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub in_all: usize,
    /// For one client: an IPv4 address or a /64 of IPv6.
    pub for_client: usize,
}

/// How long the accepting thread may take to hear that it has to pause.
const PAUSING: Duration = Duration::from_millis(10);

/// Descriptors for files, the database and the operations listener.
const FILES: usize = 1_024;

impl Places {
    /// What the settings ask for, as far as the process has descriptors for it beside the SMTP sessions and its files. A
    /// quarter of all descriptors is HTTP's in any case, and a quarter of HTTP's is left by any one client to others.
    #[must_use]
    pub fn new(http: &web::Config, descriptors: usize, smtp_sessions: usize) -> Self {
        let left = descriptors.saturating_sub(smtp_sessions.saturating_add(FILES)).max(descriptors / 4).max(4);
        let in_all = http.max_connections.min(left).max(1);
        Self { in_all, for_client: http.max_connections_per_client.min(in_all - in_all / 4).max(1) }
    }
}

/// What it serves.
pub struct Content {
    pub store: Store,
    pub inbound: Inbound,
    pub limits: Limits,
    /// What keys of attachments are signed with.
    pub secret: [u8; 32],
    /// Where senders reach SMTP.
    pub smtp: Vec<SmtpAddress>,
}

impl Web {
    /// Serves on a listener that is bound already. Needs a running actix system.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn start(
        listener: TcpListener,
        http: &web::Config,
        sockets: &sockets::Config,
        places: Places,
        content: Content,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let port = listener.try_clone()?;
        let reach = Reach {
            store: content.store.clone(),
            inbound: content.inbound.clone(),
            allowed: http.allowed_hosts.clone(),
        };
        let sockets = Sockets::new(sockets.clone(), Arc::new(reach));
        let (stopping, stops) = watch::channel(false);
        let leaving = Arc::new(AtomicBool::new(false));
        let gate = Gate::new(Caps {
            sessions: places.in_all,
            sessions_per_client: places.for_client,
            bytes: http.max_bytes_in_flight.0,
            bytes_per_client: u64::MAX,
        });
        let state = web::State {
            gate: Arc::clone(&gate),
            store: content.store,
            inbound: content.inbound,
            config: Arc::new(http.clone()),
            smtp: content.smtp.into(),
            limits: content.limits.clone(),
            part_keys: Arc::new(PartKeys::new(content.secret)),
            leaving: Arc::clone(&leaving),
            stopping: stops.clone(),
        };
        let endpoints = web::Endpoints::default();
        let server = Server::build()
            .workers(http.worker_threads())
            // The gate refuses before a thread of this server stops accepting, which would keep everybody out.
            .max_concurrent_connections(places.in_all.saturating_add(1))
            .backlog(http.backlog)
            .disable_signals()
            .shutdown_timeout(5);
        let behind = Http {
            keep_alive: http.keep_alive.0,
            request_timeout: http.client_timeout.0,
            write_timeout: http.write_timeout.0,
            idle_timeout: web::params::MAX_WAIT.max(http.keep_alive.0).max(http.heartbeat.0) + Duration::from_secs(60),
            gate: Some(gate),
            proxies: http.trusted_proxies.clone().into(),
            limits: content.limits,
            stopping: Some(stops),
        };
        let clients = sockets.clone();
        let server = server
            .listen("http", listener, move || {
                http_service(web::service(&state, &endpoints), clients.clone(), behind.clone())
            })?
            .run();
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP listener ended");
            }
        });
        Ok(Self { address, sockets, handle, port, leaving, stopping })
    }

    /// From now on each answer says that its connection ends with it.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Ends event streams, closes sockets with 1012 spread over half of the time, finishes requests. The port is closed.
    pub async fn stop(&self, limit: Duration) {
        let until = Instant::now() + limit;
        // Nobody who would have to hear it is there any more when this fails.
        let _ = self.stopping.send(true);
        let left = self.sockets.stop(limit / 2, limit / 4 * 3).await;
        if left > 0 {
            tracing::warn!(left, "some WebSocket clients did not close in time and are cut off");
        }
        let time = until.saturating_duration_since(Instant::now()).max(limit / 4);
        if tokio::time::timeout(time, self.handle.stop(true)).await.is_err() {
            tracing::warn!("some HTTP requests did not end in time and are cut off");
        }
    }
}

impl Web {
    /// Closes the port after a last call. The server's own stop would drop connections that are accepted and not served yet, and would end its threads, on
    /// which the WebSocket clients live.
    pub async fn close_port(&self, limit: Duration) {
        last_call::ignore_handshakes(&self.port);
        tokio::time::sleep(last_call::GRACE.min(limit)).await;
        self.handle.pause().await;
        // The accepting thread hears of it a moment later.
        tokio::time::sleep(PAUSING.min(limit)).await;
        let closed = socket2::SockRef::from(&self.port).shutdown(Shutdown::Both);
        if let Err(error) = closed {
            tracing::debug!(%error, "the HTTP port is closed later");
        }
    }
}

/// What the sockets stage asks of accounts and inbound.
struct Reach {
    store: Store,
    inbound: Inbound,
    allowed: Vec<String>,
}

impl Outside for Reach {
    fn check_origin(&self, host: Option<&str>, own: Option<&str>) -> Result<(), Foreign> {
        origin::check(host, own, &self.allowed).map_err(|foreign| match foreign {
            origin::Foreign::Host => Foreign::Host,
            origin::Foreign::Origin => Foreign::Origin,
        })
    }

    fn access<'a>(&'a self, token: Option<&'a str>) -> LocalBoxFuture<'a, Result<Access, Denied>> {
        Box::pin(async move {
            let open = self.inbound.access() == AccessMode::Open;
            match accounts::Access::of(&self.store, open, token).await {
                Ok(accounts::Access::Open) => Ok(Access::Open),
                Ok(accounts::Access::Mailbox(life)) => Ok(Access::Mailbox(life)),
                Err(accounts::Denied::NoToken) => Err(Denied::NoToken),
                Err(accounts::Denied::Unknown) => Err(Denied::Unknown),
                Err(accounts::Denied::Store(_)) => Err(Denied::Unavailable),
            }
        })
    }

    fn key(&self, address: &str) -> Result<MailboxKey, AddressError> {
        self.inbound.key(address)
    }

    fn subscribe<'a>(
        &'a self,
        scope: &'a Scope,
        subscribe: Subscribe,
    ) -> LocalBoxFuture<'a, Result<Subscribed, SubscribeError>> {
        Box::pin(self.inbound.subscribe(scope, subscribe))
    }

    fn page<'a>(&'a self, scope: &'a Scope, page: Page) -> LocalBoxFuture<'a, Result<Paged, SubscribeError>> {
        Box::pin(self.inbound.page(scope, page))
    }

    fn unsubscribe(&self, scope: &Scope, id: SubscriptionId) {
        self.inbound.unsubscribe(scope, id);
    }

    fn text<'a>(&'a self, event: &'a Announced) -> LocalBoxFuture<'a, Arc<str>> {
        Box::pin(self.inbound.text(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_leaves_descriptors_to_smtp_and_a_client_leaves_some_to_others() {
        let http =
            web::Config { max_connections: 120_000, max_connections_per_client: 20_000, ..web::Config::default() };
        let places = |descriptors| {
            let Places { in_all, for_client } = Places::new(&http, descriptors, 2_000);
            (in_all, for_client)
        };
        assert_eq!(places(1_048_576), (120_000, 20_000));
        assert_eq!(places(20_000), (16_976, 12_732));
        assert_eq!(places(1_024), (256, 192));
        assert_eq!(places(0), (4, 3));
        assert_eq!(places(usize::MAX), (120_000, 20_000));
    }
}
