//! An HTTP/1.1 client made to produce load: one prepared request, answered over a kept connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any server makes one wait for an answer that will still come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Header blocks beyond this are not from a server one would measure.
const MAX_HEAD: usize = 64 * 1_024;

const INPUT: usize = 16 * 1_024;

/// One kept connection.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

/// What an answer was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Bytes with the header.
    pub len: u64,
    /// The server closes the connection after it.
    pub close: bool,
    /// Filled only where it was asked for.
    pub body: Vec<u8>,
}

/// The end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    len: usize,
    close: bool,
    framing: Framing,
}

impl Connection {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: Vec::with_capacity(INPUT) })
    }

    /// Sends `request` and reads the whole answer; its body is kept with `keep`, and counted alone otherwise.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP; the connection is then of no more use.
    pub async fn ask(&mut self, request: &[u8], keep: bool) -> io::Result<Answer> {
        timeout(PATIENCE, self.exchange(request, keep)).await?
    }

    async fn exchange(&mut self, request: &[u8], keep: bool) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(head) = parse_head(&self.input)? {
                break head;
            }
            if self.input.len() > MAX_HEAD {
                return Err(invalid("a header without an end"));
            }
            self.fill().await?;
        };
        self.input.drain(..head.len);
        let mut answer = Answer { status: head.status, len: head.len as u64, close: head.close, body: Vec::new() };
        match head.framing {
            Framing::Length(length) => self.body(length, keep, &mut answer).await?,
            Framing::Chunked => self.chunks(keep, &mut answer).await?,
            Framing::UntilClose => {
                answer.close = true;
                self.until_close(keep, &mut answer).await?;
            }
        }
        Ok(answer)
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn body(&mut self, length: u64, keep: bool, answer: &mut Answer) -> io::Result<()> {
        let mut left = length;
        loop {
            let ready = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
            let taken = self.input.drain(..ready);
            if keep {
                answer.body.extend(taken);
            } else {
                drop(taken);
            }
            left -= ready as u64;
            if left == 0 {
                answer.len += length;
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn chunks(&mut self, keep: bool, answer: &mut Answer) -> io::Result<()> {
        loop {
            let line = loop {
                match self.input.iter().position(|byte| *byte == b'\n') {
                    Some(end) => break self.input.drain(..=end).collect::<Vec<u8>>(),
                    None => self.fill().await?,
                }
            };
            let size = chunk_size(&line).ok_or_else(|| invalid("a chunk without a size"))?;
            self.body(size + 2, keep, answer).await?;
            if keep {
                answer.body.truncate(answer.body.len().saturating_sub(2));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    async fn until_close(&mut self, keep: bool, answer: &mut Answer) -> io::Result<()> {
        loop {
            answer.len += self.input.len() as u64;
            if keep {
                answer.body.extend_from_slice(&self.input);
            }
            self.input.clear();
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }
}

/// The text of a GET.
pub fn get(host: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n{authorization}\r\n").into_bytes()
}

/// The header at the beginning of `input`; `None` while its end is not there.
fn parse_head(input: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = input.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or_else(|| invalid("not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| invalid("not an HTTP/1.1 answer"))?;
    let bodiless = status == 204 || status == 304;
    let mut head = Head {
        status,
        len: end + 4,
        close: false,
        framing: if bodiless { Framing::Length(0) } else { Framing::UntilClose },
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.framing = Framing::Length(value.parse().map_err(|_| invalid("not a length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some(head))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    u64::from_str_radix(text.split(';').next()?.trim(), 16).ok()
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers every connection with `answer`, in two pieces, then with nothing.
    async fn serve(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await.unwrap();
            let (first, second) = answer.split_at(answer.len() / 2);
            stream.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(second).await.unwrap();
        });
        addr
    }

    async fn ask(answer: &'static [u8]) -> Answer {
        let mut connection = Connection::open(serve(answer).await).await.unwrap();
        connection.ask(&get("h", "/", None), true).await.unwrap()
    }

    #[tokio::test]
    async fn reads_a_body_by_its_length() {
        let answer = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!((answer.status, answer.body.as_slice(), answer.close), (200, b"hello".as_slice(), false));
    }

    #[tokio::test]
    async fn reads_chunks() {
        let answer =
            ask(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n").await;
        assert_eq!(answer.body, b"hello!");
    }

    #[tokio::test]
    async fn reads_until_close_and_answers_without_a_body() {
        let answer = ask(b"HTTP/1.1 500 Oh\r\n\r\nsorry").await;
        assert_eq!((answer.status, answer.body.as_slice(), answer.close), (500, b"sorry".as_slice(), true));
        assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n").await.status, 204);
    }

    #[tokio::test]
    async fn what_is_not_http_is_an_error() {
        let mut connection = Connection::open(serve(b"220 smtp here\r\n\r\n").await).await.unwrap();
        assert!(connection.ask(&get("h", "/", None), false).await.is_err());
    }
}
