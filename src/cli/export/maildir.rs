//! A Maildir: each message is written in `tmp` and moved to `new`, or to `cur` with its flags once it was read or has tags.
//!
//! `S` is read. Tags are letters whose meaning stands in `dovecot-keywords`, where Dovecot looks for it: there are 26 of
//! them, further tags are left out. The time of a file is that of its arrival.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files::{self, at};
use super::{ExportError, Target};
use crate::mail::address::MailboxKey;
use crate::store::StoredMessage;

/// Letters that a file's name can have for tags.
const LETTERS: usize = 26;

pub struct Maildir {
    root: PathBuf,
    several: bool,
    /// The Maildir that is written to.
    here: PathBuf,
    /// Number of each tag there.
    keywords: BTreeMap<String, usize>,
}

impl Maildir {
    pub fn create(root: &Path, several: bool) -> Result<Self, ExportError> {
        files::claim(root)?;
        Ok(Self { root: root.to_owned(), several, here: root.to_owned(), keywords: BTreeMap::new() })
    }

    /// The letters of a message's tags; new ones are noted.
    fn letters(&mut self, tags: &[String]) -> Result<String, ExportError> {
        let mut letters = Vec::new();
        for tag in tags {
            let keyword = keyword(tag);
            let known = self.keywords.len();
            let number = match self.keywords.get(&keyword) {
                Some(number) => *number,
                None if known < LETTERS => {
                    let path = self.here.join("dovecot-keywords");
                    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
                    file.and_then(|mut file| writeln!(file, "{known} {keyword}")).map_err(at(&path))?;
                    self.keywords.insert(keyword, known);
                    known
                }
                None => continue,
            };
            letters.extend(u8::try_from(number).ok().map(|number| char::from(b'a' + number)));
        }
        letters.sort_unstable();
        letters.dedup();
        Ok(letters.into_iter().collect())
    }
}

impl Target for Maildir {
    fn mailbox(&mut self, key: &MailboxKey) -> Result<(), ExportError> {
        if self.several {
            self.here = self.root.join(files::file_name(key));
            self.keywords.clear();
        }
        for part in ["tmp", "new", "cur"] {
            files::make(&self.here.join(part))?;
        }
        Ok(())
    }

    fn put(&mut self, message: &StoredMessage, raw: &[u8]) -> Result<(), ExportError> {
        let listed = &message.listed;
        let letters = self.letters(&listed.tags)?;
        // The id is given once, the UID orders what came in the same second.
        let name = format!("{}.{}_{}.mailroom", listed.received_at.seconds(), listed.uid, listed.id);
        let seen = if listed.is_read { "S" } else { "" };
        let (part, name_there) = match (seen, letters.as_str()) {
            ("", "") => ("new", name.clone()),
            (seen, letters) => ("cur", format!("{name}:2,{seen}{letters}")),
        };
        let (tmp, path) = (self.here.join("tmp").join(&name), self.here.join(part).join(name_there));
        files::write(&tmp, raw, listed.received_at)?;
        // A link, unlike a rename, overwrites nothing.
        match fs::hard_link(&tmp, &path) {
            Ok(()) => fs::remove_file(&tmp).map_err(at(&tmp)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(ExportError::Exists(path)),
            // A file system without links; nobody else writes here.
            Err(_) => fs::rename(&tmp, &path).map_err(at(&path)),
        }
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        files::sync(&self.root)
    }
}

/// A tag as an IMAP keyword: an atom.
fn keyword(tag: &str) -> String {
    let atom = |c: char| if c.is_ascii_graphic() && !r#"(){%*"\]"#.contains(c) { c } else { '_' };
    tag.chars().map(atom).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_an_atom() {
        assert_eq!(keyword("to do"), "to_do");
        assert_eq!(keyword("a(b)\"c\n"), "a_b__c_");
        assert_eq!(keyword("ok-1"), "ok-1");
    }
}
