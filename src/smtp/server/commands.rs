//! What each command does to a session (RFC 5321 §4.1.4 has their order), once its line was read.

use super::transaction::{Hello, Transaction};
use super::{Server, State, Step};
use crate::mail::address::Address;
use crate::smtp::command::{self, Command, ForwardPath, Mail};
use crate::smtp::extensions;
use crate::smtp::reply::{self, Reply};

impl Server {
    /// Carries out one line; `None` is one over the limit.
    pub(super) fn command(&mut self, line: Option<&[u8]>, out: &mut Vec<u8>) -> Option<Step> {
        if self.commands >= self.limits.max_commands {
            self.close(reply::TOO_MANY_COMMANDS, out);
            return None;
        }
        self.commands += 1;
        match line.map_or(Err(reply::COMMAND_TOO_LONG), command::parse) {
            Ok(Command::Rcpt(path)) => return self.rcpt(path, out),
            Ok(Command::Data) => return self.data_command(out),
            Ok(Command::Mail(mail)) => self.mail(mail, out),
            Ok(Command::Ehlo(name)) => self.hello(name, true, out),
            Ok(Command::Helo(name)) => self.hello(name, false, out),
            Ok(Command::Rset) => {
                self.state = State::Ready;
                reply::RESET.write(out);
            }
            Ok(Command::Noop) => reply::OK.write(out),
            Ok(Command::Vrfy) => reply::CANNOT_VERIFY.write(out),
            Ok(Command::Help) => extensions::write_help(out),
            Ok(Command::Quit) => {
                reply::CLOSING.write(out);
                self.end();
            }
            Ok(Command::Http) => self.close(reply::NOT_SMTP, out),
            Err(refusal) => self.refuse(refusal, out),
        }
        None
    }

    /// EHLO and HELO also end a transaction (RFC 5321 §4.1.4).
    fn hello(&mut self, name: &str, esmtp: bool, out: &mut Vec<u8>) {
        self.hello = Some(Hello { name: name.into(), esmtp });
        self.state = State::Ready;
        if esmtp {
            extensions::write_ehlo(&self.host_name, self.limits.max_message_size, out);
        } else {
            extensions::write_helo(&self.host_name, out);
        }
    }

    fn mail(&mut self, mail: Mail, out: &mut Vec<u8>) {
        let Some(hello) = &self.hello else { return self.refuse(reply::HELLO_FIRST, out) };
        if !matches!(self.state, State::Ready) {
            return self.refuse(reply::NESTED_MAIL, out);
        }
        let max_size = u64::try_from(self.limits.max_message_size).unwrap_or(u64::MAX);
        if mail.size.is_some_and(|size| size > max_size) {
            return self.refuse(reply::MESSAGE_TOO_BIG, out);
        }
        self.state = State::Envelope(Box::new(Transaction { hello: hello.clone(), mail, recipients: Vec::new() }));
        reply::SENDER_OK.write(out);
    }

    fn rcpt(&mut self, path: ForwardPath, out: &mut Vec<u8>) -> Option<Step> {
        let refusal = match std::mem::replace(&mut self.state, State::Ready) {
            State::Envelope(transaction) => match self.admissible(path, &transaction) {
                Ok(address) => {
                    let declared_size = transaction.mail.size;
                    self.state = State::AskedRecipient(transaction, address.clone());
                    return Some(Step::Recipient { address, declared_size });
                }
                Err(refusal) => {
                    self.state = State::Envelope(transaction);
                    refusal
                }
            },
            other => {
                self.state = other;
                reply::MAIL_FIRST
            }
        };
        self.refuse(refusal, out);
        None
    }

    /// The address of a path, if the protocol lets this transaction have it.
    fn admissible(&self, path: ForwardPath, transaction: &Transaction) -> Result<Address, Reply> {
        let address = match path {
            ForwardPath::Mailbox(address) => address,
            ForwardPath::Postmaster => Address::postmaster(&self.host_name).map_err(|_| reply::MAILBOX_UNKNOWN)?,
        };
        if !address.is_ascii() && !transaction.mail.smtputf8 {
            return Err(reply::NEEDS_SMTPUTF8);
        }
        if transaction.recipients.len() >= self.limits.max_recipients {
            return Err(reply::TOO_MANY_RECIPIENTS);
        }
        Ok(address)
    }

    fn data_command(&mut self, out: &mut Vec<u8>) -> Option<Step> {
        let refusal = match std::mem::replace(&mut self.state, State::Ready) {
            State::Envelope(transaction) if !transaction.recipients.is_empty() => {
                let declared_size = transaction.mail.size;
                self.state = State::AskedData(transaction);
                return Some(Step::Data { declared_size });
            }
            State::Envelope(transaction) => {
                self.state = State::Envelope(transaction);
                reply::NO_RECIPIENTS
            }
            other => {
                self.state = other;
                reply::MAIL_FIRST
            }
        };
        self.refuse(refusal, out);
        None
    }
}
