//! An SMTP client that says what it is told and shows what it hears.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

pub struct SmtpClient {
    stream: BufReader<TcpStream>,
}

impl SmtpClient {
    /// Connects and expects a 220.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut client = Self::connect_raw(address).await;
        let greeting = client.reply().await;
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// Connects and leaves the greeting unread.
    pub async fn connect_raw(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).await.expect("connects")) }
    }

    /// One whole reply, its lines joined with LF, without the last line end. Empty when the connection is closed.
    pub async fn reply(&mut self) -> String {
        let mut lines = String::new();
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("a reply in time");
            if read.unwrap_or(0) == 0 {
                return lines;
            }
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push_str(line.trim_end());
            if last {
                return lines;
            }
            lines.push('\n');
        }
    }

    /// Connects and greets; none when the server is not there or does not want to.
    pub async fn try_connect(address: SocketAddr) -> Option<Self> {
        let mut client = Self { stream: BufReader::new(TcpStream::connect(address).await.ok()?) };
        let greeted =
            client.reply().await.starts_with("220 ") && client.attempt(b"EHLO client.test\r\n").await.is_some();
        greeted.then_some(client)
    }

    /// Writes and hears the reply, if it is a good one; the server may go away meanwhile.
    pub async fn attempt(&mut self, bytes: &[u8]) -> Option<String> {
        self.stream.get_mut().write_all(bytes).await.ok()?;
        let reply = self.reply().await;
        reply.starts_with(['2', '3']).then_some(reply)
    }

    /// A transaction with one recipient; whether it was answered 250.
    pub async fn try_send(&mut self, to: &str, message: &str) -> bool {
        let mut wire = Vec::new();
        mailroom::smtp::data::encode(message.as_bytes(), &mut wire);
        let to = format!("RCPT TO:<{to}>\r\n");
        for bytes in [b"MAIL FROM:<ann@sender.test>\r\n", to.as_bytes(), b"DATA\r\n", &wire] {
            if self.attempt(bytes).await.is_none() {
                return false;
            }
        }
        true
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.expect("writes");
    }

    /// One command and its reply.
    pub async fn command(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    pub async fn hello(&mut self) {
        let reply = self.command("EHLO client.test").await;
        assert!(reply.starts_with("250-"), "{reply}");
    }

    /// A transaction; the reply to the dot, or the first refusal before it.
    pub async fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> String {
        let reply = self.command(&format!("MAIL FROM:<{from}>")).await;
        if !reply.starts_with("250") {
            return reply;
        }
        for to in to {
            let reply = self.command(&format!("RCPT TO:<{to}>")).await;
            if !reply.starts_with("250") {
                return reply;
            }
        }
        let reply = self.command("DATA").await;
        if !reply.starts_with("354") {
            return reply;
        }
        self.data(message).await
    }

    /// The message, dots doubled, and the reply to its end.
    pub async fn data(&mut self, message: &[u8]) -> String {
        let mut wire = Vec::new();
        mailroom::smtp::data::encode(message, &mut wire);
        self.write(&wire).await;
        self.reply().await
    }

    pub async fn quit(mut self) {
        let reply = self.command("QUIT").await;
        assert!(reply.starts_with("221 "), "{reply}");
        assert!(self.is_closed().await);
    }

    /// Whether the server has closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(timeout(PATIENCE, self.stream.read(&mut byte)).await.expect("closed in time"), Ok(1..))
    }
}
