//! What a start needs from the system, and why one fails: each failure is one line that says what to do, and an exit
//! code after sysexits.h.
//!
//! `app` and the commands call it. A failure travels as [`StartError`] inside `anyhow::Error` up to `main`, which prints it
//! and ends with [`exit_code`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for us before they are accepted; it takes the smaller of this and `somaxconn`.
const BACKLOG: i32 = 4_096;

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
    #[error("cannot listen on {addr} for {what}: {source}; choose another address with {flag}")]
    Listen { what: &'static str, addr: SocketAddr, flag: &'static str, source: io::Error },
    #[error("the data directory {} cannot be written: {source}; choose another with --data", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the data directory {} is in use by {holder}; stop it, or choose another with --data", path.display())]
    Locked { path: PathBuf, holder: String },
}

/// Exit codes, from sysexits.h.
pub mod exit {
    /// The command line cannot be understood.
    pub const USAGE: u8 = 64;
    /// Something needed is not there: a port is taken, the database does not open.
    pub const UNAVAILABLE: u8 = 69;
    /// An error in the program.
    pub const SOFTWARE: u8 = 70;
    /// The data directory cannot be made or written.
    pub const CANT_CREATE: u8 = 73;
    /// Reading or writing failed.
    pub const IO: u8 = 74;
    /// Another process holds the data directory; trying later may help.
    pub const TEMPORARY: u8 = 75;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}

/// The exit code for a failure: that of its first cause that has one.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(start) = cause.downcast_ref::<StartError>() {
            return match start {
                StartError::Config(_) => exit::CONFIG,
                StartError::PortTaken { .. } | StartError::Listen { .. } => exit::UNAVAILABLE,
                StartError::Directory { .. } => exit::CANT_CREATE,
                StartError::Locked { .. } => exit::TEMPORARY,
            };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return if io.kind() == ErrorKind::AddrInUse { exit::UNAVAILABLE } else { exit::IO };
        }
    }
    exit::UNAVAILABLE
}

/// Binds a listener; `what` and `flag` are for the error.
///
/// # Errors
/// [`StartError::PortTaken`] or [`StartError::Listen`].
pub fn listen(addr: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, StartError> {
    bind(addr).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => StartError::PortTaken { what, addr, flag },
        _ => StartError::Listen { what, addr, flag, source },
    })
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

/// Raises the soft limit of open descriptors to the hard one; returns both as they were before.
///
/// A refusal leaves the limit as it is: `doctor` says when it is too small.
pub fn raise_descriptor_limit() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft < hard {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, soft, hard, "the descriptor limit could not be raised");
        }
    }
    (soft, hard)
}

/// The data directory, held by this process alone until dropped.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the directory where it is missing and takes its lock.
    ///
    /// # Errors
    /// [`StartError::Directory`] or [`StartError::Locked`], which names the holder.
    pub fn take(data: &Path) -> Result<Self, StartError> {
        let directory = |source| StartError::Directory { path: data.into(), source };
        std::fs::create_dir_all(data).map_err(directory)?;
        let path = data.join("lock");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(directory)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StartError::Locked { path: data.into(), holder: holder(&mut file) });
        }
        write_holder(&mut file).map_err(directory)?;
        Ok(Self { _file: file })
    }

    /// Who holds the directory, when somebody does. Creates nothing.
    #[must_use]
    pub fn held_by(data: &Path) -> Option<String> {
        let mut file = File::open(data.join("lock")).ok()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => None,
            Err(_) => Some(holder(&mut file)),
        }
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(64).read_to_string(&mut text);
    match text.trim() {
        "" => "another process".into(),
        id => format!("process {id}"),
    }
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
        assert_eq!(exit_code(&error.into()), exit::UNAVAILABLE);
    }

    #[test]
    fn the_data_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DataLock::held_by(dir.path()), None);
        let lock = DataLock::take(dir.path()).unwrap();
        let me = format!("process {}", std::process::id());
        let error = DataLock::take(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&me), "{error}");
        assert_eq!(exit_code(&error.into()), exit::TEMPORARY);
        assert_eq!(DataLock::held_by(dir.path()), Some(me));
        drop(lock);
        assert_eq!(DataLock::held_by(dir.path()), None);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_names_it() {
        let error = DataLock::take(Path::new("/proc/none/data")).unwrap_err();
        assert!(error.to_string().starts_with("the data directory /proc/none/data cannot be written: "), "{error}");
        assert_eq!(exit_code(&error.into()), exit::CANT_CREATE);
    }
}
