//! Plays the dialogues in `tests/smtp/*.txt` against the pure SMTP server: in step, all at once, octet by octet, and cut in two
//! at every place, always with the same answers.
//!
//! A dialogue is a text file, read line by line:
//!
//! ```text
//! # a comment; the first says what is shown
//! limits: max_recipients=2 line_ends=normalise      differences from the defaults, at the top
//! C: NOOP                 the client sends this line and CRLF
//! C+ NOOP                 the client sends this without a line end
//! S: 250 2.0.0 OK         the server answers this line
//! M: ESMTP <a@b> -> <c@d> a message is handed over; also `8bit`, `smtputf8`, and `helo=…`
//! D: text                 one line of that message, its CRLF left out
//! X:                      the server closes the session
//! ```
//!
//! `\r \n \t \0 \\` and `\xHH` are escapes; `{x*1000}` is x a thousand times; `C*20: NOOP` is a line twenty times. The greeting
//! is not written. The runner decides for the outside: recipients `unknown@…` and `full@…` are refused, DATA is refused when
//! a recipient is `nospace@…`, the message when one is `later@…` (451) or `never@…` (550).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: a panic is a failure")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use mailroom::smtp::{Limits, LineEnds, Message, Reply, Server, Step, reply};

#[derive(Default)]
struct Dialogue {
    limits: Limits,
    /// What the client sends, and what was answered once all of it up to here was sent.
    turns: Vec<(Vec<u8>, String)>,
}

#[test]
fn dialogues_read_the_same_however_they_are_cut() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/smtp");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 40, "dialogues are missing: {}", files.len());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        play(&name, &read(&name, &std::fs::read_to_string(&file).unwrap()));
    }
}

fn play(name: &str, dialogue: &Dialogue) {
    let mut session = Session::new(dialogue.limits);
    for (turn, (input, expected)) in dialogue.turns.iter().enumerate() {
        session.send(input);
        assert_eq!(&std::mem::take(&mut session.transcript), expected, "{name}, in step, turn {}", turn + 1);
    }
    let input: Vec<u8> = dialogue.turns.iter().flat_map(|(input, _)| input.clone()).collect();
    let expected: String = dialogue.turns.iter().map(|(_, expected)| expected.as_str()).collect();
    assert!(!input.is_empty() && !expected.is_empty(), "{name} shows nothing");
    let run = |pieces: &[&[u8]]| {
        let mut session = Session::new(dialogue.limits);
        pieces.iter().for_each(|piece| session.send(piece));
        session.transcript
    };
    assert_eq!(run(&[&input]), expected, "{name}, whole");
    assert_eq!(run(&input.chunks(1).collect::<Vec<_>>()), expected, "{name}, octet by octet");
    for at in 1..input.len() {
        let (head, tail) = input.split_at(at);
        assert_eq!(run(&[head, tail]), expected, "{name}, split at {at}");
    }
}

/// The caller's side of a session, and what happened in it.
struct Session {
    server: Server,
    closed: bool,
    transcript: String,
    accepted: Vec<String>,
}

impl Session {
    fn new(limits: Limits) -> Self {
        let server = Server::new(Arc::new(limits), "mx.test".into());
        let mut greeting = Vec::new();
        server.greet(&mut greeting);
        assert_eq!(greeting, b"220 mx.test ESMTP Mailroom\r\n");
        Self { server, closed: false, transcript: String::new(), accepted: Vec::new() }
    }

    fn send(&mut self, input: &[u8]) {
        let mut rest = input;
        while !self.closed {
            let mut out = Vec::new();
            let (taken, step) = self.server.input(rest, &mut out);
            rest = &rest[taken..];
            self.heard(&out);
            let Some(step) = step else {
                assert!(rest.is_empty(), "input was left without a step");
                return;
            };
            self.answer(step);
        }
    }

    fn answer(&mut self, step: Step) {
        let mut out = Vec::new();
        assert!(matches!(step, Step::Close) || self.server.input(b"QUIT\r\n", &mut out).0 == 0, "took input in a step");
        match step {
            Step::Recipient { address, .. } => {
                let verdict = match address.local_part().as_ref() {
                    "unknown" => Err(reply::MAILBOX_UNKNOWN),
                    "full" => Err(reply::MAILBOX_FULL),
                    local_part => {
                        self.accepted.push(local_part.to_owned());
                        Ok(())
                    }
                };
                self.server.recipient(verdict, &mut out);
            }
            Step::Data { .. } => {
                let no_space = self.takes("nospace");
                self.server.data(if no_space { Err(reply::INSUFFICIENT_STORAGE) } else { Ok(()) }, &mut out);
            }
            Step::Message(message) => {
                let verdict = self.verdict();
                self.accepted.clear();
                self.handed_over(&message);
                self.server.message(verdict, &mut out);
            }
            Step::Close => {
                self.closed = true;
                self.transcript.push_str("X:\n");
            }
        }
        self.heard(&out);
    }

    fn takes(&mut self, local_part: &str) -> bool {
        let found = self.accepted.iter().position(|accepted| accepted == local_part);
        found.map(|at| self.accepted.remove(at)).is_some()
    }

    fn verdict(&mut self) -> Result<&'static str, Reply> {
        match (self.takes("later"), self.takes("never")) {
            (true, _) => Err(reply::TEMPORARY_FAILURE),
            (_, true) => Err(reply::RELAY_DENIED),
            _ => Ok("Stored"),
        }
    }

    fn heard(&mut self, out: &[u8]) {
        if out.is_empty() {
            return;
        }
        assert!(out.ends_with(b"\r\n"), "a reply was cut");
        for line in out.strip_suffix(b"\r\n").unwrap().split(|&byte| byte == b'\n') {
            let line = String::from_utf8(line.to_vec()).unwrap();
            writeln!(self.transcript, "S: {}", line.trim_end_matches('\r')).unwrap();
        }
    }

    fn handed_over(&mut self, message: &Message) {
        write!(self.transcript, "M: {} <{}> ->", message.protocol(), message.reverse_path).unwrap();
        for recipient in &message.recipients {
            write!(self.transcript, " <{recipient}>").unwrap();
        }
        for (flag, text) in [(message.eight_bit, " 8bit"), (message.smtputf8, " smtputf8")] {
            self.transcript.push_str(if flag { text } else { "" });
        }
        if message.helo != "client.test" {
            write!(self.transcript, " helo={}", message.helo).unwrap();
        }
        self.transcript.push('\n');
        let Some(lines) = message.data.strip_suffix(b"\r\n") else {
            assert!(message.data.is_empty(), "a message ends with a line end");
            return;
        };
        for line in String::from_utf8_lossy(lines).split("\r\n") {
            writeln!(self.transcript, "D: {}", line.escape_debug().to_string().replace("\\\"", "\"")).unwrap();
        }
    }
}

fn read(name: &str, text: &str) -> Dialogue {
    let mut dialogue = Dialogue::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(limits) = line.strip_prefix("limits: ") {
            limits.split(' ').for_each(|limit| set(&mut dialogue.limits, limit));
            continue;
        }
        let (kind, content) = line.split_at(1);
        let (times, content) = repeated(content);
        let (mark, content) = content.split_at(1);
        let content = content.strip_prefix(' ').unwrap_or(content);
        for _ in 0..times {
            match (kind, mark) {
                ("C", _) => {
                    let mut bytes = unescaped(&expanded(content));
                    bytes.extend_from_slice(if mark == ":" { b"\r\n" } else { b"" });
                    match dialogue.turns.last_mut() {
                        Some((input, answers)) if answers.is_empty() => input.append(&mut bytes),
                        _ => dialogue.turns.push((bytes, String::new())),
                    }
                }
                ("S" | "M" | "D", ":") => {
                    let (_, answers) = dialogue.turns.last_mut().unwrap();
                    writeln!(answers, "{kind}: {}", expanded(content)).unwrap();
                }
                ("X", ":") => dialogue.turns.last_mut().unwrap().1.push_str("X:\n"),
                _ => panic!("{name}: not a line of a dialogue: {line}"),
            }
        }
    }
    dialogue
}

/// `*20: NOOP` is `: NOOP` twenty times.
fn repeated(content: &str) -> (usize, &str) {
    let Some(counted) = content.strip_prefix('*') else { return (1, content) };
    let end = counted.find([':', '+']).unwrap();
    (counted[..end].parse().unwrap(), &counted[end..])
}

/// Writes `{x*3}` out as `xxx`.
fn expanded(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else { return text.to_owned() };
    let (inside, after) = rest.split_once('}').unwrap();
    let (piece, times) = inside.rsplit_once('*').unwrap();
    format!("{before}{}{}", piece.repeat(times.parse().unwrap()), expanded(after))
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match escape.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'0' => (0, 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            other => panic!("unknown escape \\{}", char::from(other)),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn set(limits: &mut Limits, limit: &str) {
    let (name, value) = limit.split_once('=').unwrap();
    let number = || value.parse::<usize>().unwrap();
    match name {
        "max_message_size" => limits.max_message_size = number(),
        "max_recipients" => limits.max_recipients = number(),
        "max_header_size" => limits.max_header_size = number(),
        "max_text_line" => limits.max_text_line = number(),
        "max_command_line" => limits.max_command_line = number(),
        "max_received" => limits.max_received = number(),
        "max_errors" => limits.max_errors = number().try_into().unwrap(),
        "max_commands" => limits.max_commands = number().try_into().unwrap(),
        "line_ends" if value == "normalise" => limits.line_ends = LineEnds::Normalise,
        _ => panic!("unknown limit {limit}"),
    }
}
