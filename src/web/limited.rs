//! How often one client network may ask (`[limits] requests`): over it the answer is 429 with when to try again.
//!
//! Wraps the whole app, inside of what counts requests, so that refusals are counted too.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::{Error, ResponseError};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::error::{Kind, Problem};
use crate::accounts::forwarded;
use crate::cluster::limits::{self, Limits, Refused};
use crate::settings::Network;

/// See the module.
#[derive(Clone)]
pub struct Limited {
    limits: Limits,
    proxies: Arc<[Network]>,
}

impl Limited {
    #[must_use]
    pub fn new(limits: &Limits, proxies: &[Network]) -> Self {
        Self { limits: limits.clone(), proxies: proxies.into() }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Limited
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Transform = LimitedService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(LimitedService { service: Rc::new(service), limited: self.clone() }))
    }
}

pub struct LimitedService<S> {
    service: Rc<S>,
    limited: Limited,
}

impl<S, B> Service<ServiceRequest> for LimitedService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let client = forwarded::client(request.peer_addr(), request.headers(), &self.limited.proxies);
        let Some(client) = client else {
            return self.service.call(request).map(|answer| Ok(answer?.map_into_left_body())).boxed_local();
        };
        match self.limited.limits.admit_now(limits::Kind::Requests, client) {
            Some(Ok(())) => self.service.call(request).map(|answer| Ok(answer?.map_into_left_body())).boxed_local(),
            Some(Err(over)) => ready(Ok(refuse(request, over))).boxed_local(),
            None => {
                let (service, limits) = (Rc::clone(&self.service), self.limited.limits.clone());
                async move {
                    match limits.admit(limits::Kind::Requests, client).await {
                        Ok(()) => Ok(service.call(request).await?.map_into_left_body()),
                        Err(over) => Ok(refuse(request, over)),
                    }
                }
                .boxed_local()
            }
        }
    }
}

fn refuse<B>(request: ServiceRequest, over: Refused) -> ServiceResponse<EitherBody<B, BoxBody>> {
    let response = Problem::over_limit(Kind::TooManyRequests, over).error_response();
    request.into_response(response).map_into_right_body()
}
