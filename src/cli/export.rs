//! `mailroom export`: writes messages as mbox, Maildir or eml files, beside a running server or without one.
//!
//! Messages are read and written one by one, so that memory does not grow with the mail: into an [`mbox`], a [`maildir`] or
//! [`eml`] files. Nothing that is there is overwritten. What cannot be read is named on standard error and left out; the exit
//! code is 1 then.

mod eml;
mod files;
mod maildir;
mod mbox;
mod progress;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::serve::Place;
use crate::clock;
use crate::mail::address::{MailboxKey, Plus};
use crate::mail::query::{Candidate, Query};
use crate::mail::summary;
use crate::mail::time::Timestamp;
use crate::mail::units::Period;
use crate::store::{Mailbox, Store, StoreError, StoredMessage};
use futures_util::{StreamExt, stream};
use progress::Progress;

/// Rows read at once.
const PAGE: u64 = 100;
const MAILBOXES: u32 = 500;
/// Bodies that are read before their turn, for storage that is far away.
const AHEAD: usize = 8;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The mailbox to export
    #[arg(long, value_name = "ADDRESS", required_unless_present = "all", conflicts_with = "all")]
    mailbox: Option<String>,
    /// Export all mailboxes
    #[arg(long)]
    all: bool,
    /// Only what matches, in the search's own syntax
    #[arg(long, value_name = "QUERY", value_parser = query)]
    query: Option<Query>,
    /// Only what came at this time or later: 2026-11-21, RFC 3339, or an age such as 30d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what came before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<Timestamp>,
    /// How to write it
    #[arg(long, value_enum)]
    format: Format,
    /// Leave messages exactly as they were received: no Status, X-Keywords and Delivered-To in an mbox
    #[arg(long)]
    exact: bool,
    /// The file (mbox; `-` is standard output), or the directory (maildir, eml), which must be empty or missing
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One file (mboxrd): lines that begin with "From " are quoted, line ends are LF
    Mbox,
    /// A directory with cur, new and tmp; with --all one for each mailbox
    Maildir,
    /// A directory with one file for each message; with --all one for each mailbox
    Eml,
}

/// Why an export ended.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{0} exists: an export overwrites nothing")]
    Exists(PathBuf),
    #[error("only an mbox can be written to standard output")]
    NotAStream,
    #[error("{0:?} is no address: {1}")]
    Address(String, String),
    #[error("there is no mailbox {0}")]
    NoMailbox(MailboxKey),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where messages go.
trait Target {
    /// What comes next is of this mailbox.
    fn mailbox(&mut self, key: &MailboxKey) -> Result<(), ExportError>;
    fn put(&mut self, message: &StoredMessage, raw: &[u8]) -> Result<(), ExportError>;
    /// Everything is written: makes it durable.
    fn finish(&mut self) -> Result<(), ExportError>;
}

/// Exports what the options ask for.
///
/// # Errors
/// Nothing can be written there, or the store cannot be read. What was written until then stays.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.place.read()?;
    let plus = config.mailboxes.plus.into();
    let key = options.mailbox.as_deref().map(|text| address(text, plus)).transpose()?;
    let config = config.store();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let store = Store::open_to_read(&config).await?;
        let done = export(&store, options, key).await;
        store.close().await;
        Ok::<_, anyhow::Error>(done?)
    })?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True when everything could be read.
async fn export(store: &Store, options: &Options, key: Option<MailboxKey>) -> Result<bool, ExportError> {
    let only = match key {
        None => None,
        Some(key) => Some(store.mailbox(&key).await?.ok_or(ExportError::NoMailbox(key))?),
    };
    let mut target: Box<dyn Target> = match options.format {
        Format::Mbox => Box::new(mbox::Mbox::create(&options.out, options.exact, options.all)?),
        _ if options.out.as_os_str() == "-" => return Err(ExportError::NotAStream),
        Format::Maildir => Box::new(maildir::Maildir::create(&options.out, options.all)?),
        Format::Eml => Box::new(eml::Eml::create(&options.out, options.all)?),
    };
    let mut run = Run { store, options, target: target.as_mut(), progress: Progress::new(), failed: 0 };
    let done = match only {
        Some(mailbox) => {
            run.progress.expect(mailbox.messages);
            run.mailbox(&mailbox).await
        }
        None => run.everything().await,
    };
    let Run { mut progress, failed, .. } = run;
    progress.clear();
    done?;
    target.finish()?;
    progress.end(failed, &options.out);
    Ok(failed == 0)
}

/// An export on its way.
struct Run<'a> {
    store: &'a Store,
    options: &'a Options,
    target: &'a mut dyn Target,
    progress: Progress,
    /// Messages that could not be read.
    failed: u64,
}

impl Run<'_> {
    async fn everything(&mut self) -> Result<(), ExportError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list_mailboxes(after.as_deref(), MAILBOXES).await?;
            self.progress.expect(page.items.iter().map(|mailbox| mailbox.messages).sum());
            for mailbox in page.items.iter().filter(|mailbox| mailbox.messages > 0) {
                self.mailbox(mailbox).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn mailbox(&mut self, mailbox: &Mailbox) -> Result<(), ExportError> {
        self.target.mailbox(&mailbox.key)?;
        let mut after = 0;
        while let Some((page, last)) = self.store.oldest(mailbox, after, PAGE).await? {
            after = last;
            let mut wanted = Vec::with_capacity(page.len());
            for message in page {
                match self.is_wanted(&message) {
                    true => wanted.push(message),
                    false => self.progress.passed(),
                }
            }
            let store = self.store;
            let read = wanted.iter().map(|message| async move { (message, store.body(message).await) });
            let mut read = stream::iter(read).buffered(AHEAD);
            while let Some((message, raw)) = read.next().await {
                self.message(message, raw)?;
            }
        }
        Ok(())
    }

    /// Whether it came in time, and as far as the list's columns tell it matches.
    fn is_wanted(&self, message: &StoredMessage) -> bool {
        let at = message.listed.received_at;
        self.options.since.is_none_or(|since| at >= since)
            && self.options.before.is_none_or(|before| at < before)
            && self.may_match(message)
    }

    fn message(&mut self, message: &StoredMessage, raw: Result<bytes::Bytes, StoreError>) -> Result<(), ExportError> {
        let raw = match raw {
            Ok(raw) => raw,
            // It was deleted since its row was read.
            Err(StoreError::NotFound) => return Ok(()),
            Err(error) => {
                self.failed += 1;
                let (mailbox, uid) = (&message.listed.mailbox, message.listed.uid);
                self.progress.say(&format!("left out: mailbox {mailbox}, uid {uid}: {error}"));
                return Ok(());
            }
        };
        if !self.matches(message, &raw) {
            self.progress.passed();
            return Ok(());
        }
        self.target.put(message, &raw)?;
        self.progress.wrote(raw.len() as u64);
        Ok(())
    }

    /// Whether the query can hold, as far as the list's columns tell.
    fn may_match(&self, message: &StoredMessage) -> bool {
        let query = self.options.query.as_ref().filter(|query| !query.needs_text());
        query.is_none_or(|query| query.matches(&Candidate { listed: &message.listed, text: "" }))
    }

    fn matches(&self, message: &StoredMessage, raw: &[u8]) -> bool {
        let Some(query) = self.options.query.as_ref().filter(|query| query.needs_text()) else { return true };
        // The parser may panic on it: then it has no text.
        let text = std::panic::catch_unwind(|| summary::summarize(raw).text).unwrap_or_default();
        query.matches(&Candidate { listed: &message.listed, text: &text })
    }
}

fn address(text: &str, plus: Plus) -> Result<MailboxKey, ExportError> {
    MailboxKey::parse(text, plus).map_err(|error| ExportError::Address(text.to_owned(), error.to_string()))
}

fn query(text: &str) -> Result<Query, String> {
    Query::parse(text).map_err(|error| error.to_string())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let day = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    let age = || {
        let age: Period = text.parse().ok()?;
        let age = i64::try_from(age.0.as_micros()).ok()?;
        Some(Timestamp(clock::now_micros().saturating_sub(age)))
    };
    Timestamp::parse(text)
        .or_else(day)
        .or_else(age)
        .ok_or_else(|| "expected a day (2026-11-21), RFC 3339, or an age such as 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_a_moment_or_an_age() {
        assert_eq!(moment("1970-01-02"), Ok(Timestamp::from_seconds(86_400)));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Timestamp::from_seconds(1)));
        let age = moment("1h").unwrap();
        assert!((clock::now_micros() - age.0 - 3_600_000_000).abs() < 60_000_000);
        assert!(moment("yesterday").is_err());
    }
}
