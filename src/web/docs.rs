//! `/docs`, the page that shows the OpenAPI document, and `/openapi.json` itself. The page needs nothing from outside:
//! its renderer is `static/vendor/rapidoc`.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::answer::Answer;
use super::{openapi, static_files};

/// The renderer writes its styles into the page; scripts are this server's alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("docs.html");

/// The document and its ETag, made when first asked for.
static DOCUMENT: LazyLock<(Bytes, String)> = LazyLock::new(|| {
    let json = Bytes::from(openapi::document().to_pretty_json().unwrap_or_default());
    let hex: String = Sha256::digest(&json).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    (json, format!("\"{hex}\""))
});

/// The docs page.
///
/// # Errors
/// None.
pub async fn page() -> Answer {
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE))
}

/// The OpenAPI document.
///
/// # Errors
/// None.
pub async fn openapi_json(request: HttpRequest) -> Answer {
    let (json, etag) = &*DOCUMENT;
    let known = static_files::is_known(&request, etag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, etag.as_str())).insert_header((CACHE_CONTROL, "no-cache"));
    if known {
        return Ok(response.finish());
    }
    Ok(response.insert_header((CONTENT_TYPE, "application/json")).body(json.clone()))
}
