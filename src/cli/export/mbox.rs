//! One file of messages, in the manner of mboxrd: each begins with a line `From sender date`, ends with an empty line, and a
//! line of it that begins with any number of `>` and `From ` gets one more `>`, so that a reader can take it away again.
//!
//! Line ends are LF, as everyone's who reads such files. Unless it is to be exact, what the store knows of a message stands
//! in front of its headers: `Status`, `X-Keywords`, and `Delivered-To` where several mailboxes go into one file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::files::{self, at};
use super::{ExportError, Target};
use crate::mail::address::MailboxKey;
use crate::mail::time::Timestamp;
use crate::store::StoredMessage;

pub struct Mbox {
    path: PathBuf,
    /// None on standard output.
    file: Option<File>,
    out: BufWriter<Box<dyn Write>>,
    exact: bool,
    several: bool,
}

impl Mbox {
    /// A new file, or standard output for `-`.
    pub fn create(path: &Path, exact: bool, several: bool) -> Result<Self, ExportError> {
        let (file, out): (Option<File>, Box<dyn Write>) = if path.as_os_str() == "-" {
            (None, Box::new(io::stdout()))
        } else {
            let file = files::create(path)?;
            (Some(file.try_clone().map_err(at(path))?), Box::new(file))
        };
        let out = BufWriter::with_capacity(256 << 10, out);
        Ok(Self { path: path.to_owned(), file, out, exact, several })
    }
}

impl Target for Mbox {
    fn mailbox(&mut self, _: &MailboxKey) -> Result<(), ExportError> {
        Ok(())
    }

    fn put(&mut self, message: &StoredMessage, raw: &[u8]) -> Result<(), ExportError> {
        let written = (|| {
            writeln!(self.out, "From {} {}", sender(&message.envelope.reverse_path), date(message.listed.received_at))?;
            if !self.exact {
                notes(&mut self.out, message, self.several)?;
            }
            body(&mut self.out, raw)
        })();
        written.map_err(at(&self.path))
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        self.out.flush().map_err(at(&self.path))?;
        self.file.as_ref().map_or(Ok(()), File::sync_all).map_err(at(&self.path))
    }
}

/// The first word of the line: no blanks in it, never empty.
fn sender(reverse_path: &str) -> String {
    if reverse_path.is_empty() {
        return "MAILER-DAEMON".into();
    }
    reverse_path.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

/// As asctime writes it, in UTC: `Sat Nov 21 09:30:00 2026`.
fn date(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.seconds()).unwrap_or_default().strftime("%a %b %e %H:%M:%S %Y").to_string()
}

fn notes(out: &mut impl Write, message: &StoredMessage, several: bool) -> io::Result<()> {
    let listed = &message.listed;
    out.write_all(if listed.is_read { b"Status: RO\n" } else { b"Status: O\n" })?;
    let tags: Vec<&str> = listed.tags.iter().map(String::as_str).filter(|tag| !tag.contains(['\r', '\n'])).collect();
    if !tags.is_empty() {
        writeln!(out, "X-Keywords: {}", tags.join(", "))?;
    }
    if several {
        writeln!(out, "Delivered-To: {}", listed.mailbox)?;
    }
    Ok(())
}

/// The message with LF for CR LF and quoted, and the empty line behind it.
fn body(out: &mut impl Write, raw: &[u8]) -> io::Result<()> {
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let stripped = line.iter().position(|byte| *byte != b'>').and_then(|quotes| line.get(quotes..));
        if stripped.is_some_and(|rest| rest.starts_with(b"From ")) {
            out.write_all(b">")?;
        }
        let text = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(line);
        out.write_all(text)?;
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(raw: &str) -> String {
        let mut out = Vec::new();
        body(&mut out, raw.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_that_look_like_the_next_message_are_quoted() {
        assert_eq!(
            written("S: x\r\n\r\nFrom a\r\n>From b\r\n>> From c\r\nFrom\r\n"),
            "S: x\n\n>From a\n>>From b\n>> From c\nFrom\n\n"
        );
        assert_eq!(written("no end"), "no end\n\n");
        assert_eq!(written(""), "\n");
    }

    #[test]
    fn the_first_line_has_a_sender_without_blanks_and_a_date() {
        assert_eq!(sender(""), "MAILER-DAEMON");
        assert_eq!(sender("\"a b\"@x"), "\"a_b\"@x");
        assert_eq!(date(Timestamp::from_seconds(1_795_253_400)), "Sat Nov 21 09:30:00 2026");
    }
}
