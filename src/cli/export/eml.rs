//! A file for each message, exactly as it was received; `00000012-<id>.eml` is the one with UID 12.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{ExportError, Target, at, claim, file_name, sync};
use crate::mail::address::MailboxKey;
use crate::store::StoredMessage;

pub struct Eml {
    root: PathBuf,
    several: bool,
    here: PathBuf,
}

impl Eml {
    pub fn create(root: &Path, several: bool) -> Result<Self, ExportError> {
        claim(root)?;
        Ok(Self { root: root.to_owned(), several, here: root.to_owned() })
    }
}

impl Target for Eml {
    fn mailbox(&mut self, key: &MailboxKey) -> Result<(), ExportError> {
        if self.several {
            self.here = self.root.join(file_name(key));
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.here);
            made.map_err(at(&self.here))?;
        }
        Ok(())
    }

    fn put(&mut self, message: &StoredMessage, raw: &[u8]) -> Result<(), ExportError> {
        let listed = &message.listed;
        let path = self.here.join(format!("{:08}-{}.eml", listed.uid, listed.id));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let arrived = Duration::from_micros(u64::try_from(listed.received_at.0).unwrap_or(0));
        let written = file.and_then(|mut file| {
            file.write_all(raw)?;
            file.set_modified(SystemTime::UNIX_EPOCH + arrived)
        });
        written.map_err(at(&path))
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        sync(&self.root)
    }
}
