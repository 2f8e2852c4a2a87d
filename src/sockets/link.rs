//! The bare socket of one client, shared by what reads it (the actor's input) and what writes it ([`super::drive`]);
//! both run in one task.
//!
//! Reading goes through a buffer of the thread: a client that sends nothing holds no memory for it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::wire::{Decoder, Item};

/// Unsent bytes of one socket above which the kernel takes no more, so that a slow client is noticed early and its
/// backlog stays in the store. What is in flight is not counted in.
const UNSENT: u32 = 32 * 1024;
/// Room for the last words to a client that took nothing for long.
const LAST_WORDS: usize = 1024 * 1024;
const READ_BUFFER: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into());
}

/// See the module.
pub struct Link {
    pub io: TcpStream,
    /// When the client last sent or took something.
    pub heard: Cell<Instant>,
    /// Bytes that the actor has made and the socket has not taken yet.
    pub unwritten: Cell<usize>,
    /// Why the actor ended the connection, for the metrics.
    pub reason: Cell<&'static str>,
    pending: Cell<u32>,
    resume: RefCell<Option<Waker>>,
}

impl Link {
    #[must_use]
    pub fn new(io: TcpStream) -> Rc<Self> {
        // Neither is needed for correctness: a kernel without them only buffers more, or sends later.
        let _ = io.set_nodelay(true);
        limit_unsent(&io, UNSENT);
        Rc::new(Self {
            io,
            heard: Cell::new(Instant::now()),
            unwritten: Cell::new(0),
            reason: Cell::new("gone"),
            pending: Cell::new(0),
            resume: RefCell::new(None),
        })
    }

    /// A request of the client waits for its answer.
    pub fn begin(&self) {
        self.pending.set(self.pending.get().saturating_add(1));
    }

    /// It was answered.
    pub fn done(&self) {
        self.pending.set(self.pending.get().saturating_sub(1));
        if let Some(waker) = self.resume.take() {
            waker.wake();
        }
    }

    /// Lets the kernel take a last frame from a client that does not read.
    pub fn make_room(&self) {
        limit_unsent(&self.io, u32::MAX);
        let socket = socket2::SockRef::from(&self.io);
        if socket.send_buffer_size().is_ok_and(|size| size < LAST_WORDS) {
            let _ = socket.set_send_buffer_size(LAST_WORDS);
        }
    }

    /// Reads what there is into the buffer of the thread and gives it to `use_bytes`; false at the end.
    fn poll_read(&self, cx: &mut Context<'_>, use_bytes: impl FnOnce(&[u8])) -> Poll<io::Result<bool>> {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                ready!(self.io.poll_read_ready(cx))?;
                match self.io.try_read(buffer) {
                    Ok(0) => return Poll::Ready(Ok(false)),
                    Ok(count) => {
                        use_bytes(buffer.get(..count).unwrap_or_default());
                        return Poll::Ready(Ok(true));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
    }

    /// Writes some of `bytes` and takes it off; what is not taken now is to be offered again.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        loop {
            match self.io.try_write(bytes) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    bytes.advance(count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.io.poll_write_ready(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes all of `bytes`, then waits for the client to close (RFC 6455 §7.1.1: the server closes first). Whoever
    /// calls limits the time.
    pub async fn finish(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            if std::future::poll_fn(|cx| self.poll_write(cx, &mut bytes)).await.is_err() {
                return;
            }
        }
        let _ = socket2::SockRef::from(&self.io).shutdown(std::net::Shutdown::Write);
        self.drain().await;
    }

    /// Drops what the client still sends, until it closes: closing a socket with unread input would reset it and
    /// take away what was written last.
    async fn drain(&self) {
        while std::future::poll_fn(|cx| self.poll_read(cx, |_| ())).await.is_ok_and(|more| more) {}
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn limit_unsent(io: &TcpStream, bytes: u32) {
    let _ = socket2::SockRef::from(io).set_tcp_notsent_lowat(bytes);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn limit_unsent(_: &TcpStream, _: u32) {}

/// What the client sends, as messages. Stops reading while too many of its requests wait for their answer.
pub struct Input {
    link: Rc<Link>,
    decoder: Decoder,
    /// Read, but not decoded yet; `taken` bytes of it are.
    rest: Vec<u8>,
    taken: usize,
    max_pending: u32,
}

impl Input {
    /// `first`: bytes that came with the handshake.
    #[must_use]
    pub fn new(link: Rc<Link>, first: &[u8], max_message: usize, max_pending: u32) -> Self {
        Self {
            link,
            decoder: Decoder::new(max_message),
            rest: first.to_vec(),
            taken: 0,
            max_pending: max_pending.max(1),
        }
    }

    fn decode_rest(&mut self) -> Option<Item> {
        let mut left = self.rest.get(self.taken..).filter(|left| !left.is_empty())?;
        let item = self.decoder.next(&mut left);
        self.taken = self.rest.len() - left.len();
        if left.is_empty() {
            self.rest = Vec::new();
            self.taken = 0;
        }
        item
    }
}

impl Stream for Input {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = self.get_mut();
        if this.link.pending.get() >= this.max_pending {
            *this.link.resume.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        loop {
            if let Some(item) = this.decode_rest() {
                return Poll::Ready(Some(item));
            }
            let mut item = None;
            let (decoder, rest) = (&mut this.decoder, &mut this.rest);
            let read = this.link.poll_read(cx, |mut bytes| {
                item = decoder.next(&mut bytes);
                *rest = bytes.to_vec();
            });
            match ready!(read) {
                Ok(true) => this.link.heard.set(Instant::now()),
                Ok(false) | Err(_) => return Poll::Ready(None),
            }
            if item.is_some() {
                return Poll::Ready(item);
            }
        }
    }
}
