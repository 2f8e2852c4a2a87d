//! `GET /v1/server`: what the dashboard and clients need to know about this server before anything else.

use actix_web::{HttpRequest, web};

use super::answer::{Answer, json};
use super::params::{self, NoParams};
use super::state::State;
use super::views::{AccessKind, Server};

/// This server.
///
/// Version, who may read, where senders reach SMTP, and how far the search index is behind. Needs no token.
#[utoipa::path(get, path = "/v1/server", tag = "server", security(()), responses((status = 200, body = Server)))]
pub async fn get(request: HttpRequest, state: web::Data<State>) -> Answer {
    params::query::<NoParams>(&request)?;
    let status = state.store.status();
    json(&Server {
        name: "mailroom",
        version: env!("CARGO_PKG_VERSION"),
        access: if state.is_open() { AccessKind::Open } else { AccessKind::Token },
        smtp: state.smtp.to_vec(),
        default_domain: state.default_domain(),
        index_lag: status.index_lag,
        receiving: !status.no_space,
    })
}
