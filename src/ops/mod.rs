//! The operations listener: health for people and load balancers, metrics for Prometheus.
//!
//! `app` starts it first and stops it last, so that readiness can say "starting" and "draining". It knows no stage: it
//! asks the [`Probe`] that `app` gives it, at the moment of each request. Map: [`health`] what is asked and answered,
//! [`process`] the process's own figures, [`server`] the listener.

pub mod config;
pub mod health;
pub mod process;
pub mod server;

pub use health::{Part, Phase, Probe};
pub use server::{Ops, start};
