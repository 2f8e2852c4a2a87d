//! Segment files: made, appended to, read, truncated, removed. Blocking: the writer calls from a blocking thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::store::messages::BodyLocation;

/// Bytes before the first record: `MAILROOM`, version (u32), 0 (u32), number (u64), made at (i64, µs).
pub const HEADER: u64 = 32;
const MAGIC: &[u8; 8] = b"MAILROOM";
const VERSION: u32 = 1;

/// Where segment `number` lies.
#[must_use]
pub fn path(dir: &Path, number: i64) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// The numbers of all segment files in `dir`, ascending.
///
/// # Errors
/// When the directory cannot be read.
pub fn numbers(dir: &Path) -> io::Result<Vec<i64>> {
    let mut found = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (Some("seg"), Some(number)) = (path.extension().and_then(|e| e.to_str()), number) {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes an empty segment and syncs the directory, so that the name is as durable as what will be in it.
///
/// # Errors
/// Also when a file of that number is there: numbers are never used twice.
pub fn create(dir: &Path, number: i64, now: i64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path(dir, number))?;
    file.write_all_at(&header(number, now), 0)?;
    file.sync_data()?;
    sync_directory(dir)?;
    Ok(file)
}

/// What a segment begins with.
#[must_use]
pub fn header(number: i64, now: i64) -> Vec<u8> {
    let mut header = Vec::with_capacity(32);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&0u32.to_le_bytes());
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&now.to_le_bytes());
    header
}

/// Makes created and removed names durable.
///
/// # Errors
/// As the system says.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Opens a segment to append to it.
///
/// # Errors
/// When it is missing or is not a segment of this version.
pub fn open(dir: &Path, number: i64) -> io::Result<File> {
    known(OpenOptions::new().read(true).write(true), dir, number)
}

/// Opens a segment to read from it.
///
/// # Errors
/// As [`open`].
pub fn open_to_read(dir: &Path, number: i64) -> io::Result<File> {
    known(OpenOptions::new().read(true), dir, number)
}

fn known(how: &OpenOptions, dir: &Path, number: i64) -> io::Result<File> {
    let file = how.open(path(dir, number))?;
    let mut header = [0; 12];
    file.read_exact_at(&mut header, 0)?;
    if header.starts_with(MAGIC) && header.ends_with(&VERSION.to_le_bytes()) {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is not a segment file", path(dir, number).display()),
        ))
    }
}

/// The bytes at a place, without looking at them.
///
/// # Errors
/// `NotFound` when there is no such file, `UnexpectedEof` when it is too short.
pub fn read(dir: &Path, at: BodyLocation) -> io::Result<Vec<u8>> {
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidInput, "no such place");
    let file = File::open(path(dir, at.segment))?;
    let (offset, length) = (u64::try_from(at.offset).map_err(wrong)?, u64::try_from(at.length).map_err(wrong)?);
    if offset.saturating_add(length) > file.metadata()?.len() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before the record does"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(wrong)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The whole file from `offset` on.
///
/// # Errors
/// As the system says.
pub fn read_from(dir: &Path, number: i64, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path(dir, number))?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
