//! The server's side of one SMTP session (RFC 5321), as a state machine: bytes in, replies and [`Step`]s out.
//!
//! The session actor feeds [`Server::input`]. Where something outside must decide (a recipient, room for a message, its
//! storing), `input` stops with a step and the actor answers with [`Server::recipient`], [`Server::data`] or
//! [`Server::message`]; until then `input` takes nothing. Commands may come many at once (PIPELINING, RFC 2920); replies keep
//! their order. Ends with [`Step::Close`]: write what is in `out`, then close.

mod commands;
mod transaction;

use std::sync::Arc;

pub use transaction::Message;
use transaction::{Hello, Receiving, Transaction};

use super::data::LineEnds;
use super::limits::Limits;
use super::line::{Line, LineReader};
use super::reply::{self, Reply};
use crate::mail::address::Address;

/// What something outside must decide or do before the session goes on.
#[derive(Debug)]
pub enum Step {
    /// May this recipient have the message? Answer with [`Server::recipient`].
    Recipient {
        address: Address,
        /// SIZE= of MAIL, in octets.
        declared_size: Option<u64>,
    },
    /// Is there room for a message? Answer with [`Server::data`]. At least one recipient was accepted.
    Data {
        /// SIZE= of MAIL, in octets.
        declared_size: Option<u64>,
    },
    /// A whole message: store it, then answer with [`Server::message`].
    Message(Box<Message>),
    /// The session is over: write what is in `out`, then close.
    Close,
}

/// What a session waits for; its time limits follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client's next command.
    Command,
    /// More of a message.
    Data,
    /// The answer to a step.
    Step,
    /// Nothing any more.
    Closed,
}

/// One session. Holds no buffer while it waits for a command.
#[derive(Debug)]
pub struct Server {
    limits: Arc<Limits>,
    host_name: Arc<str>,
    hello: Option<Hello>,
    state: State,
    line: LineReader,
    errors: u16,
    commands: u16,
    refusals: Vec<Reply>,
}

#[derive(Debug)]
enum State {
    /// No transaction.
    Ready,
    /// After MAIL.
    Envelope(Box<Transaction>),
    /// [`Step::Recipient`] is open.
    AskedRecipient(Box<Transaction>, Address),
    /// [`Step::Data`] is open.
    AskedData(Box<Transaction>),
    /// After 354.
    Receiving(Box<Receiving>),
    /// [`Step::Message`] is open.
    AskedMessage,
    Closed,
}

impl Server {
    /// `host_name` is what the server calls itself in its greeting, and the domain of `<postmaster>`.
    #[must_use]
    pub fn new(limits: Arc<Limits>, host_name: Arc<str>) -> Self {
        Self {
            limits,
            host_name,
            hello: None,
            state: State::Ready,
            line: LineReader::new(),
            errors: 0,
            commands: 0,
            refusals: Vec::new(),
        }
    }

    /// Appends the greeting, with which the session begins.
    pub fn greet(&self, out: &mut Vec<u8>) {
        reply::GREETING.write_text(&format!("{} {}", self.host_name, reply::GREETING.text()), out);
    }

    /// Takes input, split anywhere, and appends replies to `out`, until a step needs an answer.
    ///
    /// Gives how many octets were taken, and the step. Without a step all were. While a step is open nothing is taken;
    /// after the end everything is, and the step is [`Step::Close`]. Call it again after each answer, with what is left
    /// and also when nothing is: the answer may have ended the session.
    pub fn input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, Option<Step>) {
        let mut rest = bytes;
        loop {
            let (taken, step) = match &self.state {
                State::Closed => return (bytes.len(), Some(Step::Close)),
                State::AskedRecipient(..) | State::AskedData(_) | State::AskedMessage => break,
                _ if rest.is_empty() => break,
                State::Receiving(_) => self.text(rest, out),
                State::Ready | State::Envelope(_) => self.command_line(rest, out),
            };
            rest = rest.get(taken..).unwrap_or_default();
            if step.is_some() {
                return (bytes.len() - rest.len(), step);
            }
        }
        (bytes.len() - rest.len(), None)
    }

    /// Answers [`Step::Recipient`]. Without such a step open, does nothing.
    pub fn recipient(&mut self, verdict: Result<(), Reply>, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::AskedRecipient(mut transaction, address) => match verdict {
                Ok(()) => {
                    transaction.recipients.push(address);
                    self.state = State::Envelope(transaction);
                    self.commands = self.commands.saturating_sub(1);
                    reply::RECIPIENT_OK.write(out);
                }
                Err(refusal) => {
                    self.state = State::Envelope(transaction);
                    self.refuse(refusal, out);
                }
            },
            other => self.state = other,
        }
    }

    /// Answers [`Step::Data`]: 354 asks for the message; a refusal leaves the transaction as it is. Without such a step
    /// open, does nothing.
    pub fn data(&mut self, verdict: Result<(), Reply>, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::AskedData(transaction) => match verdict {
                Ok(()) => {
                    reply::START_DATA.write(out);
                    self.state = State::Receiving(Box::new(Receiving::new(*transaction, &self.limits)));
                }
                Err(refusal) => {
                    self.state = State::Envelope(transaction);
                    self.refuse(refusal, out);
                }
            },
            other => self.state = other,
        }
    }

    /// Answers [`Step::Message`]: 250 with a text of the caller's, which says that the message is durable, or a refusal. Either
    /// ends the transaction. Without such a step open, does nothing.
    pub fn message(&mut self, verdict: Result<&str, Reply>, out: &mut Vec<u8>) {
        if !matches!(self.state, State::AskedMessage) {
            return;
        }
        self.state = State::Ready;
        match verdict {
            Ok(text) => {
                reply::ACCEPTED.write_text(text, out);
                (self.errors, self.commands) = (0, 0);
            }
            Err(refusal) => self.refuse(refusal, out),
        }
    }

    /// There is no room for the message that comes in: the rest is swallowed, and the answer at its dot is 452 4.3.1.
    pub fn out_of_room(&mut self) {
        if let State::Receiving(receiving) = &mut self.state {
            receiving.give_up();
        }
    }

    /// Ends the session from outside with a 421 (time is up, the server stops).
    pub fn close(&mut self, farewell: Reply, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Closed) {
            self.refusals.push(farewell);
            farewell.write(out);
            self.end();
        }
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Ready | State::Envelope(_) => Phase::Command,
            State::Receiving(_) => Phase::Data,
            State::AskedRecipient(..) | State::AskedData(_) | State::AskedMessage => Phase::Step,
            State::Closed => Phase::Closed,
        }
    }

    /// Octets of message and command line held now, for the count of bytes in flight.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let message = if let State::Receiving(receiving) = &self.state { receiving.buffered() } else { 0 };
        message + self.line.len()
    }

    /// Octets of the message that is coming in, kept or not, for the minimum rate.
    #[must_use]
    pub fn received(&self) -> usize {
        if let State::Receiving(receiving) = &self.state { receiving.received() } else { 0 }
    }

    /// The refusals written since the last call, in order, for the log and the metrics: the server's own and those it was
    /// given. To be taken after each input, since they are kept until then.
    pub fn take_refusals(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.refusals)
    }
}

impl Server {
    fn text(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Step>) {
        let State::Receiving(receiving) = &mut self.state else { return (0, None) };
        let taken = receiving.decode(input);
        if !receiving.is_whole() {
            return (taken, None);
        }
        let State::Receiving(receiving) = std::mem::replace(&mut self.state, State::Ready) else {
            return (taken, None);
        };
        match receiving.finish(self.limits.max_received) {
            Ok(message) => {
                self.state = State::AskedMessage;
                (taken, Some(Step::Message(Box::new(message))))
            }
            Err(refusal) => {
                self.refuse(refusal, out);
                (taken, None)
            }
        }
    }

    fn command_line(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Step>) {
        let (taken, line) = self.line.read(input, self.limits.max_command_line);
        let step = match line {
            Line::Incomplete => None,
            // What follows a lone LF may have been put there by someone else than the client: none of it is obeyed.
            Line::Ended { bare_lf: true, .. } if self.limits.line_ends == LineEnds::Refuse => {
                self.close(reply::COMMAND_BARE_LINE_END, out);
                None
            }
            Line::Ended { text, .. } => self.command(text.as_deref(), out),
        };
        (taken, step)
    }

    /// Writes a refusal, and ends the session when it was one too many. Only what the client did wrong counts: a full disk
    /// or mailbox is not its fault, and neither are recipients over the limit.
    fn refuse(&mut self, refusal: Reply, out: &mut Vec<u8>) {
        refusal.write(out);
        self.refusals.push(refusal);
        if refusal.is_permanent() {
            self.errors = self.errors.saturating_add(1);
            if self.errors >= self.limits.max_errors {
                self.close(reply::TOO_MANY_ERRORS, out);
            }
        }
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.line = LineReader::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server() -> Server {
        Server::new(Arc::new(Limits::default()), "mx.test".into())
    }

    /// Sends commands that need no step, and gives what was answered.
    fn send(server: &mut Server, input: &str) -> String {
        let mut out = Vec::new();
        let (taken, step) = server.input(input.as_bytes(), &mut out);
        assert!(step.is_none() && taken == input.len(), "{step:?}");
        String::from_utf8(out).unwrap()
    }

    fn step(server: &mut Server, input: &str) -> Step {
        server.input(input.as_bytes(), &mut Vec::new()).1.unwrap()
    }

    /// A session that has been sent 354.
    fn receiving() -> Server {
        let mut server = server();
        send(&mut server, "EHLO client.test\r\nMAIL FROM:<a@b.test> SIZE=77\r\n");
        step(&mut server, "RCPT TO:<c@d.test>\r\n");
        server.recipient(Ok(()), &mut Vec::new());
        step(&mut server, "DATA\r\n");
        server.data(Ok(()), &mut Vec::new());
        server
    }

    #[test]
    fn a_session_is_small_and_an_idle_one_holds_no_buffer() {
        assert!(size_of::<Server>() <= 200, "{}", size_of::<Server>());
        let mut server = receiving();
        assert!(matches!(step(&mut server, "text\r\n.\r\n"), Step::Message(_)));
        server.message(Ok("Stored"), &mut Vec::new());
        assert_eq!(server.buffered(), 0);
        assert!(matches!(server.state, State::Ready));
    }

    #[test]
    fn takes_nothing_while_a_step_is_open() {
        let mut server = server();
        send(&mut server, "HELO client.test\r\nMAIL FROM:<a@b.test>\r\n");
        let mut out = Vec::new();
        let (taken, step) = server.input(b"RCPT TO:<c@d.test>\r\nQUIT\r\n", &mut out);
        assert!(taken == 20 && matches!(step, Some(Step::Recipient { .. })) && server.phase() == Phase::Step);
        assert!(matches!(server.input(b"QUIT\r\n", &mut out), (0, None)));
        server.data(Ok(()), &mut out);
        server.message(Ok("Stored"), &mut out);
        assert!(out.is_empty() && server.phase() == Phase::Step, "an answer to another step does nothing");
        server.recipient(Ok(()), &mut out);
        server.recipient(Ok(()), &mut out);
        assert_eq!(out, b"250 2.1.5 Recipient accepted\r\n");
        assert!(matches!(server.input(b"QUIT\r\nNOOP\r\n", &mut out), (12, Some(Step::Close))));
    }

    #[test]
    fn steps_carry_the_declared_size() {
        let mut server = server();
        send(&mut server, "EHLO client.test\r\nMAIL FROM:<> SIZE=77\r\n");
        assert!(matches!(
            step(&mut server, "RCPT TO:<c@d.test>\r\n"),
            Step::Recipient { declared_size: Some(77), address } if address.as_str() == "c@d.test"
        ));
        server.recipient(Ok(()), &mut Vec::new());
        assert!(matches!(step(&mut server, "DATA\r\n"), Step::Data { declared_size: Some(77) }));
    }

    #[test]
    fn counts_what_it_holds() {
        let mut server = receiving();
        assert_eq!(server.phase(), Phase::Data);
        send(&mut server, "0123456789");
        assert_eq!(server.buffered(), 10);
        send(&mut server, "\n");
        assert_eq!(server.buffered(), 0, "a message that will be refused is not kept");
        send(&mut server, "0123456789");
        assert_eq!((server.buffered(), server.received()), (0, 20));
        send(&mut server, "\r\n.\r\nNOO");
        assert_eq!((server.buffered(), server.phase()), (3, Phase::Command));
    }

    #[test]
    fn without_room_the_message_is_read_to_its_end_and_refused() {
        let mut server = receiving();
        send(&mut server, "text\r\n");
        server.out_of_room();
        assert_eq!(
            send(&mut server, "more\r\n.\r\nNOOP\r\n"),
            "452 4.3.1 Insufficient storage, try again later\r\n250 2.0.0 OK\r\n"
        );
    }

    #[test]
    fn closes_from_outside_once() {
        let mut server = receiving();
        let mut out = Vec::new();
        server.close(reply::TIMEOUT, &mut out);
        server.close(reply::SHUTTING_DOWN, &mut out);
        assert_eq!(out, b"421 4.4.2 Timed out, closing\r\n");
        assert_eq!(server.phase(), Phase::Closed);
        assert!(matches!(server.input(b"NOOP\r\n", &mut out), (6, Some(Step::Close))));
        server.message(Ok("Stored"), &mut out);
        assert_eq!(out, b"421 4.4.2 Timed out, closing\r\n", "a verdict after the end is not written");
    }

    #[test]
    fn tells_what_it_refused() {
        let mut server = server();
        send(&mut server, "FOO\r\nNOOP\r\nDATA\r\n");
        assert_eq!(server.take_refusals(), [reply::SYNTAX_ERROR, reply::MAIL_FIRST]);
        assert_eq!(server.take_refusals(), []);
    }

    #[test]
    fn an_answer_may_end_the_session() {
        let limits = Limits { max_errors: 1, ..Limits::default() };
        let mut server = Server::new(Arc::new(limits), "mx.test".into());
        send(&mut server, "HELO client.test\r\nMAIL FROM:<>\r\n");
        step(&mut server, "RCPT TO:<c@d.test>\r\n");
        let mut out = Vec::new();
        server.recipient(Err(reply::MAILBOX_UNKNOWN), &mut out);
        assert!(out.ends_with(b"421 4.7.0 Too many errors, closing\r\n"));
        assert!(matches!(server.input(b"", &mut out), (0, Some(Step::Close))));
    }

    /// Feeds the pieces, accepts everything, and gives all that was answered.
    fn transcript(pieces: &[&[u8]]) -> String {
        let limits = Limits { max_errors: 5, max_recipients: 2, max_command_line: 40, ..Limits::default() };
        let mut server = Server::new(Arc::new(limits), "mx.test".into());
        let mut out = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (taken, step) = server.input(rest, &mut out);
                rest = &rest[taken..];
                match step {
                    None => break,
                    Some(Step::Close) => return String::from_utf8(out).unwrap(),
                    Some(Step::Recipient { .. }) => server.recipient(Ok(()), &mut out),
                    Some(Step::Data { .. }) => server.data(Ok(()), &mut out),
                    Some(Step::Message(message)) => server.message(Ok(&format!("{:?}", message.data)), &mut out),
                }
            }
            assert!(rest.is_empty());
        }
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn any_session_reads_the_same_however_it_is_cut(
            lines in proptest::collection::vec(proptest::sample::select(vec![
                "EHLO a\r\n", "HELO a\r\n", "MAIL FROM:<a@b.test>\r\n", "RCPT TO:<c@d.test>\r\n", "DATA\r\n", "RSET\r\n",
                "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n", ".\r\n", "..\r\n", "text\r\n.\r\n",
                "text\r\n", "\r\n", "\r", "\n", ".", "\0", "QUIT\r\n", "an endless line, longer than the limit allows", "é",
            ]), 0..25),
            cuts in proptest::collection::vec(1..15_usize, 0..20),
        ) {
            let input = lines.concat().into_bytes();
            let mut pieces = Vec::new();
            let mut rest = input.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let whole = transcript(&[&input]);
            prop_assert_eq!(&transcript(&pieces), &whole);
            prop_assert_eq!(&transcript(&input.chunks(1).collect::<Vec<_>>()), &whole);
            prop_assert!(whole.is_empty() || whole.ends_with("\r\n"));
        }
    }
}
