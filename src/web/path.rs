//! Segments of the request path, decoded from the bytes that the client sent. The router's own decoding replaces what
//! is not UTF-8 and leaves `%2F` as it is, so values are not taken from it. Pure but for the request's type.

use std::borrow::Cow;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use super::error::{Kind, Problem};
use super::state::State;
use crate::mail::address::MailboxKey;
use crate::mail::id::DeliveryId;

/// Where values stand in `/v1/mailboxes/{address}/messages/{id}/attachments/{n}`.
const ADDRESS: usize = 2;
const ID: usize = 4;
const PART: usize = 6;

/// The mailbox that the path names, by the configured rule for plus-addresses.
///
/// # Errors
/// `bad-address`.
pub fn mailbox(request: &HttpRequest, state: &State) -> Result<MailboxKey, Problem> {
    let text = segment(request.uri().path(), ADDRESS)
        .ok_or_else(|| Problem::new(Kind::BadAddress, "the address is not percent-encoded UTF-8"))?;
    state.inbound.key(&text).map_err(|error| Problem::new(Kind::BadAddress, error.to_string()))
}

/// The message that the path names. What is no id names no message.
///
/// # Errors
/// `no-such-message`.
pub fn message(request: &HttpRequest) -> Result<DeliveryId, Problem> {
    let text = segment(request.uri().path(), ID).ok_or(Kind::NoSuchMessage)?;
    text.parse().map_err(|_| Kind::NoSuchMessage.into())
}

/// The number of the attachment that the path names.
///
/// # Errors
/// `no-such-part`.
pub fn part(request: &HttpRequest) -> Result<usize, Problem> {
    let text = segment(request.uri().path(), PART).ok_or(Kind::NoSuchPart)?;
    text.parse().map_err(|_| Kind::NoSuchPart.into())
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3), `@` and `+` aside, for a segment of a path.
#[must_use]
pub fn encode(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'@')
        .remove(b'+');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

fn segment(path: &str, index: usize) -> Option<Cow<'_, str>> {
    let raw = path.strip_prefix('/')?.split('/').nth(index)?;
    percent_decode_str(raw).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_one_segment_once() {
        let at = |path, index| segment(path, index).map(Cow::into_owned);
        assert_eq!(at("/v1/mailboxes/a%2Fb%40x.test/messages", ADDRESS).as_deref(), Some("a/b@x.test"));
        assert_eq!(at("/v1/mailboxes/a%252Fb@x.test", ADDRESS).as_deref(), Some("a%2Fb@x.test"));
        assert_eq!(at("/v1/mailboxes/%E4%BD%A0@x.test", ADDRESS).as_deref(), Some("你@x.test"));
        assert_eq!(at("/v1/mailboxes/a+b@x.test", ADDRESS).as_deref(), Some("a+b@x.test"));
        assert_eq!(at("/v1/mailboxes/%FF@x.test", ADDRESS), None);
        assert_eq!(at("/v1/mailboxes", ADDRESS), None);
    }

    #[test]
    fn encodes_what_it_decodes() {
        for text in ["a/b@x.test", "a%2Fb@x.test", "你+x@x.test", "a b?#&@x.test"] {
            let encoded = encode(text);
            assert!(!encoded.contains(['/', '?', '#', ' ']), "{encoded}");
            assert_eq!(segment(&format!("/{encoded}"), 0).as_deref(), Some(text));
        }
    }
}
