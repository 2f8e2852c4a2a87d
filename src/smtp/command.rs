//! One command line, read: verb, paths, parameters (RFC 5321 §4.1.1).
//!
//! [`super::server`] hands in a line without its CRLF; what cannot be read comes back as the [`Reply`] that says why.
//! `smtp-proto` tells the commands apart. MAIL and RCPT are read here: that crate takes the quotes out of quoted local parts,
//! knows no address literals, and lets a SIZE of more digits than fit wrap around to a small one.

use smtp_proto::Request;

use super::path;
use super::reply::{self, Reply};
use crate::mail::address::Address;

/// A command that this server carries out. Arguments that change nothing (NOOP, VRFY, HELP) are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Ehlo(&'a str),
    Helo(&'a str),
    Mail(Mail),
    Rcpt(ForwardPath),
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    /// The first line of an HTTP request: a web page makes a browser talk to this port.
    Http,
}

/// MAIL and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// A valid address as written, without brackets and source route; empty for a bounce (`MAIL FROM:<>`).
    pub reverse_path: String,
    /// SIZE= (RFC 1870), in octets; a number too large for the type is its largest.
    pub size: Option<u64>,
    /// BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

/// Whom RCPT names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    Mailbox(Address),
    /// `RCPT TO:<postmaster>`: the server's own (RFC 5321 §4.5.1).
    Postmaster,
}

/// Reads one command line without its CRLF.
///
/// # Errors
/// The reply to give: 500 for what is no command, 501 for wrong arguments, 502 for a known command that is not carried out,
/// 553 and 555 for addresses and parameters that cannot be taken.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Reply> {
    // Controls have no place in a command. A CR or NUL here is a client in confusion, or an attack.
    let line = str::from_utf8(line).map_err(|_| reply::SYNTAX_ERROR)?;
    if line.starts_with(' ') || line.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(reply::SYNTAX_ERROR);
    }
    // RFC 5321 §4.1.1: trailing white space is tolerated.
    let line = line.trim_end_matches(' ');
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let argument = argument.trim_start_matches(' ');
    if verb.eq_ignore_ascii_case("MAIL") {
        return mail(argument).map(Command::Mail);
    }
    if verb.eq_ignore_ascii_case("RCPT") {
        return rcpt(argument).map(Command::Rcpt);
    }
    if is_http(verb, argument) {
        return Ok(Command::Http);
    }
    other(verb, argument)
}

/// The commands without a path. `smtp-proto` wants one space and the line end, and takes the first word of an argument
/// for the whole.
fn other<'a>(verb: &str, argument: &'a str) -> Result<Command<'a>, Reply> {
    let line = [verb, " ", argument, "\r\n"].concat();
    let without_argument = |command| if argument.is_empty() { Ok(command) } else { Err(reply::BAD_ARGUMENTS) };
    match Request::parse(&mut line.as_bytes().iter()) {
        Ok(Request::Ehlo { .. }) => hello(argument).map(Command::Ehlo),
        Ok(Request::Helo { .. }) => hello(argument).map(Command::Helo),
        Ok(Request::Data) => without_argument(Command::Data),
        Ok(Request::Rset) => without_argument(Command::Rset),
        Ok(Request::Quit) => without_argument(Command::Quit),
        Ok(Request::Noop { .. }) => Ok(Command::Noop),
        Ok(Request::Help { .. }) => Ok(Command::Help),
        Ok(Request::Vrfy { .. }) => Ok(Command::Vrfy),
        Ok(_) => Err(reply::NOT_IMPLEMENTED),
        Err(smtp_proto::Error::SyntaxError { syntax }) => Err(match syntax.split(' ').next() {
            Some("EHLO" | "HELO") => reply::BAD_HELLO,
            Some("VRFY") => reply::BAD_ARGUMENTS,
            _ => reply::NOT_IMPLEMENTED,
        }),
        Err(_) => Err(reply::SYNTAX_ERROR),
    }
}

/// The argument of EHLO or HELO: a host name or an address literal. Clients send names that are neither (underscores,
/// single labels), so any one word of ASCII will do.
fn hello(argument: &str) -> Result<&str, Reply> {
    let is_word = (1..=255).contains(&argument.len()) && argument.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word { Ok(argument) } else { Err(reply::BAD_HELLO) }
}

/// `GET / HTTP/1.1` and its like.
fn is_http(verb: &str, argument: &str) -> bool {
    matches!(verb, "GET" | "POST" | "PUT" | "HEAD" | "OPTIONS" | "DELETE" | "PATCH" | "CONNECT" | "TRACE" | "PRI")
        && argument.contains("HTTP/")
}

fn mail(argument: &str) -> Result<Mail, Reply> {
    let (path, parameters) = path_argument(argument, "FROM:").ok_or(reply::BAD_MAIL)?;
    let mailbox = path::mailbox(path).ok_or(reply::BAD_SENDER_SYNTAX)?;
    if !mailbox.is_empty() && Address::parse_sender(mailbox).is_err() {
        return Err(reply::BAD_SENDER_SYNTAX);
    }
    let mut mail = Mail { reverse_path: mailbox.to_owned(), ..Mail::default() };
    for parameter in parameters.split(' ').filter(|parameter| !parameter.is_empty()) {
        mail.parameter(parameter)?;
    }
    if !mail.smtputf8 && !mail.reverse_path.is_ascii() {
        return Err(reply::NEEDS_SMTPUTF8);
    }
    Ok(mail)
}

impl Mail {
    /// Notes one `keyword[=value]` (RFC 5321 §4.1.2). A second SIZE would leave open which one is meant.
    fn parameter(&mut self, parameter: &str) -> Result<(), Reply> {
        let (keyword, value) = match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter, None),
        };
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) if self.size.is_none() => self.size = Some(size(value)?),
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => self.eight_bit = true,
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => self.eight_bit = false,
            ("SMTPUTF8", None) => self.smtputf8 = true,
            ("SIZE" | "BODY" | "SMTPUTF8", _) => return Err(reply::BAD_PARAMETER),
            _ => return Err(reply::UNKNOWN_PARAMETER),
        }
        Ok(())
    }
}

/// RFC 1870 §3: 1 to 20 digits.
fn size(value: &str) -> Result<u64, Reply> {
    if !(1..=20).contains(&value.len()) || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(reply::BAD_PARAMETER);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

fn rcpt(argument: &str) -> Result<ForwardPath, Reply> {
    let (path, parameters) = path_argument(argument, "TO:").ok_or(reply::BAD_RCPT)?;
    let mailbox = path::mailbox(path).ok_or(reply::BAD_RECIPIENT_SYNTAX)?;
    let forward_path = if mailbox.eq_ignore_ascii_case("postmaster") {
        ForwardPath::Postmaster
    } else {
        ForwardPath::Mailbox(Address::parse(mailbox).map_err(|_| reply::BAD_RECIPIENT_SYNTAX)?)
    };
    // No extension that is offered has a parameter of RCPT.
    if parameters.is_empty() { Ok(forward_path) } else { Err(reply::UNKNOWN_PARAMETER) }
}

/// Splits `FROM:<path> parameters` into the path between its brackets and the parameters. A space after the colon is
/// against RFC 5321 §3.3 but common.
fn path_argument<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (start, rest) = argument.split_at_checked(keyword.len())?;
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest.trim_start_matches(' ').strip_prefix('<')?;
    let (path, rest) = path::split_at_bracket(rest)?;
    if rest.is_empty() || rest.starts_with(' ') { Some((path, rest.trim_matches(' '))) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mail(line: &str) -> Mail {
        match parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn tells_the_commands_apart() {
        for (line, command) in [
            ("EHLO mx.test", Command::Ehlo("mx.test")),
            ("helo [192.0.2.1] ", Command::Helo("[192.0.2.1]")),
            ("DATA", Command::Data),
            ("rset", Command::Rset),
            ("NOOP a b c", Command::Noop),
            ("VRFY \"a b\"", Command::Vrfy),
            ("HELP", Command::Help),
            ("QUIT ", Command::Quit),
            ("RCPT TO:<Postmaster>", Command::Rcpt(ForwardPath::Postmaster)),
            ("GET / HTTP/1.1", Command::Http),
            ("OPTIONS * HTTP/1.0", Command::Http),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn a_line_of_octets_that_have_no_place_in_a_command_is_none() {
        let lines: [&[u8]; 7] = [b"NOOP\0", b"NOOP \r", b"NOOP\tx", b"QUIT\x7f", b"\xc3NOOP", b" NOOP", b""];
        for line in lines {
            assert_eq!(parse(line), Err(reply::SYNTAX_ERROR), "{line:?}");
        }
    }

    #[test]
    fn reads_the_parameters_of_mail() {
        let parsed = mail("MAIL FROM:<a@b.test> SIZE=12345 BODY=8BITMIME SMTPUTF8");
        assert_eq!((parsed.size, parsed.eight_bit, parsed.smtputf8), (Some(12345), true, true));
        assert_eq!(mail("MAIL FROM:<>"), Mail::default());
        assert_eq!(mail("MAIL FROM:<> SIZE=99999999999999999999").size, Some(u64::MAX), "does not wrap around");
        assert_eq!(mail("MAIL FROM:<> SIZE=18446744073709551615").size, Some(u64::MAX));
    }

    #[test]
    fn takes_the_path_as_it_is_written() {
        for path in ["a@b.test", r#""a b"@c.test"#, r#""a>\"\\"@c.test"#, "a@[IPv6:::1]", "a+b@c.test"] {
            assert_eq!(mail(&format!("MAIL FROM:<{path}>")).reverse_path, path);
            assert_eq!(mail(&format!("MAIL FROM:<@x.test,@[IPv6:::2]:{path}> SIZE=1")).reverse_path, path);
            let rcpt = parse(format!("RCPT TO:<{path}>").as_str().as_bytes()).map(|_| ());
            assert_eq!(rcpt, Ok(()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn reads_any_line_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn reads_any_path_without_a_panic(
            verb in "(MAIL FROM:|RCPT TO:|EHLO |VRFY |HELP |BDAT |AUTH )",
            rest in "[<>@,:\\[\\]\"\\\\. a=éA0-9]{0,40}",
        ) {
            let _ = parse(format!("{verb}{rest}").as_bytes());
        }
    }
}
