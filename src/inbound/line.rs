//! A session's socket: when it can be read, writing with a time limit, closing without taking the last reply away.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How much is read at one time.
pub const CHUNK: usize = 64 * 1024;
/// How long a client may go on sending into a closed session before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);

/// Yields when the socket can be read.
pub struct Readable(pub Rc<TcpStream>);

impl Stream for Readable {
    type Item = io::Result<()>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_read_ready(cx).map(Some)
    }
}

/// Writes all of `bytes`.
///
/// # Errors
/// The client took nothing for `limit`, or is gone.
pub async fn write_all(stream: Rc<TcpStream>, bytes: Vec<u8>, limit: Duration) -> io::Result<()> {
    let mut left = bytes.as_slice();
    while !left.is_empty() {
        tokio::time::timeout(limit, stream.writable()).await??;
        match stream.try_write(left) {
            Ok(n) => left = left.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Unread input would make the kernel answer with a reset, which can take the last reply away from the client: says
/// "no more" and reads on for a moment.
pub async fn linger(stream: &TcpStream) {
    if socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let until = Instant::now() + LINGER;
    let mut left = 16 * CHUNK;
    while left > 0 {
        match tokio::time::timeout_at(until, stream.readable()).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        let mut scratch = [0; 4096];
        match stream.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(n) => left = left.saturating_sub(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
