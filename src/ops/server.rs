//! The operations listener itself: a small actix-web server with one worker.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use super::health::{Probe, not_ready, summary};
use super::process;
use crate::telemetry::Recorder;

/// What the handlers need.
struct State {
    probe: Arc<dyn Probe>,
    recorder: Recorder,
    started: Instant,
    started_seconds: f64,
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

/// Serves on a listener that is bound already. Needs a running actix system.
///
/// # Errors
/// The listener cannot be used (its address is gone, or the process is out of descriptors).
pub fn start(listener: TcpListener, probe: Arc<dyn Probe>, recorder: Recorder) -> std::io::Result<Ops> {
    let addr = listener.local_addr()?;
    let state = web::Data::new(State {
        probe,
        recorder,
        started: Instant::now(),
        started_seconds: crate::clock::now_micros() as f64 / 1_000_000.0,
    });
    let server = HttpServer::new(move || App::new().app_data(state.clone()).configure(routes))
        .workers(1)
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
        let ops = start(listener, fake.clone(), Recorder::detached().unwrap()).unwrap();

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
        let ops = start(listener, fake, Recorder::detached().unwrap()).unwrap();
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
        let ops = start(listener, fake, Recorder::detached().unwrap()).unwrap();
        let response = awc::Client::new().post(format!("http://{}/health", ops.addr)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 405);
        ops.stop().await;
    }
}
