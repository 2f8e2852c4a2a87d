//! A WebSocket client that costs almost nothing while it waits: it reads when readable, into a buffer of the thread, and
//! keeps only what is incomplete.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::smtp_client::connect;
use super::ws_frame::{Kind, parse, pong};

const PATIENCE: Duration = Duration::from_secs(60);

/// One read takes at most this; longer input takes several.
const READ: usize = 64 * 1_024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// One open WebSocket.
pub struct Client {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
}

impl Client {
    /// Connects and upgrades.
    pub async fn open(addr: SocketAddr, source: Option<SocketAddr>, host: &str, path: &str) -> io::Result<Self> {
        timeout(PATIENCE, async {
            let mut stream = connect(addr, source).await?;
            stream.set_nodelay(true)?;
            stream.write_all(request(host, path).as_bytes()).await?;
            let mut client = Self { stream, partial: Vec::new() };
            client.read_upgrade().await?;
            Ok(client)
        })
        .await?
    }

    /// Sends a text frame.
    pub async fn send(&mut self, payload: &str) -> io::Result<()> {
        self.write(&super::ws_frame::text(payload)).await
    }

    /// Says goodbye; what the server still sends is not read.
    pub async fn close(mut self) {
        let _ = self.write(&super::ws_frame::close()).await;
    }

    /// Waits for input and gives each text frame in it to `on_text`; answers pings.
    ///
    /// # Errors
    /// The server closed the socket or the connection failed.
    pub async fn listen(&mut self, mut on_text: impl FnMut(&[u8])) -> io::Result<()> {
        if parse(&self.partial).is_none() {
            self.stream.readable().await?;
        }
        let mut answers = Vec::new();
        let partial = &mut self.partial;
        let ended = BUFFER.with_borrow_mut(|buffer| match self.stream.try_read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => take_frames(partial, buffer.get(..read).unwrap_or_default(), &mut on_text, &mut answers),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                take_frames(partial, &[], &mut on_text, &mut answers)
            }
            Err(error) => Err(error),
        });
        if !answers.is_empty() {
            self.write(&answers).await?;
        }
        ended
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await?
    }

    async fn read_upgrade(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        loop {
            self.stream.readable().await?;
            let read: io::Result<usize> = BUFFER.with_borrow_mut(|buffer| {
                let read = self.stream.try_read(buffer)?;
                head.extend_from_slice(buffer.get(..read).unwrap_or_default());
                Ok(read)
            });
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                self.partial = head.split_off(end + 4);
                return check_upgrade(&head);
            }
        }
    }
}

fn request(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWFpbHJvb20tc3RyZXNzIQ==\r\n\r\n"
    )
}

fn check_upgrade(head: &[u8]) -> io::Result<()> {
    if head.starts_with(b"HTTP/1.1 101") {
        return Ok(());
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Err(io::Error::other(format!("no upgrade: {}", String::from_utf8_lossy(line))))
}

/// Takes whole frames from what was left over and what is new; the incomplete rest is left over again.
fn take_frames(
    partial: &mut Vec<u8>,
    new: &[u8],
    on_text: &mut impl FnMut(&[u8]),
    answers: &mut Vec<u8>,
) -> io::Result<()> {
    let joined;
    let mut rest = new;
    if !partial.is_empty() {
        partial.extend_from_slice(new);
        joined = std::mem::take(partial);
        rest = &joined;
    }
    while let Some(frame) = parse(rest) {
        match frame.kind {
            Kind::Text => on_text(frame.payload),
            Kind::Ping => answers.extend(pong(frame.payload)),
            Kind::Close => return Err(io::Error::other(close_reason(frame.payload))),
            Kind::Other => {}
        }
        rest = rest.get(frame.len..).unwrap_or_default();
    }
    *partial = rest.to_vec();
    Ok(())
}

fn close_reason(payload: &[u8]) -> String {
    match payload.first_chunk::<2>() {
        Some(code) => format!("closed with {}", u16::from_be_bytes(*code)),
        None => "closed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_split_anywhere_are_put_together() {
        let stream = [&[0x81, 2, b'a', b'b'][..], &[0x89, 1, 7], &[0x81, 1, b'c']].concat();
        for cut in 0..stream.len() {
            let (mut partial, mut texts, mut answers) = (Vec::new(), Vec::new(), Vec::new());
            let (first, second) = stream.split_at(cut);
            for part in [first, second] {
                take_frames(&mut partial, part, &mut |text: &[u8]| texts.push(text.to_vec()), &mut answers).unwrap();
            }
            assert_eq!(texts, [b"ab".to_vec(), b"c".to_vec()], "cut at {cut}");
            assert_eq!(answers, [0x8a, 0x81, 0, 0, 0, 0, 7]);
            assert!(partial.is_empty());
        }
    }

    #[test]
    fn a_close_is_an_error_with_its_code() {
        let error = take_frames(&mut Vec::new(), &[0x88, 2, 3, 244], &mut |_: &[u8]| {}, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "closed with 1012");
    }
}
