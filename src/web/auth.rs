//! What a request may see: its token, its access, and the mailbox that its path names if it may see that.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;

use super::error::{Kind, Problem};
use super::path;
use super::state::State;
use crate::accounts::Access;
use crate::inbound::subscription::Followed;
use crate::mail::address::MailboxKey;
use crate::store::Scope;

/// What the caller may see. `query_token` is `?token=`, on the few calls that take one.
///
/// # Errors
/// `token-needed` without a token where one is needed; `no-such-mailbox` for one that opens nothing.
pub async fn access(request: &HttpRequest, state: &State, query_token: Option<&str>) -> Result<Access, Problem> {
    let token = bearer(request).or(query_token);
    Ok(Access::of(&state.store, state.is_open(), token).await?)
}

/// The mailbox that the path names, for who may see it, if it is there or mail would make it.
///
/// # Errors
/// As [`access`]; `bad-address`; `no-such-mailbox`.
pub async fn mailbox(request: &HttpRequest, state: &State, query_token: Option<&str>) -> Result<MailboxKey, Problem> {
    Ok(named(request, state, query_token).await?.0)
}

/// The mailbox that the path names, to follow it: where a token opens it, only the life that it opens.
///
/// # Errors
/// As [`mailbox`].
pub async fn followed(request: &HttpRequest, state: &State, query_token: Option<&str>) -> Result<Followed, Problem> {
    let (key, access) = named(request, state, query_token).await?;
    Ok(Followed { scope: Scope::Mailbox(key), incarnation: access.incarnation() })
}

async fn named(
    request: &HttpRequest,
    state: &State,
    query_token: Option<&str>,
) -> Result<(MailboxKey, Access), Problem> {
    let access = access(request, state, query_token).await?;
    let key = path::mailbox(request, state)?;
    access.check(&key)?;
    if access == Access::Open && !state.inbound.accepts(&key) && state.store.mailbox(&key).await?.is_none() {
        return Err(Kind::NoSuchMailbox.into());
    }
    Ok((key, access))
}

/// All mailboxes that the caller may see.
///
/// # Errors
/// As [`access`].
pub async fn everything(request: &HttpRequest, state: &State, query_token: Option<&str>) -> Result<Scope, Problem> {
    Ok(access(request, state, query_token).await?.everything())
}

/// As [`everything`], to follow it.
///
/// # Errors
/// As [`access`].
pub async fn followed_everything(
    request: &HttpRequest,
    state: &State,
    query_token: Option<&str>,
) -> Result<Followed, Problem> {
    let access = access(request, state, query_token).await?;
    Ok(Followed { scope: access.everything(), incarnation: access.incarnation() })
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1; the scheme in any case).
fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn reads_bearer_tokens_only() {
        let with = |value: &str| TestRequest::get().insert_header((AUTHORIZATION, value)).to_http_request();
        assert_eq!(bearer(&with("Bearer mrt_x")), Some("mrt_x"));
        assert_eq!(bearer(&with("bearer  mrt_x")), Some("mrt_x"));
        assert_eq!(bearer(&with("Basic mrt_x")), None);
        assert_eq!(bearer(&with("mrt_x")), None);
        assert_eq!(bearer(&TestRequest::get().to_http_request()), None);
    }
}
