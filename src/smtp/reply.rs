//! Every reply this server gives, in one table: reply code (RFC 5321 §4.2), enhanced status code (RFC 3463, RFC 2034)
//! and text are born together, so that they cannot disagree.
//!
//! The protocol ([`super::server`]) and those that refuse for it (admission, delivery, listener) pick a constant;
//! [`Reply::write`] puts it on the wire. The name of a constant is also its label in logs and metrics.

/// One reply: what it is called, and what the client reads.
///
/// `Copy`, so that a refusal travels through `Result<_, Reply>` without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    name: &'static str,
    code: u16,
    status: &'static str,
    text: &'static str,
}

impl Reply {
    /// The constant's name in lower case with underscores, for logs and as a metric label.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The three digits of RFC 5321 §4.2.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, such as `4.2.2`; empty where RFC 2034 gives none (greeting, EHLO, 354).
    #[must_use]
    pub const fn status(&self) -> &'static str {
        self.status
    }

    #[must_use]
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// Says no for good: the same command will be refused again.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Says no for now: the client should come back.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.code >= 400 && self.code < 500
    }

    /// Says no for good to a message as it is: whoever makes it has to mend it.
    #[must_use]
    pub fn is_of_message(&self) -> bool {
        [MESSAGE_TOO_BIG, HEADER_TOO_BIG, LINE_TOO_LONG, BARE_CR, BARE_LF, NUL, LOOP].contains(self)
    }

    /// Appends the reply as one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_text(self.text, out);
    }

    /// Appends the reply as one line with another text. What is not printable ASCII becomes `?`, so that no text can
    /// start a reply of its own.
    pub fn write_text(&self, text: &str, out: &mut Vec<u8>) {
        self.write_line(b' ', text, out);
    }

    /// Appends a reply of several lines (RFC 5321 §4.2.1), each with the code: the reply's own text, then `more`.
    pub fn write_lines(&self, first: &str, more: &[&str], out: &mut Vec<u8>) {
        let mut line = first;
        for next in more {
            self.write_line(b'-', line, out);
            line = next;
        }
        self.write_line(b' ', line, out);
    }

    fn write_line(&self, separator: u8, text: &str, out: &mut Vec<u8>) {
        for divisor in [100, 10, 1] {
            // Below ten, so the conversion never fails.
            let digit = u8::try_from(self.code / divisor % 10).unwrap_or_default();
            out.push(b'0' + digit);
        }
        out.push(separator);
        if !self.status.is_empty() {
            out.extend_from_slice(self.status.as_bytes());
            out.push(b' ');
        }
        let printable = |c| u8::try_from(c).ok().filter(|byte| (b' '..=b'~').contains(byte));
        out.extend(text.chars().map(|c| printable(c).unwrap_or(b'?')));
        out.extend_from_slice(b"\r\n");
    }
}

macro_rules! replies {
    ($($(#[$doc:meta])* $constant:ident $name:literal = $code:literal $status:literal $text:literal;)*) => {
        $($(#[$doc])* pub const $constant: Reply =
            Reply { name: $name, code: $code, status: $status, text: $text };)*

        /// The whole table, for tests and for the documentation of metric labels.
        pub const ALL: &[Reply] = &[$($constant),*];
    };
}

replies! {
    // The session.
    /// The greeting; its text is the host name and what this is.
    GREETING "greeting" = 220 "" "ESMTP Mailroom";
    CLOSING "closing" = 221 "2.0.0" "Closing the connection";
    /// The answer to HELO and EHLO; its text is the host name and the extensions.
    HELLO "hello" = 250 "" "Hello";
    OK "ok" = 250 "2.0.0" "OK";
    RESET "reset" = 250 "2.0.0" "Transaction forgotten";
    HELP "help" = 214 "2.0.0" "Commands:";
    CANNOT_VERIFY "cannot_verify" = 252 "2.0.0" "Not verified here, but the address may be tried with RCPT";

    // The transaction.
    SENDER_OK "sender_ok" = 250 "2.1.0" "Sender accepted";
    RECIPIENT_OK "recipient_ok" = 250 "2.1.5" "Recipient accepted";
    START_DATA "start_data" = 354 "" "Send the message, then a line with a single dot";
    /// The message is durable: sent only after it was synced and committed.
    ACCEPTED "accepted" = 250 "2.0.0" "Message stored";

    // Commands that cannot be carried out.
    SYNTAX_ERROR "syntax_error" = 500 "5.5.2" "Not an SMTP command";
    /// RFC 5321 §4.2.2 counts an overlong line among the syntax errors; 5.5.6 is for AUTH exchanges alone (RFC 4954 §6).
    COMMAND_TOO_LONG "command_too_long" = 500 "5.5.2" "Command line too long";
    /// A command line ended by a lone LF; the session ends, so that nothing hidden behind it is obeyed.
    COMMAND_BARE_LINE_END "command_bare_line_end" = 521 "5.5.2" "Command lines end with CR LF, not with LF alone; closing";
    BAD_ARGUMENTS "bad_arguments" = 501 "5.5.4" "Wrong arguments for this command";
    BAD_HELLO "bad_hello" = 501 "5.5.4" "Expected a host name or an address literal";
    BAD_MAIL "bad_mail" = 501 "5.5.4" "Expected MAIL FROM:<address> [parameters]";
    BAD_RCPT "bad_rcpt" = 501 "5.5.4" "Expected RCPT TO:<address> [parameters]";
    BAD_PARAMETER "bad_parameter" = 501 "5.5.4" "Bad value of a parameter";
    BAD_SENDER_SYNTAX "bad_sender_syntax" = 501 "5.1.7" "The sender is not a valid address";
    BAD_RECIPIENT_SYNTAX "bad_recipient_syntax" = 501 "5.1.3" "The recipient is not a valid address";
    NOT_IMPLEMENTED "not_implemented" = 502 "5.5.1" "Command not implemented";
    BAD_SEQUENCE "bad_sequence" = 503 "5.5.1" "Commands out of order";
    HELLO_FIRST "hello_first" = 503 "5.5.1" "Send EHLO or HELO first";
    MAIL_FIRST "mail_first" = 503 "5.5.1" "Send MAIL first";
    NESTED_MAIL "nested_mail" = 503 "5.5.1" "Sender already given";
    NO_RECIPIENTS "no_recipients" = 554 "5.5.1" "No valid recipients";
    UNKNOWN_PARAMETER "unknown_parameter" = 555 "5.5.4" "Parameter not recognized or not implemented";
    /// A non-ASCII address in a transaction without SMTPUTF8 (RFC 6531 §3.5).
    NEEDS_SMTPUTF8 "needs_smtputf8" = 553 "5.6.7" "Non-ASCII addresses need SMTPUTF8";

    // Recipients that cannot be taken.
    MAILBOX_UNKNOWN "mailbox_unknown" = 550 "5.1.1" "No such mailbox here";
    DOMAIN_UNKNOWN "domain_unknown" = 550 "5.1.2" "This server takes no mail for that domain";
    RELAY_DENIED "relay_denied" = 550 "5.7.1" "Relaying denied";
    MAILBOX_DISABLED "mailbox_disabled" = 550 "5.2.1" "Mailbox takes no more mail";
    MAILBOX_FULL "mailbox_full" = 452 "4.2.2" "Mailbox full";
    TOO_MANY_RECIPIENTS "too_many_recipients" = 452 "4.5.3" "Too many recipients in one transaction";

    // Messages that cannot be taken.
    MESSAGE_TOO_BIG "message_too_big" = 552 "5.3.4" "Message too big";
    HEADER_TOO_BIG "header_too_big" = 552 "5.3.4" "Header section too big";
    LINE_TOO_LONG "line_too_long" = 550 "5.6.0" "Text line too long";
    /// A CR that stands alone (RFC 5321 §2.3.8).
    BARE_CR "bare_cr" = 550 "5.6.0" "Message contains a lone CR; lines end with CR LF";
    /// A LF that stands alone (RFC 5321 §2.3.8).
    BARE_LF "bare_lf" = 550 "5.6.0" "Message contains a lone LF; lines end with CR LF";
    /// RFC 5321 §4.5.2.
    NUL "nul" = 550 "5.6.0" "Message contains a NUL";
    LOOP "loop" = 554 "5.4.6" "Too many hops: mail loop";
    /// The client's network sends more than `[limits] messages`.
    TOO_MANY_MESSAGES "too_many_messages" = 451 "4.7.1" "Too many messages from your network, try again later";
    INSUFFICIENT_STORAGE "insufficient_storage" = 452 "4.3.1" "Insufficient storage, try again later";
    TEMPORARY_FAILURE "temporary_failure" = 451 "4.3.0" "Temporary failure, try again later";

    // Sessions that end.
    TOO_MANY_SESSIONS "too_many_sessions" = 421 "4.3.2" "Too many sessions, try again later";
    TOO_MANY_SESSIONS_FROM_CLIENT "too_many_sessions_from_client" = 421 "4.7.0" "Too many sessions from your address";
    /// More than `[limits] connections`.
    TOO_MANY_CONNECTIONS "too_many_connections" = 421 "4.7.0" "Too many connections from your network, try again later";
    TOO_MANY_ERRORS "too_many_errors" = 421 "4.7.0" "Too many errors, closing";
    TOO_MANY_COMMANDS "too_many_commands" = 421 "4.7.0" "Too many commands without a message, closing";
    NOT_SMTP "not_smtp" = 421 "4.7.0" "This is not a web server, closing";
    /// The first bytes are a header of the PROXY protocol. For a time: who comes through that proxy is not to lose its mail.
    PROXY_HEADER "proxy_header" = 421 "4.3.5" "No PROXY header is taken from this address, closing";
    TIMEOUT "timeout" = 421 "4.4.2" "Timed out, closing";
    TOO_SLOW "too_slow" = 421 "4.4.2" "Message comes in too slowly, closing";
    SHUTTING_DOWN "shutting_down" = 421 "4.3.2" "Shutting down, try again later";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_enhanced_code_agree() {
        for reply in ALL {
            assert!((200..600).contains(&reply.code), "{reply:?}");
            if reply.status.is_empty() {
                assert!(matches!(reply.code, 220 | 250 | 354), "{reply:?} needs an enhanced status code");
                continue;
            }
            let parts: Vec<u16> = reply.status.split('.').map(|part| part.parse().unwrap()).collect();
            assert_eq!(parts.len(), 3, "{reply:?}");
            assert_eq!(parts[0], reply.code / 100, "{reply:?}");
            assert!(parts[1] <= 7 && parts[2] <= 999, "{reply:?}");
        }
    }

    #[test]
    fn texts_are_printable_and_lines_stay_short() {
        for reply in ALL {
            assert!(!reply.text.is_empty() && reply.text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{reply:?}");
            let mut line = Vec::new();
            reply.write(&mut line);
            assert!(line.len() <= 512, "RFC 5321 §4.5.3.1.5: {reply:?}");
        }
    }

    #[test]
    fn names_are_unique_labels() {
        let mut names: Vec<_> = ALL.iter().map(Reply::name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'8')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn writes_one_line_and_several() {
        let mut out = Vec::new();
        MAILBOX_FULL.write(&mut out);
        START_DATA.write(&mut out);
        HELLO.write_lines("mx.test", &["PIPELINING", "HELP"], &mut out);
        HELP.write_lines("a", &[], &mut out);
        let expected = "452 4.2.2 Mailbox full\r\n354 Send the message, then a line with a single dot\r\n\
            250-mx.test\r\n250-PIPELINING\r\n250 HELP\r\n214 2.0.0 a\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_text_cannot_start_a_reply_of_its_own() {
        let mut out = Vec::new();
        OK.write_text("a\r\n250 b\u{e9}", &mut out);
        assert_eq!(out, b"250 2.0.0 a??250 b?\r\n");
    }
}
