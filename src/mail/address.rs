//! Mail addresses as SMTP writes them (RFC 5321 §4.1.2, RFC 6531) and the key of the mailbox they lead to.
//!
//! The sessions parse a path with [`Address::parse`], the door and the API turn it into a [`MailboxKey`]. An address
//! keeps what was written, byte for byte; a key is canonical: two spellings of one mailbox have one key, two
//! mailboxes never share one, and a key read as an address is its own key.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Octets of a local part as written (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// Octets of a domain (RFC 5321 §4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;
/// Octets of a path with its brackets (RFC 5321 §4.5.3.1.3).
pub const MAX_PATH: usize = 256;
/// Lower-casing, normalising and quoting may lengthen a local part; a key has room for the worst of them.
const MAX_KEY_LOCAL_PART: usize = 3 * MAX_LOCAL_PART + 2;

/// Whether `bob+x` is `bob` (`[mailboxes] plus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plus {
    /// `bob+x@d` leads to `bob@d`.
    #[default]
    Same,
    /// `bob+x@d` is a mailbox of its own.
    Separate,
}

/// Why a text is no mailbox address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("there is no domain")]
    NoDomain,
    #[error("the local part is neither dot-separated atoms nor a quoted string")]
    LocalPart,
    #[error("the local part is longer than {MAX_LOCAL_PART} octets")]
    LocalPartTooLong,
    #[error("the domain is not a host name")]
    Domain,
    #[error("the domain is longer than {MAX_DOMAIN} octets")]
    DomainTooLong,
    #[error("the address literal is neither [IPv4] nor [IPv6:address]")]
    Literal,
    #[error("the address is longer than {} octets", MAX_PATH - 2)]
    TooLong,
}

/// A mailbox address, `local@domain`, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    /// Where the `@` stands between local part and domain.
    at: usize,
}

impl Address {
    /// Reads a Mailbox (RFC 5321 §4.1.2 with the UTF-8 of RFC 6531 §3.3), without angle brackets or source route.
    ///
    /// # Errors
    /// By what is wrong with it; a domain that no IDNA processing accepts is [`AddressError::Domain`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_PATH - 2 {
            return Err(AddressError::TooLong);
        }
        Self::with_limit(text, MAX_LOCAL_PART)
    }

    /// `postmaster@domain`, for the one recipient that needs no domain (RFC 5321 §4.5.1).
    ///
    /// # Errors
    /// When `domain` is none.
    pub fn postmaster(domain: &str) -> Result<Self, AddressError> {
        Self::parse(&format!("postmaster@{domain}"))
    }

    /// Reads a reverse path that is not empty. Its local part may be longer than [`MAX_LOCAL_PART`]: bounce addresses that
    /// carry a whole recipient often are, and Postfix takes them too.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse_sender(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_PATH - 2 {
            return Err(AddressError::TooLong);
        }
        Self::with_limit(text, MAX_PATH)
    }

    fn with_limit(text: &str, local_limit: usize) -> Result<Self, AddressError> {
        let at = split(text)?;
        let (local, domain) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
        if local.len() > local_limit {
            return Err(AddressError::LocalPartTooLong);
        }
        if !local.starts_with('"') && !is_dot_atom(local) {
            return Err(AddressError::LocalPart);
        }
        canonical_domain(domain)?;
        Ok(Self { text: text.into(), at })
    }

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part without quotes and quoted pairs, its case as written.
    #[must_use]
    pub fn local_part(&self) -> Cow<'_, str> {
        unquoted(self.text.get(..self.at).unwrap_or_default())
    }

    /// The domain or address literal as written.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// Whether a client without SMTPUTF8 may be given this address.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The key of the mailbox that this address leads to (`design.md` §2, Addresses).
    #[must_use]
    pub fn mailbox_key(&self, plus: Plus) -> MailboxKey {
        let local = self.local_part();
        let local = folded(&local);
        let local = match local.split_once('+') {
            Some((before, _)) if plus == Plus::Same && !before.is_empty() => before,
            _ => &local,
        };
        let mut key = quoted(local).into_owned();
        key.push('@');
        // The domain was canonicalised once when the address was parsed, so it can be again.
        key.push_str(&canonical_domain(self.domain()).unwrap_or_default());
        MailboxKey(key.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// The canonical name of a mailbox, `local@domain` (`design.md` §2): made by [`Address::mailbox_key`] only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct MailboxKey(Arc<str>);

impl MailboxKey {
    /// Takes a key that was stored before; new keys come from an [`Address`].
    #[must_use]
    pub fn from_stored(key: &str) -> Self {
        Self(key.into())
    }

    /// Reads an address from outside (a path of the API) and makes its key. A key is also accepted where folding
    /// made its local part longer than SMTP allows.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse(text: &str, plus: Plus) -> Result<Self, AddressError> {
        match Address::parse(text) {
            Err(error @ (AddressError::TooLong | AddressError::LocalPartTooLong)) => {
                if text.len() > MAX_KEY_LOCAL_PART + 1 + MAX_DOMAIN {
                    return Err(error);
                }
                // Only what has grown by folding or quoting may be that long.
                let limit = match (text.is_ascii(), text.starts_with('"')) {
                    (true, false) => MAX_LOCAL_PART,
                    (true, true) => MAX_LOCAL_PART + 1,
                    (false, _) => MAX_KEY_LOCAL_PART,
                };
                let key = Address::with_limit(text, limit)?.mailbox_key(plus);
                if key.as_str() == text { Ok(key) } else { Err(error) }
            }
            parsed => Ok(parsed?.mailbox_key(plus)),
        }
    }

    /// `text` as a key, where it is one as it stands.
    #[must_use]
    pub fn canonical(text: &str) -> Option<Self> {
        Self::parse(text, Plus::Separate).ok().filter(|key| key.as_str() == text)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical local part, unquoted.
    #[must_use]
    pub fn local_part(&self) -> Cow<'_, str> {
        unquoted(self.0.rsplit_once('@').map_or(&self.0, |(local, _)| local))
    }

    /// The domain in lower case, as A-labels, or an address literal.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for MailboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the `@` between local part and domain stands. A quoted string is checked on the way.
fn split(text: &str) -> Result<usize, AddressError> {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.find('@').ok_or(AddressError::NoDomain);
    };
    let mut pair = false;
    for (offset, c) in quoted.char_indices() {
        match (pair, c) {
            // quoted-pairSMTP is ASCII only, also under RFC 6531.
            (true, ' '..='~') => pair = false,
            (true, _) => return Err(AddressError::LocalPart),
            (false, '\\') => pair = true,
            (false, '"') => {
                let after = offset + 2;
                let rest = text.get(after..).unwrap_or_default();
                return match rest.chars().next() {
                    Some('@') => Ok(after),
                    None => Err(AddressError::NoDomain),
                    Some(_) => Err(AddressError::LocalPart),
                };
            }
            (false, c) if is_forbidden(c) => return Err(AddressError::LocalPart),
            (false, _) => {}
        }
    }
    Err(AddressError::LocalPart)
}

/// Controls and line separators have no place in an address, whatever RFC 6531 leaves open.
const fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// RFC 5322 §3.2.3 with the UTF-8 of RFC 6531 §3.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !is_forbidden(c))
}

fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(local);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut pair = false;
    for c in inner.chars() {
        pair = c == '\\' && !pair;
        if !pair {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

/// Bare where RFC 5321 allows it, otherwise quoted with as few quoted pairs as possible: one spelling for each.
fn quoted(local: &str) -> Cow<'_, str> {
    if is_dot_atom(local) {
        return Cow::Borrowed(local);
    }
    let mut text = String::with_capacity(local.len() + 4);
    text.push('"');
    for c in local.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    Cow::Owned(text)
}

/// NFC and lower case. Letter by letter: what a letter becomes must not depend on its neighbours.
fn folded(local: &str) -> String {
    if local.is_ascii() {
        return local.to_ascii_lowercase();
    }
    let mut text = String::from(local);
    // Lower-casing can undo normalisation and the other way round; two rounds reach the fixed point, three are safe.
    for _ in 0..3 {
        let next: String = text.nfc().flat_map(char::to_lowercase).nfc().collect();
        if next == text {
            break;
        }
        text = next;
    }
    debug_assert!(is_nfc(&text));
    text
}

/// Lower case, A-labels, addresses in their shortest form.
fn canonical_domain(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    if domain.is_empty() {
        return Err(AddressError::NoDomain);
    }
    if domain.len() > MAX_DOMAIN {
        return Err(AddressError::DomainTooLong);
    }
    if let Some(literal) = domain.strip_prefix('[') {
        return canonical_literal(literal.strip_suffix(']').ok_or(AddressError::Literal)?).map(Cow::Owned);
    }
    if domain.is_ascii() {
        if !is_host_name(domain) {
            return Err(AddressError::Domain);
        }
        if !domain.bytes().any(|b| b.is_ascii_uppercase()) && !domain.contains("xn--") {
            return Ok(Cow::Borrowed(domain));
        }
        let lower = domain.to_ascii_lowercase();
        // An A-label that decodes to nothing valid is some host's name all the same: it stays itself.
        return Ok(Cow::Owned(to_ascii(&lower).unwrap_or(lower)));
    }
    to_ascii(domain).map(Cow::Owned).ok_or(AddressError::Domain)
}

fn to_ascii(domain: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii(domain).ok()?;
    (ascii.len() <= MAX_DOMAIN && is_host_name(&ascii)).then_some(ascii)
}

fn canonical_literal(literal: &str) -> Result<String, AddressError> {
    if let Ok(address) = literal.parse::<Ipv4Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (tag, address) = literal.split_once(':').ok_or(AddressError::Literal)?;
    if !tag.eq_ignore_ascii_case("IPv6") {
        return Err(AddressError::Literal);
    }
    let address = address.parse::<Ipv6Addr>().map_err(|_| AddressError::Literal)?;
    Ok(format!("[ipv6:{address}]"))
}

/// Letters, digits and hyphens in labels of at most 63 octets. The underscore is no host name (RFC 952) but is used as
/// one on private networks, and Postfix takes it too.
fn is_host_name(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> String {
        Address::parse(text).unwrap().mailbox_key(Plus::Same).to_string()
    }

    #[test]
    fn reads_what_rfc_5321_allows() {
        for good in [
            "a@b",
            "bob@example.com",
            "bob.smith+tag@mail.example.com",
            "!#$%&'*+-/=?^_`{|}~@example.com",
            "\"john smith\"@example.com",
            "\"a@b\"@example.com",
            "\"a\\\"b\\\\c\"@example.com",
            "\"\"@example.com",
            "bob@[127.0.0.1]",
            "bob@[IPv6:2001:db8::1]",
            "bob@my_host",
            "jörg@müller.example",
            "用户@例子.测试",
        ] {
            let address = Address::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(address.to_string(), good);
            assert_eq!(address.is_ascii(), good.is_ascii());
        }
    }

    #[test]
    fn refuses_what_it_does_not() {
        use AddressError::{Domain, Literal, LocalPart, NoDomain};
        for (bad, error) in [
            ("", NoDomain),
            ("bob", NoDomain),
            ("bob@", NoDomain),
            ("\"bob\"", NoDomain),
            ("@example.com", LocalPart),
            (".bob@example.com", LocalPart),
            ("bob.@example.com", LocalPart),
            ("bo..b@example.com", LocalPart),
            ("bo b@example.com", LocalPart),
            ("bo\nb@example.com", LocalPart),
            ("<bob@example.com>", LocalPart),
            ("\"bob@example.com", LocalPart),
            ("\"bob\"x@example.com", LocalPart),
            ("\"bo\\\u{e9}b\"@example.com", LocalPart),
            ("\"bo\tb\"@example.com", LocalPart),
            ("bob@exa mple.com", Domain),
            ("bob@example.com.", Domain),
            ("bob@.example.com", Domain),
            ("bob@-example.com", Domain),
            ("bob@exam@ple.com", Domain),
            ("bob@例子 .测试", Domain),
            ("bob@a\u{2100}b", Domain),
            ("bob@[127.0.0.1", Literal),
            ("bob@[127.0.0.256]", Literal),
            ("bob@[::1]", Literal),
            ("bob@[IPv6:zz]", Literal),
            ("bob@[x400:c=us]", Literal),
        ] {
            assert_eq!(Address::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn keeps_the_length_limits() {
        let local = "a".repeat(64);
        let domain = ["b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert!(Address::parse(&format!("{local}@{domain}")).is_ok());
        assert_eq!(Address::parse(&format!("{local}a@b.example")), Err(AddressError::LocalPartTooLong));
        assert_eq!(Address::parse(&format!("{local}@{domain}x")), Err(AddressError::TooLong));
        assert_eq!(Address::parse(&format!("a@{}.example", "b".repeat(64))), Err(AddressError::Domain));
    }

    #[test]
    fn one_mailbox_has_one_key() {
        for (written, expected) in [
            ("Bob@Example.COM", "bob@example.com"),
            ("bob+news@example.com", "bob@example.com"),
            ("bob+@example.com", "bob@example.com"),
            ("+x@example.com", "+x@example.com"),
            ("+x+y@example.com", "+x+y@example.com"),
            ("\"bob\"@example.com", "bob@example.com"),
            ("\"b\\ob\"@example.com", "bob@example.com"),
            ("\"John Smith\"@example.com", "\"john smith\"@example.com"),
            ("\"a@b\"@example.com", "\"a@b\"@example.com"),
            ("\"a.\"@example.com", "\"a.\"@example.com"),
            ("a.+x@example.com", "\"a.\"@example.com"),
            ("JÖRG@MÜLLER.example", "jörg@xn--mller-kva.example"),
            ("jo\u{308}rg@xn--mller-kva.example", "jörg@xn--mller-kva.example"),
            ("bob@XN--MLLER-KVA.example", "bob@xn--mller-kva.example"),
            ("bob@[IPv6:2001:DB8:0:0::1]", "bob@[ipv6:2001:db8::1]"),
            ("bob@[127.0.0.1]", "bob@[127.0.0.1]"),
        ] {
            assert_eq!(key(written), expected, "{written}");
        }
        let tagged = Address::parse("Bob+News@example.com").unwrap();
        assert_eq!(tagged.mailbox_key(Plus::Separate).as_str(), "bob+news@example.com");
        assert_eq!(tagged.local_part(), "Bob+News");
        assert_eq!(tagged.domain(), "example.com");
    }

    #[test]
    fn a_key_gives_its_parts() {
        let key = MailboxKey::parse("\"A@\\\"B\"@Example.com", Plus::Same).unwrap();
        assert_eq!(key.as_str(), "\"a@\\\"b\"@example.com");
        assert_eq!(key.local_part(), "a@\"b");
        assert_eq!(key.domain(), "example.com");
    }

    #[test]
    fn a_key_that_grew_still_reads() {
        for local in ["İ".repeat(32), format!("{}.+", "a".repeat(62))] {
            let key = Address::parse(&format!("{local}@example.com")).unwrap().mailbox_key(Plus::Same);
            assert!(key.as_str().len() > 64 + 12);
            assert_eq!(MailboxKey::parse(key.as_str(), Plus::Same), Ok(key));
        }
        let long = format!("{}@example.com", "a".repeat(65));
        assert_eq!(MailboxKey::parse(&long, Plus::Same), Err(AddressError::LocalPartTooLong));
    }

    #[test]
    fn a_sender_may_have_a_long_local_part() {
        let long = format!("{}@d.test", "x".repeat(MAX_LOCAL_PART + 1));
        assert_eq!(Address::parse(&long), Err(AddressError::LocalPartTooLong));
        assert!(Address::parse_sender(&long).is_ok());
        assert_eq!(Address::parse_sender(&"x".repeat(MAX_PATH)), Err(AddressError::TooLong));
    }

    #[test]
    fn postmaster_gets_a_domain() {
        assert_eq!(Address::postmaster("example.com").unwrap().as_str(), "postmaster@example.com");
        assert!(Address::postmaster("not a domain").is_err());
    }

    fn local() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9+.]{1,12}",
            "\"([ -!#-\\[\\]-~]|\\\\[ -~]){0,12}\"",
            "[a-cA-CäÄßΣςσİıǅÅ\u{212b}\u{308}\u{307}+.]{1,8}",
            "\"[a-zÀ-ʯΑ-ω+@. ]{0,12}\"",
        ]
    }

    fn domain() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9-]{1,8}(\\.[a-zA-Z0-9_-]{1,8}){0,3}",
            "(xn--)?[a-z0-9-]{1,8}\\.[a-z]{2}",
            "[a-zäöüßÄÅ。．ａ-ｚ.]{1,8}",
            "\\[[0-9.]{7,15}\\]",
            "\\[IPv6:[0-9a-fA-F:]{2,20}\\]",
        ]
    }

    proptest! {
        #[test]
        fn shows_what_was_written(local in local(), domain in domain()) {
            let text = format!("{local}@{domain}");
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(address.to_string(), text);
                prop_assert_eq!(Address::parse(address.as_str()), Ok(address));
            }
        }

        #[test]
        fn a_key_is_its_own_key(local in local(), domain in domain()) {
            for plus in [Plus::Same, Plus::Separate] {
                if let Ok(key) = MailboxKey::parse(&format!("{local}@{domain}"), plus) {
                    prop_assert_eq!(MailboxKey::parse(key.as_str(), plus), Ok(key.clone()), "{}", key);
                    prop_assert_eq!(MailboxKey::canonical(key.as_str()), Some(key.clone()));
                    prop_assert!(!key.domain().bytes().any(|b| b.is_ascii_uppercase()));
                    prop_assert!(key.domain().is_ascii());
                }
            }
        }

        #[test]
        fn different_local_parts_have_different_keys(a in "[ -~]{0,20}", b in "[ -~]{0,20}") {
            let write = |local: &str| {
                let escaped = local.replace('\\', "\\\\").replace('"', "\\\"");
                Address::parse(&format!("\"{escaped}\"@example.com")).unwrap().mailbox_key(Plus::Separate)
            };
            prop_assert_eq!(write(&a) == write(&b), a.eq_ignore_ascii_case(&b));
            let key = write(&a);
            prop_assert_eq!(key.local_part(), a.to_ascii_lowercase());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for text in [text, String::from_utf8_lossy(&bytes).into_owned()] {
                for plus in [Plus::Same, Plus::Separate] {
                    let _ = MailboxKey::parse(&text, plus);
                    let stored = MailboxKey::from_stored(&text);
                    let _ = (stored.local_part(), stored.domain());
                }
            }
        }
    }
}
