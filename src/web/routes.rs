//! The route table: every path and method of this stage in one place. Who asks `/v1/ws` for a WebSocket is taken by
//! `sockets` before the app sees it.
//!
//! A path that is asked most comes first, since the router tries them in order; a fixed path stands before one that
//! would match it too.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route, guard, web};

use super::answer::Answer;
use super::error::Problem;
use super::metrics::Endpoint;
use super::{docs, domains, events, mailboxes, messages, parts, server, static_files, wait};

/// What a path takes that can only be read.
pub const ALLOW_READ: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Where `sockets` listens.
const SOCKET: &str = "/v1/ws";

/// Every path with the methods that it takes and their handlers.
fn table() -> Vec<(&'static str, Vec<(Method, Route)>)> {
    vec![
        (
            "/v1/mailboxes/{address}/messages",
            vec![on(Method::GET, messages::list), on(Method::DELETE, messages::delete_all)],
        ),
        ("/v1/mailboxes/{address}/messages/wait", vec![on(Method::GET, wait::one)]),
        (
            "/v1/mailboxes/{address}/messages/{id}",
            vec![
                on(Method::GET, messages::get),
                on(Method::PATCH, messages::change),
                on(Method::DELETE, messages::delete),
            ],
        ),
        ("/v1/mailboxes/{address}/messages/{id}/html", vec![on(Method::GET, parts::html)]),
        ("/v1/mailboxes/{address}/messages/{id}/raw", vec![on(Method::GET, parts::raw)]),
        ("/v1/mailboxes/{address}/messages/{id}/attachments/{n}", vec![on(Method::GET, parts::attachment)]),
        ("/v1/mailboxes/{address}/events", vec![on(Method::GET, events::one)]),
        ("/v1/messages", vec![on(Method::GET, messages::list_all), on(Method::DELETE, messages::delete_everything)]),
        ("/v1/messages/wait", vec![on(Method::GET, wait::all)]),
        ("/v1/events", vec![on(Method::GET, events::all)]),
        (SOCKET, vec![on(Method::GET, plain_socket)]),
        (
            "/v1/mailboxes/{address}",
            vec![
                on(Method::GET, mailboxes::get),
                on(Method::PATCH, mailboxes::change),
                on(Method::DELETE, mailboxes::delete),
            ],
        ),
        ("/v1/mailboxes", vec![on(Method::GET, mailboxes::list), on(Method::POST, mailboxes::create)]),
        ("/v1/domains", vec![on(Method::GET, domains::list)]),
        ("/v1/server", vec![on(Method::GET, server::get)]),
        ("/openapi.json", vec![on(Method::GET, docs::openapi_json)]),
        ("/docs", vec![on(Method::GET, docs::page)]),
    ]
}

/// One method of a path. HEAD is answered as GET; the body is left out on the wire.
fn on<F, Args>(method: Method, handler: F) -> (Method, Route)
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let route = match method {
        Method::GET => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
        _ => web::method(method.clone()),
    };
    (method, route.to(handler))
}

/// What counts requests, one for each path: made once, shared by all workers.
#[derive(Clone)]
pub struct Endpoints {
    paths: Arc<[Arc<Endpoint>]>,
    /// For the dashboard's files and for what no route takes.
    pub none: Arc<Endpoint>,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { paths: table().iter().map(|(pattern, _)| Endpoint::new(pattern)).collect(), none: Endpoint::new("none") }
    }
}

/// Adds all routes to an app.
pub fn add(config: &mut web::ServiceConfig, endpoints: &Endpoints) {
    for ((pattern, routes), endpoint) in table().into_iter().zip(endpoints.paths.iter()) {
        let allow = allow(routes.iter().map(|(method, _)| method));
        let resource = web::resource(pattern).app_data(endpoint.clone());
        let resource = routes.into_iter().fold(resource, |resource, (_, route)| resource.route(route));
        config.service(resource.default_service(web::to(move |request| other_method(request, allow.clone()))));
    }
    config.default_service(web::to(static_files::get));
}

/// A request to the WebSocket endpoint that asks for no WebSocket.
async fn plain_socket() -> Answer {
    Err(Problem::upgrade_required())
}

/// OPTIONS says what the path takes; nothing of it is offered to other origins (no CORS).
async fn other_method(request: HttpRequest, allow: HeaderValue) -> Answer {
    if *request.method() == Method::OPTIONS {
        return Ok(HttpResponse::NoContent().insert_header((ALLOW, allow)).finish());
    }
    Err(Problem::method_not_allowed(&allow))
}

fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> HeaderValue {
    let mut text = String::new();
    for method in methods {
        text.push_str(method.as_str());
        text.push_str(if *method == Method::GET { ", HEAD, " } else { ", " });
    }
    HeaderValue::try_from(text + "OPTIONS").unwrap_or(ALLOW_READ)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document = serde_json::to_value(super::super::openapi::document()).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in ["get", "put", "post", "delete", "patch", "options", "head"] {
                if item.get(method).is_some() {
                    described.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        let mut routes = BTreeSet::new();
        for (pattern, methods) in table() {
            if pattern.starts_with("/v1/") {
                routes.extend(methods.iter().map(|(method, _)| format!("{method} {pattern}")));
            }
        }
        assert_eq!(described, routes);
    }

    #[test]
    fn allow_names_head_beside_get() {
        assert_eq!(allow([Method::GET, Method::DELETE].iter()), "GET, HEAD, DELETE, OPTIONS");
        assert_eq!(allow([Method::GET].iter()), ALLOW_READ);
    }
}
