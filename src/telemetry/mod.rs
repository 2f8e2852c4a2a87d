//! What the process says about itself: the log and the metrics recorder.
//!
//! `cli::serve` installs both before anything else starts. Stages write with `tracing` and `metrics`; this part decides
//! form and buckets, and knows no stage's names but through its `metrics::describe`. Map: [`log`] the subscriber,
//! [`recorder`] the Prometheus recorder, [`config`] the `[log]` section.

pub mod config;
pub mod log;
pub mod recorder;

pub use recorder::Recorder;

/// Names, units and help of what every stage counts. A stage's names stand in its own `metrics.rs`.
fn describe_stages() {
    crate::accounts::metrics::describe();
    crate::inbound::metrics::describe();
    crate::store::metrics::describe();
    crate::cluster::broker::metrics::describe();
    crate::cluster::metrics::describe();
    crate::sockets::metrics::describe();
    crate::web::metrics::describe();
}
