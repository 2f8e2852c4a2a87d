//! What answers hold in memory while their clients read them: bounded by `[http] max_bytes_in_flight` in all.
//!
//! A handler that is about to read a message asks for [`room`] first and gives it to its answer ([`keep`]). The middleware
//! [`Bounded`] sees every answer: one of more than a [`PIECE`] without room of its own gets it there or becomes a 503, and all
//! such are sent in pieces, so that what waits for a slow client is counted until it was taken or the client is gone.
//! Who takes nothing is cut off by `sockets::client`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::{Error, HttpResponse, ResponseError};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::error::Problem;
use super::state::State;
use crate::accounts::forwarded;
use crate::inbound::gate::{Gate, Room, Share};
use crate::settings::Network;
use crate::sockets::metrics as connections;

/// Smaller answers are not counted: there is at most one for each connection. Larger ones are sent in pieces of this.
const PIECE: usize = 16 * 1024;
/// How long a request waits for room.
const WAIT: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Room for so many bytes, for as long as it is kept.
///
/// # Errors
/// `unavailable` when there is none in time.
pub async fn room(state: &State, bytes: u64) -> Result<Room, Problem> {
    let mut room = state.gate.room();
    let began = Instant::now();
    // One that is larger than all there is has it to itself.
    let bytes = bytes.min(state.gate.max_bytes());
    while !room.grow(bytes) {
        if began.elapsed() >= WAIT {
            return Err(Problem::busy());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(room)
}

/// Keeps `room` until the body is sent or dropped.
#[must_use]
pub fn keep(mut response: HttpResponse, room: Room) -> HttpResponse {
    response.extensions_mut().insert(Held(Some(room)));
    response
}

/// Marks an answer whose body is part of this program and costs nothing to hold.
#[must_use]
pub fn free(mut response: HttpResponse) -> HttpResponse {
    response.extensions_mut().insert(Held(None));
    response
}

struct Held(Option<Room>);

/// A body that holds its room until the last piece is taken.
struct Pieces {
    rest: Bytes,
    _room: Option<Room>,
    _share: Option<Share>,
}

/// A body that counts for its client until it is sent.
struct Counted {
    body: BoxBody,
    _share: Option<Share>,
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let rest = &mut self.get_mut().rest;
        let piece = rest.split_to(rest.len().min(PIECE));
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

/// Wraps the whole app.
#[derive(Clone)]
pub struct Bounded {
    gate: Arc<Gate>,
    proxies: Arc<[Network]>,
}

impl Bounded {
    #[must_use]
    pub fn new(gate: &Arc<Gate>, proxies: &[Network]) -> Self {
        Self { gate: Arc::clone(gate), proxies: proxies.into() }
    }

    /// What comes through a proxy counts for its client while it is answered, as a connection of its own would.
    fn share(&self, request: &ServiceRequest) -> Result<Option<Share>, Problem> {
        let Some(forwarded) = forwarded::read(request.peer_addr(), request.headers(), &self.proxies) else {
            return Ok(None);
        };
        self.gate.share(forwarded.client).map(Some).map_err(|_| {
            connections::refused("client");
            Problem::too_many_requests()
        })
    }

    fn bound(&self, response: &mut HttpResponse, body: BoxBody, share: Option<Share>) -> BoxBody {
        let held = response.extensions_mut().remove::<Held>();
        let rest = match body.try_into_bytes() {
            Ok(bytes) if bytes.len() > PIECE => bytes,
            Ok(bytes) => return BoxBody::new(bytes),
            // A stream makes what it sends as it goes.
            Err(body) if share.is_some() => return BoxBody::new(Counted { body, _share: share }),
            Err(body) => return body,
        };
        let room = match held {
            Some(Held(room)) => room,
            None => {
                let mut room = self.gate.room();
                if !room.grow((rest.len() as u64).min(self.gate.max_bytes())) {
                    let (head, body) = Problem::busy().error_response().into_parts();
                    *response = head.map_body(|_, ()| BoxBody::new(()));
                    return body;
                }
                Some(room)
            }
        };
        BoxBody::new(Pieces { rest, _room: room, _share: share })
    }
}

impl<S> Transform<S, ServiceRequest> for Bounded
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = Sent<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Sent { service, bounded: self.clone() }))
    }
}

/// The middleware of [`Bounded`].
pub struct Sent<S> {
    service: S,
    bounded: Bounded,
}

impl<S> Service<ServiceRequest> for Sent<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let bounded = self.bounded.clone();
        let share = match bounded.share(&request) {
            Ok(share) => share,
            Err(problem) => return ready(Ok(request.into_response(problem.error_response()))).boxed_local(),
        };
        let answer = self.service.call(request);
        async move {
            let (request, response) = answer.await?.into_parts();
            let (head, body) = response.into_parts();
            let mut response = head.map_body(|_, ()| BoxBody::new(()));
            let body = bounded.bound(&mut response, body, share);
            Ok(ServiceResponse::new(request, response.set_body(body)))
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::gate::Caps;

    const CAPS: Caps = Caps { sessions: 1, sessions_per_client: 1, bytes: 100_000, bytes_per_client: u64::MAX };

    fn send(bounded: &Bounded, response: HttpResponse) -> HttpResponse {
        let (head, body) = response.into_parts();
        let mut response = head.map_body(|_, ()| BoxBody::new(()));
        let body = bounded.bound(&mut response, body, None);
        response.set_body(body)
    }

    #[actix_web::test]
    async fn what_is_being_sent_is_counted_until_it_is_gone() {
        let gate = Gate::new(CAPS);
        let bounded = Bounded::new(&gate, &[]);
        let large = || HttpResponse::Ok().body(vec![b'x'; 60_000]);
        let first = send(&bounded, large());
        assert_eq!((first.status().as_u16(), first.body().size()), (200, BodySize::Sized(60_000)));
        assert_eq!(gate.bytes(), 60_000);
        let second = send(&bounded, large());
        assert_eq!(second.status().as_u16(), 503);
        assert_eq!(second.headers().get("retry-after").unwrap(), "2");
        let small = send(&bounded, HttpResponse::Ok().body("small"));
        assert_eq!(small.status().as_u16(), 200);

        let mut body = Box::pin(first.into_body());
        let mut sizes = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            sizes.push(piece.unwrap().len());
        }
        assert_eq!(sizes, [PIECE, PIECE, PIECE, 60_000 - 3 * PIECE]);
        assert_eq!(gate.bytes(), 60_000, "held while the last piece is on its way");
        drop(body);
        assert_eq!(gate.bytes(), 0);
        assert_eq!(send(&bounded, large()).status().as_u16(), 200);
        let alone = send(&bounded, HttpResponse::Ok().body(vec![b'x'; 200_000]));
        assert_eq!((alone.status().as_u16(), gate.bytes()), (200, 100_000), "it has all there is to itself");
    }

    #[actix_web::test]
    async fn room_that_an_answer_has_is_used_and_files_of_ours_need_none() {
        let gate = Gate::new(CAPS);
        let bounded = Bounded::new(&gate, &[]);
        let mut room = gate.room();
        assert!(room.grow(90_000));
        let held = send(&bounded, keep(HttpResponse::Ok().body(vec![b'x'; 60_000]), room));
        let file = send(&bounded, free(HttpResponse::Ok().body(vec![b'x'; 60_000])));
        assert_eq!((held.status().as_u16(), file.status().as_u16()), (200, 200));
        assert_eq!(gate.bytes(), 90_000);
        drop(held);
        assert_eq!(gate.bytes(), 0);
        drop(file);
    }
}
