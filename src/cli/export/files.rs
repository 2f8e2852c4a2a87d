//! Directories and files that an export writes: for nobody but their owner, since they hold other people's mail; none that was
//! there before.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::ExportError;
use crate::mail::address::MailboxKey;
use crate::mail::time::Timestamp;
use crate::store::directory::private;

/// Makes the directory that an export goes to, or finds it empty.
pub fn claim(path: &Path) -> Result<(), ExportError> {
    match path.read_dir() {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(ExportError::Exists(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(at(path)(error)),
    }
}

/// Makes a directory, and what is missing above it.
pub fn make(path: &Path) -> Result<(), ExportError> {
    private().recursive(true).create(path).map_err(at(path))
}

/// A new file.
pub fn create(path: &Path) -> Result<File, ExportError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))
}

/// A new file with a message in it, as old as that.
pub fn write(path: &Path, raw: &[u8], arrived: Timestamp) -> Result<(), ExportError> {
    let mut file = create(path)?;
    file.write_all(raw).map_err(at(path))?;
    let arrived = Duration::from_micros(u64::try_from(arrived.0).unwrap_or(0));
    file.set_modified(SystemTime::UNIX_EPOCH + arrived).map_err(at(path))
}

/// Makes everything below `path` durable, with one request to the system.
pub fn sync(path: &Path) -> Result<(), ExportError> {
    let directory = File::open(path).map_err(at(path))?;
    rustix::fs::syncfs(&directory).map_err(io::Error::from).map_err(at(path))
}

/// A mailbox as the name of a file: what is neither letter nor digit nor one of `@.-_+` is `%` and two digits.
pub fn file_name(key: &MailboxKey) -> String {
    let mut name = String::with_capacity(key.as_str().len());
    for (index, byte) in key.as_str().bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"@-_+".contains(&byte) || (byte == b'.' && index > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    // The longest name of a file on most systems is 255 bytes.
    if name.len() > 200 {
        name.truncate(150);
        name.push_str(&format!("~{:08x}", crc32fast::hash(key.as_str().as_bytes())));
    }
    name
}

pub fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    move |error| match error.kind() {
        io::ErrorKind::AlreadyExists => ExportError::Exists(path.to_owned()),
        _ => ExportError::Io { path: path.to_owned(), error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_directory_is_safe_and_its_own() {
        for (key, name) in [
            ("ann@x.test", "ann@x.test"),
            ("../../etc@x.test", "%2E./%2E./etc"),
            ("a/b@x.test", "a%2Fb@x.test"),
            (".hidden@x.test", "%2Ehidden@x.test"),
            ("a%2Fb@x.test", "a%252Fb@x.test"),
        ] {
            let found = file_name(&MailboxKey::from_stored(key));
            assert!(!found.contains('/') && !found.starts_with('.'), "{found}");
            if !name.contains('/') {
                assert_eq!(found, name);
            }
        }
        let long = |last: char| file_name(&MailboxKey::from_stored(&format!("{}{last}@x.test", "é".repeat(150))));
        assert!(long('a').len() < 200 && long('a') != long('b'));
    }
}
