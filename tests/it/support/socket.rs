//! A WebSocket client of `/v1/ws`, on a library that nobody here wrote.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, protocol::Message};

use super::{PATIENCE, confirmed};

pub struct Socket<S = TcpStream> {
    stream: WebSocketStream<S>,
    /// Of the server, where it is the server that was connected to.
    address: Option<SocketAddr>,
}

/// What came.
#[derive(Debug)]
pub enum Heard {
    Frame(Value),
    /// The connection is over; the close code, where there was one.
    Closed(Option<u16>),
    /// Nothing in the time given.
    Nothing,
}

impl Socket {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address, None).await.expect("a WebSocket")
    }

    /// None when the server is not there. `buffer` bounds what the system takes in for a client that does not read.
    pub async fn try_connect(address: SocketAddr, buffer: Option<u32>) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(buffer) = buffer {
            socket.set_recv_buffer_size(buffer).unwrap();
        }
        let stream = socket.connect(address).await.ok()?;
        let shake = tokio_tungstenite::client_async(format!("ws://{address}/v1/ws"), stream);
        let (stream, _) = timeout(PATIENCE, shake).await.expect("an answer to the handshake").ok()?;
        Some(Self { stream, address: Some(address) })
    }

    /// Goes with a RST, as a machine that was cut off and came back.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// As a page of `origin` does, over a connection that is there.
    ///
    /// # Errors
    /// What the handshake was answered with.
    pub async fn of_page(stream: S, url: &str, origin: &str) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("origin", origin.parse().expect("a header"));
        let shake = tokio_tungstenite::client_async(request, stream);
        let (stream, _) = timeout(PATIENCE, shake).await.expect("an answer to the handshake")?;
        Ok(Self { stream, address: None })
    }

    /// What comes next within `limit`, pings aside.
    pub async fn hear_within(&mut self, limit: Duration) -> Heard {
        let next = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Text(text))) => return Heard::Frame(serde_json::from_str(&text).expect("JSON")),
                    Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map(|frame| frame.code.into())),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Heard::Closed(None),
                }
            }
        };
        timeout(limit, next).await.unwrap_or(Heard::Nothing)
    }

    /// The next frame of a connection that stays.
    pub async fn hear(&mut self) -> Value {
        match self.hear_within(PATIENCE).await {
            Heard::Frame(frame) => frame,
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// Asks to follow; the answer comes as a frame. False when the connection is over.
    pub async fn follow(&mut self, mailbox: &str, since: Option<&str>) -> bool {
        let mut request = json!({"type": "subscribe", "mailbox": mailbox});
        if let Some(since) = since {
            request["since"] = since.into();
        }
        self.ask(&request).await.is_ok()
    }

    /// Asks for something; whether events of what was answered 250 before come is for the server to say, not for chance.
    async fn ask(&mut self, request: &Value) -> Result<(), Error> {
        if let Some(address) = self.address {
            confirmed::is_stored(address).await;
        }
        self.stream.send(Message::text(request.to_string())).await
    }

    /// Follows from now on what a token opens.
    pub async fn subscribe_with(&mut self, mailbox: &str, token: &str) {
        let request = json!({"type": "subscribe", "mailbox": mailbox, "token": token});
        self.ask(&request).await.unwrap();
        assert_eq!(self.hear().await["type"], "subscribed");
    }

    /// Follows from now on.
    pub async fn subscribe(&mut self, mailbox: &str) {
        assert!(self.follow(mailbox, None).await);
        assert_eq!(self.hear().await["type"], "subscribed");
    }

    /// Says goodbye and does not wait for the answer.
    pub async fn leave(mut self) {
        let _ = self.stream.send(Message::Close(None)).await;
    }
}
