//! Metric names of who asks.

use metrics::describe_counter;

/// Requests with `X-Forwarded-For` from a peer that is not believed.
pub const UNNAMED: &str = "http_unnamed_proxies_total";

/// Describes them to the recorder.
pub fn describe() {
    describe_counter!(
        UNNAMED,
        "Requests whose X-Forwarded-For was not believed, from a peer that looks like a proxy: trusted_proxies does not name it"
    );
}
