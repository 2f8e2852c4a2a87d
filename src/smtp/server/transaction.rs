//! One mail transaction (RFC 5321 §3.3): the envelope as it grows, then the message as it comes in.

use crate::mail::address::Address;
use crate::mail::trace;
use crate::smtp::command::Mail;
use crate::smtp::data::Decoder;
use crate::smtp::limits::Limits;
use crate::smtp::reply::{self, Reply};

/// A message with its envelope, as received: nothing added, dot-stuffing undone.
#[derive(Debug)]
pub struct Message {
    /// The argument of EHLO or HELO.
    pub helo: String,
    /// The client said EHLO.
    pub esmtp: bool,
    /// Valid, as written, without brackets; empty for a bounce.
    pub reverse_path: String,
    /// The accepted ones, in order and as written; not empty. One given twice is here twice.
    pub recipients: Vec<Address>,
    /// MAIL had SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// MAIL had BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// The text of the message; ends with CRLF unless empty.
    pub data: Vec<u8>,
}

impl Message {
    /// The protocol for `Received … with` (RFC 3848, RFC 6531 §4.3).
    #[must_use]
    pub const fn protocol(&self) -> &'static str {
        match (self.smtputf8, self.esmtp) {
            (true, _) => "UTF8SMTP",
            (false, true) => "ESMTP",
            (false, false) => "SMTP",
        }
    }
}

/// How the client introduced itself.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    pub name: Box<str>,
    /// With EHLO.
    pub esmtp: bool,
}

/// The envelope so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub hello: Hello,
    pub mail: Mail,
    pub recipients: Vec<Address>,
}

/// The envelope and as much of the message as has come.
#[derive(Debug)]
pub(super) struct Receiving {
    transaction: Transaction,
    decoder: Decoder,
    data: Vec<u8>,
}

impl Receiving {
    pub fn new(transaction: Transaction, limits: &Limits) -> Self {
        Self { transaction, decoder: Decoder::new(limits.data()), data: Vec::new() }
    }

    pub fn buffered(&self) -> usize {
        self.data.len()
    }

    pub fn received(&self) -> usize {
        self.decoder.size()
    }

    /// Takes input and gives how much of it; less than all, or [`Self::is_whole`], once the end of the data was seen.
    pub fn decode(&mut self, input: &[u8]) -> usize {
        if self.data.capacity() == 0 && self.decoder.fault().is_none() {
            // Most messages come in one or two pieces; SIZE= is not trusted with memory.
            self.data.reserve_exact(input.len());
        }
        self.decoder.decode(input, &mut self.data)
    }

    pub fn give_up(&mut self) {
        self.decoder.give_up(&mut self.data);
    }

    pub fn is_whole(&self) -> bool {
        self.decoder.is_at_end()
    }

    /// The message, once it is whole.
    ///
    /// # Errors
    /// The reply that refuses it.
    pub fn finish(self, max_received: usize) -> Result<Message, Reply> {
        if let Some(fault) = self.decoder.fault() {
            return Err(fault.reply());
        }
        if trace::count_received(&self.data) > max_received {
            return Err(reply::LOOP);
        }
        let Transaction { hello, mail, recipients } = self.transaction;
        Ok(Message {
            helo: hello.name.into(),
            esmtp: hello.esmtp,
            reverse_path: mail.reverse_path,
            recipients,
            smtputf8: mail.smtputf8,
            eight_bit: mail.eight_bit,
            data: self.data,
        })
    }
}
