//! An SMTP client made to produce load: a reply is two system calls, a message two writes and two reads.
//!
//! It asks for nothing but what a transaction needs, and gives up on a connection at the first reply out of turn.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::body::Draft;

/// Longer than any server makes one wait for an answer that will still come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replies are short; a server that says more than this at once is read in pieces.
const INPUT: usize = 2_048;

/// How far commands run ahead of their replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pipelining {
    /// Each command waits for the reply to the one before
    None,
    /// MAIL, RCPT and DATA go together, where the server offers PIPELINING
    Group,
    /// The next message's commands go with the dot of the one before (RFC 2920 §3.1): the least work for both sides
    Deep,
}

/// Why a message was not accepted, in few and short kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// One connection, greeted.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// How much of `input` has been taken.
    taken: usize,
    output: Vec<u8>,
    pipelining: Pipelining,
    eight_bit: bool,
}

impl Connection {
    /// Connects, reads the greeting and says EHLO (HELO where that is refused).
    pub async fn open(addr: SocketAddr, source: Option<SocketAddr>, wanted: Pipelining) -> Result<Self, Failure> {
        let stream = patient("connect", connect(addr, source)).await?;
        stream.set_nodelay(true).map_err(|error| Failure::io("connect", &error))?;
        let mut connection = Self {
            stream,
            input: Vec::with_capacity(INPUT),
            taken: 0,
            output: Vec::with_capacity(256),
            pipelining: Pipelining::None,
            eight_bit: false,
        };
        connection.expect(220, "greeting").await?;
        connection.write(b"EHLO stress.mailroom.test\r\n").await?;
        let (code, text) = connection.reply("EHLO").await?;
        let offered = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        if code == 250 {
            connection.pipelining = if offered(b"PIPELINING") { wanted } else { Pipelining::None };
            connection.eight_bit = offered(b"8BITMIME");
        } else {
            connection.write(b"HELO stress.mailroom.test\r\n").await?;
            connection.expect(250, "HELO").await?;
        }
        Ok(connection)
    }

    /// How far commands may run ahead here.
    pub fn pipelining(&self) -> Pipelining {
        self.pipelining
    }

    /// Sends the envelope, as far ahead as the server allows, and returns when DATA is answered 354.
    pub async fn envelope(&mut self, from: &str, recipients: &[String]) -> Result<(), Failure> {
        if self.pipelining != Pipelining::None {
            self.compose(from, recipients);
            let output = std::mem::take(&mut self.output);
            let written = self.write(&output).await;
            self.output = output;
            written?;
            return self.envelope_replies(recipients.len()).await;
        }
        let body = if self.eight_bit { " BODY=8BITMIME" } else { "" };
        self.write(format!("MAIL FROM:<{from}>{body}\r\n").as_bytes()).await?;
        self.expect(250, "MAIL").await?;
        for recipient in recipients {
            self.write(format!("RCPT TO:<{recipient}>\r\n").as_bytes()).await?;
            self.expect(250, "RCPT").await?;
        }
        self.write(b"DATA\r\n").await?;
        self.expect(354, "DATA").await
    }

    /// Reads the replies to an envelope that was sent already.
    pub async fn envelope_replies(&mut self, recipients: usize) -> Result<(), Failure> {
        self.expect(250, "MAIL").await?;
        for _ in 0..recipients {
            self.expect(250, "RCPT").await?;
        }
        self.expect(354, "DATA").await
    }

    /// Sends message and dot, with the envelope of the next message behind it where `next` has one.
    pub async fn content(&mut self, draft: &Draft, next: Option<(&str, &[String])>) -> Result<(), Failure> {
        self.output.clear();
        self.output.extend_from_slice(b".\r\n");
        if let Some((from, recipients)) = next {
            self.append_envelope(from, recipients);
        }
        let mut parts = [IoSlice::new(draft.head()), IoSlice::new(draft.body()), IoSlice::new(&self.output)];
        let stream = &mut self.stream;
        patient("content", async {
            let mut rest = parts.as_mut_slice();
            while !rest.is_empty() {
                let written = stream.write_vectored(rest).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut rest, written);
            }
            Ok(())
        })
        .await
    }

    /// Reads the reply to the dot.
    pub async fn verdict(&mut self) -> Result<(), Failure> {
        self.expect(250, "dot").await
    }

    /// Says QUIT and waits for the answer, whatever it is.
    pub async fn quit(mut self) -> Result<(), Failure> {
        self.write(b"QUIT\r\n").await?;
        self.reply("QUIT").await.map(drop)
    }

    fn compose(&mut self, from: &str, recipients: &[String]) {
        self.output.clear();
        self.append_envelope(from, recipients);
    }

    fn append_envelope(&mut self, from: &str, recipients: &[String]) {
        let out = &mut self.output;
        let body: &[u8] = if self.eight_bit { b"> BODY=8BITMIME\r\n" } else { b">\r\n" };
        for part in [b"MAIL FROM:<", from.as_bytes(), body] {
            out.extend_from_slice(part);
        }
        for recipient in recipients {
            for part in [b"RCPT TO:<".as_slice(), recipient.as_bytes(), b">\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"DATA\r\n");
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        patient("write", self.stream.write_all(bytes)).await
    }

    async fn expect(&mut self, code: u16, after: &str) -> Result<(), Failure> {
        loop {
            match parse_reply(self.input.get(self.taken..).unwrap_or_default()) {
                Some(reply) if reply.code == code => {
                    self.taken += reply.len;
                    return Ok(());
                }
                Some(reply) => return Err(Failure(format!("{after}: {}", reply.code))),
                None => self.read(after).await?,
            }
        }
    }

    async fn reply(&mut self, after: &str) -> Result<(u16, Vec<u8>), Failure> {
        loop {
            let input = self.input.get(self.taken..).unwrap_or_default();
            if let Some(reply) = parse_reply(input) {
                let text = input.get(..reply.len).unwrap_or_default().to_vec();
                self.taken += reply.len;
                return Ok((reply.code, text));
            }
            self.read(after).await?;
        }
    }

    async fn read(&mut self, after: &str) -> Result<(), Failure> {
        self.input.drain(..self.taken);
        self.taken = 0;
        let (stream, input) = (&mut self.stream, &mut self.input);
        match patient(after, stream.read_buf(input)).await? {
            0 => Err(Failure(format!("{after}: closed"))),
            _ => Ok(()),
        }
    }
}

impl Failure {
    fn io(during: &str, error: &io::Error) -> Self {
        Self(format!("{during}: {}", error.kind()))
    }
}

/// Connects from `source` where one is given.
pub async fn connect(addr: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if let Some(source) = source {
        // Many connections from one address need the port chosen at connect time (IP_BIND_ADDRESS_NO_PORT); reuse does it.
        socket.set_reuseaddr(true)?;
        socket.bind(source)?;
    }
    socket.connect(addr).await
}

async fn patient<T>(during: &str, work: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    match timeout(PATIENCE, work).await {
        Ok(result) => result.map_err(|error| Failure::io(during, &error)),
        Err(_) => Err(Failure(format!("{during}: no answer in {} s", PATIENCE.as_secs()))),
    }
}

struct Reply {
    code: u16,
    /// Bytes of all its lines.
    len: usize,
}

/// A whole reply at the beginning of `input`, of one line or several; `None` while its last line is not there.
fn parse_reply(input: &[u8]) -> Option<Reply> {
    let mut len = 0;
    loop {
        let rest = input.get(len..)?;
        let end = rest.iter().position(|byte| *byte == b'\n')? + 1;
        len += end;
        if rest.get(3) != Some(&b'-') {
            let code =
                rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|code| code.parse().ok());
            return Some(Reply { code: code.unwrap_or(0), len });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_with_its_last_line() {
        let parse = |text: &str| parse_reply(text.as_bytes()).map(|reply| (reply.code, reply.len));
        assert_eq!(parse("250 ok\r\n"), Some((250, 8)));
        assert_eq!(parse("250 ok\r\n354 go\r\n"), Some((250, 8)));
        assert_eq!(parse("250-a\r\n250-b\r\n250 c\r\n"), Some((250, 21)));
        assert_eq!(parse("250-a\r\n250"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("421\r\n"), Some((421, 5)));
        assert_eq!(parse("nonsense\r\n"), Some((0, 10)));
    }
}
