//! What a part contains: its media type and names, its octets without transfer encoding, its text in UTF-8. Called by
//! [`super::summary`] and [`super::parsed`] on the parts that [`super::structure`] found. Decoders are lenient: what is
//! damaged costs what is damaged, not the rest.

use std::borrow::Cow;

use mail_parser::ContentType;
use mail_parser::decoders::charsets::map::charset_decoder;

use super::structure::{Encoding, Kind, Part};
use super::{clean, header};

/// The MIME fields of a part, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// `type/subtype` in lower case.
    pub media_type: Cow<'static, str>,
    pub charset: Option<String>,
    /// The file name as the sender gave it, decoded (RFC 2231, RFC 2047), not yet safe.
    pub name: Option<String>,
    pub disposition: Disposition,
    /// Without brackets.
    pub content_id: Option<String>,
    pub flowed: Flowed,
}

/// `Content-Disposition` (RFC 2183).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    #[default]
    Unsaid,
    Inline,
    /// `attachment`, and every unknown one (RFC 2183 §2.8).
    Attachment,
}

/// How lines of text go on (RFC 3676).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flowed {
    #[default]
    Fixed,
    Flowed,
    /// `DelSp=yes`: the space at a soft line end is no part of the text.
    DelSp,
}

impl Media {
    /// Reads the fields that the walk kept.
    #[must_use]
    pub fn read(raw: &[u8], part: &Part) -> Self {
        let value = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| raw.get(range));
        let mut media = Self { media_type: Cow::Borrowed("text/plain"), ..Self::default() };
        if part.kind == Kind::Message {
            media.media_type = Cow::Borrowed("message/rfc822");
        }
        if let Some(content_type) = value(&part.content_type).and_then(header::content_type) {
            media.take_type(part, &content_type);
        }
        if let Some(disposition) = value(&part.disposition).and_then(header::content_type) {
            media.disposition = match disposition.ctype() {
                "inline" => Disposition::Inline,
                _ => Disposition::Attachment,
            };
            if let Some(name) = disposition.attribute("filename") {
                media.name = Some(name.to_owned());
            }
        }
        media.content_id = value(&part.content_id).and_then(|value| header::ids(value, 1).pop());
        media
    }

    fn take_type(&mut self, part: &Part, content_type: &ContentType<'_>) {
        // A multipart in which no part was found is shown as the text that it is.
        let broken = part.kind == Kind::Leaf && content_type.ctype() == "multipart";
        if !broken {
            let known = content_type.subtype().filter(|_| !content_type.ctype().is_empty());
            self.media_type = match (content_type.ctype(), known) {
                ("text", Some("plain") | None) => Cow::Borrowed("text/plain"),
                ("text", Some("html")) => Cow::Borrowed("text/html"),
                (_, Some(subtype)) => Cow::Owned(clean::line(&format!("{}/{subtype}", content_type.ctype()), 120)),
                _ => Cow::Borrowed("application/octet-stream"),
            };
        }
        let get = |name| content_type.attribute(name).map(str::to_owned);
        self.charset = get("charset");
        self.name = get("name");
        let yes = |name, value| content_type.attribute(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
        self.flowed = match (yes("format", "flowed"), yes("delsp", "yes")) {
            (true, true) => Flowed::DelSp,
            (true, false) => Flowed::Flowed,
            (false, _) => Flowed::Fixed,
        };
    }

    /// `text/…`: can be shown as text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.media_type.starts_with("text/")
    }

    #[must_use]
    pub fn is_html(&self) -> bool {
        self.media_type == "text/html"
    }
}

/// The octets of a part without its transfer encoding; at most about `limit` of them.
#[must_use]
pub fn octets<'a>(raw: &'a [u8], part: &Part, limit: usize) -> Cow<'a, [u8]> {
    let body = raw.get(part.body.clone()).unwrap_or_default();
    match part.encoding {
        Encoding::Identity => Cow::Borrowed(body.get(..limit).unwrap_or(body)),
        Encoding::QuotedPrintable => Cow::Owned(quoted_printable(body, limit)),
        Encoding::Base64 => Cow::Owned(base64(body, limit)),
    }
}

/// How many octets [`octets`] gives without a limit. Containers are not decoded.
#[must_use]
pub fn size(raw: &[u8], part: &Part) -> usize {
    let body = raw.get(part.body.clone()).unwrap_or_default();
    match part.encoding {
        Encoding::QuotedPrintable if part.kind == Kind::Leaf => quoted_printable(body, usize::MAX).len(),
        Encoding::Base64 if part.kind == Kind::Leaf => base64(body, usize::MAX).len(),
        _ => body.len(),
    }
}

/// The text of a part in UTF-8 with bare LF line ends; at most `limit` octets of it.
#[must_use]
pub fn text(raw: &[u8], part: &Part, media: &Media, limit: usize) -> String {
    // Two octets may become one: a line end, a letter of UTF-16.
    let octets = octets(raw, part, limit.saturating_mul(2));
    let text = decoded(&octets, media.charset.as_deref());
    let mut text = match media.flowed {
        Flowed::Fixed => without_cr(&text),
        Flowed::Flowed => unflowed(&text, false),
        Flowed::DelSp => unflowed(&text, true),
    };
    text.truncate(clean::head(&text, limit).len());
    text
}

/// Text of a declared charset. Undeclared, unknown, ASCII and UTF-8: UTF-8 where valid, windows-1252 where nothing
/// but a declaration says otherwise.
#[must_use]
pub fn decoded<'a>(octets: &'a [u8], charset: Option<&str>) -> Cow<'a, str> {
    let charset = charset.unwrap_or_default().trim();
    if charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8") {
        let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
        // The lossy reader is ten times slower, and most text is whole.
        return std::str::from_utf8(octets).map_or_else(
            |_| {
                let mut text = String::from_utf8_lossy(octets).into_owned();
                // A letter that the limit cut through.
                text.truncate(text.trim_end_matches('\u{fffd}').len());
                Cow::Owned(text)
            },
            Cow::Borrowed,
        );
    }
    let ascii = charset.is_empty() || charset.eq_ignore_ascii_case("us-ascii") || charset.eq_ignore_ascii_case("ascii");
    match charset_decoder(charset.as_bytes()) {
        Some(decode) if !ascii => Cow::Owned(decode(octets)),
        _ => header::undeclared(octets),
    }
}

fn without_cr(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for at in memchr::memchr_iter(b'\r', text.as_bytes()) {
        out.push_str(text.get(from..at).unwrap_or_default());
        from = at + 1;
        if text.as_bytes().get(from) != Some(&b'\n') {
            out.push('\n');
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// Joins the soft line ends of RFC 3676: a line that ends in a space goes on in the next of the same quote depth.
fn unflowed(text: &str, delete_space: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<usize> = None;
    for line in text.lines() {
        let content = line.trim_start_matches('>');
        let depth = line.len() - content.len();
        let content = content.strip_prefix(' ').unwrap_or(content);
        if open == Some(depth) {
            // Goes on where the last line stopped.
        } else {
            if open.is_some() {
                out.push('\n');
            }
            out.extend(std::iter::repeat_n('>', depth));
            if depth > 0 {
                out.push(' ');
            }
        }
        // RFC 3676 §4.3: the signature separator is never soft.
        let soft = content.ends_with(' ') && content != "-- ";
        out.push_str(if soft && delete_space { content.strip_suffix(' ').unwrap_or(content) } else { content });
        open = soft.then_some(depth);
        if !soft {
            out.push('\n');
        }
    }
    out
}

/// RFC 2045 §6.7. An `=` that introduces nothing stands for itself.
#[must_use]
pub fn quoted_printable(body: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len().min(limit));
    let mut rest = body;
    while out.len() < limit {
        let Some(at) = memchr::memchr2(b'=', b'\n', rest) else {
            out.extend_from_slice(rest);
            break;
        };
        let (before, from) = rest.split_at(at);
        if from.starts_with(b"\n") {
            // White space at the end of a line was added on the way.
            let (line, end): (_, &[u8]) = before.strip_suffix(b"\r").map_or((before, b"\n"), |line| (line, b"\r\n"));
            out.extend_from_slice(line.trim_ascii_end());
            out.extend_from_slice(end);
            rest = from.get(1..).unwrap_or_default();
            continue;
        }
        out.extend_from_slice(before);
        let after = from.get(1..).unwrap_or_default();
        let blank = after.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        rest = match (after, after.get(blank)) {
            (_, Some(b'\n')) => after.get(blank + 1..).unwrap_or_default(),
            ([high, low, tail @ ..], _) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                tail
            }
            _ => {
                out.push(b'=');
                after
            }
        };
    }
    out.truncate(limit);
    out
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10) & 0xf,
    }
}

const NO_DIGIT: u8 = 0xff;

const BASE64: [u8; 256] = {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 64 {
        #[expect(clippy::indexing_slicing, reason = "checked by the compiler: this runs at build time")]
        {
            table[digits[value] as usize] = value as u8;
        }
        value += 1;
    }
    table
};

/// RFC 2045 §6.8. What is no digit is passed over; padding in the middle ends a group and the next begins.
#[must_use]
pub fn base64(body: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity((body.len() / 4 * 3 + 3).min(limit.saturating_add(3)));
    let (mut group, mut digits) = (0_u32, 0_u8);
    for &byte in body {
        let digit = BASE64.get(usize::from(byte)).copied().unwrap_or(NO_DIGIT);
        if digit != NO_DIGIT {
            group = group << 6 | u32::from(digit);
            digits += 1;
            if digits == 4 {
                let [_, a, b, c] = group.to_be_bytes();
                out.extend_from_slice(&[a, b, c]);
                (group, digits) = (0, 0);
                if out.len() >= limit {
                    break;
                }
            }
        } else if byte == b'=' {
            end_group(&mut out, group, digits);
            (group, digits) = (0, 0);
        }
    }
    end_group(&mut out, group, digits);
    out.truncate(limit);
    out
}

/// The octets of a group that is not full.
fn end_group(out: &mut Vec<u8>, group: u32, digits: u8) {
    let [_, a, b, _] = (group << (6 * u32::from(4 - digits.min(4)))).to_be_bytes();
    match digits {
        2 => out.push(a),
        3 => out.extend_from_slice(&[a, b]),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::structure::scan;
    use super::*;

    fn first(raw: &[u8]) -> (Media, String) {
        let part = scan(raw).parts[0].clone();
        let media = Media::read(raw, &part);
        let text = text(raw, &part, &media, 1 << 20);
        (media, text)
    }

    #[test]
    fn decodes_transfer_encodings_leniently() {
        let qp = |text: &str| String::from_utf8_lossy(&quoted_printable(text.as_bytes(), 1000)).into_owned();
        assert_eq!(qp("a=3Db=\r\nc  \r\nd= \r\ne=zz=4=\n="), "a=bc\r\nde=zz=4=");
        let b64 = |text: &str| String::from_utf8_lossy(&base64(text.as_bytes(), 1000)).into_owned();
        assert_eq!(b64("aGVs\r\nbG8=\r\n"), "hello");
        assert_eq!(b64("aGVsbG8=d29ybGQ="), "helloworld");
        assert_eq!(b64("aGV*sbG8"), "hello");
        assert_eq!(b64("a"), "");
        assert_eq!(base64(b"aGVsbG8=", 4), b"hell");
    }

    #[test]
    fn reads_charsets_declared_and_not() {
        for (raw, expected) in [
            (&b"\r\nna\xefve"[..], "naïve"),
            (b"\r\nna\xc3\xafve", "naïve"),
            (b"Content-Type: text/plain; charset=us-ascii\r\n\r\nna\xc3\xafve", "naïve"),
            (b"Content-Type: text/plain; charset=utf-8\r\n\r\nna\xefve", "na\u{fffd}ve"),
            (b"Content-Type: text/plain; charset=\"KOI8-R\"\r\n\r\n\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"),
            (b"Content-Type: text/plain; charset=gb18030\r\n\r\n\xc4\xe3\xba\xc3", "你好"),
            (b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B%O%m!<\x1b(B", "ハロー"),
            (b"Content-Type: text/plain; charset=nonsense\r\n\r\nna\xefve", "naïve"),
            (b"Content-Type: text/plain; charset=\"\"\r\n\r\na\r\nb\rc", "a\nb\nc"),
        ] {
            assert_eq!(first(raw).1, expected, "{raw:?}");
        }
    }

    #[test]
    fn joins_flowed_lines() {
        let (media, text) = first(b"Content-Type: text/plain; format=flowed\r\n\r\nOne \r\nline.\r\n> quo \r\n> ted\r\n>> deeper \r\nback\r\n-- \r\nme\r\n");
        assert_eq!(media.flowed, Flowed::Flowed);
        assert_eq!(text, "One line.\n> quo ted\n>> deeper \nback\n-- \nme\n");
        let (_, text) =
            first(b"Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\n\xe4\xbd\xa0 \r\n\xe5\xa5\xbd\r\n");
        assert_eq!(text, "你好\n");
    }

    #[test]
    fn reads_types_and_names() {
        let media = |headers: &str| first(format!("{headers}\r\n\r\n").as_bytes()).0;
        let one = media(
            "Content-Type: Application/PDF; name=\"a.pdf\"\r\nContent-Disposition: attachment; filename*=utf-8''%e2%82%ac.pdf",
        );
        assert_eq!(
            (&*one.media_type, one.name.as_deref(), one.disposition),
            ("application/pdf", Some("€.pdf"), Disposition::Attachment)
        );
        let two = media(
            "Content-Type: image/png; name=\"=?utf-8?B?w6QucG5n?=\"\r\nContent-ID: <x@y>\r\nContent-Disposition: inline",
        );
        assert_eq!(
            (two.name.as_deref(), two.content_id.as_deref(), two.disposition),
            (Some("ä.png"), Some("x@y"), Disposition::Inline)
        );
        let three = media("Content-Type: image/png; name*0=\"long \"; name*1*=utf-8''n%c3%a4me.png");
        assert!(three.name.is_some_and(|name| name.starts_with("long ")));
        assert_eq!(media("Content-Type: text").media_type, "text/plain");
        assert_eq!(media("Content-Type: garbage").media_type, "application/octet-stream");
        assert_eq!(media("Content-Type: ").media_type, "text/plain");
        assert_eq!(media("Content-Type: multipart/mixed; boundary=x").media_type, "text/plain");
    }

    proptest! {
        #[test]
        fn base64_reads_what_was_written(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let mut text = Vec::new();
            for three in octets.chunks(3) {
                let mut group = [0; 3];
                group[..three.len()].copy_from_slice(three);
                let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
                for digit in 0..4 {
                    text.push(if digit <= three.len() { DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] } else { b'=' });
                }
            }
            prop_assert_eq!(base64(&text, usize::MAX), octets);
        }

        #[test]
        fn nothing_exceeds_the_limit(body in proptest::collection::vec(any::<u8>(), 0..200), limit in 0_usize..60) {
            prop_assert!(base64(&body, limit).len() <= limit && quoted_printable(&body, limit).len() <= limit);
            let charset = ["utf-8", "utf-7", "iso-2022-jp", "gb18030", "utf-16", ""];
            for charset in charset {
                let _ = decoded(&body, Some(charset));
            }
        }
    }
}
