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
    BareLineEnd,
    MessageTooBig,
}

impl Fault {
    #[must_use]
    pub const fn reply(self) -> Reply {
        match self {
            Self::OutOfRoom => reply::INSUFFICIENT_STORAGE,
            Self::LineTooLong => reply::LINE_TOO_LONG,
            Self::HeaderTooBig => reply::HEADER_TOO_BIG,
            Self::BareLineEnd => reply::BARE_LINE_END,
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
                    self.bare_line_end(message);
                    self.state = State::Text;
                }
                (State::LineStart | State::Dot | State::Text, _) => {
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

    /// What is wrong with the message so far.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Gives the message up: what follows is swallowed to its end, then refused with [`Fault::OutOfRoom`].
    pub fn give_up(&mut self, message: &mut Vec<u8>) {
        self.fail(Fault::OutOfRoom, message);
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
                self.bare_line_end(message);
                after
            }
            Some((_nul, after)) => {
                if self.limits.line_ends == LineEnds::Refuse {
                    self.fail(Fault::BareLineEnd, message);
                }
                after
            }
            None => rest,
        }
    }

    fn bare_line_end(&mut self, message: &mut Vec<u8>) {
        match self.limits.line_ends {
            LineEnds::Refuse => self.fail(Fault::BareLineEnd, message),
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
/// `message` has CRLF line ends; a last line without one gets it.
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
