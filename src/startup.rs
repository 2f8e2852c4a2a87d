//! What a start needs from the system, and why one fails: each failure is one line that says what to do.
//!
//! `app` and the commands call it. A failure travels as [`StartError`] inside `anyhow::Error` up to `cli`, which prints it
//! and chooses the exit code.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for us before they are accepted; it takes the smaller of this and `somaxconn`.
const BACKLOG: i32 = 4_096;

/// Ports below it are for who may have them; `net.ipv4.ip_unprivileged_port_start` where nobody changed that.
const FREE: u16 = 1_024;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Printed a line each.
    #[error("{0}")]
    Config(crate::config::Problems),
    #[error(
        "cannot listen on {addr} for {what}: the port is taken; stop the program that has it, or choose another with {flag}"
    )]
    PortTaken { what: &'static str, addr: SocketAddr, flag: &'static str },
    #[error(
        "cannot listen on {addr} for {what}: ports below {FREE} need CAP_NET_BIND_SERVICE (AmbientCapabilities= of a systemd \
         unit), or choose another with {flag}"
    )]
    PortForbidden { what: &'static str, addr: SocketAddr, flag: &'static str },
    #[error("cannot listen on {addr} for {what}: {error}; choose another address with {flag}")]
    Listen { what: &'static str, addr: SocketAddr, flag: &'static str, error: io::Error },
}

/// Binds a listener; `what` and `flag` are for the error.
///
/// # Errors
/// [`StartError::PortTaken`], [`StartError::PortForbidden`] or [`StartError::Listen`].
pub fn listen(addr: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, StartError> {
    bind(addr).map_err(|error| refusal(error, addr, what, flag))
}

fn refusal(error: io::Error, addr: SocketAddr, what: &'static str, flag: &'static str) -> StartError {
    match error.kind() {
        ErrorKind::AddrInUse => StartError::PortTaken { what, addr, flag },
        ErrorKind::PermissionDenied if addr.port() < FREE => StartError::PortForbidden { what, addr, flag },
        _ => StartError::Listen { what, addr, flag, error },
    }
}

/// `SO_REUSEADDR` lets a restart have the port while old connections still linger; IPv6 is bound alone, so that `[::]` and
/// `0.0.0.0` can both be given.
fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the soft limit of open descriptors to the hard one, and logs both.
///
/// A refusal leaves the limit as it is: `doctor` says when it is too small.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft >= hard {
        tracing::debug!(soft, hard, "the descriptor limit is as high as it may be");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => tracing::info!(soft, hard, "the soft descriptor limit is raised to the hard one"),
        Err(error) => tracing::warn!(%error, soft, hard, "the descriptor limit could not be raised"),
    }
}

/// Descriptors that the process may have open.
#[must_use]
pub fn descriptor_limit() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Who holds the data directory, when a server runs on it: "process 1234". Creates and locks nothing.
#[must_use]
pub fn data_holder(data: &Path) -> Option<String> {
    let file = File::open(data.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let inode = file.metadata().ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    Some(match flock_holder(&locks, inode) {
        Some(id) => format!("process {id}"),
        None => "another process".into(),
    })
}

/// A line is `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`: the process, then device and inode (proc(5)).
fn flock_holder(locks: &str, inode: u64) -> Option<&str> {
    let wanted = format!(":{inode}");
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip_while(|field| *field != "FLOCK");
        let (id, file) = (fields.nth(3)?, fields.next()?);
        file.ends_with(&wanted).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_one_line_with_the_flag_to_change_it() {
        let first = listen("127.0.0.1:0".parse().unwrap(), "SMTP", "--smtp").unwrap();
        let addr = first.local_addr().unwrap();
        let error = listen(addr, "SMTP", "--smtp").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {addr} for SMTP: the port is taken; stop the program that has it, or choose another with --smtp"
            )
        );
    }

    #[test]
    fn a_port_that_needs_a_right_names_it() {
        let denied = |port| {
            let error = refusal(ErrorKind::PermissionDenied.into(), ([0, 0, 0, 0], port).into(), "SMTP", "--smtp");
            format!("{:#}", anyhow::Error::from(error))
        };
        assert_eq!(
            denied(25),
            "cannot listen on 0.0.0.0:25 for SMTP: ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= of a \
             systemd unit), or choose another with --smtp"
        );
        assert_eq!(
            denied(2525),
            "cannot listen on 0.0.0.0:2525 for SMTP: permission denied; choose another address with --smtp"
        );
    }

    #[test]
    fn names_the_process_that_holds_the_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(data_holder(dir.path()), None);
        let file = File::create(dir.path().join("lock")).unwrap();
        assert_eq!(data_holder(dir.path()), None);
        file.lock().unwrap();
        let holder = data_holder(dir.path()).unwrap();
        // A sandbox may hide /proc/locks.
        assert!(holder == format!("process {}", std::process::id()) || holder == "another process", "{holder}");
        drop(file);
        assert_eq!(data_holder(dir.path()), None);
    }

    #[test]
    fn finds_the_holder_of_a_lock_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 08:01:177 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF\n";
        assert_eq!(flock_holder(locks, 77), Some("13"));
        assert_eq!(flock_holder(locks, 5), None);
    }
}
