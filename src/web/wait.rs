//! `…/messages/wait`: the next matching message as one call, with the codes and links found in it.
//!
//! The feed begins before anything is looked at, so that a message that arrives meanwhile is never missed; with
//! `since` it first brings what came after that.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};

use super::answer::{Answer, json};
use super::auth;
use super::detail::{self, MessageDetail};
use super::error::{Kind, Problem};
use super::follow::{Following, Next};
use super::metrics::Follower;
use super::params::{self, WaitParams};
use super::state::State;
use crate::mail::event::Event;
use crate::store::{Scope, StoredMessage};

/// Wait for the next matching message of a mailbox.
///
/// Without `since` only mail that comes later counts. 204 when none came in time; 410 when `since` cannot be
/// continued. `codes` are the one-time codes found in subject and text, or else in the html, the likeliest first; `links`
/// are in the order of the page.
#[utoipa::path(get, operation_id = "wait", path = "/v1/mailboxes/{address}/messages/wait", tag = "messages",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), WaitParams),
    responses((status = 200, body = MessageDetail), (status = 204, description = "None came in time")))]
pub async fn one(request: HttpRequest, state: web::Data<State>) -> Answer {
    let key = auth::mailbox(&request, &state, None).await?;
    wait(&request, &state, Scope::Mailbox(key)).await
}

/// Wait for the next matching message of any mailbox.
///
/// Of those that the caller may read; otherwise as for one mailbox.
#[utoipa::path(get, operation_id = "wait_all", path = "/v1/messages/wait", tag = "messages", params(WaitParams),
    responses((status = 200, body = MessageDetail), (status = 204, description = "None came in time")))]
pub async fn all(request: HttpRequest, state: web::Data<State>) -> Answer {
    let scope = auth::everything(&request, &state, None).await?;
    wait(&request, &state, scope).await
}

async fn wait(request: &HttpRequest, state: &State, scope: Scope) -> Answer {
    let asked: WaitParams = params::query(request)?;
    let timeout = params::timeout(asked.timeout.as_deref())?;
    let query = params::search(asked.q.as_deref())?;
    let since = params::position(asked.since.as_deref(), &scope)?;
    let _follower = Follower::new("wait");
    let mut following = Following::begin(state, scope, since, query).await?;
    match within(timeout, next_message(state, &mut following)).await {
        Some(found) => json(&detail::read(state, found?).await?),
        None => Ok(HttpResponse::NoContent().finish()),
    }
}

/// The result of `work` if it is there in time. No time at all still looks at what is there at once.
async fn within<T>(timeout: Duration, work: impl Future<Output = T>) -> Option<T> {
    const AT_LEAST: Duration = Duration::from_millis(50);
    tokio::time::timeout(timeout.max(AT_LEAST), work).await.ok()
}

/// The next message that is still there once it is looked at.
async fn next_message(state: &State, following: &mut Following) -> Result<StoredMessage, Problem> {
    loop {
        match following.next().await? {
            Next::Stopping => return Err(Kind::Unavailable.into()),
            Next::Reset(_) => return Err(Kind::CursorGone.into()),
            Next::Event(event) => {
                let Event::Received { message } = &event.event else { continue };
                if let Some(stored) = state.store.message(&message.mailbox, message.id).await? {
                    return Ok(stored);
                }
            }
        }
    }
}
