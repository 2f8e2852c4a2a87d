//! Makes the html of a message harmless without breaking it, and the page that a sandboxed frame shows.
//!
//! Three steps, each linear in the size of the message: [`scan`] cuts it into tags and text, [`tame`] writes from
//! them a well-nested page of bounded depth that has only what mail needs (addresses and styles go through [`url`]
//! and [`css`] here), and ammonia parses that and takes out whatever is not on its list. Style sheets never reach the
//! parser: they are cleaned apart and put in front, without a `<` in them. What finally stops scripts and fetches is
//! the frame's sandbox and policy; this is what keeps it from having to.

mod css;
mod page;
pub(super) mod scan;
mod tables;
mod tame;
pub(super) mod url;

use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

pub use page::{page, text_body};

/// Larger html is not shown; the caller shows the text.
pub const MAX_HTML_BYTES: usize = 1024 * 1024;

/// What belongs to the message that the html stands in.
#[derive(Clone, Copy)]
pub struct HtmlContext<'a> {
    /// The address of the attachment with this Content-ID (decoded, without its angle brackets), if there is one.
    pub attachment: &'a dyn Fn(&str) -> Option<String>,
    /// The reader asked for images from elsewhere: their addresses stay.
    pub remote: bool,
}

/// Html that can be shown in the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafeHtml {
    /// `<style>` with all style sheets, if there are any, then the content of the body.
    pub html: String,
    /// It refers to images elsewhere (`img`, `background`, `srcset`, `url()`), whether their addresses were left in it or not.
    pub remote: bool,
    /// The style sheets say how the message looks on a dark screen.
    pub dark: bool,
}

/// Why html is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShown {
    #[error("the html is larger than 1 MiB")]
    TooLarge,
    #[error("the html's tables are too broken")]
    TooBroken,
}

/// Takes out everything active and rewrites `cid:` addresses; see the module.
///
/// # Errors
/// Above [`MAX_HTML_BYTES`], or when thousands of things stand between the cells of tables, which no parser puts in
/// order in linear time: the caller then shows the text.
pub fn sanitize(html: &str, context: &HtmlContext<'_>) -> Result<SafeHtml, NotShown> {
    if html.len() > MAX_HTML_BYTES {
        return Err(NotShown::TooLarge);
    }
    let tamed = tame::tame(html, context)?;
    let body = POLICY.clean(&tamed.html).to_string();
    let html = if tamed.css.is_empty() { body } else { format!("<style>{}</style>{body}", tamed.css) };
    Ok(SafeHtml { html, remote: tamed.remote, dark: tamed.css.contains("prefers-color-scheme") })
}

/// The list that ammonia holds the result against. Addresses were rewritten before; here their schemes are checked
/// once more on what the parser made of them.
static POLICY: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut policy = Builder::empty();
    policy
        .tags(tables::KEPT.iter().copied().collect())
        .clean_content_tags(["script", "style", "svg", "math", "template"].into_iter().collect())
        .generic_attributes(tables::ATTRIBUTES.iter().copied().collect())
        .url_schemes(["http", "https", "mailto", "tel", "data"].into_iter().collect())
        .url_relative(UrlRelative::PassThrough)
        .link_rel(None)
        .strip_comments(true)
        .attribute_filter(|element, attribute, value| url::allowed(element, attribute, value).then(|| value.into()));
    for element in ["a", "area"] {
        policy.set_tag_attribute_value(element, "target", "_blank").set_tag_attribute_value(
            element,
            "rel",
            "noopener noreferrer",
        );
    }
    policy
});

#[cfg(test)]
mod costs;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
