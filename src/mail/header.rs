//! Header blocks: one field after the other with its raw value (RFC 5322 §2.2), and the values decoded.
//!
//! [`super::structure`] walks blocks with [`line()`], the views of a message decode values with the rest. Everything is
//! linear: `mail-parser` decodes the values, but gets bounded ones, because it rescans what is unterminated.

use std::borrow::Cow;
use std::ops::Range;

use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::parsers::MessageStream;
use mail_parser::{ContentType, HeaderValue};

use super::summary::Party;
use super::time::Timestamp;
use super::{clean, content};

/// Octets of a value that are decoded; what is longer is cut.
const MAX_VALUE: usize = 16 * 1024;
/// Octets of an address list that are decoded: some 2,000 addresses.
const MAX_LIST: usize = 128 * 1024;
/// Octets of a structured MIME field that are read.
const MAX_MIME: usize = 4 * 1024;

/// What stands at a place in a header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A field and where the next line begins.
    Field { name: Range<usize>, value: Range<usize>, next: usize },
    /// A line that is no field but belongs to no body either: the `From ` line of an mbox.
    Skipped { next: usize },
    /// The block is over; the body begins at `body`, behind an empty line or at a line that is no field.
    End { body: usize },
}

/// Reads what begins at `at`, which must be the start of a line. The value is raw: folded, without its last line end.
#[must_use]
pub fn line(raw: &[u8], at: usize) -> Line {
    let rest = raw.get(at..).unwrap_or_default();
    match rest {
        [] => return Line::End { body: raw.len() },
        [b'\n', ..] => return Line::End { body: at + 1 },
        [b'\r', b'\n', ..] => return Line::End { body: at + 2 },
        _ => {}
    }
    let length = rest.iter().take_while(|&&b| (b'!'..=b'~').contains(&b) && b != b':').count();
    let blank = rest.iter().skip(length).take_while(|&&b| b == b' ' || b == b'\t').count();
    let colon = length + blank;
    if length == 0 || rest.get(colon) != Some(&b':') {
        if rest.starts_with(b"From ") || rest.starts_with(b">From ") {
            return Line::Skipped { next: at + memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1) };
        }
        return Line::End { body: at };
    }
    let mut end = colon + 1;
    loop {
        let Some(offset) = rest.get(end..).and_then(|tail| memchr::memchr(b'\n', tail)) else {
            end = rest.len();
            break;
        };
        end += offset + 1;
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    let value = rest.get(colon + 1..end).unwrap_or_default();
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let start = at + colon + 1;
    Line::Field { name: at..at + length, value: start..start + value.len(), next: at + end }
}

/// The fields of the block that begins at `at`, as raw names and values.
pub fn fields(raw: &[u8], at: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = at;
    std::iter::from_fn(move || {
        loop {
            match line(raw, at) {
                Line::Field { name, value, next } => {
                    at = next;
                    return Some((raw.get(name)?, raw.get(value)?));
                }
                Line::Skipped { next } => at = next,
                Line::End { .. } => return None,
            }
        }
    })
}

/// UTF-8 where it is valid, otherwise windows-1252: what undeclared 8-bit text mostly is.
#[must_use]
pub fn undeclared(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // Cut inside a letter: the rest is fine.
        Err(error)
            if error.error_len().is_none() && bytes.len() - error.valid_up_to() < 4 && error.valid_up_to() > 0 =>
        {
            String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default())
        }
        Err(_) => Cow::Owned(
            charset_decoder(b"windows-1252")
                .map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), |decode| decode(bytes)),
        ),
    }
}

/// An unstructured value (RFC 5322 §2.2.1): unfolded, encoded words decoded, cleaned for display, at most `limit`
/// characters.
#[must_use]
pub fn text(value: &[u8], limit: usize) -> String {
    let value = prepared(value, MAX_VALUE);
    if value.contains("=?") { clean::line(&without_words(&value), limit) } else { clean::line(&value, limit) }
}

/// Decodes the words that [`joined_words`] left. White space between two of them is no part of the text (RFC 2047
/// §6.2); where a sender forgot it around a word, none is added.
fn without_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut behind_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at_checked(start).unwrap_or((rest, ""));
        let Some(word) = word(from) else {
            out.push_str(before);
            out.push_str("=?");
            rest = from.get(2..).unwrap_or_default();
            behind_word = false;
            continue;
        };
        if !(behind_word && before.chars().all(char::is_whitespace)) {
            out.push_str(before);
        }
        out.push_str(&word.decoded());
        rest = from.get(word.length..).unwrap_or_default();
        behind_word = true;
    }
    out.push_str(rest);
    out
}

/// The addresses of a list, at most `limit`; the names of groups are left out.
#[must_use]
pub fn addresses(value: &[u8], limit: usize) -> Vec<Party> {
    const MAX_NAME: usize = 256;
    let value = prepared(value, MAX_LIST);
    let HeaderValue::Address(list) = MessageStream::new(value.as_bytes()).parse_address() else {
        return Vec::new();
    };
    let cleaned = |text: Option<&str>, limit| text.map(|t| clean::line(t, limit)).filter(|t| !t.is_empty());
    list.iter()
        .map(|one| Party { name: cleaned(one.name(), MAX_NAME), address: cleaned(one.address(), 2 * MAX_NAME) })
        .filter(|party| party.name.is_some() || party.address.is_some())
        .take(limit)
        .collect()
}

/// A date (RFC 5322 §3.3), also in its obsolete forms.
#[must_use]
pub fn date(value: &[u8]) -> Option<Timestamp> {
    let value = prepared(value, 256);
    match MessageStream::new(value.as_bytes()).parse_date() {
        HeaderValue::DateTime(date) if date.is_valid() => Some(Timestamp::from_seconds(date.to_timestamp())),
        _ => None,
    }
}

/// Message ids without their brackets, at most `limit`.
#[must_use]
pub fn ids(value: &[u8], limit: usize) -> Vec<String> {
    let value = prepared(value, MAX_LIST);
    let list = MessageStream::new(value.as_bytes()).parse_id();
    let ids = list.as_text_list().unwrap_or_default();
    ids.iter().map(|id| clean::line(id, 998)).filter(|id| !id.is_empty()).take(limit).collect()
}

/// `Content-Type` or `Content-Disposition` with its parameters (RFC 2045 §5.1, RFC 2183, RFC 2231).
#[must_use]
pub fn content_type(value: &[u8]) -> Option<ContentType<'static>> {
    let value = prepared(value, MAX_MIME);
    match MessageStream::new(value.as_bytes()).parse_content_type().into_owned() {
        HeaderValue::ContentType(content_type) => Some(content_type),
        _ => None,
    }
}

/// The value as the decoders want it: UTF-8, bounded, encoded words of one text joined, with a line end.
fn prepared(value: &[u8], limit: usize) -> String {
    let cut = value.get(..limit).unwrap_or(value);
    let text = undeclared(cut);
    let mut text = if text.contains("=?") { joined_words(&text) } else { text.into_owned() };
    text.push('\n');
    text
}

/// An encoded word `=?charset?encoding?data?=` (RFC 2047 §2) at the start of `text`.
struct Word<'a> {
    /// `charset?encoding`.
    kind: &'a str,
    data: &'a str,
    length: usize,
}

impl Word<'_> {
    fn decoded(&self) -> String {
        let (charset, encoding) = self.kind.rsplit_once('?').unwrap_or((self.kind, "Q"));
        // RFC 2231 §5 lets a language follow the charset.
        let charset = charset.split('*').next().unwrap_or_default();
        let octets = if encoding.eq_ignore_ascii_case("B") {
            content::base64(self.data.as_bytes(), usize::MAX)
        } else {
            content::quoted_printable(self.data.replace('_', " ").as_bytes(), usize::MAX)
        };
        content::decoded(&octets, Some(charset)).into_owned()
    }
}

fn word(text: &str) -> Option<Word<'_>> {
    /// RFC 2047 allows 75 characters in all; joined ones are longer.
    const LONGEST: usize = 16 * 1024;
    let inner = text.strip_prefix("=?")?;
    let charset = clean::head(inner, 80).find('?')?;
    let coded = inner.get(charset + 1..)?;
    let encoding = coded.as_bytes().first()?;
    if !matches!(encoding, b'B' | b'b' | b'Q' | b'q') || coded.as_bytes().get(1) != Some(&b'?') {
        return None;
    }
    let data = clean::head(coded.get(2..)?, LONGEST);
    let end = data.find("?=")?;
    if data.get(..end)?.contains("=?") {
        // The end belongs to another word.
        return None;
    }
    Some(Word { kind: inner.get(..charset + 2)?, data: data.get(..end)?, length: 2 + charset + 3 + end + 2 })
}

/// Joins neighbours of one charset and encoding: many senders cut in the middle of a letter, which a decoder that
/// takes word by word cannot read. Beginnings of words that do not go on are left alone up to a number; each makes the
/// decoder look ahead to the end of the value, so further ones get a zero-width space, which cleaning takes out.
fn joined_words(text: &str) -> String {
    const MAX_BROKEN: usize = 16;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut open: Option<&str> = None;
    let mut broken = 0;
    // Without it each look for an end would go through the whole value.
    let mut ends = rest.contains("?=");
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at_checked(start).unwrap_or((rest, ""));
        let Some(word) = (if ends { word(from) } else { None }) else {
            close(&mut out, &mut open);
            out.push_str(before);
            broken += 1;
            out.push_str(if broken > MAX_BROKEN { "=\u{200b}?" } else { "=?" });
            rest = from.get(2..).unwrap_or_default();
            ends = ends && rest.len() > 2 && (broken % MAX_BROKEN != 0 || rest.contains("?="));
            continue;
        };
        let gap = before.chars().all(char::is_whitespace);
        // Words of iso-2022-jp begin and end in ASCII; joined, their shifts would meet and be taken for an error.
        let shifts = word.kind.get(..8).is_some_and(|charset| charset.eq_ignore_ascii_case("iso-2022"));
        if !(gap && !shifts && open.is_some_and(|kind| kind.eq_ignore_ascii_case(word.kind))) {
            close(&mut out, &mut open);
            out.push_str(before);
            out.push_str("=?");
            out.push_str(word.kind);
            out.push('?');
            open = Some(word.kind);
        }
        out.push_str(word.data);
        rest = from.get(word.length..).unwrap_or_default();
    }
    close(&mut out, &mut open);
    out.push_str(rest);
    out
}

fn close(out: &mut String, open: &mut Option<&str>) {
    if open.take().is_some() {
        out.push_str("?=");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_unstructured_text() {
        for (raw, expected) in [
            (&b" Hello\r\n world"[..], "Hello world"),
            (b" =?utf-8?Q?J=C3=B6rg?= says =?iso-8859-1?Q?hall=F6?=", "Jörg says hallö"),
            (b" =?utf-8?B?44GT44KT?=\r\n =?utf-8?B?44Gr44Gh44Gv?=", "こんにちは"),
            (b" =?utf-8?B?44GT4w==?= =?utf-8?B?gpM=?=", "こん"),
            (b" =?utf-8?Q?=E3=81=93=E3?= =?UTF-8?q?=82=93?=", "こん"),
            (b" =?iso-2022-jp?B?GyRCJUYlOSVIGyhC?= =?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=", "テストテスト"),
            (b" J\xf6rg", "Jörg"),
            (b" J\xc3\xb6rg", "Jörg"),
            (b" =?utf-8?Q?broken", "=?utf-8?Q?broken"),
            (b" =?nonsense", "=?nonsense"),
            (b" a =?x?= b", "a =?x?= b"),
            (b" a=?utf-8?Q?=C3=A4?=b=?utf-8*de?Q?_=C3=B6?=", "a\u{e4}b \u{f6}"),
            (b" =?utf-8?Q?one?=  =?iso-8859-1?Q?two?= three", "onetwo three"),
            (b" =?utf-8?Q?open =?utf-8?B?dHdv?=", "=?utf-8?Q?open two"),
            (b"", ""),
        ] {
            assert_eq!(text(raw, 1000), expected, "{raw:?}");
        }
    }

    #[test]
    fn decodes_addresses() {
        let party = |name: &str, address: &str| Party {
            name: (!name.is_empty()).then(|| name.to_owned()),
            address: (!address.is_empty()).then(|| address.to_owned()),
        };
        assert_eq!(
            addresses(b" \"Smith, Bob\" <bob@a.b>, c@d (Carl), =?utf-8?Q?J=C3=B6rg?= <j@x>, G: e@f, g@h;", 10),
            [
                party("Smith, Bob", "bob@a.b"),
                party("Carl", "c@d"),
                party("Jörg", "j@x"),
                party("", "e@f"),
                party("", "g@h")
            ]
        );
        assert_eq!(addresses(b" undisclosed-recipients:;", 10), []);
        assert_eq!(addresses(b" a@b, c@d, e@f", 2).len(), 2);
        assert_eq!(addresses(b" \"unterminated <a@b>", 2).len(), 1);
    }

    #[test]
    fn reads_dates_and_ids() {
        assert_eq!(date(b" Sat, 21 Nov 2026 10:30:00 +0100"), Timestamp::parse("2026-11-21T09:30:00Z"));
        assert_eq!(date(b" soon"), None);
        assert_eq!(ids(b" <a@b>\r\n <c@d>", 10), ["a@b", "c@d"]);
        assert_eq!(ids(b" ", 10), [""; 0]);
    }

    #[test]
    fn ends_a_block_at_an_empty_line_or_at_what_is_no_field() {
        assert_eq!(line(b"\r\nx", 0), Line::End { body: 2 });
        assert_eq!(line(b"Hello there\r\n", 0), Line::End { body: 0 });
        assert_eq!(line(b"Dear Bob: hello\r\n", 0), Line::End { body: 0 });
        assert_eq!(line(b"From a@b Sat\r\nA: b", 0), Line::Skipped { next: 14 });
        assert_eq!(line(b"A : b\r\n c\r\n\r\n", 0), Line::Field { name: 0..1, value: 3..9, next: 11 });
        assert_eq!(line(b"A:", 0), Line::Field { name: 0..1, value: 2..2, next: 2 });
    }

    #[test]
    fn unterminated_words_take_no_time() {
        let hostile = b"=?utf-8?q?".repeat(100_000);
        let begun = std::time::Instant::now();
        let _ = (text(&hostile, 1000), addresses(&hostile, 50), ids(&hostile, 50), content_type(&hostile));
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..200), text_value in "[ =?QBqb<>@,:;\"()a-f8\\\\-]{0,60}") {
            for value in [&value[..], text_value.as_bytes()] {
                let unfolded: Vec<u8> = value.iter().copied().filter(|b| *b != b'\n').collect();
                let _ = (text(&unfolded, 100), addresses(&unfolded, 5), date(&unfolded), ids(&unfolded, 5), content_type(&unfolded));
                let _ = fields(value, 0).count();
            }
        }
    }
}
