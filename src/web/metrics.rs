//! Metric names of this stage, and the middleware that counts every request under the pattern of its route.
//!
//! Handles are looked up in the recorder once for each endpoint, method and status, then kept: a request costs two
//! clock readings, two look-ups in a short list and two atomic additions.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::{Method, StatusCode};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use metrics::{Counter, Gauge, Histogram};

/// Requests answered, by method, route pattern and status.
pub const REQUESTS: &str = "http_requests_total";
/// Time from the request's head to the answer's head, by method and route pattern.
pub const DURATION: &str = "http_request_duration_seconds";
/// Callers that follow events over HTTP, by kind (`events`, `wait`).
pub const FOLLOWERS: &str = "http_followers_active";

/// Names and units for the recorder; call once after it is installed.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, metrics::Unit::Count, "HTTP requests answered, by method, route and status");
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "Time to the head of the answer, by method and route"
    );
    metrics::describe_gauge!(FOLLOWERS, metrics::Unit::Count, "Event streams and waiting calls open now, by kind");
}

/// Counts a follower for as long as it lives.
pub struct Follower(Gauge);

impl Follower {
    /// `kind` is `events` or `wait`.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        let gauge = metrics::gauge!(FOLLOWERS, "kind" => kind);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const STATUSES: [u16; 22] =
    [200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 416, 421, 422, 429, 500, 503, 507];

/// Methods that have handles of their own; any other is counted as `other`, since strangers choose its name.
const METHOD_SLOTS: usize = METHODS.len() + 1;
const STATUS_SLOTS: usize = STATUSES.len() + 1;

/// The handles of one route, made when first used: shared by all workers.
pub struct Endpoint {
    pattern: &'static str,
    counters: [[OnceLock<Counter>; STATUS_SLOTS]; METHOD_SLOTS],
    durations: [OnceLock<Histogram>; METHOD_SLOTS],
}

impl Endpoint {
    #[must_use]
    pub fn new(pattern: &'static str) -> Arc<Self> {
        Arc::new(Self {
            pattern,
            counters: [const { [const { OnceLock::new() }; STATUS_SLOTS] }; METHOD_SLOTS],
            durations: [const { OnceLock::new() }; METHOD_SLOTS],
        })
    }

    fn record(&self, method: &Method, status: StatusCode, seconds: f64) {
        let row = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len());
        let column = STATUSES.iter().position(|code| *code == status.as_u16()).unwrap_or(STATUSES.len());
        let name = METHODS.get(row).copied().unwrap_or("other");
        if let Some(slot) = self.counters.get(row).and_then(|row| row.get(column)) {
            let make = || {
                let status = if column < STATUSES.len() { status.as_u16().to_string() } else { "other".to_owned() };
                metrics::counter!(REQUESTS, "method" => name, "endpoint" => self.pattern, "status" => status)
            };
            slot.get_or_init(make).increment(1);
        }
        if let Some(slot) = self.durations.get(row) {
            let make = || metrics::histogram!(DURATION, "method" => name, "endpoint" => self.pattern);
            slot.get_or_init(make).record(seconds);
        }
    }
}

/// Wraps the whole app. A route names itself by an `Arc<Endpoint>` in its data; without one it is `none`.
#[derive(Clone)]
pub struct Measure {
    none: Arc<Endpoint>,
}

impl Measure {
    #[must_use]
    pub fn new(none: Arc<Endpoint>) -> Self {
        Self { none }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Measure
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = Measured<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Measured { service: Rc::new(service), none: self.none.clone() }))
    }
}

/// The middleware of [`Measure`].
pub struct Measured<S> {
    service: Rc<S>,
    none: Arc<Endpoint>,
}

impl<S, B> Service<ServiceRequest> for Measured<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let begun = Instant::now();
        let none = self.none.clone();
        let answer = self.service.call(request);
        answer
            .map(move |result| {
                if let Ok(response) = &result {
                    let request = response.request();
                    let endpoint = request.app_data::<Arc<Endpoint>>().unwrap_or(&none);
                    endpoint.record(request.method(), response.status(), begun.elapsed().as_secs_f64());
                }
                result
            })
            .boxed_local()
    }
}
