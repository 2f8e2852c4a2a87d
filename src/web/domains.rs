//! `GET /v1/domains`: the domains that accept mail.

use actix_web::{HttpRequest, web};

use super::answer::{Answer, json};
use super::params::{self, NoParams};
use super::state::State;
use super::views::{Domain, DomainList};

/// Domains that accept mail.
///
/// `*` stands for any domain. Needs no token.
#[utoipa::path(get, path = "/v1/domains", tag = "domains", security(()), responses((status = 200, body = DomainList)))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Answer {
    params::query::<NoParams>(&request)?;
    let domains = state.inbound.domains();
    let items = domains.into_iter().map(|d| Domain { domain: d.domain, is_default: d.is_default }).collect();
    json(&DomainList { items, next_cursor: None })
}
