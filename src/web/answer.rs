//! Answers that are not problems: JSON, and what all handlers return.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde::Serialize;

use super::error::{Kind, Problem};

/// What a handler gives.
pub type Answer = Result<HttpResponse, Problem>;

/// 200 with `value`.
///
/// # Errors
/// `internal` when it cannot be written as JSON, which no view of ours can cause.
pub fn json<T: Serialize>(value: &T) -> Answer {
    json_with(StatusCode::OK, value)
}

/// `status` with `value`.
///
/// # Errors
/// As [`json`].
pub fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Kind::Internal
    })?;
    Ok(json_head(status).body(bytes))
}

/// 200 with JSON that was written before.
#[must_use]
pub fn json_bytes(bytes: Bytes) -> HttpResponse {
    json_head(StatusCode::OK).body(bytes)
}

fn json_head(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    response
}
