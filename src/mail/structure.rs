//! The parts of a message (RFC 2046), found in one pass without recursion. [`super::summary`] and [`super::parsed`]
//! build on it; `mail-parser` decodes single values and never sees a whole message.
//!
//! That crate nests `message/rfc822` without a limit and its `Drop` recurses, which overflows the stack and aborts the
//! process. Here what is open stands on an explicit stack of at most [`MAX_DEPTH`], and a message with more levels or
//! more than [`MAX_PARTS`] parts ends the walk: only its headers are shown. Encoded nested messages are not looked
//! into (RFC 2046 §5.2.1 forbids them); they are attachments.

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem;

use super::header::{self, Line};

/// Multiparts and nested messages around a part.
pub const MAX_DEPTH: usize = 100;
/// Parts of a message, the containers included.
pub const MAX_PARTS: usize = 10_000;

/// The parts in the order in which they stand; the first is the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Never empty. A container stands before what it holds.
    pub parts: Vec<Part>,
    /// The message goes beyond the limits: `parts` has the message itself only, as a leaf.
    pub exceeded: bool,
}

/// An entity: header block and body. Ranges are octets of the whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Index of the container; the message itself has none.
    pub parent: Option<usize>,
    /// How many containers are around it.
    pub depth: usize,
    pub kind: Kind,
    pub header: Range<usize>,
    pub body: Range<usize>,
    /// The raw value of the first `Content-Type`, if there is one.
    pub content_type: Option<Range<usize>>,
    pub disposition: Option<Range<usize>>,
    pub content_id: Option<Range<usize>>,
    pub encoding: Encoding,
}

/// What a part holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Content. Also a multipart that has no boundary or in which it never stands.
    #[default]
    Leaf,
    Multipart(Multipart),
    /// A message: the next part, whose container this is, is that message.
    Message,
}

/// The kinds of multipart that a reader treats differently (RFC 2046 §5.1, 2387, 6522, 1847).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multipart {
    Mixed,
    Alternative,
    Related,
    Digest,
    Report,
    Signed,
}

/// `Content-Transfer-Encoding` (RFC 2045 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// 7bit, 8bit, binary, and what nobody knows.
    #[default]
    Identity,
    QuotedPrintable,
    Base64,
}

/// Finds the parts of `raw`. Linear in its length; line ends are CRLF or bare LF.
#[must_use]
pub fn scan(raw: &[u8]) -> Structure {
    let mut walk = Walk { raw, at: 0, parts: Vec::with_capacity(1), open: Vec::new(), levels: HashMap::new() };
    let exceeded = walk.run().is_err();
    let mut parts = walk.parts;
    if exceeded {
        parts.truncate(1);
        if let Some(message) = parts.first_mut() {
            message.kind = Kind::Leaf;
            message.body.end = raw.len();
        }
    }
    Structure { parts, exceeded }
}

struct Exceeded;

struct Walk<'a> {
    raw: &'a [u8],
    at: usize,
    parts: Vec<Part>,
    open: Vec<Open>,
    /// Where in `open` a boundary is, innermost last. Looked up for each line that begins with two hyphens.
    levels: HashMap<Vec<u8>, Vec<usize>>,
}

/// A container whose end was not seen yet.
struct Open {
    part: usize,
    /// None for a nested message, which ends where what is around it goes on.
    boundary: Option<Vec<u8>>,
    holds_parts: bool,
}

/// A line that is a boundary of something open.
struct Delimiter {
    /// Which of the open ones.
    level: usize,
    closes: bool,
    /// Where the content before it ends: the line end before the delimiter belongs to it (RFC 2046 §5.1.1).
    content_end: usize,
    /// Where the line after it begins.
    next: usize,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Exceeded> {
        loop {
            self.begin_part()?;
            loop {
                let Some(delimiter) = self.delimiter() else {
                    self.close_down_to(0, self.raw.len());
                    return Ok(());
                };
                self.at = delimiter.next;
                self.close_down_to(delimiter.level + 1, delimiter.content_end);
                if !delimiter.closes {
                    break;
                }
                // What stands before the end of a multipart without parts is its content.
                let holds_parts = self.open.last().is_some_and(|open| open.holds_parts);
                let end = if holds_parts { delimiter.next } else { delimiter.content_end };
                self.close_down_to(delimiter.level, end);
            }
        }
    }

    /// Reads header blocks until one belongs to a part that is not a message itself.
    fn begin_part(&mut self) -> Result<(), Exceeded> {
        loop {
            if self.parts.len() >= MAX_PARTS || self.open.len() > MAX_DEPTH {
                return Err(Exceeded);
            }
            let index = self.parts.len();
            if let Some(container) = self.open.last_mut() {
                container.holds_parts = true;
            }
            let (part, boundary) = self.read_header();
            let kind = part.kind;
            self.parts.push(part);
            match kind {
                Kind::Leaf => return Ok(()),
                Kind::Multipart(_) => {
                    let level = self.open.len();
                    self.levels.entry(boundary.clone().unwrap_or_default()).or_default().push(level);
                    self.open.push(Open { part: index, boundary, holds_parts: false });
                    return Ok(());
                }
                Kind::Message => self.open.push(Open { part: index, boundary: None, holds_parts: false }),
            }
        }
    }

    fn read_header(&mut self) -> (Part, Option<Vec<u8>>) {
        let parent = self.open.last().map(|open| open.part);
        let mut part = Part { parent, depth: self.open.len(), ..Part::default() };
        let start = self.at;
        let mut cut = false;
        self.at = loop {
            // A delimiter inside a header block: the part has no body.
            if self.delimiter_at(self.at).is_some() {
                cut = true;
                break self.at;
            }
            match header::line(self.raw, self.at) {
                Line::End { body } => break body,
                Line::Skipped { next } => self.at = next,
                Line::Field { name, value, next } => {
                    self.take_field(&mut part, name, value);
                    self.at = next;
                }
            }
        };
        part.header = start..self.at;
        part.body = self.at..self.raw.len();
        let boundary = if cut { None } else { self.classify(&mut part) };
        (part, boundary)
    }

    fn take_field(&self, part: &mut Part, name: Range<usize>, value: Range<usize>) {
        let name = self.raw.get(name).unwrap_or_default();
        let Some((start, rest)) = name.split_at_checked(8) else { return };
        if !start.eq_ignore_ascii_case(b"content-") {
            return;
        }
        let raw_value = self.raw.get(value.clone()).unwrap_or_default();
        if rest.eq_ignore_ascii_case(b"type") {
            part.content_type.get_or_insert(value);
        } else if rest.eq_ignore_ascii_case(b"disposition") {
            part.disposition.get_or_insert(value);
        } else if rest.eq_ignore_ascii_case(b"id") {
            part.content_id.get_or_insert(value);
        } else if rest.eq_ignore_ascii_case(b"transfer-encoding") {
            part.encoding = encoding(raw_value);
        }
    }

    /// Sets the kind of a part whose header was read; a multipart's boundary is the result.
    fn classify(&self, part: &mut Part) -> Option<Vec<u8>> {
        let Some(value) = part.content_type.clone() else {
            let digest = self.open.last().and_then(|open| self.parts.get(open.part));
            // RFC 2046 §5.1.5: in a digest the default type is message/rfc822.
            if digest.is_some_and(|d| d.kind == Kind::Multipart(Multipart::Digest))
                && part.encoding == Encoding::Identity
            {
                part.kind = Kind::Message;
            }
            return None;
        };
        let value = self.raw.get(value).unwrap_or_default();
        if !may_contain_parts(value) {
            return None;
        }
        let content_type = header::content_type(value)?;
        let subtype = content_type.subtype().unwrap_or_default();
        match content_type.ctype() {
            "message" if matches!(subtype, "rfc822" | "global") && part.encoding == Encoding::Identity => {
                part.kind = Kind::Message;
                None
            }
            "multipart" => {
                let boundary = content_type.attribute("boundary")?.trim_ascii_end().as_bytes().to_vec();
                if boundary.is_empty() {
                    return None;
                }
                part.kind = Kind::Multipart(match subtype {
                    "alternative" => Multipart::Alternative,
                    "related" => Multipart::Related,
                    "digest" => Multipart::Digest,
                    "report" => Multipart::Report,
                    "signed" => Multipart::Signed,
                    _ => Multipart::Mixed,
                });
                Some(boundary)
            }
            _ => None,
        }
    }

    /// The next delimiter of anything open, from the start of a line on.
    fn delimiter(&self) -> Option<Delimiter> {
        if self.levels.is_empty() {
            return None;
        }
        let mut line = self.at;
        loop {
            if let Some(found) = self.delimiter_at(line) {
                return Some(found);
            }
            line += memmem::find(self.raw.get(line..)?, b"\n--")? + 1;
        }
    }

    fn delimiter_at(&self, line: usize) -> Option<Delimiter> {
        let text = self.raw.get(line..)?.strip_prefix(b"--")?;
        if self.levels.is_empty() {
            return None;
        }
        let length = memchr::memchr(b'\n', text);
        let text = text.get(..length.unwrap_or(text.len()))?.trim_ascii_end();
        let level_of = |boundary: &[u8]| self.levels.get(boundary).and_then(|levels| levels.last().copied());
        let opens = level_of(text).map(|level| (level, false));
        let closes = text.strip_suffix(b"--").and_then(level_of).map(|level| (level, true));
        let (level, closes) = opens.max(closes)?;
        let before = self.raw.get(self.at..line)?;
        let content = before.strip_suffix(b"\n").map_or(before, |b| b.strip_suffix(b"\r").unwrap_or(b));
        let next = length.map_or(self.raw.len(), |length| line + 2 + length + 1);
        Some(Delimiter { level, closes, content_end: self.at + content.len(), next })
    }

    /// Ends what is open from `level` up, and the part that was read last, at `end`.
    fn close_down_to(&mut self, level: usize, end: usize) {
        if let Some(last) = self.parts.last_mut()
            && last.body.end == self.raw.len()
        {
            last.body.end = end.max(last.body.start);
        }
        while self.open.len() > level {
            let Some(open) = self.open.pop() else { return };
            self.forget(open.boundary.as_deref());
            if let Some(part) = self.parts.get_mut(open.part) {
                part.body.end = end.max(part.body.start);
                if !open.holds_parts {
                    part.kind = Kind::Leaf;
                }
            }
        }
    }
}

impl Walk<'_> {
    fn forget(&mut self, boundary: Option<&[u8]>) {
        let Some(boundary) = boundary else { return };
        let left = self.levels.get_mut(boundary).map_or(0, |levels| {
            levels.pop();
            levels.len()
        });
        if left == 0 {
            self.levels.remove(boundary);
        }
    }
}

/// Whether a `Content-Type` may be a container, without reading it: parts of other types are the many.
fn may_contain_parts(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let starts = |name: &[u8]| value.get(..name.len()).is_some_and(|v| v.eq_ignore_ascii_case(name));
    starts(b"multipart") || starts(b"message") || value.starts_with(b"(")
}

fn encoding(value: &[u8]) -> Encoding {
    let token = value.trim_ascii().split(|b| matches!(b, b';' | b'(' | b' ' | b'\t')).next().unwrap_or_default();
    let token = token.trim_ascii();
    if token.eq_ignore_ascii_case(b"base64") {
        Encoding::Base64
    } else if token.eq_ignore_ascii_case(b"quoted-printable") {
        Encoding::QuotedPrintable
    } else {
        Encoding::Identity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(raw: &str) -> Vec<(usize, &str)> {
        scan(raw.as_bytes()).parts.iter().map(|p| (p.depth, &raw[p.body.clone()])).collect()
    }

    #[test]
    fn a_plain_message_is_one_part() {
        let raw = "Subject: a\r\n\r\nhello\r\n--x\r\n";
        assert_eq!(bodies(raw), [(0, "hello\r\n--x\r\n")]);
        assert_eq!(bodies(""), [(0, "")]);
        assert_eq!(bodies("no header at all\r\n"), [(0, "no header at all\r\n")]);
        assert_eq!(bodies("A: b"), [(0, "")]);
    }

    #[test]
    fn finds_parts_in_parts() {
        let raw = "Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\r\none\r\n\
            --a b\r\nContent-Type: MULTIPART/Alternative;\r\n boundary=in\r\n\r\n--in\r\n\r\ntwo\r\n\r\n--in  \r\n\
            Content-Type: text/html\r\n\r\nthree\r\n--in--\r\nepilogue\r\n--a b\r\nX: y\r\n--a b--\r\nend\r\n--a b\r\nno\r\n";
        let found = bodies(raw);
        let texts: Vec<_> = found.iter().map(|(depth, text)| (*depth, text.lines().next().unwrap_or(""))).collect();
        assert_eq!(texts, [(0, "preamble"), (1, "one"), (1, "--in"), (2, "two"), (2, "three"), (1, "")]);
        assert_eq!(found[3].1, "two\r\n");
    }

    #[test]
    fn an_outer_boundary_ends_what_is_inside() {
        let raw = "Content-Type: multipart/mixed; boundary=out\n\n--out\nContent-Type: multipart/mixed; boundary=out-2\n\n\
            --out-2\n\na\n--out\nContent-Type: message/rfc822\n\nSubject: n\n\nb\n--out--\n";
        assert_eq!(
            bodies(raw).iter().skip(1).map(|(d, t)| (*d, t.trim())).collect::<Vec<_>>(),
            [(1, "--out-2\n\na"), (2, "a"), (1, "Subject: n\n\nb"), (2, "b")]
        );
    }

    #[test]
    fn a_multipart_without_parts_is_content() {
        for raw in [
            "Content-Type: multipart/mixed; boundary=x\r\n\r\ntext\r\n",
            "Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\ntext\r\n",
            "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\ntext\r\n",
        ] {
            let structure = scan(raw.as_bytes());
            assert_eq!((structure.parts.len(), structure.parts[0].kind), (1, Kind::Leaf), "{raw}");
        }
    }

    #[test]
    fn nested_messages_are_opened_unless_encoded() {
        let nested = |headers: &str| scan(format!("{headers}\r\n\r\nSubject: in\r\n\r\nx").as_bytes()).parts.len();
        assert_eq!(nested("Content-Type: message/rfc822"), 2);
        assert_eq!(nested("content-type:\r\n Message/RFC822 (a comment)"), 2);
        assert_eq!(nested("Content-Type: (c) message/global"), 2);
        assert_eq!(nested("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: BASE64"), 1);
        assert_eq!(nested("Content-Type: message/delivery-status"), 1);
        let digest =
            "Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: a\n\nA\n--d\n\nSubject: b\n\nB\n--d--\n";
        let kinds: Vec<_> = scan(digest.as_bytes()).parts.iter().map(|p| p.kind).collect();
        assert_eq!(kinds, [Kind::Multipart(Multipart::Digest), Kind::Message, Kind::Leaf, Kind::Message, Kind::Leaf]);
    }

    /// A small stack shows that nothing recurses with the depth of a message.
    fn on_a_small_stack(raw: Vec<u8>) -> Structure {
        std::thread::Builder::new().stack_size(64 * 1024).spawn(move || scan(&raw)).unwrap().join().unwrap()
    }

    #[test]
    fn gives_up_beyond_the_limits() {
        let deep = b"Content-Type: message/rfc822\r\n\r\n".repeat(300_000);
        let wide = [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec(), b"--b\r\n\r\nx\r\n".repeat(100_000)]
            .concat();
        let mut both = Vec::new();
        for level in 0..100_000 {
            both.extend_from_slice(
                format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n").as_bytes(),
            );
            both.extend_from_slice(b"Content-Type: message/rfc822\n\n");
        }
        for raw in [deep, wide, both] {
            let structure = on_a_small_stack(raw);
            assert!(structure.exceeded);
            assert_eq!((structure.parts.len(), structure.parts[0].kind), (1, Kind::Leaf));
        }
    }

    #[test]
    fn takes_what_is_just_within_the_limits() {
        let deep = scan(&b"Content-Type: message/rfc822\r\n\r\n".repeat(MAX_DEPTH));
        assert_eq!((deep.exceeded, deep.parts.len()), (false, MAX_DEPTH + 1));
        assert!(scan(&b"Content-Type: message/rfc822\r\n\r\n".repeat(MAX_DEPTH + 1)).exceeded);
        let wide = |parts| {
            let head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
            scan(&[head, b"--b\r\n\r\nx\r\n".repeat(parts)].concat())
        };
        assert_eq!((wide(MAX_PARTS - 1).exceeded, wide(MAX_PARTS - 1).parts.len()), (false, MAX_PARTS));
        assert!(wide(MAX_PARTS).exceeded);
    }

    #[test]
    fn hostile_delimiters_cost_linear_time() {
        let mut raw = Vec::new();
        for level in 0..MAX_DEPTH {
            raw.extend_from_slice(
                format!("Content-Type: multipart/mixed; boundary=b{level:03}\n\n--b{level:03}\n").as_bytes(),
            );
        }
        raw.extend_from_slice(b"\n");
        raw.extend(b"--bxxx\n".repeat(100_000));
        let begun = std::time::Instant::now();
        assert_eq!(scan(&raw).parts.len(), MAX_DEPTH + 1);
        // A debug build of the quadratic way takes hours, this one a few seconds at worst.
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }

    /// A message and how many parts it has, as a well-behaved sender would write it.
    fn entity(nested: bool) -> impl Strategy<Value = (String, usize)> {
        let leaf = "[a-z ]{0,20}".prop_map(|text| (format!("Content-Type: text/plain\r\n\r\n{text}"), 1));
        leaf.prop_recursive(6, 60, 4, move |inner| {
            let multipart =
                (proptest::collection::vec(inner.clone(), 1..4), "[a-z]{8}").prop_map(|(children, boundary)| {
                    let mut text = format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n");
                    for (child, _) in &children {
                        text.push_str(&format!("--{boundary}\r\n{child}\r\n"));
                    }
                    text.push_str(&format!("--{boundary}--\r\n"));
                    (text, children.iter().map(|(_, parts)| parts).sum::<usize>() + 1)
                });
            let message =
                inner.prop_map(|(text, parts)| (format!("Content-Type: message/rfc822\r\n\r\n{text}"), parts + 1));
            if nested { prop_oneof![message, multipart].boxed() } else { multipart.boxed() }
        })
    }

    proptest! {
        #[test]
        fn finds_the_parts_that_were_written((text, parts) in entity(true)) {
            prop_assert_eq!(scan(text.as_bytes()).parts.len(), parts);
        }

        /// Without nested messages, over which mail-parser 0.11 trips in a debug build.
        #[test]
        fn agrees_with_an_independent_reader((text, _) in entity(false)) {
            let other = mail_parser::MessageParser::default().parse(text.as_bytes()).unwrap();
            let ours = scan(text.as_bytes());
            prop_assert_eq!(ours.parts.len(), other.parts.len());
            for (ours, theirs) in ours.parts.iter().zip(&other.parts) {
                prop_assert_eq!(ours.header.start, theirs.offset_header as usize);
                prop_assert_eq!(ours.body.start, theirs.offset_body as usize);
            }
        }

        #[test]
        fn keeps_its_promises_on_any_lines(lines in proptest::collection::vec(prop_oneof![
            Just("Content-Type: multipart/mixed; boundary=a"), Just("Content-Type: multipart/digest; boundary=aa"),
            Just("Content-Type: message/rfc822"), Just("--a"), Just("--a--"), Just("--aa"), Just("--aa--"), Just(""),
            Just(" folded"), Just("text"), Just("Content-Transfer-Encoding: base64"), Just("From x"),
        ], 0..60), end in prop_oneof![Just("\r\n"), Just("\n")]) {
            let raw = lines.join(end);
            let structure = scan(raw.as_bytes());
            prop_assert!(!structure.exceeded);
            for (index, part) in structure.parts.iter().enumerate() {
                prop_assert!(part.header.end == part.body.start && part.body.end <= raw.len());
                prop_assert!(part.body.start <= part.body.end);
                if let Some(parent) = part.parent {
                    let around = &structure.parts[parent];
                    prop_assert!(parent < index && part.depth == around.depth + 1 && around.kind != Kind::Leaf);
                    prop_assert!(around.body.start <= part.header.start && part.body.end <= around.body.end);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = scan(&raw);
        }
    }
}
