//! What a session may cost. One value is shared by all sessions of a listener.

use super::data::{DataLimits, LineEnds};

/// Bounds of one session and of each message in it. Sizes are in octets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A message as stored, without the trace headers that are added. Offered as SIZE; beyond it 552 5.3.4, at MAIL
    /// if SIZE= says so, otherwise after the dot. Default 10 MiB.
    pub max_message_size: usize,
    /// Accepted recipients of one transaction; beyond it 452 4.5.3, which makes clients send to the rest separately.
    /// Default 10. RFC 5321 §4.5.3.1.8 asks for 100: raise it where mailing lists deliver.
    pub max_recipients: usize,
    /// The header section; beyond it 552 5.3.4. Default 256 KiB. Postfix cuts a single header at 100 KiB.
    pub max_header_size: usize,
    /// A text line without CRLF; beyond it 550 5.6.0. Default 1 MiB: RFC 5321 §4.5.3.1.6 promises 998, but applications
    /// write a whole HTML body as one line, and Postfix takes it.
    pub max_text_line: usize,
    /// A command line with CRLF; beyond it 500 5.5.2. Default 2048, as in Postfix: RFC 5321 §4.5.3.1.4 asks for 512, and
    /// each extension adds to it.
    pub max_command_line: usize,
    /// Permanent errors of the client since its last accepted message; then 421 4.7.0 and the end. Default 20, as in Postfix.
    pub max_errors: u16,
    /// Commands, accepted RCPT aside, since the last accepted message; then 421 4.7.0 and the end. Default 1000: a
    /// session that only makes conversation holds a slot.
    pub max_commands: u16,
    /// `Received` headers that a message may come with; beyond it 554 5.4.6, a loop. Default 50, as in Postfix.
    pub max_received: usize,
    /// Lone CR, lone LF and NUL: refuse (the default) or normalise.
    pub line_ends: LineEnds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_size: 10 << 20,
            max_recipients: 10,
            max_header_size: 256 << 10,
            max_text_line: 1 << 20,
            max_command_line: 2048,
            max_errors: 20,
            max_commands: 1000,
            max_received: 50,
            line_ends: LineEnds::Refuse,
        }
    }
}

impl Limits {
    pub(super) const fn data(&self) -> DataLimits {
        DataLimits {
            message: self.max_message_size,
            header: self.max_header_size,
            line: self.max_text_line,
            line_ends: self.line_ends,
        }
    }
}
