//! The document that the sandboxed frame loads.

use super::SafeHtml;

/// What every message starts from; its own styles come later and win.
const BASE_STYLE: &str = "html{overflow-wrap:break-word}\
body{margin:12px;font:14px/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}\
img{max-width:100%}pre{white-space:pre-wrap}\
.mailroom-text{white-space:pre-wrap;font:13px/1.5 ui-monospace,monospace}";

/// The whole document around a sanitised body. A message that does not say how it looks on a dark screen is shown on
/// a light one, which is what its author saw.
#[must_use]
pub fn page(body: &SafeHtml) -> String {
    let scheme = if body.dark { "light dark" } else { "light" };
    format!(
        "<!doctype html><html><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"referrer\" content=\"no-referrer\"><meta name=\"color-scheme\" content=\"{scheme}\">\
         <style>{BASE_STYLE}</style></head><body>{}</body></html>",
        body.html
    )
}

/// A body that shows plain text as it is: for messages without html, and for html that is not shown.
#[must_use]
pub fn text_body(text: &str) -> SafeHtml {
    let mut html = String::with_capacity(text.len() + text.len() / 16 + 64);
    html.push_str("<div class=\"mailroom-text\">");
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '\0' => {}
            other => html.push(other),
        }
    }
    html.push_str("</div>");
    SafeHtml { html, remote: false, dark: true }
}
