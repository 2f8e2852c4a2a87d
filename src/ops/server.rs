//! The operations listener itself: a small actix-web server with one worker.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use super::health::{Probe, not_ready, summary};
use super::process;
use crate::accounts::origin::{self, Foreign};
use crate::telemetry::Recorder;

/// Descriptors are kept back for so many (`app::http`).
const MAX_CONNECTIONS: usize = 256;

/// What the handlers need.
struct State {
    probe: Arc<dyn Probe>,
    recorder: Recorder,
    started: Instant,
    started_seconds: f64,
    allowed_hosts: Vec<String>,
}

/// The running listener.
pub struct Ops {
    /// Where it listens; with port 0 configured, the port it got.
    pub addr: SocketAddr,
    handle: ServerHandle,
}

impl Ops {
    /// Stops at once; a scrape in flight is cut off.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

/// Serves on a listener that is bound already, under the names of `allowed_hosts` besides `localhost` and IP addresses.
/// Needs a running actix system.
///
/// # Errors
/// The listener cannot be used (its address is gone, or the process is out of descriptors).
pub fn start(
    listener: TcpListener,
    probe: Arc<dyn Probe>,
    recorder: Recorder,
    allowed_hosts: Vec<String>,
) -> std::io::Result<Ops> {
    let addr = listener.local_addr()?;
    let state = web::Data::new(State {
        probe,
        recorder,
        started: Instant::now(),
        started_seconds: crate::clock::now_micros() as f64 / 1_000_000.0,
        allowed_hosts,
    });
    let server = HttpServer::new(move || App::new().app_data(state.clone()).configure(routes).wrap(from_fn(own_host)))
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
    let handle = server.handle();
    actix_rt::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the operations listener ended");
        }
    });
    Ok(Ops { addr, handle })
}

/// Turns away pages of other sites: by a name of theirs that leads here (DNS rebinding), or across origins.
async fn own_host(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let allowed = request.app_data::<web::Data<State>>().map(|state| state.allowed_hosts.as_slice());
    let authority = request
        .uri()
        .authority()
        .map(|authority| origin::check(Some(authority.as_str()), None, allowed.unwrap_or_default()));
    let host = origin::check(text(HOST), text(ORIGIN), allowed.unwrap_or_default());
    match authority.unwrap_or(Ok(())).and(host) {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(foreign) => Ok(request.into_response(turned_away(foreign))),
    }
}

/// A problem document (RFC 9457), as the API has them.
fn turned_away(foreign: Foreign) -> HttpResponse {
    let (name, status) = match foreign {
        Foreign::Host => ("foreign-host", StatusCode::MISDIRECTED_REQUEST),
        Foreign::Origin => ("foreign-origin", StatusCode::FORBIDDEN),
    };
    let problem = json!({
        "type": format!("urn:mailroom:problem:{name}"),
        "title": foreign.to_string(),
        "status": status.as_u16(),
        "detail": "Ask by IP address, by localhost, or by a name in [http] allowed_hosts",
    });
    let mut response = HttpResponse::build(status);
    response
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("application/problem+json")
        .body(problem.to_string())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/health").get(health).default_service(web::to(only_get)))
        .service(web::resource("/health/live").get(live).default_service(web::to(only_get)))
        .service(web::resource("/health/ready").get(ready).default_service(web::to(only_get)))
        .service(web::resource("/metrics").get(metrics_text).default_service(web::to(only_get)))
        .default_service(web::to(not_found));
}

async fn health(state: web::Data<State>) -> HttpResponse {
    let (phase, parts) = (state.probe.phase(), state.probe.parts());
    let status = if not_ready(phase, &parts).is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &summary(phase, &parts, state.started.elapsed().as_secs()))
}

async fn live() -> HttpResponse {
    answer(StatusCode::OK, &json!({"status": "alive"}))
}

async fn ready(state: web::Data<State>) -> HttpResponse {
    let reasons = not_ready(state.probe.phase(), &state.probe.parts());
    if reasons.is_empty() {
        return answer(StatusCode::OK, &json!({"status": "ready"}));
    }
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "reasons": reasons}))
}

async fn metrics_text(state: web::Data<State>) -> HttpResponse {
    state.probe.refresh_metrics();
    let mut text = state.recorder.render();
    text.push_str(&process::render(&process::usage(), state.started_seconds));
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(text)
}

async fn only_get() -> HttpResponse {
    let mut response = HttpResponse::MethodNotAllowed();
    response.insert_header(("allow", "GET, HEAD")).json(json!({"error": "only GET is served here"}))
}

async fn not_found() -> HttpResponse {
    answer(
        StatusCode::NOT_FOUND,
        &json!({"error": "not found", "see": ["/health", "/health/live", "/health/ready", "/metrics"]}),
    )
}

fn answer(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(body)
}

#[cfg(test)]
mod tests {
    use super::super::health::{Part, Phase};
    use super::*;
    use parking_lot::Mutex;

    struct Fake(Mutex<(Phase, Option<String>)>);

    impl Probe for Fake {
        fn phase(&self) -> Phase {
            self.0.lock().0
        }
        fn parts(&self) -> Vec<Part> {
            vec![Part::new("store", true, self.0.lock().1.clone())]
        }
        fn refresh_metrics(&self) {}
    }

    async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
        let mut response = awc::Client::new().get(format!("http://{addr}{path}")).send().await.unwrap();
        let body = response.body().await.unwrap();
        (response.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
    }

    #[actix_web::test]
    async fn readiness_follows_the_life_of_the_process() {
        let fake = Arc::new(Fake(Mutex::new((Phase::Starting, None))));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ops = start(listener, fake.clone(), Recorder::detached().unwrap(), Vec::new()).unwrap();

        let (status, body) = get(ops.addr, "/health/ready").await;
        assert_eq!((status, body.contains("starting")), (503, true), "{body}");
        assert_eq!(get(ops.addr, "/health/live").await.0, 200);

        fake.0.lock().0 = Phase::Running;
        assert_eq!(get(ops.addr, "/health/ready").await.0, 200);
        assert_eq!(get(ops.addr, "/health").await.0, 200);

        fake.0.lock().1 = Some("the writer failed".into());
        let (status, body) = get(ops.addr, "/health/ready").await;
        assert_eq!((status, body.contains("store: the writer failed")), (503, true), "{body}");
        ops.stop().await;
    }

    #[actix_web::test]
    async fn metrics_have_the_figures_of_the_process() {
        let fake = Arc::new(Fake(Mutex::new((Phase::Running, None))));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ops = start(listener, fake, Recorder::detached().unwrap(), Vec::new()).unwrap();
        let (status, body) = get(ops.addr, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
        assert_eq!(get(ops.addr, "/other").await.0, 404);
        ops.stop().await;
    }

    #[actix_web::test]
    async fn other_methods_are_405() {
        let fake = Arc::new(Fake(Mutex::new((Phase::Running, None))));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ops = start(listener, fake, Recorder::detached().unwrap(), Vec::new()).unwrap();
        let response = awc::Client::new().post(format!("http://{}/health", ops.addr)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 405);
        ops.stop().await;
    }

    #[actix_web::test]
    async fn pages_of_other_sites_are_turned_away() {
        let fake = Arc::new(Fake(Mutex::new((Phase::Running, None))));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ops = start(listener, fake, Recorder::detached().unwrap(), vec!["mailroom".into()]).unwrap();
        let ask = async |header: (&'static str, &'static str)| {
            let request = awc::Client::new().get(format!("http://{}/metrics", ops.addr)).insert_header(header);
            let mut response = request.send().await.unwrap();
            (response.status().as_u16(), String::from_utf8_lossy(&response.body().await.unwrap()).into_owned())
        };
        for name in ["mailroom:8025", "localhost:8025", "10.0.0.1"] {
            assert_eq!(ask(("host", name)).await.0, 200, "{name}");
        }
        let (status, body) = ask(("host", "evil.test:8025")).await;
        assert_eq!((status, body.contains("urn:mailroom:problem:foreign-host")), (421, true), "{body}");
        let (status, body) = ask(("origin", "http://evil.test")).await;
        assert_eq!((status, body.contains("urn:mailroom:problem:foreign-origin")), (403, true), "{body}");
        ops.stop().await;
    }
}
