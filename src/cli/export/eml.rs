//! A file for each message, exactly as it was received; `00000012-<id>.eml` is the one with UID 12.

use std::path::{Path, PathBuf};

use super::{ExportError, Target, files};
use crate::mail::address::MailboxKey;
use crate::store::StoredMessage;

pub struct Eml {
    root: PathBuf,
    several: bool,
    here: PathBuf,
}

impl Eml {
    pub fn create(root: &Path, several: bool) -> Result<Self, ExportError> {
        files::claim(root)?;
        Ok(Self { root: root.to_owned(), several, here: root.to_owned() })
    }
}

impl Target for Eml {
    fn mailbox(&mut self, key: &MailboxKey) -> Result<(), ExportError> {
        if self.several {
            self.here = self.root.join(files::file_name(key));
            files::make(&self.here)?;
        }
        Ok(())
    }

    fn put(&mut self, message: &StoredMessage, raw: &[u8]) -> Result<(), ExportError> {
        let listed = &message.listed;
        let path = self.here.join(format!("{:08}-{}.eml", listed.uid, listed.id));
        files::write(&path, raw, listed.received_at)
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        files::sync(&self.root)
    }
}
