//! Whether `search.db` is what was left. It is written without a sync, so what a power cut leaves may be any mixture of
//! pages, and nobody would notice a changed byte in it.
//!
//! A stop writes the length and checksum of the whole file into `search.seal`; a start takes the seal away. Without one,
//! after a kill, the file is trusted only if this machine has not been started since.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Larger files are not sealed: reading them would hold up the stop.
const MAX_SEALED: u64 = 8 << 30;

/// What is known of a file before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Byte for byte as a stop left it.
    Whole,
    /// There was a seal and the file is another.
    Broken,
    /// No seal.
    None,
}

fn path(index: &Path) -> PathBuf {
    index.with_extension("seal")
}

/// Takes the seal of `index` away and tells what it said.
///
/// # Errors
/// As the system says; then nothing may be trusted.
pub fn take(index: &Path) -> io::Result<Seal> {
    let path = path(index);
    let expected = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seal::None),
        Err(error) => return Err(error),
    };
    std::fs::remove_file(&path)?;
    Ok(if !has_wal(index) && sum(index).ok().as_deref() == Some(expected.trim()) { Seal::Whole } else { Seal::Broken })
}

/// Seals a file that nobody has open any more.
///
/// # Errors
/// As the system says; then there is no seal.
pub fn put(index: &Path) -> io::Result<()> {
    let file = File::open(index)?;
    if has_wal(index) || file.metadata()?.len() > MAX_SEALED {
        return Ok(());
    }
    file.sync_all()?;
    std::fs::write(path(index), sum(index)?)
}

/// Whether a part of it is still in the WAL, which a seal does not cover.
fn has_wal(index: &Path) -> bool {
    std::fs::metadata(with_suffix(index, "-wal")).is_ok_and(|file| file.len() > 0)
}

/// Removes an index with all that belongs to it.
///
/// # Errors
/// As the system says of any file but a missing one.
pub fn remove(index: &Path) -> io::Result<()> {
    for path in [path(index), with_suffix(index, "-wal"), with_suffix(index, "-shm"), index.to_owned()] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Names this run of the machine; the same for as long as it is not started again. Empty where it is not told.
#[must_use]
pub fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn with_suffix(index: &Path, suffix: &str) -> PathBuf {
    let mut path = index.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn sum(index: &Path) -> io::Result<String> {
    let mut file = File::open(index)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("{length} {:08x}", hasher.finalize()));
        }
        length += read as u64;
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_for_these_bytes_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("search.db");
        assert_eq!(take(&index).unwrap(), Seal::None);
        std::fs::write(&index, b"some bytes").unwrap();
        put(&index).unwrap();
        assert_eq!(take(&index).unwrap(), Seal::Whole);
        assert_eq!(take(&index).unwrap(), Seal::None);
        for changed in [&b"some bytez"[..], b"some byte", b"some bytes "] {
            std::fs::write(&index, b"some bytes").unwrap();
            put(&index).unwrap();
            std::fs::write(&index, changed).unwrap();
            assert_eq!(take(&index).unwrap(), Seal::Broken);
        }
        put(&index).unwrap();
        std::fs::write(dir.path().join("search.db-wal"), b"frames").unwrap();
        assert_eq!(take(&index).unwrap(), Seal::Broken);
        remove(&index).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
