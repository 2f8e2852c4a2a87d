//! Paths: what stands between the angle brackets of MAIL and RCPT (RFC 5321 §4.1.2).
//!
//! Finds where a path ends and takes its source route off; whether the rest is a mailbox is
//! [`crate::mail::address::Address`]'s to say.

/// Splits at the `>` that ends a path. One inside a quoted local part does not.
///
/// `text` begins after `<`. Gives the path and what follows its bracket.
pub(super) fn split_at_bracket(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// The mailbox of a path: a source route `@a,@b:` is checked for its form and then ignored (RFC 5321 §4.1.1.3).
pub(super) fn mailbox(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let colon = end_of_route(path)?;
    let (route, mailbox) = (path.get(..colon)?, path.get(colon + 1..)?);
    let is_route = route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(is_hop));
    (is_route && !mailbox.is_empty()).then_some(mailbox)
}

/// The first colon outside an address literal, which has colons of its own.
fn end_of_route(path: &str) -> Option<usize> {
    let mut literal = false;
    path.bytes().position(|byte| {
        match byte {
            b'[' => literal = true,
            b']' => literal = false,
            _ => {}
        }
        byte == b':' && !literal
    })
}

/// Nothing is sent to a hop, so its characters are all that is checked.
fn is_hop(hop: &str) -> bool {
    !hop.is_empty() && hop.chars().all(|c| c.is_alphanumeric() || ".-[]:".contains(c))
}
