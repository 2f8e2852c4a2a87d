//! The last moments of a listening socket: whoever is connected already is still accepted, nobody else gets in.
//!
//! A listening socket that is simply closed resets the connections that the kernel has established and nobody has
//! accepted yet: requests are lost whose clients did nothing wrong. So before it is closed its handshakes are ignored for
//! [`GRACE`]. A client's first packet is then repeated by its kernel a second later and finds the port closed, which every
//! client and proxy takes as "not sent, try elsewhere". Called by `listener` and by `app` for the HTTP port.

use std::net::TcpListener;
use std::time::Duration;

/// How long what was established is still accepted: many times what an accepting thread needs.
pub const GRACE: Duration = Duration::from_millis(150);

/// Lets the kernel ignore new handshakes on a listening socket. Where it cannot, connections are taken until the end, and
/// those of the last instant are reset.
pub fn ignore_handshakes(listener: &TcpListener) {
    if let Err(error) = attach(listener) {
        tracing::debug!(%error, "new connections are taken until the port is closed");
    }
}

/// A packet filter (classic BPF; offsets are from the TCP header): drops what has SYN without ACK, passes all else.
#[cfg(target_os = "linux")]
fn attach(listener: &TcpListener) -> std::io::Result<()> {
    use socket2::{SockFilter, SockRef};
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn attach(_: &TcpListener) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn who_is_connected_is_accepted_and_nobody_else_gets_in() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        ignore_handshakes(&listener);
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        let (mut accepted, _) = listener.accept().unwrap();
        drop(listener);
        early.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
