//! The middleware that turns foreign requests away before anything else sees them (`accounts::origin`,
//! `accounts::forwarded`), and puts the headers on every answer that no page of ours should be without.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{
    HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, Method};
use actix_web::{Error, HttpResponse, ResponseError};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::config::Config;
use super::error::{Kind, Problem};
use crate::accounts::forwarded::{self, Turned};
use crate::accounts::{origin, unnamed};

/// Wraps the whole app; knows the host names of `[http] allowed_hosts`, its proxies, and whether the server is leaving.
#[derive(Clone)]
pub struct OwnHost {
    config: Arc<Config>,
    leaving: Arc<AtomicBool>,
}

impl OwnHost {
    #[must_use]
    pub fn new(config: &Arc<Config>, leaving: &Arc<AtomicBool>) -> Self {
        Self { config: Arc::clone(config), leaving: Arc::clone(leaving) }
    }
}

impl<S, B> Transform<S, ServiceRequest> for OwnHost
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = Guarded<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Guarded { service: Rc::new(service), own: self.clone() }))
    }
}

/// The middleware of [`OwnHost`].
pub struct Guarded<S> {
    service: Rc<S>,
    own: OwnHost,
}

impl<S, B> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let leaving = Arc::clone(&self.own.leaving);
        if let Err(problem) = check(&request, &self.own.config) {
            let mut response = problem.error_response();
            finish(&mut response, &leaving);
            let response = request.into_response(response).map_into_right_body();
            return ready(Ok(response)).boxed_local();
        }
        let answer = self.service.call(request);
        answer
            .map(move |result| {
                let mut response = result?.map_into_left_body();
                finish(response.response_mut(), &leaving);
                Ok(response)
            })
            .boxed_local()
    }
}

/// The names in the request must be ours; several Hosts or Origins are nobody's.
fn check(request: &ServiceRequest, config: &Config) -> Result<(), Problem> {
    let headers = request.headers();
    let several = || Problem::new(Kind::ForeignHost, "the request names its host more than once, or not in ASCII");
    let host = single(headers, &HOST).map_err(|()| several())?;
    let origin = single(headers, &ORIGIN).map_err(|()| Kind::ForeignOrigin)?;
    let origin = origin.filter(|origin| *origin != "null" || !is_picture(request.method(), request.path()));
    // A request line with a full URL names the host a second time (RFC 9112 §3.2.2): both must be ours.
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let both = [authority, host];
    let names = both.get(usize::from(authority.is_none())..).unwrap_or_default();
    unnamed::look(request.peer_addr(), headers, &config.trusted_proxies);
    let proxy = forwarded::read(request.peer_addr(), headers, &config.trusted_proxies);
    let own = |name: Option<&str>, origin: Option<&str>| origin::check(name, origin, &config.allowed_hosts).is_ok();
    forwarded::check(names, origin, proxy.as_ref(), own).map_err(|turned| match turned {
        Turned::Host(name) => Problem::new(Kind::ForeignHost, origin::advice(name)),
        Turned::Origin => Kind::ForeignOrigin.into(),
    })?;
    let destination = headers.get("sec-fetch-dest").and_then(|value| value.to_str().ok()).unwrap_or("empty");
    // As the router sees it, with what was escaped for nothing undone.
    if may_load(request.match_info().as_str(), destination) { Ok(()) } else { Err(Kind::NotForPages.into()) }
}

/// Whether a browser may load the path for what it wants to do with it (Fetch Metadata). The API is for scripts, frames and
/// people; an image in a mail must not make its reader's browser call it. Attachments are pictures in pages, and the files of
/// the dashboard are what pages are made of.
fn may_load(path: &str, destination: &str) -> bool {
    let is_page = || matches!(destination, "empty" | "document" | "iframe" | "websocket");
    !path.starts_with("/v1/") || is_page() || is_picture(&Method::GET, path)
}

/// Reading an attachment: what the page of a message asks for, to show a picture in it. That page is in a sandboxed
/// frame, which is nobody's origin. Nothing is given away: who may read is told by the token in the address, never by a
/// cookie, pages of other sites get the same bytes without an Origin, and none of them can look at the bytes (no CORS).
fn is_picture(method: &Method, path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').collect();
    let ["", "v1", "mailboxes", address, "messages", id, "attachments", n] = segments.as_slice() else { return false };
    let named = [address, id, n].iter().all(|segment| !segment.is_empty());
    named && n.bytes().all(|byte| byte.is_ascii_digit()) && matches!(*method, Method::GET | Method::HEAD)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name);
    let value = values.next();
    if values.next().is_some() {
        return Err(());
    }
    value.map(HeaderValue::to_str).transpose().map_err(|_| ())
}

/// What every answer has; while the server is leaving, the word that the connection ends with it.
fn finish<B>(response: &mut HttpResponse<B>, leaving: &AtomicBool) {
    protect(response.headers_mut());
    if leaving.load(Ordering::Relaxed) {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
}

/// No guessing of types, no address of ours (it may hold a token) in a Referer, no use as another site's resource.
fn protect(headers: &mut HeaderMap) {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !headers.contains_key(RESOURCE_POLICY) {
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_in_pages_are_attachments_or_files_of_the_dashboard() {
        let message = "/v1/mailboxes/a@b.test/messages/x";
        for path in [
            "/v1/messages/wait",
            "/v1/messages",
            "/v1/events",
            message,
            &format!("{message}/raw"),
            &format!("{message}/html"),
        ] {
            for destination in
                ["image", "style", "script", "font", "video", "audio", "object", "embed", "track", "manifest"]
            {
                assert!(!may_load(path, destination), "{path} {destination}");
            }
            for destination in ["empty", "document", "iframe"] {
                assert!(may_load(path, destination), "{path} {destination}");
            }
        }
        for path in [&format!("{message}/attachments/0"), "/icon.svg", "/style.css", "/"] {
            assert!(may_load(path, "image") && may_load(path, "audio"), "{path}");
        }
        assert!(!may_load("/v1/mailboxes/attachments/messages", "image"));
    }

    #[test]
    fn only_reading_an_attachment_is_for_frames() {
        let picture = "/v1/mailboxes/a%2Fb@x.test/messages/019a/attachments/12";
        assert!(is_picture(&Method::GET, picture) && is_picture(&Method::HEAD, picture));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            assert!(!is_picture(&method, picture), "{method}");
        }
        for path in [
            "",
            "/",
            "/v1/mailboxes",
            "/v1/mailboxes/a@x.test/messages",
            "/v1/mailboxes/a@x.test/messages/019a",
            "/v1/mailboxes/a@x.test/messages/019a/raw",
            "/v1/mailboxes/a@x.test/messages/019a/html",
            "/v1/mailboxes/a@x.test/messages/019a/attachments",
            "/v1/mailboxes/a@x.test/messages/019a/attachments/",
            "/v1/mailboxes/a@x.test/messages/019a/attachments/x",
            "/v1/mailboxes/a@x.test/messages/019a/attachments/1/",
            "/v1/mailboxes/a@x.test/messages/019a/attachments/1/2",
            "/v1/mailboxes//messages/019a/attachments/1",
            "/v1/mailboxes/a/../messages/019a/attachments/1",
            "//v1/mailboxes/a@x.test/messages/019a/attachments/1",
            "/v2/mailboxes/a@x.test/messages/019a/attachments/1",
        ] {
            assert!(!is_picture(&Method::GET, path), "{path}");
        }
    }
}
