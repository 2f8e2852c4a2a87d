//! HTTP: the REST API under `/v1`, server-sent events, the dashboard's files, and the docs page.
//!
//! `app` makes a [`State`] and mounts [`service`] in each worker. A request passes [`metrics`] (counted under its
//! route's pattern) and [`host`] (foreign Hosts and Origins end there), [`limited`] (each client network has a rate) and
//! [`in_flight`] (bounds what answers hold), then the table in [`routes`] names its handler:
//! one file a noun ([`mailboxes`], [`messages`], [`parts`], [`wait`], [`events`], [`domains`], [`server`]). Handlers take
//! values from [`path`] and [`params`], access from [`auth`], and answer with [`views`] or a problem of [`error`];
//! [`reading`] parses foreign mail off the workers. [`openapi`] and [`docs`] describe it all.
//!
//! Invariant: whatever a caller sends, the answer is JSON, a file, or a problem document; a panic costs one request.

pub mod answer;
pub mod auth;
pub mod byte_range;
pub mod config;
pub mod detail;
pub mod disposition;
pub mod docs;
pub mod domains;
pub mod error;
pub mod events;
pub mod follow;
pub mod generate;
pub mod host;
pub mod in_flight;
pub mod limited;
pub mod mailboxes;
pub mod messages;
pub mod metrics;
pub mod openapi;
pub mod params;
pub mod parts;
pub mod path;
pub mod reading;
pub mod routes;
pub mod server;
pub mod state;
pub mod static_files;
pub mod versioned;
pub mod views;
pub mod wait;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, Error, web};

pub use self::config::Config;
pub use self::routes::Endpoints;
pub use self::state::State;

/// The app of one worker. `endpoints` is made once and shared.
///
/// Mount it as `HttpService::build().upgrade(…).finish(map_config(service(&state, &endpoints), |_|
/// AppConfig::default()))`, or give it to `HttpServer::new`.
#[must_use]
pub fn service(
    state: &State,
    endpoints: &Endpoints,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(web::Data::new(state.clone()))
        .configure(|config| routes::add(config, endpoints))
        .wrap(in_flight::Bounded::new(&state.gate, &state.config.trusted_proxies))
        .wrap(limited::Limited::new(&state.limits, &state.config.trusted_proxies))
        .wrap(host::OwnHost::new(state))
        .wrap(metrics::Measure::new(endpoints.none.clone()))
}
