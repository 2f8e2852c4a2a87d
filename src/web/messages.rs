//! Lists of messages, one message, and changes to them: of one mailbox and over all that the caller may read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::answer::{Answer, json, json_bytes};
use super::auth;
use super::detail::{self, MessageDetail};
use super::error::{Kind, Problem};
use super::params::{self, ListParams, NoParams};
use super::path;
use super::state::State;
use super::views::{Deleted, MessageChange, MessageList};
use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;
use crate::mail::summary::Listed;
use crate::store::{Deletion, ListRequest, MessagePage, MessagePatch, Scope, Store, StoreError, StoredMessage};

const MAX_TAGS: usize = 32;
const MAX_TAG_BYTES: usize = 64;

/// List or search the messages of a mailbox.
///
/// Summaries, newest first. `cursor` is the event position of the same snapshot: follow with `since` and miss nothing.
#[utoipa::path(get, path = "/v1/mailboxes/{address}/messages", tag = "messages",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ListParams),
    responses((status = 200, body = MessageList<'static>)))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Answer {
    let key = auth::mailbox(&request, &state, None).await?;
    page(&request, &state, Scope::Mailbox(key)).await
}

/// List or search the messages of all mailboxes.
///
/// Those that the caller may read. A message that went to several mailboxes has an item for each.
#[utoipa::path(get, path = "/v1/messages", tag = "messages", params(ListParams),
    responses((status = 200, body = MessageList<'static>)))]
pub async fn list_all(request: HttpRequest, state: web::Data<State>) -> Answer {
    let scope = auth::everything(&request, &state, None).await?;
    page(&request, &state, scope).await
}

async fn page(request: &HttpRequest, state: &State, scope: Scope) -> Answer {
    let asked: ListParams = params::query(request)?;
    let request = ListRequest {
        limit: params::limit(asked.limit)?,
        unread: asked.unread.unwrap_or(false),
        since: params::position(asked.since.as_deref(), &scope)?,
        query: params::search(asked.q.as_deref())?,
        page: asked.page,
        scope,
    };
    Ok(json_bytes(state.store.list_cached(&request, render).await?))
}

/// Reads the pages that are asked for first of the mailboxes that were active last, so that a node that starts, or a Redis
/// that comes back empty, does not send everybody to the database at once. Takes `limit` at the longest.
pub async fn warm(store: &Store, limit: Duration) {
    /// Mailboxes, and how many of them side by side.
    const MAILBOXES: usize = 1_000;
    const AT_ONCE: usize = 4;
    let began = Instant::now();
    let warmed = AtomicUsize::new(0);
    let work = async {
        let page = |key| async {
            let (limit, unread, since, query) = (params::DEFAULT_LIMIT, false, None, None);
            let request = ListRequest { scope: Scope::Mailbox(key), limit, page: None, unread, since, query };
            store.list_cached(&request, render).await?;
            warmed.fetch_add(1, Ordering::Relaxed);
            Ok::<(), StoreError>(())
        };
        let keys = store.recently_active(MAILBOXES).await?;
        futures_util::stream::iter(keys).map(page).buffer_unordered(AT_ONCE).try_collect::<()>().await
    };
    let outcome = tokio::time::timeout(limit, work).await;
    let (mailboxes, duration_ms) = (warmed.load(Ordering::Relaxed), began.elapsed().as_millis());
    match outcome {
        Ok(Err(error)) => tracing::warn!(%error, mailboxes, "the cache of lists could not be warmed up"),
        _ => tracing::info!(mailboxes, duration_ms, "the cache of lists is warm"),
    }
}

/// The page as it is sent, and as the store keeps it.
fn render(page: &MessagePage) -> Bytes {
    let list = MessageList {
        items: &page.items,
        next_cursor: page.next.as_deref(),
        cursor: page.position.to_string(),
        index_lag: page.index_lag,
    };
    // Strings and numbers: nothing in it can fail to serialise.
    serde_json::to_vec(&list).unwrap_or_default().into()
}

/// One message, parsed.
///
/// Reading it does not mark it read.
#[utoipa::path(get, path = "/v1/mailboxes/{address}/messages/{id}", tag = "messages",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ("id", description = "The message's id")),
    responses((status = 200, body = MessageDetail)))]
pub async fn get(request: HttpRequest, state: web::Data<State>) -> Answer {
    let stored = named(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    json(&detail::read(&state, stored).await?)
}

/// Mark a message, or set its tags.
#[utoipa::path(patch, path = "/v1/mailboxes/{address}/messages/{id}", tag = "messages", request_body = MessageChange,
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ("id", description = "The message's id")),
    responses((status = 200, body = Listed, description = "Its summary as it is now")))]
pub async fn change(request: HttpRequest, state: web::Data<State>, payload: web::Payload) -> Answer {
    let (key, id) = ids(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    let asked: MessageChange = params::body(&request, payload, &state.config).await?;
    let patch = MessagePatch { is_read: asked.is_read, tags: asked.tags.map(tags).transpose()? };
    json(&state.store.update_message(&key, id, patch).await.map_err(no_message)?)
}

/// Delete a message.
#[utoipa::path(delete, path = "/v1/mailboxes/{address}/messages/{id}", tag = "messages",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)"), ("id", description = "The message's id")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete(request: HttpRequest, state: web::Data<State>) -> Answer {
    let (key, id) = ids(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    match state.store.delete_messages(&key, Deletion::One(id)).await.map_err(no_message)? {
        0 => Err(Kind::NoSuchMessage.into()),
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

/// Delete all messages of a mailbox.
#[utoipa::path(delete, path = "/v1/mailboxes/{address}/messages", tag = "messages",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)")),
    responses((status = 200, body = Deleted)))]
pub async fn delete_all(request: HttpRequest, state: web::Data<State>) -> Answer {
    let key = auth::mailbox(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    json(&Deleted { deleted: empty(&state, &key).await? })
}

/// Delete all messages of all mailboxes.
///
/// Of those that the caller may read: with a token, its mailbox. Mailbox after mailbox, all that is there when its turn comes;
/// a mailbox that is made meanwhile keeps its mail.
#[utoipa::path(delete, operation_id = "delete_everything", path = "/v1/messages", tag = "messages",
    responses((status = 200, body = Deleted)))]
pub async fn delete_everything(request: HttpRequest, state: web::Data<State>) -> Answer {
    let scope = auth::everything(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    let deleted = match scope {
        Scope::All => state.store.delete_everything().await?,
        Scope::Mailbox(key) => empty(&state, &key).await?,
    };
    json(&Deleted { deleted })
}

async fn empty(state: &State, key: &MailboxKey) -> Result<u64, StoreError> {
    match state.store.delete_messages(key, Deletion::All).await {
        // An address without a row has nothing to delete.
        Err(StoreError::NotFound) => Ok(0),
        result => result,
    }
}

/// The mailbox and message that the path names, for who may see them.
///
/// # Errors
/// As [`auth::mailbox`]; `no-such-message` for what is no id.
pub async fn ids(
    request: &HttpRequest,
    state: &State,
    query_token: Option<&str>,
) -> Result<(MailboxKey, DeliveryId), Problem> {
    let key = auth::mailbox(request, state, query_token).await?;
    Ok((key, path::message(request)?))
}

/// The stored message that the path names.
///
/// # Errors
/// As [`ids`]; `no-such-message`.
pub async fn named(request: &HttpRequest, state: &State, query_token: Option<&str>) -> Result<StoredMessage, Problem> {
    let (key, id) = ids(request, state, query_token).await?;
    Ok(state.store.message(&key, id).await?.ok_or(Kind::NoSuchMessage)?)
}

fn no_message(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Kind::NoSuchMessage.into(),
        error => error.into(),
    }
}

/// The set without repeats, in the order given.
fn tags(asked: Vec<String>) -> Result<Vec<String>, Problem> {
    let mut tags: Vec<String> = Vec::with_capacity(asked.len().min(MAX_TAGS));
    for tag in asked {
        let tag = tag.trim();
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.contains(char::is_control) {
            return Err(Problem::new(
                Kind::BadField,
                format!("a tag has 1 to {MAX_TAG_BYTES} bytes, none of them control"),
            ));
        }
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    if tags.len() > MAX_TAGS {
        return Err(Problem::new(Kind::BadField, format!("a message has at most {MAX_TAGS} tags")));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_a_set_in_order() {
        let set = |list: &[&str]| tags(list.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(set(&["b", " a ", "b"]).unwrap(), ["b", "a"]);
        assert!(set(&[""]).is_err() && set(&["a\nb"]).is_err() && set(&[&"x".repeat(65)]).is_err());
        let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
        assert!(tags(many).is_err());
    }
}
