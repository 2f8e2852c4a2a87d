//! Which addresses a message may refer to, and what becomes of them.

use percent_encoding::percent_decode_str;

use super::HtmlContext;

/// What an address of an image becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// Part of the message: an attachment's address, or `data:`.
    Own(String),
    /// Elsewhere: fetched only if the reader asks, until then nothing stands there.
    Remote(String),
    /// Not an image's address; relative ones would reach this server.
    Refused,
}

/// An image of nothing, shown like one that was not fetched.
const NO_IMAGE: &str = "data:image/gif,";

/// The address of an image, from an attribute or a style.
pub(super) fn resource(url: &str, context: &HtmlContext<'_>) -> Resource {
    let url = bare(url);
    if let Some(id) = after_scheme(&url, "cid:") {
        let id = percent_decode_str(id).decode_utf8_lossy();
        let id = id.trim_start_matches('<').trim_end_matches('>');
        return (context.attachment)(id).map_or(Resource::Refused, Resource::Own);
    }
    if after_scheme(&url, "http://").or_else(|| after_scheme(&url, "https://")).is_some() {
        return remote(url, context);
    }
    if url.starts_with("//") {
        return remote(format!("https:{url}"), context);
    }
    if after_scheme(&url, "data:image/").is_some() { Resource::Own(url) } else { Resource::Refused }
}

/// Any host may be this server's own, under one of its names, and the frame's policy lets images come from there: until
/// the reader asks for what is elsewhere, the address itself goes.
fn remote(url: String, context: &HtmlContext<'_>) -> Resource {
    Resource::Remote(if context.remote { url } else { NO_IMAGE.to_owned() })
}

/// The address of a link: elsewhere, or a place in the same page.
pub(super) fn link(url: &str) -> Option<String> {
    let url = bare(url);
    if url.starts_with("//") {
        return Some(format!("https:{url}"));
    }
    let schemes = ["http://", "https://", "mailto:", "tel:"];
    let known = schemes.iter().any(|scheme| after_scheme(&url, scheme).is_some()) || url.starts_with('#');
    known.then_some(url)
}

/// Whether an attribute of the parsed result may stay: the last look at its scheme.
pub(super) fn allowed(element: &str, attribute: &str, value: &str) -> bool {
    let value = bare(value);
    let is = |scheme| after_scheme(&value, scheme).is_some();
    match attribute {
        "href" => !is("data:"),
        "src" => element == "img" && (is("data:image/") || !is("data:")),
        // ammonia holds the other two against its list of schemes, but does not know this one.
        "background" => is("http://") || is("https://") || is("data:image/") || value.starts_with('/'),
        _ => true,
    }
}

/// An address as browsers read it: without space around it and without control characters in it.
pub(in crate::mail) fn bare(url: &str) -> String {
    url.trim_matches(|c: char| c.is_whitespace() || c.is_control()).chars().filter(|c| !c.is_control()).collect()
}

/// What follows `scheme`, in whatever case it is written.
pub(in crate::mail) fn after_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (written, rest) = url.split_at_checked(scheme.len())?;
    written.eq_ignore_ascii_case(scheme).then_some(rest)
}
