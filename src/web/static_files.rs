//! The dashboard's files, embedded in the binary (a debug build reads them from `static/` each time, so that a reload
//! shows an edit). Answered with an ETag of their content, compressed where the client takes it, under a policy
//! that lets nothing run or load but what is here. [`versioned`] has the addresses that may be kept for good.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{LazyLock, OnceLock};

use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

use super::answer::Answer;
use super::error::{Kind, Problem};
use super::in_flight;
use super::versioned::{self, Address};

#[derive(RustEmbed)]
#[folder = "static/"]
#[exclude = "*.d.ts"]
#[exclude = "tsconfig.json"]
pub(super) struct Files;

/// What the dashboard may do: load and run what is here, show images it made itself, talk to this server. The frame is
/// `/html`, which has a policy of its own.
pub const DASHBOARD_POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; connect-src 'self'; frame-src 'self' blob:; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = "index.html";
/// A browser asks each time whether a file has changed: its name stays the same from one version to the next.
const ASK_AGAIN: &str = "no-cache";
/// It has its version in its address.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// Below this, compressing costs more than it saves.
const WORTH_COMPRESSING: usize = 1024;

/// A file as it is sent.
struct Asset {
    content: Bytes,
    content_type: &'static str,
    etag: String,
    /// Made when a client first asks for it; none where it does not pay.
    gzip: OnceLock<Option<Bytes>>,
}

/// Files of a release build, read once.
static ASSETS: LazyLock<HashMap<String, Asset>> = LazyLock::new(|| {
    Files::iter().filter_map(|path| Some((path.to_string(), Asset::new(&path, Files::get(&path)?)))).collect()
});

/// Answers any path that no route took: a file of the dashboard, its page for `/`, or `no-such-path`.
///
/// # Errors
/// `no-such-path`; `method-not-allowed` for what is neither GET nor HEAD on a file.
pub async fn get(request: HttpRequest) -> Answer {
    let (path, keep) = match versioned::address(request.path()) {
        Address::Plain("") => (PAGE, ASK_AGAIN),
        Address::Plain(path) => (path, ASK_AGAIN),
        Address::Versioned(path) if path != PAGE => (path, FOR_GOOD),
        Address::Versioned(_) | Address::Elsewhere => return Err(Kind::NoSuchPath.into()),
    };
    if cfg!(debug_assertions) {
        let file = Files::get(path).ok_or(Kind::NoSuchPath)?;
        return answer(&request, &Asset::new(path, file), keep);
    }
    answer(&request, ASSETS.get(path).ok_or(Kind::NoSuchPath)?, keep)
}

fn answer(request: &HttpRequest, asset: &Asset, keep: &'static str) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed(&super::routes::ALLOW_READ));
    }
    if is_known(request, &asset.etag) {
        return Ok(head(&mut HttpResponse::NotModified(), asset, keep).finish());
    }
    let mut response = HttpResponse::Ok();
    head(&mut response, asset, keep).insert_header((CONTENT_TYPE, asset.content_type));
    if takes_gzip(request)
        && let Some(gzip) = asset.gzip()
    {
        return Ok(in_flight::free(response.insert_header((CONTENT_ENCODING, "gzip")).body(gzip)));
    }
    Ok(in_flight::free(response.body(asset.content.clone())))
}

fn head<'a>(response: &'a mut HttpResponseBuilder, asset: &Asset, keep: &'static str) -> &'a mut HttpResponseBuilder {
    response
        .insert_header((ETAG, asset.etag.as_str()))
        .insert_header((CACHE_CONTROL, keep))
        .insert_header((VARY, "accept-encoding"))
        .insert_header((CONTENT_SECURITY_POLICY, DASHBOARD_POLICY))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
}

impl Asset {
    fn new(path: &str, file: EmbeddedFile) -> Self {
        let ours = if path == PAGE { page(&file.data) } else { own_code(path, &file.data) };
        let content = match (ours, file.data) {
            (Some(code), _) => code.into(),
            (None, Cow::Borrowed(data)) => Bytes::from_static(data),
            (None, Cow::Owned(data)) => Bytes::from(data),
        };
        let hash = Sha256::digest(&content);
        let hex: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        // Weak: the same for the compressed form (RFC 9110 §8.8.1).
        Self { content, content_type: content_type(path), etag: format!("W/\"{hex}\""), gzip: OnceLock::new() }
    }

    fn gzip(&self) -> Option<Bytes> {
        self.gzip.get_or_init(|| is_text(self.content_type).then(|| compress(&self.content)).flatten()).clone()
    }
}

fn page(data: &[u8]) -> Option<String> {
    std::str::from_utf8(data).ok().map(versioned::page)
}

/// Scripts and styles of our own without the comments at the beginnings of their lines, a sixth of what would be sent.
/// Lines keep their numbers. None for all else: what is vendored is sent as it came.
fn own_code(path: &str, data: &[u8]) -> Option<String> {
    let is_code = matches!(path.rsplit_once('.'), Some((_, "js" | "css"))) && !path.starts_with("vendor/");
    let text = std::str::from_utf8(data).ok().filter(|_| is_code)?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let code = rest.trim_start_matches([' ', '\t']);
        if let Some(comment) = code.strip_prefix("/*") {
            let end = comment.find("*/")?;
            let (comment, after) = comment.split_at_checked(end + 2)?;
            out.extend(std::iter::repeat_n('\n', comment.matches('\n').count()));
            rest = after;
            continue;
        }
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at_checked(end)?;
        out.push_str(if code.starts_with("//") { "\n" } else { line });
        rest = after;
    }
    Some(out)
}

fn compress(content: &[u8]) -> Option<Bytes> {
    if content.len() < WORTH_COMPRESSING {
        return None;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(8));
    encoder.write_all(content).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < content.len()).then(|| packed.into())
}

/// Whether the client has this version (RFC 9110 §13.1.2; compared weakly).
#[must_use]
pub fn is_known(request: &HttpRequest, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let known = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|list| list.split(','));
    tags.any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}

/// Whether gzip is among the codings taken, with a weight above nothing (RFC 9110 §12.5.3).
fn takes_gzip(request: &HttpRequest) -> bool {
    let values = request.headers().get_all(ACCEPT_ENCODING).filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|item| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/") || content_type.contains("json") || content_type.contains("svg")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        let takes =
            |value: &str| takes_gzip(&TestRequest::get().insert_header((ACCEPT_ENCODING, value)).to_http_request());
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate, gzip;q=1.0, *;q=0.5"));
        assert!(!takes("gzip;q=0") && !takes("br") && !takes("gzip; q=0.000") && !takes(""));
    }

    #[test]
    fn a_version_that_is_known_is_not_sent_again() {
        let knows = |value: &str| {
            is_known(&TestRequest::get().insert_header((IF_NONE_MATCH, value)).to_http_request(), "W/\"a\"")
        };
        assert!(knows("\"a\"") && knows("W/\"a\"") && knows("\"b\", \"a\"") && knows("*"));
        assert!(!knows("\"b\"") && !knows("a"));
    }

    #[test]
    fn code_is_sent_without_its_comments() {
        let code = "// About.\n\n/** @type {X} */ (a).b();\n  /*\n * more\n */\n  c(`//`, '/*'); // end\n";
        assert_eq!(own_code("a.js", code.as_bytes()).unwrap(), "\n\n (a).b();\n\n\n\n  c(`//`, '/*'); // end\n");
        assert_eq!(own_code("vendor/x.js", code.as_bytes()), None);
        assert_eq!(own_code("index.html", code.as_bytes()), None);
        for path in Files::iter().filter(|path| !path.starts_with("vendor/") && path.ends_with(".js")) {
            let whole = Files::get(&path).unwrap().data;
            let sent = own_code(&path, &whole).unwrap();
            assert_eq!(sent.lines().count(), std::str::from_utf8(&whole).unwrap().lines().count(), "{path}");
            let is_comment = |line: &str| line.starts_with("//") || line.starts_with("/*") || line.starts_with("* ");
            assert!(!sent.lines().any(|line| is_comment(line.trim_start())), "{path}");
        }
    }

    #[test]
    fn compressed_files_read_back() {
        let text = "mailroom ".repeat(1_000);
        let packed = compress(text.as_bytes()).unwrap();
        let mut back = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut back).unwrap();
        assert_eq!(back, text);
        assert!(compress(b"short").is_none());
    }
}
