//! Metric names of this stage and their handles, looked up once.

use metrics::{Counter, Gauge};

/// Clients connected now.
pub const ACTIVE: &str = "websocket_connections_active";
/// Subscriptions open now.
pub const SUBSCRIPTIONS: &str = "websocket_subscriptions_active";
/// Subscriptions that are served from the store now, because their client is slow or asked for the past.
pub const BEHIND: &str = "websocket_subscriptions_behind";
/// Event, answer and error frames given to clients.
pub const FRAMES: &str = "websocket_frames_sent_total";
/// Bytes written to clients.
pub const BYTES: &str = "websocket_bytes_sent_total";
/// Pages of missed events read for clients.
pub const PAGES: &str = "websocket_pages_total";
/// Requests that were answered with an error.
pub const ERRORS: &str = "websocket_errors_total";
/// Connections that ended, by reason.
pub const CLOSED: &str = "websocket_closed_total";
/// Connections to the HTTP port that were refused, by whose limit (`all`, `client`).
pub const REFUSED: &str = "http_connections_refused_total";
/// Connections to the HTTP port that were cut off, by reason (`stalled`, `idle`).
pub const CUT: &str = "http_connections_cut_total";
/// HTTP requests answered; this stage counts those that ask for an upgrade, the others are counted by `web`.
const REQUESTS: &str = "http_requests_total";

/// Names for the recorder; call once after it is installed.
pub fn describe() {
    metrics::describe_gauge!(ACTIVE, "WebSocket clients connected now");
    metrics::describe_gauge!(SUBSCRIPTIONS, "WebSocket subscriptions open now");
    metrics::describe_gauge!(BEHIND, "WebSocket subscriptions served from the store now");
    metrics::describe_counter!(FRAMES, "Frames given to WebSocket clients");
    metrics::describe_counter!(BYTES, metrics::Unit::Bytes, "Bytes written to WebSocket clients");
    metrics::describe_counter!(PAGES, "Pages of missed events read for WebSocket clients");
    metrics::describe_counter!(ERRORS, "WebSocket requests answered with an error");
    metrics::describe_counter!(CLOSED, "WebSocket connections that ended, by reason");
    metrics::describe_counter!(REFUSED, "Connections to the HTTP port refused, by whose limit was reached");
    metrics::describe_counter!(CUT, "Connections to the HTTP port cut off because the client did not go on, by reason");
}

/// Handles of what is counted often.
pub struct Metrics {
    pub active: Gauge,
    pub subscriptions: Gauge,
    pub behind: Gauge,
    pub frames: Counter,
    pub bytes: Counter,
    pub pages: Counter,
    pub errors: Counter,
}

impl Metrics {
    /// To be made after the recorder is installed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            active: metrics::gauge!(ACTIVE),
            subscriptions: metrics::gauge!(SUBSCRIPTIONS),
            behind: metrics::gauge!(BEHIND),
            frames: metrics::counter!(FRAMES),
            bytes: metrics::counter!(BYTES),
            pages: metrics::counter!(PAGES),
            errors: metrics::counter!(ERRORS),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a connection that ended; `reason` is one of a few words.
pub fn closed(reason: &'static str) {
    metrics::counter!(CLOSED, "reason" => reason).increment(1);
}

/// Counts a connection that found no place.
pub fn refused(limit: &'static str) {
    metrics::counter!(REFUSED, "limit" => limit).increment(1);
}

/// Counts a connection whose client did not go on.
pub fn cut(reason: &'static str) {
    metrics::counter!(CUT, "reason" => reason).increment(1);
}

/// Counts a request for an upgrade beside those that the App answers. `endpoint` is the path or `none`.
pub fn answered(method: &'static str, endpoint: &'static str, status: u16) {
    metrics::counter!(REQUESTS, "method" => method, "endpoint" => endpoint, "status" => status.to_string())
        .increment(1);
}
