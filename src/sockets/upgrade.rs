//! From an HTTP request to a WebSocket client, on the port that the App has.
//!
//! actix-http hands over the bare socket of every request that asks for a WebSocket and of every CONNECT, on any path,
//! outside the App and its middleware. So the checks that the App makes for others are made here: path, method, Host
//! and Origin, then the handshake (RFC 6455 §4.2.1). What does not pass is answered with a problem document and closed.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::DispatchError;
use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{
    HttpMessage, HttpService, KeepAlive, Method, Protocol, Request, RequestHead, Response, Version, h1, ws,
};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::client::{self, Client};
use super::drive::Drive;
use super::frame::{self, Kind};
use super::link::{Input, Link};
use super::registry::Member;
use super::{Shared, Sockets, metrics, session};
use crate::accounts::forwarded::{self, Forwarded, Turned};
use crate::accounts::{origin, unnamed};
use crate::cluster::limits::{self, Limits};
use crate::inbound::gate::{Gate, Share};
use crate::settings::Network;

const PATH: &str = "/v1/ws";

/// More of an answer is not taken into a connection's buffer before this much was written.
const WRITE_BUFFER: usize = 16 * 1024;
/// How long a client that is still sending has to read the answer that ends its connection.
const LINGER: Duration = Duration::from_secs(2);

/// How long the HTTP side of the port waits for its clients.
#[derive(Clone)]
pub struct Http {
    pub keep_alive: Duration,
    /// For the head of a request.
    pub request_timeout: Duration,
    /// How long a client may keep an answer waiting.
    pub write_timeout: Duration,
    /// How long nothing at all may happen on a connection: more than `keep_alive` and more than any call waits.
    pub idle_timeout: Duration,
    /// Places for connections, in all and for each client. None is no limit.
    pub gate: Option<Arc<Gate>>,
    /// Proxies that are believed about who asks.
    pub proxies: Arc<[Network]>,
    /// What each client network may do.
    pub limits: Limits,
    /// Closes idle connections when it becomes true, and the others after their answer.
    pub stopping: Option<watch::Receiver<bool>>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(75),
            request_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(360),
            gate: None,
            proxies: Arc::from([]),
            limits: Limits::none(),
            stopping: None,
        }
    }
}

/// Serves `app` and the WebSocket endpoint on one port:
///
/// ```ignore
/// let server = actix_server::Server::build();
/// let http = Http { stopping: Some(stopping), ..Http::default() };
/// server.bind("http", addr, move || http_service(App::new(), sockets.clone(), http.clone()))?.run().await
/// ```
pub fn http_service<I, S, B>(
    app: I,
    sockets: Sockets,
    http: Http,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let shared = sockets.shared;
    let behind = Behind { gate: http.gate.clone(), proxies: Arc::clone(&http.proxies), limits: http.limits.clone() };
    let mut service = HttpService::build()
        .keep_alive(KeepAlive::Timeout(http.keep_alive))
        .client_request_timeout(http.request_timeout)
        .h1_write_buffer_size(WRITE_BUFFER)
        .client_disconnect_timeout(LINGER);
    if let Some(stopping) = http.stopping.clone() {
        service = service.graceful_shutdown_signal(move || {
            let mut stopping = stopping.clone();
            async move {
                // Who would say so is gone: that is a stop as well.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            }
        });
    }
    let app = app.into_factory().map_err(|error: S::Error| -> Response<BoxBody> {
        let error: actix_web::Error = error.into();
        error.error_response().into()
    });
    let service = service
        .upgrade(fn_service(move |(request, framed): (Request, actix_codec::Framed<Client, h1::Codec>)| {
            let (shared, of) = (Arc::clone(&shared), behind.clone());
            async move {
                upgrade(shared, of, request, framed.into_parts()).await;
                Ok::<(), actix_http::Error>(())
            }
        }))
        .finish(map_config(app, |()| AppConfig::default()));
    let admit = fn_service(move |io: TcpStream| {
        let admitted = client::admit(io, http.clone());
        async move { admitted.await.map(|(client, peer)| (client, Protocol::Http1, peer)) }
    });
    admit.and_then(service)
}

/// Why a handshake was not accepted.
struct Refused {
    kind: Kind,
    detail: Option<Cow<'static, str>>,
    header: &'static str,
}

impl From<Kind> for Refused {
    fn from(kind: Kind) -> Self {
        Self { kind, detail: None, header: "" }
    }
}

/// What counts a client that comes through a proxy.
#[derive(Clone)]
struct Behind {
    gate: Option<Arc<Gate>>,
    proxies: Arc<[Network]>,
    limits: Limits,
}

impl Behind {
    /// Takes one of the connections that the client named by a proxy may open; that of any other was counted when it was
    /// accepted.
    async fn count(&self, head: &RequestHead) -> Result<(), Refused> {
        let Some(forwarded) = forwarded::read(head.peer_addr, head.headers(), &self.proxies) else { return Ok(()) };
        self.limits.admit(limits::Kind::Connections, forwarded.client).await.map_err(|_| {
            metrics::refused("rate");
            Refused { header: "retry-after: 10\r\n", ..Refused::from(Kind::TooManyRequests) }
        })
    }

    /// The share of the client that a proxy names.
    fn share(&self, forwarded: Option<&Forwarded<'_>>) -> Result<Option<Share>, Refused> {
        let (Some(gate), Some(forwarded)) = (&self.gate, forwarded) else { return Ok(None) };
        gate.share(forwarded.client).map(Some).map_err(|_| {
            metrics::refused("client");
            Refused { header: "retry-after: 10\r\n", ..Refused::from(Kind::TooManyRequests) }
        })
    }
}

async fn upgrade(
    shared: Arc<Shared>,
    behind: Behind,
    request: Request,
    parts: actix_codec::FramedParts<Client, h1::Codec>,
) {
    let (io, place) = parts.io.into_parts();
    let link = Link::new(io);
    let method = if *request.method() == Method::GET { "GET" } else { "other" };
    let endpoint = if request.path() == PATH { PATH } else { "none" };
    let verdict = match behind.count(request.head()).await {
        Ok(()) => admit(&shared, &behind, request.head()),
        Err(refused) => Err(refused),
    };
    // Answers to requests before this one on the connection go first.
    let mut first = BytesMut::from(&parts.write_buf[..]);
    match verdict {
        Ok((accept, member, share)) => {
            metrics::answered(method, endpoint, 101);
            first.extend_from_slice(accept.as_bytes());
            let token = bearer(request.headers());
            drop(request);
            let config = &shared.config;
            let input =
                Input::new(Rc::clone(&link), &parts.read_buf, config.max_message.as_usize(), config.max_pending);
            let output = session::start(Arc::clone(&shared), Rc::clone(&link), input, token);
            let drive = Drive::new(shared, link, output, first.freeze(), member);
            // A task of its own: that of the HTTP connection is several times as large.
            actix_rt::spawn(async move {
                drive.run().await;
                drop((place, share));
            });
        }
        Err(refused) => {
            metrics::answered(method, endpoint, refused.kind.status());
            first.extend_from_slice(answer(&refused).as_bytes());
            let limit = shared.config.close_timeout.0;
            let _ = tokio::time::timeout(limit, link.finish(first.freeze())).await;
        }
    }
}

/// The answer that accepts a handshake, and the places of who sent it.
fn admit(shared: &Shared, behind: &Behind, head: &RequestHead) -> Result<(String, Member, Option<Share>), Refused> {
    unnamed::look(head.peer_addr, head.headers(), &behind.proxies);
    let forwarded = forwarded::read(head.peer_addr, head.headers(), &behind.proxies);
    let accept = examine(shared, head, forwarded.as_ref())?;
    let share = behind.share(forwarded.as_ref())?;
    let member = shared.registry.join().ok_or(Kind::Unavailable)?;
    Ok((accept, member, share))
}

/// The answer that accepts a handshake.
fn examine(shared: &Shared, head: &RequestHead, forwarded: Option<&Forwarded<'_>>) -> Result<String, Refused> {
    let text = |name: HeaderName| head.headers().get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let own = |host: Option<&str>, origin: Option<&str>| shared.outside.check_origin(host, origin).is_ok();
    let turned = forwarded::check(&[text(header::HOST)], text(header::ORIGIN), forwarded, own);
    turned.map_err(|turned| match turned {
        Turned::Host(name) => Refused { detail: Some(origin::advice(name).into()), ..Refused::from(Kind::ForeignHost) },
        Turned::Origin => Kind::ForeignOrigin.into(),
    })?;
    if head.uri.path() != PATH {
        let detail = Some("WebSocket is spoken at /v1/ws only".into());
        return Err(Refused { kind: Kind::NoSuchPath, detail, header: "" });
    }
    if head.method != Method::GET {
        return Err(Refused { kind: Kind::MethodNotAllowed, detail: None, header: "allow: GET\r\n" });
    }
    let bad = |detail: &'static str| Refused { kind: Kind::BadHandshake, detail: Some(detail.into()), header: "" };
    if head.version != Version::HTTP_11 || !head.upgrade() {
        return Err(bad("HTTP/1.1 with Connection: Upgrade and Upgrade: websocket is needed"));
    }
    if text(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let header = "upgrade: websocket\r\nsec-websocket-version: 13\r\n";
        let detail = Some("Sec-WebSocket-Version must be 13".into());
        return Err(Refused { kind: Kind::UpgradeRequired, detail, header });
    }
    let mut keys = head.headers().get_all(header::SEC_WEBSOCKET_KEY);
    let key = keys.next().filter(|key| is_key(key.as_bytes())).filter(|_| keys.next().is_none());
    let key = key.ok_or_else(|| bad("Sec-WebSocket-Key must be 16 bytes in base64, once"))?;
    let accept = ws::hash_key(key.as_bytes());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        String::from_utf8_lossy(&accept)
    ))
}

/// 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let (digits, padding) = key.split_at(key.len().min(22));
    digits.len() == 22
        && padding == b"=="
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The token of clients that can set headers; browsers send it with each `subscribe`.
fn bearer(headers: &HeaderMap) -> Option<Box<str>> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

fn answer(refused: &Refused) -> String {
    let body = frame::document(refused.kind, refused.detail.as_deref());
    let status = actix_http::StatusCode::from_u16(refused.kind.status()).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n{body}",
        body.len(),
        refused.header,
    )
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for key in
            [&b""[..], b"short", b"dGhlIHNhbXBsZSBub25jZQ=", b"dGhlIHNhbXBsZSBub25jZQ===", b"dGhlIHNhbXBsZSBub25 ZQ=="]
        {
            assert!(!is_key(key), "{key:?}");
        }
    }
}
