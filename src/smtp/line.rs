//! Command lines out of a stream that is split anywhere.
//!
//! A line that is whole in the input is lent from there. One that comes in pieces is kept, up to the limit, and its buffer
//! is given away with the line, so that an idle session holds none.

use std::borrow::Cow;

use memchr::memchr;

/// What the input held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// All of it was taken and the line goes on.
    Incomplete,
    Ended {
        /// The line without its end; `None` for one over the limit.
        text: Option<Cow<'a, [u8]>>,
        /// It ended with LF alone.
        bare_lf: bool,
    },
}

/// The beginning of a line that has not ended yet.
#[derive(Debug)]
pub(super) enum LineReader {
    Within(Vec<u8>),
    /// Over the limit: nothing is kept but whether the last octet was CR.
    TooLong {
        after_cr: bool,
    },
}

impl LineReader {
    pub(super) const fn new() -> Self {
        Self::Within(Vec::new())
    }

    /// Octets held.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Within(kept) => kept.len(),
            Self::TooLong { .. } => 0,
        }
    }

    /// Takes input up to the end of the line. `limit` counts the line end (RFC 5321 §4.5.3.1.4).
    ///
    /// Gives how many octets were taken, and the line.
    pub(super) fn read<'a>(&mut self, input: &'a [u8], limit: usize) -> (usize, Line<'a>) {
        let Some(lf) = memchr(b'\n', input) else {
            self.keep(input, limit);
            return (input.len(), Line::Incomplete);
        };
        let (head, _) = input.split_at(lf + 1);
        let line = match std::mem::replace(self, Self::new()) {
            Self::Within(kept) if kept.len() + head.len() > limit => too_long(head, kept.ends_with(b"\r")),
            Self::Within(kept) if kept.is_empty() => whole(head),
            Self::Within(mut kept) => {
                kept.extend_from_slice(head);
                let bare_lf = !kept.ends_with(b"\r\n");
                kept.truncate(kept.len() - if bare_lf { 1 } else { 2 });
                Line::Ended { text: Some(Cow::Owned(kept)), bare_lf }
            }
            Self::TooLong { after_cr } => too_long(head, after_cr),
        };
        (head.len(), line)
    }

    fn keep(&mut self, input: &[u8], limit: usize) {
        let Some(&last) = input.last() else { return };
        match self {
            Self::Within(kept) if kept.len() + input.len() <= limit => kept.extend_from_slice(input),
            _ => *self = Self::TooLong { after_cr: last == b'\r' },
        }
    }
}

fn whole(head: &[u8]) -> Line<'_> {
    let (text, bare_lf) = match head.strip_suffix(b"\r\n") {
        Some(text) => (text, false),
        None => (head.strip_suffix(b"\n").unwrap_or(head), true),
    };
    Line::Ended { text: Some(Cow::Borrowed(text)), bare_lf }
}

/// `head` ends with LF; `after_cr` is whether a CR came just before it.
fn too_long(head: &[u8], after_cr: bool) -> Line<'_> {
    let ends_with_crlf = if head.len() == 1 { after_cr } else { head.ends_with(b"\r\n") };
    Line::Ended { text: None, bare_lf: !ends_with_crlf }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(Option<Vec<u8>>, bool)> {
        let mut reader = LineReader::new();
        let mut lines = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, line) = reader.read(rest, 8);
                if let Line::Ended { text, bare_lf } = line {
                    lines.push((text.map(Cow::into_owned), bare_lf));
                }
                rest = &rest[taken..];
            }
        }
        lines
    }

    #[test]
    fn lines_are_the_same_at_every_split() {
        let input = b"NOOP\r\n\r\n123456\r\n1234567\r\nlf\ncr\r\r\nlong and lf\nlong and crlf\r\n\rx\r\n1234567\nA\r\n";
        let lines = read(&[input]);
        let text = |text: &[u8]| Some(text.to_vec());
        let expected = [
            (text(b"NOOP"), false),
            (text(b""), false),
            (text(b"123456"), false),
            (None, false),
            (text(b"lf"), true),
            (text(b"cr\r"), false),
            (None, true),
            (None, false),
            (text(b"\rx"), false),
            (text(b"1234567"), true),
            (text(b"A"), false),
        ];
        assert_eq!(lines, expected);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(read(&bytes), expected);
        for at in 0..input.len() {
            assert_eq!(read(&[&input[..at], &input[at..]]), expected, "split at {at}");
        }
    }

    #[test]
    fn holds_no_buffer_between_lines_and_never_more_than_the_limit() {
        let mut reader = LineReader::new();
        reader.read(b"NOO", 8);
        reader.read(b"P\r\n", 8);
        assert!(matches!(&reader, LineReader::Within(kept) if kept.capacity() == 0));
        for _ in 0..100 {
            reader.read(b"xxxx", 8);
            assert!(!matches!(&reader, LineReader::Within(kept) if kept.len() > 8));
        }
    }
}
