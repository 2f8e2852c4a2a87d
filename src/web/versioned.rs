//! The dashboard's files under addresses that say which version they are: `/assets/<version>/main.js`. Such an address
//! never means anything else, so browsers and proxies keep what they got and never ask again; a new version has new addresses.
//!
//! The page `/` names its files so ([`page`]); it is itself asked for each time. Modules name each other by relative
//! addresses and so stay within their version. While nodes of two versions run side by side, a node that is asked for the
//! other one's files answers 404, and the proxy asks the next (`nginx/`): versions are never mixed in one page.

use std::sync::{LazyLock, RwLock};

use sha2::{Digest, Sha256};

use super::static_files::Files;

/// Where the versions are.
const PREFIX: &str = "/assets/";

/// What this process serves; read anew with each page in a debug build, where files are edited while it runs.
static VERSION: LazyLock<RwLock<String>> = LazyLock::new(|| RwLock::new(compute()));

/// The file that an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// By its plain name: whatever version is served at that time.
    Plain(&'a str),
    /// Of this version, for good.
    Versioned(&'a str),
    /// Of a version that is not here.
    Elsewhere,
}

/// Reads the path of a request.
#[must_use]
pub fn address(path: &str) -> Address<'_> {
    let Some(rest) = path.strip_prefix(PREFIX) else { return Address::Plain(path.trim_start_matches('/')) };
    let current = VERSION.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    match rest.split_once('/') {
        Some((version, file)) if version == current.as_str() => Address::Versioned(file),
        _ => Address::Elsewhere,
    }
}

/// The page, its files named by their version.
#[must_use]
pub fn page(html: &str) -> String {
    if cfg!(debug_assertions) {
        let now = compute();
        *VERSION.write().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }
    let current = VERSION.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    named(html, &current, |file| Files::get(file).is_some())
}

/// Puts the version before each `src` and `href` that is one of the files.
fn named(html: &str, version: &str, is_file: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(html.len() * 2);
    let mut parts = html.split_inclusive('"');
    while let Some(part) = parts.next() {
        out.push_str(part);
        if !part.ends_with(" src=\"") && !part.ends_with(" href=\"") {
            continue;
        }
        let value = parts.next().unwrap_or_default();
        if value.strip_suffix('"').is_some_and(&is_file) {
            // Relative, as the page's own addresses are.
            out.push_str(PREFIX.trim_start_matches('/'));
            out.push_str(version);
            out.push('/');
        }
        out.push_str(value);
    }
    out
}

/// From the names and contents of all files, and from the program that sends them.
fn compute() -> String {
    let mut paths: Vec<_> = Files::iter().collect();
    paths.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for path in paths {
        hash.update(path.as_bytes());
        if let Some(file) = Files::get(&path) {
            hash.update(file.metadata.sha256_hash());
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_files_by_their_version() {
        let html = "<link rel=\"icon\" href=\"a.svg\"><script src=\"i18n/en.js\"></script><a href=\"v1/messages\" x=\"a.svg\">";
        let is_file = |file: &str| ["a.svg", "i18n/en.js"].contains(&file);
        assert_eq!(
            named(html, "12", is_file),
            "<link rel=\"icon\" href=\"assets/12/a.svg\"><script src=\"assets/12/i18n/en.js\"></script>\
             <a href=\"v1/messages\" x=\"a.svg\">"
        );
        assert_eq!(named("<a href=\"", "12", |_| true), "<a href=\"");
        let page = page(std::str::from_utf8(&Files::get("index.html").unwrap().data).unwrap());
        let version = compute();
        for file in ["main.js", "style.css", "favicon.svg", "vendor/lit-html/lit-html.js"] {
            assert!(page.contains(&format!("=\"assets/{version}/{file}\"")), "{file}: {page}");
        }
        assert!(page.contains("href=\"v1/messages\""));
    }

    #[test]
    fn an_address_is_of_this_version_or_of_none_that_is_here() {
        let version = compute();
        assert_eq!(version.len(), 16);
        assert_eq!(address(&format!("/assets/{version}/i18n/en.js")), Address::Versioned("i18n/en.js"));
        for path in ["/assets/0123456789abcdef/main.js", "/assets/", "/assets/main.js", "/assets//main.js"] {
            assert_eq!(address(path), Address::Elsewhere, "{path}");
        }
        assert_eq!(address("/main.js"), Address::Plain("main.js"));
    }
}
