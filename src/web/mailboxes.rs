//! `/v1/mailboxes`: make, list, look at, change and delete mailboxes.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer::{Answer, json, json_with};
use super::auth;
use super::error::{Kind, Problem};
use super::generate;
use super::params::{self, NoParams, PageParams};
use super::path;
use super::state::State;
use super::views::{CreatedMailbox, MailboxChange, MailboxList, MailboxView, NewMailboxRequest, message_ttl};
use crate::accounts::{Access, forwarded, tokens};
use crate::clock;
use crate::cluster::limits;
use crate::mail::address::MailboxKey;
use crate::mail::time::Timestamp;
use crate::mail::units::{Limit, Period};
use crate::store::{Mailbox, MailboxPatch, NewMailbox, StoreError};

/// How often another address is generated when the one before was taken.
const GENERATE_TRIES: usize = 8;
/// No lifetime is longer: some 100 years.
const MAX_LIFETIME: Duration = Duration::from_secs(36_525 * 24 * 3_600);

/// Make a mailbox.
///
/// Answers with the address and, once, the token that opens it. An empty request makes one with a generated address.
#[utoipa::path(post, path = "/v1/mailboxes", tag = "mailboxes", security(()), request_body(content = NewMailboxRequest),
    responses((status = 201, body = CreatedMailbox)))]
pub async fn create(request: HttpRequest, state: web::Data<State>, payload: web::Payload) -> Answer {
    params::query::<NoParams>(&request)?;
    let asked: NewMailboxRequest = params::body(&request, payload, &state.config).await?;
    // With open mailboxes mail makes them too, which has limits of its own.
    let client = forwarded::client(request.peer_addr(), request.headers(), &state.config.trusted_proxies);
    if let (false, Some(client)) = (state.is_open(), client) {
        let admitted = state.limits.admit(limits::Kind::Mailboxes, client).await;
        admitted.map_err(|refused| Problem::over_limit(Kind::TooManyMailboxes, refused))?;
    }
    let now = Timestamp(clock::now_micros());
    let token = tokens::make().map_err(|error| {
        tracing::error!(%error, "no token can be made");
        Kind::Internal
    })?;
    let mut new = NewMailbox {
        key: chosen_address(&state, &asked)?,
        expires_at: end(now, asked.ttl, asked.expires_at)?,
        message_ttl: message_ttl(positive(asked.message_ttl, "message_ttl")?),
        max_messages: at_least_one(asked.max_messages, "max_messages")?,
        max_bytes: at_least_one(asked.max_bytes, "max_bytes")?,
        when_full: asked.when_full.map(Into::into),
        token_hash: tokens::hash(&token),
    };
    let is_generated = asked.address.is_none() && asked.local_part.is_none();
    let mut tries = if is_generated { GENERATE_TRIES } else { 1 };
    let row = loop {
        tries -= 1;
        match state.store.create_mailbox(new.clone()).await {
            Err(StoreError::Exists) if tries > 0 => new.key = chosen_address(&state, &asked)?,
            result => break result?,
        }
    };
    state.inbound.changed(&row.key);
    let location = format!("/v1/mailboxes/{}", path::encode(row.key.as_str()));
    let mut response = json_with(StatusCode::CREATED, &CreatedMailbox { mailbox: row.into(), token })?;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// The address that was asked for, or a generated one.
fn chosen_address(state: &State, asked: &NewMailboxRequest) -> Result<MailboxKey, Problem> {
    let text = match (&asked.address, &asked.local_part, &asked.domain) {
        (Some(address), None, None) => address.clone(),
        (Some(_), ..) => return Err(Problem::new(Kind::BadField, "give either address, or local_part and domain")),
        (None, local_part, domain) => {
            let domain = domain.clone().or_else(|| state.default_domain()).ok_or(Kind::DomainNotAccepted)?;
            let local_part = local_part.clone().unwrap_or_else(generate::local_part);
            format!("{local_part}@{domain}")
        }
    };
    let key = state.inbound.key(&text).map_err(|error| Problem::new(Kind::BadAddress, error.to_string()))?;
    if state.inbound.accepts_domain(key.domain()) { Ok(key) } else { Err(Kind::DomainNotAccepted.into()) }
}

/// List mailboxes.
///
/// Those that the caller may read, ordered by address, with their counts.
#[utoipa::path(get, path = "/v1/mailboxes", tag = "mailboxes", params(PageParams),
    responses((status = 200, body = MailboxList)))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Answer {
    let access = auth::access(&request, &state, None).await?;
    let asked: PageParams = params::query(&request)?;
    let limit = params::limit(asked.limit)?;
    match access {
        Access::Open => {
            // Taken before the page is read: what changes meanwhile is told again, never left out.
            let cursor = state.store.stream_head().to_string();
            if asked.page.as_deref().is_some_and(|page| MailboxKey::canonical(page).is_none()) {
                return Err(Kind::BadPage.into());
            }
            let page = state.store.list_mailboxes(asked.page.as_deref(), limit).await?;
            let items = page.items.into_iter().map(Into::into).collect();
            json(&MailboxList { items, next_cursor: page.next, cursor })
        }
        Access::Mailbox(own) => {
            if asked.page.is_some() {
                return Err(Kind::BadPage.into());
            }
            let row = state.store.mailbox(&own.mailbox).await?;
            let row = row.filter(|row| row.cursor.incarnation == own.incarnation).ok_or(Kind::NoSuchMailbox)?;
            let view = MailboxView::from(row);
            let cursor = view.cursor.clone();
            json(&MailboxList { items: vec![view], next_cursor: None, cursor })
        }
    }
}

/// One mailbox.
#[utoipa::path(get, path = "/v1/mailboxes/{address}", tag = "mailboxes",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)")),
    responses((status = 200, body = MailboxView)))]
pub async fn get(request: HttpRequest, state: web::Data<State>) -> Answer {
    let key = auth::mailbox(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    match state.store.mailbox(&key).await? {
        Some(row) => json(&MailboxView::from(row)),
        None if state.is_open() && state.inbound.accepts(&key) => json(&MailboxView::empty(key)),
        None => Err(Kind::NoSuchMailbox.into()),
    }
}

/// Extend or change a mailbox.
#[utoipa::path(patch, path = "/v1/mailboxes/{address}", tag = "mailboxes", request_body = MailboxChange,
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)")),
    responses((status = 200, body = MailboxView)))]
pub async fn change(request: HttpRequest, state: web::Data<State>, payload: web::Payload) -> Answer {
    let key = auth::mailbox(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    let asked: MailboxChange = params::body(&request, payload, &state.config).await?;
    let patch = patch(&asked, Timestamp(clock::now_micros()))?;
    let row: Mailbox = state.store.alter_mailbox(&key, patch).await?;
    state.inbound.changed(&key);
    json(&MailboxView::from(row))
}

/// Delete a mailbox with all its mail.
#[utoipa::path(delete, path = "/v1/mailboxes/{address}", tag = "mailboxes",
    params(("address", description = "The address, percent-encoded (`/` as `%2F`)")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete(request: HttpRequest, state: web::Data<State>) -> Answer {
    let key = auth::mailbox(&request, &state, None).await?;
    params::query::<NoParams>(&request)?;
    state.store.delete_mailbox(&key).await?;
    state.inbound.changed(&key);
    Ok(HttpResponse::NoContent().finish())
}

fn patch(asked: &MailboxChange, now: Timestamp) -> Result<MailboxPatch, Problem> {
    let expires_at = match (asked.ttl, asked.expires_at) {
        (None, None) => None,
        (ttl, expires_at) => Some(end(now, ttl.flatten(), expires_at.flatten())?),
    };
    if asked.ttl.is_some() && asked.expires_at.is_some() {
        return Err(Problem::new(Kind::BadField, "give either ttl or expires_at"));
    }
    let counted = |value: Option<Option<u64>>, name| value.map(|value| at_least_one(value, name)).transpose();
    Ok(MailboxPatch {
        expires_at,
        message_ttl: asked.message_ttl.map(|ttl| positive(ttl, "message_ttl").map(message_ttl)).transpose()?,
        max_messages: counted(asked.max_messages, "max_messages")?,
        max_bytes: counted(asked.max_bytes, "max_bytes")?,
        when_full: asked.when_full.map(|rule| rule.map(Into::into)),
    })
}

/// The end of a mailbox; none for one that lives for good.
fn end(now: Timestamp, ttl: Option<Limit<Period>>, at: Option<Timestamp>) -> Result<Option<Timestamp>, Problem> {
    match (positive(ttl, "ttl")?, at) {
        (Some(_), Some(_)) => Err(Problem::new(Kind::BadField, "give either ttl or expires_at")),
        (Some(Limit(Some(Period(span)))), None) => Ok(Some(now.plus(span))),
        (_, None) => Ok(None),
        (None, Some(at)) if at > now => Ok(Some(at)),
        (None, Some(_)) => Err(Problem::new(Kind::BadField, "expires_at is in the past")),
    }
}

fn positive(span: Option<Limit<Period>>, name: &str) -> Result<Option<Limit<Period>>, Problem> {
    match span {
        Some(Limit(Some(Period(Duration::ZERO)))) => {
            Err(Problem::new(Kind::BadField, format!("{name} must be more than nothing")))
        }
        Some(Limit(Some(Period(long)))) if long > MAX_LIFETIME => {
            Err(Problem::new(Kind::BadField, format!("{name} is more than 100 years: say \"never\"")))
        }
        span => Ok(span),
    }
}

fn at_least_one(count: Option<u64>, name: &str) -> Result<Option<u64>, Problem> {
    match count {
        // The database counts in signed 64 bits.
        Some(count) if count == 0 || i64::try_from(count).is_err() => {
            Err(Problem::new(Kind::BadField, format!("{name} must be 1 or more")))
        }
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn change(json: &str) -> Result<MailboxPatch, Kind> {
        patch(&serde_json::from_str(json).unwrap(), NOW).map_err(|problem| problem.kind)
    }

    #[test]
    fn a_mailbox_is_extended_from_now() {
        assert_eq!(change(r#"{"ttl":"10s"}"#).unwrap().expires_at, Some(Some(Timestamp(11_000_000))));
        assert_eq!(change(r#"{"ttl":"never"}"#).unwrap().expires_at, Some(None));
        assert_eq!(change(r#"{"ttl":null}"#).unwrap().expires_at, Some(None));
        assert_eq!(change(r#"{"expires_at":null}"#).unwrap().expires_at, Some(None));
        assert_eq!(change("{}").unwrap().expires_at, None);
    }

    #[test]
    fn contradictions_and_nothing_are_refused() {
        for json in [
            r#"{"ttl":"10s","expires_at":"2090-01-01T00:00:00Z"}"#,
            r#"{"ttl":null,"expires_at":null}"#,
            r#"{"expires_at":"1970-01-01T00:00:00Z"}"#,
            r#"{"ttl":"0s"}"#,
            r#"{"ttl":"40000d"}"#,
            r#"{"max_messages":0}"#,
            r#"{"max_bytes":18446744073709551615}"#,
            r#"{"message_ttl":"0s"}"#,
        ] {
            assert_eq!(change(json).unwrap_err(), Kind::BadField, "{json}");
        }
    }
}
