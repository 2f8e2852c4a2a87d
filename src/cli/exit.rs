//! Exit codes, from sysexits.h, and which failure has which.

use std::io::{self, ErrorKind};

use super::archive::ArchiveError;
use super::export::ExportError;
use crate::cluster::broker::topology::Trouble;
use crate::startup::StartError;
use crate::store::OpenError;
use crate::store::backup::BackupError;
use crate::store::check::CheckError;

/// The command line cannot be understood.
pub const USAGE: u8 = 64;
/// Something needed is not there: a port is taken, a server does not answer, the database does not open.
pub const UNAVAILABLE: u8 = 69;
/// A directory cannot be made or written, or is not empty where it must be.
pub const CANT_CREATE: u8 = 73;
/// Reading or writing failed.
pub const IO: u8 = 74;
/// Another process holds the data directory; trying later may help.
pub const TEMPORARY: u8 = 75;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;

/// The exit code of a failure: that of its first cause that has one.
#[must_use]
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(of_cause).unwrap_or(UNAVAILABLE)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(start) = cause.downcast_ref::<StartError>() {
        return Some(match start {
            StartError::Config(_) => CONFIG,
            StartError::PortTaken { .. } | StartError::PortForbidden { .. } | StartError::Listen { .. } => UNAVAILABLE,
        });
    }
    if let Some(trouble) = cause.downcast_ref::<Trouble>() {
        return Some(if trouble.is_lasting() { CONFIG } else { UNAVAILABLE });
    }
    if let Some(open) = cause.downcast_ref() {
        return Some(of_open(open));
    }
    if let Some(check) = cause.downcast_ref() {
        return Some(match check {
            CheckError::Open(open) => of_open(open),
            CheckError::Missing(_) | CheckError::Database { .. } => UNAVAILABLE,
            CheckError::Io { .. } => IO,
        });
    }
    if let Some(backup) = cause.downcast_ref() {
        return Some(match backup {
            BackupError::Open(open) => of_open(open),
            BackupError::NotEmpty(_) => CANT_CREATE,
            BackupError::Server(_) => CONFIG,
            BackupError::Io { .. } => IO,
            BackupError::Missing(_) | BackupError::Database { .. } | BackupError::Segment(_) => UNAVAILABLE,
        });
    }
    if let Some(archive) = cause.downcast_ref() {
        return Some(match archive {
            ArchiveError::NoPlace => CONFIG,
            ArchiveError::NoAge => USAGE,
            ArchiveError::Busy => TEMPORARY,
            ArchiveError::Store(_) => UNAVAILABLE,
        });
    }
    if let Some(export) = cause.downcast_ref() {
        return Some(match export {
            ExportError::Exists(_) => CANT_CREATE,
            ExportError::NotAStream | ExportError::Address(..) => USAGE,
            ExportError::NoMailbox(_) | ExportError::Store(_) => UNAVAILABLE,
            ExportError::Io { .. } => IO,
        });
    }
    let io = cause.downcast_ref::<io::Error>()?;
    Some(if io.kind() == ErrorKind::AddrInUse { UNAVAILABLE } else { IO })
}

const fn of_open(error: &OpenError) -> u8 {
    match error {
        OpenError::InUse { .. } => TEMPORARY,
        OpenError::Io { .. } | OpenError::Make { .. } | OpenError::NotADirectory { .. } => CANT_CREATE,
        OpenError::Unsupported(_) | OpenError::Url(_) | OpenError::Packet { .. } => CONFIG,
        OpenError::Cold { .. } | OpenError::Newer { .. } | OpenError::Database { .. } | OpenError::Server { .. } => {
            UNAVAILABLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn the_first_cause_that_has_a_code_decides() {
        let in_use = OpenError::InUse { path: "/d".into() };
        assert_eq!(code(&anyhow::Error::from(in_use).context("starting")), TEMPORARY);
        assert_eq!(code(&anyhow::Error::from(BackupError::NotEmpty("/d".into()))), CANT_CREATE);
        let open = || OpenError::InUse { path: "/d".into() };
        assert_eq!(code(&anyhow::Error::from(BackupError::Open(open()))), TEMPORARY);
        assert_eq!(code(&anyhow::Error::from(CheckError::Open(open()))), TEMPORARY);
        assert_eq!(code(&anyhow::Error::from(StartError::Config(crate::config::Problems(Vec::new())))), CONFIG);
        assert_eq!(code(&anyhow::Error::from(io::Error::from(ErrorKind::PermissionDenied))), IO);
        assert_eq!(code(&anyhow!("anything else")), UNAVAILABLE);
    }
}
