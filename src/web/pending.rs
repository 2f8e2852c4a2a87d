//! Until `mail::html` and `mail::extract` stand: messages are shown as text.

/// A link.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Link {
    pub url: String,
    pub text: String,
}

/// A body for the frame.
pub struct SafeHtml {
    pub html: String,
    pub remote: bool,
}

/// The document around a body.
#[must_use]
pub fn page(body: &SafeHtml) -> String {
    format!("<!doctype html><meta charset=\"utf-8\"><pre>{}</pre>", body.html)
}

/// Plain text as a body.
#[must_use]
pub fn text_body(text: &str) -> SafeHtml {
    SafeHtml { html: text.replace('&', "&amp;").replace('<', "&lt;"), remote: false }
}
