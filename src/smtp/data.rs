//! The text of a message between DATA and its end: dot-stuffing (RFC 5321 §4.5.2), line ends, limits.
//!
//! [`Decoder`] takes what the client sends, split anywhere, and gives the message; [`encode`] is its inverse. The data
//! ends with CRLF "." CRLF, or "." CRLF at its very beginning, and with nothing else: no lone CR or LF counts as
//! the end of a line there, in either mode, so no message can hide a second one. Once a [`Fault`] is found, nothing more is
//! stored, but the data is read to its real end, so that the refusal answers the dot and the session goes on.

use memchr::{memchr, memchr3};

use super::reply::{self, Reply};

/// What happens to a CR or an LF that stands alone, and to NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// The message is refused (550 5.6.0). Default: what they mean differs from server to server, which is how
    /// messages are smuggled.
    #[default]
    Refuse,
    /// Each becomes CRLF and NUL is left out, for clients that cannot be mended. Also accepts commands that end in LF.
    Normalise,
}

/// Bounds of one message; sizes in octets as stored (dot-stuffing undone, line ends included).
#[derive(Clone, Copy, Debug)]
pub struct DataLimits {
    pub message: usize,
    /// The header section, up to the first empty line.
    pub header: usize,
    /// One line without its CRLF.
    pub line: usize,
    pub line_ends: LineEnds,
}

/// Why a message is refused at its end. When several apply, the greatest is reported, however the input was split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The caller has no room for more of it.
    OutOfRoom,
    LineTooLong,
    HeaderTooBig,
    Nul,
    BareCr,
    BareLf,
    MessageTooBig,
}

impl Fault {
    #[must_use]
    pub const fn reply(self) -> Reply {
        match self {
            Self::OutOfRoom => reply::INSUFFICIENT_STORAGE,
            Self::LineTooLong => reply::LINE_TOO_LONG,
            Self::HeaderTooBig => reply::HEADER_TOO_BIG,
            Self::Nul => reply::NUL,
            Self::BareCr => reply::BARE_CR,
            Self::BareLf => reply::BARE_LF,
            Self::MessageTooBig => reply::MESSAGE_TOO_BIG,
        }
    }
}

/// Where in a line the decoder is. What a state has seen but not stored yet is in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of the data, or after CRLF.
    LineStart,
    /// A "." at the start of a line: stuffed, or the end.
    Dot,
    /// A "." and CR at the start of a line.
    DotCr,
    /// Inside a line.
    Text,
    /// CR inside a line.
    Cr,
    /// After the end of the data.
    End,
}

/// Undoes dot-stuffing and finds the end of the data, a piece at a time.
#[derive(Debug)]
pub struct Decoder {
    limits: DataLimits,
    state: State,
    fault: Option<Fault>,
    /// Octets of the message so far, stored or not.
    size: usize,
    /// Octets of the current line so far.
    line: usize,
    in_header: bool,
}

impl Decoder {
    #[must_use]
    pub const fn new(limits: DataLimits) -> Self {
        Self { limits, state: State::LineStart, fault: None, size: 0, line: 0, in_header: true }
    }

    /// Takes the next piece of input and appends what it means to `message`, which is emptied at the first fault.
    ///
    /// Returns how many octets were taken: all of them, unless the end of the data came first.
    pub fn decode(&mut self, input: &[u8], message: &mut Vec<u8>) -> usize {
        let mut rest = input;
        while let Some((&byte, after)) = rest.split_first() {
            match (self.state, byte) {
                (State::End, _) => break,
                (State::LineStart, b'.') => (self.state, rest) = (State::Dot, after),
                (State::Dot, b'\r') => (self.state, rest) = (State::DotCr, after),
                (State::DotCr, b'\n') => (self.state, rest) = (State::End, after),
                (State::Cr, b'\n') => {
                    self.end_line(message);
                    (self.state, rest) = (State::LineStart, after);
                }
                // The CR stood alone; what follows it is looked at again as text.
                (State::Cr | State::DotCr, _) => {
                    self.bare_line_end(Fault::BareCr, message);
                    self.state = State::Text;
                }
                (State::LineStart, _) => {
                    rest = self.lines(rest, message);
                    // What is left begins with a line that is not whole yet, is not clean, or has a dot in front.
                    if rest.first().is_some_and(|&byte| byte != b'.') {
                        self.state = State::Text;
                    }
                }
                (State::Dot | State::Text, _) => {
                    self.state = State::Text;
                    rest = self.text(rest, message);
                }
            }
        }
        input.len() - rest.len()
    }

    /// Whether the end of the data was seen.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// Octets of the message so far, stored or not.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// What is wrong with the message so far.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Gives the message up: what follows is swallowed to its end, then refused with [`Fault::OutOfRoom`].
    pub fn give_up(&mut self, message: &mut Vec<u8>) {
        self.fail(Fault::OutOfRoom, message);
    }

    /// Stores the whole lines at the start of the input, which is at the start of a line, in one go: the fast path of
    /// ordinary mail. Stops before a line that is not plain text and CRLF, and after the end of the header. Returns what
    /// follows.
    fn lines<'a>(&mut self, input: &'a [u8], message: &mut Vec<u8>) -> &'a [u8] {
        let mut end = 0;
        let mut line_is_empty = false;
        while !(self.in_header && line_is_empty)
            && let Some(after) = input.get(end..)
            && after.first() != Some(&b'.')
            && let Some(length) = memchr3(b'\r', b'\n', 0, after)
            && after.get(length..length + 2) == Some(b"\r\n")
        {
            if length > self.limits.line {
                self.fail(Fault::LineTooLong, message);
            }
            line_is_empty = length == 0;
            end += length + 2;
        }
        let (lines, rest) = input.split_at(end);
        self.store(lines, message);
        self.in_header &= !line_is_empty;
        rest
    }

    /// Stores text up to the next CR, LF or NUL and takes that one too. Returns what follows.
    fn text<'a>(&mut self, input: &'a [u8], message: &mut Vec<u8>) -> &'a [u8] {
        let (text, rest) = input.split_at(memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len()));
        if !text.is_empty() {
            self.line += text.len();
            if self.line > self.limits.line {
                self.fail(Fault::LineTooLong, message);
            }
            self.store(text, message);
        }
        match rest.split_first() {
            Some((b'\r', after)) => {
                self.state = State::Cr;
                after
            }
            Some((b'\n', after)) => {
                self.bare_line_end(Fault::BareLf, message);
                after
            }
            Some((_nul, after)) => {
                if self.limits.line_ends == LineEnds::Refuse {
                    self.fail(Fault::Nul, message);
                }
                after
            }
            None => rest,
        }
    }

    fn bare_line_end(&mut self, fault: Fault, message: &mut Vec<u8>) {
        match self.limits.line_ends {
            LineEnds::Refuse => self.fail(fault, message),
            LineEnds::Normalise => self.end_line(message),
        }
    }

    fn end_line(&mut self, message: &mut Vec<u8>) {
        self.store(b"\r\n", message);
        if self.line == 0 {
            self.in_header = false;
        }
        self.line = 0;
    }

    fn store(&mut self, bytes: &[u8], message: &mut Vec<u8>) {
        self.size = self.size.saturating_add(bytes.len());
        if self.in_header && self.size > self.limits.header {
            self.fail(Fault::HeaderTooBig, message);
        }
        if self.size > self.limits.message {
            self.fail(Fault::MessageTooBig, message);
        }
        if self.fault.is_none() {
            message.extend_from_slice(bytes);
        }
    }

    fn fail(&mut self, fault: Fault, message: &mut Vec<u8>) {
        self.fault = self.fault.max(Some(fault));
        *message = Vec::new();
    }
}

/// Appends `message` as it goes over the wire after DATA: dots at the start of a line doubled, and the end of the data.
///
/// `message` has CRLF line ends; a last line without one gets it. Should a lone LF be in it all the same, a dot after it is
/// doubled too: there are servers that would end the data there.
pub fn encode(message: &[u8], out: &mut Vec<u8>) {
    let mut rest = message;
    while !rest.is_empty() {
        if rest.first() == Some(&b'.') {
            out.push(b'.');
        }
        let (line, after) = rest.split_at(line_length(rest));
        out.extend_from_slice(line);
        rest = after;
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

/// Octets up to and with the first LF, or all of them.
fn line_length(text: &[u8]) -> usize {
    memchr(b'\n', text).map_or(text.len(), |lf| lf + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: DataLimits =
        DataLimits { message: 100_000, header: 100_000, line: 100_000, line_ends: LineEnds::Refuse };
    const NORMALISE: DataLimits = DataLimits { line_ends: LineEnds::Normalise, ..LIMITS };

    #[derive(Debug, PartialEq)]
    struct Decoded {
        message: Vec<u8>,
        fault: Option<Fault>,
        ended: bool,
        taken: usize,
    }

    fn decode(limits: DataLimits, pieces: &[&[u8]]) -> Decoded {
        let mut decoder = Decoder::new(limits);
        let mut message = Vec::new();
        let mut taken = 0;
        for piece in pieces {
            let now = decoder.decode(piece, &mut message);
            assert!(now == piece.len() || decoder.is_at_end());
            taken += now;
        }
        Decoded { message, fault: decoder.fault(), ended: decoder.is_at_end(), taken }
    }

    /// Checks that all ways to cut the input decode alike, and gives the result.
    fn decode_cut(limits: DataLimits, input: &[u8]) -> Decoded {
        let whole = decode(limits, &[input]);
        assert_eq!(decode(limits, &input.chunks(1).collect::<Vec<_>>()), whole, "octet by octet");
        for at in 0..=input.len() {
            assert_eq!(decode(limits, &[&input[..at], &input[at..]]), whole, "split at {at}");
        }
        whole
    }

    #[test]
    fn ends_at_the_dot_and_takes_nothing_behind_it() {
        for (input, message) in [
            (&b".\r\nQUIT\r\n"[..], &b""[..]),
            (b"a\r\n.\r\n.\r\n", b"a\r\n"),
            (b"\r\n.\r\n\n", b"\r\n"),
            (b"..\r\n.a\r\n...\r\n.\r\n\r\n", b".\r\na\r\n..\r\n"),
        ] {
            let decoded = decode_cut(LIMITS, input);
            assert_eq!((decoded.message.as_slice(), decoded.fault, decoded.ended), (message, None, true), "{input:?}");
            assert!(decoded.taken < input.len());
        }
    }

    #[test]
    fn nothing_else_ends_the_data() {
        for seed in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\n.\r",
            b"\r.\r",
            b"\r.\n",
            b"\r.\r\n",
            b"\r\n.\n",
            b"\r\n.\r",
            b"\r\n.\r\r\n",
            b"\r\n.\0\r\n",
            b"\r\n\0.\r\n",
            b"\r\n.\n\r\n",
            b"\r\r\n.\r\r\n",
            b"\n\r.\n\r",
        ] {
            for limits in [LIMITS, NORMALISE] {
                for start in [&b""[..], b"text", b"text\r\n", b"\r\n.."] {
                    let input = [start, seed, b"x"].concat();
                    let decoded = decode_cut(limits, &input);
                    assert!(!decoded.ended, "{input:?}");
                    let bare = matches!(decoded.fault, Some(Fault::Nul | Fault::BareCr | Fault::BareLf));
                    assert_eq!(bare, limits.line_ends == LineEnds::Refuse, "{input:?}");
                    assert!(bare || decoded.fault.is_none(), "{input:?}");
                }
            }
        }
    }

    #[test]
    fn names_what_stood_alone() {
        for (input, fault) in [
            (&b"a\nb\r\n.\r\n"[..], Fault::BareLf),
            (b"a\rb\r\n.\r\n", Fault::BareCr),
            (b"a\r\r\n.\r\n", Fault::BareCr),
            (b"a\0b\r\n.\r\n", Fault::Nul),
            (b"\0\r\n.\rx\n\r\n.\r\n", Fault::BareLf),
        ] {
            assert_eq!(decode_cut(LIMITS, input).fault, Some(fault), "{input:?}");
        }
    }

    #[test]
    fn normalises_lone_line_ends_and_leaves_out_nul() {
        let decoded = decode_cut(NORMALISE, b"a\nb\rc\0d\n.\r\n.\n..x\r\r\n.\re\r\n.\r\n");
        assert_eq!(String::from_utf8_lossy(&decoded.message), "a\r\nb\r\ncd\r\n.\r\n\r\n..x\r\n\r\n\r\ne\r\n");
        assert_eq!((decoded.fault, decoded.ended), (None, true));
    }

    #[test]
    fn keeps_to_the_limits_and_stores_nothing_beyond_them() {
        let limits = DataLimits { message: 12, header: 6, line: 4, ..LIMITS };
        for (text, fault) in [
            (&b"abcd\r\n\r\nab\r\n"[..], Some(Fault::HeaderTooBig)),
            (b"ab\r\n\r\nabcd\r\n", None),
            (b"ab\r\n\r\nabcde\r\n", Some(Fault::MessageTooBig)),
            (b"\r\nabcde\r\n", Some(Fault::LineTooLong)),
            (b"\r\n\nabcd\r\n", Some(Fault::BareLf)),
            (b"\r\n..abc\r\n\r\n", None),
            (b"\r\n...abc\r\n", Some(Fault::LineTooLong)),
        ] {
            let decoded = decode_cut(limits, &[text, b".\r\n"].concat());
            assert!(decoded.ended, "{text:?}");
            assert_eq!(decoded.fault, fault, "{text:?}");
            assert_eq!(decoded.message.capacity() == 0, fault.is_some(), "{text:?}");
        }
    }

    /// Text in CRLF lines, with many dots.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec("[.]{0,3}[ -~é.]{0,8}", 0..12)
            .prop_map(|lines| lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect())
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in text(), cuts in proptest::collection::vec(1..20_usize, 0..60)) {
            let mut wire = Vec::new();
            encode(&text, &mut wire);
            wire.extend_from_slice(b"QUIT\r\n");
            let mut pieces = Vec::new();
            let mut rest = wire.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let mut decoder = Decoder::new(LIMITS);
            let mut message = Vec::new();
            let mut taken = 0;
            for piece in pieces {
                taken += decoder.decode(piece, &mut message);
                if decoder.is_at_end() {
                    break;
                }
            }
            prop_assert_eq!(message, text);
            prop_assert_eq!(decoder.fault(), None);
            prop_assert_eq!(taken, wire.len() - b"QUIT\r\n".len());
        }

        #[test]
        fn any_octets_decode_alike_however_they_are_cut(
            input in proptest::collection::vec(prop_oneof![
                4 => proptest::sample::select(b"\r\n.\0".to_vec()), 1 => any::<u8>()], 0..40),
            normalise in any::<bool>(), message in 0..30_usize, line in 0..10_usize, header in 0..30_usize,
        ) {
            let line_ends = if normalise { LineEnds::Normalise } else { LineEnds::Refuse };
            let decoded = decode_cut(DataLimits { message, header, line, line_ends }, &input);
            // The end is the first CRLF "." CRLF, the data itself beginning after one.
            let framed = [b"\r\n", input.as_slice()].concat();
            let end = memchr::memmem::find(&framed, b"\r\n.\r\n");
            prop_assert_eq!(decoded.ended, end.is_some());
            prop_assert_eq!(decoded.taken, end.map_or(input.len(), |at| at + 3));
            let bare = memchr::memmem::find(&decoded.message, b"\0").is_some();
            prop_assert!(!bare && decoded.message.len() <= message);
        }
    }
}
