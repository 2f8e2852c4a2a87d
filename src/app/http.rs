//! The HTTP port: the API, the dashboard and the WebSocket endpoint behind one listener.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::accounts::part_keys::PartKeys;
use crate::accounts::{self, origin};
use crate::inbound::Inbound;
use crate::inbound::config::AccessMode;
use crate::inbound::subscription::{Page, Paged, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId};
use crate::mail::address::{AddressError, MailboxKey};
use crate::mail::event::Announced;
use crate::sockets::outside::{Access, Denied, Foreign};
use crate::sockets::{self, Http, Outside, Sockets, http_service};
use crate::store::Store;
use crate::web;

/// The running listener.
pub struct Web {
    /// Where it listens; with port 0 configured, the port it got.
    pub address: SocketAddr,
    pub sockets: Sockets,
    handle: ServerHandle,
    stopping: watch::Sender<bool>,
}

/// What it serves.
pub struct Content {
    pub store: Store,
    pub inbound: Inbound,
    /// Addresses that SMTP listens on.
    pub smtp: Vec<SocketAddr>,
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
        content: Content,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let reach = Reach {
            store: content.store.clone(),
            inbound: content.inbound.clone(),
            allowed: http.allowed_hosts.clone(),
        };
        let sockets = Sockets::new(sockets.clone(), Arc::new(reach));
        let (stopping, stops) = watch::channel(false);
        let state = web::State {
            store: content.store,
            inbound: content.inbound,
            config: Arc::new(http.clone()),
            smtp: content.smtp.into(),
            part_keys: Arc::new(PartKeys::new().map_err(std::io::Error::other)?),
            stopping: stops,
        };
        let endpoints = web::Endpoints::default();
        let server = Server::build()
            .workers(http.worker_threads())
            .max_concurrent_connections(http.connections_per_worker())
            .backlog(http.backlog)
            .disable_signals()
            .shutdown_timeout(5);
        let behind = Http {
            keep_alive: http.keep_alive.0,
            request_timeout: http.client_timeout.0,
            stopping: Some(server.graceful_shutdown_signal()),
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
        Ok(Self { address, sockets, handle, stopping })
    }

    /// Closes sockets with 1012, ends event streams, finishes requests.
    pub async fn stop(&self, limit: Duration) {
        // Nobody who would have to hear it is there any more when this fails.
        let _ = self.stopping.send(true);
        let left = self.sockets.stop(limit / 2).await;
        if left > 0 {
            tracing::warn!(left, "some WebSocket clients did not close in time and are cut off");
        }
        if tokio::time::timeout(limit, self.handle.stop(true)).await.is_err() {
            tracing::warn!("some HTTP requests did not end in time and are cut off");
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
                Ok(accounts::Access::Mailbox(key)) => Ok(Access::Mailbox(key)),
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
