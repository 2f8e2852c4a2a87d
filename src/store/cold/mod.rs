//! Object storage for the bodies of old messages: a directory, or what speaks S3.
//!
//! [`Cold`] is the storage itself; [`reader`] reads a body from it. A [`pass`] tidies up and moves what is old: [`waiting`]
//! finds it, [`pack`] makes objects of it, [`tidy`] minds what is not needed any more, [`lock`] keeps other nodes out
//! meanwhile, and `writer::objects` points the rows there. An object is written and looked at before any row points to it; it
//! has the format of a segment file, records describe themselves. Storage that is away makes single bodies unreadable and
//! nothing else. [`examine`] is for `doctor`.

mod answers;
pub mod config;
pub mod examine;
mod lock;
pub mod metrics;
mod pack;
pub mod pass;
pub mod reader;
#[cfg(test)]
mod tests;
mod tidy;
mod waiting;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge, histogram};
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    WriteMultipart,
};
use tokio::sync::Semaphore;

use self::config::{ColdConfig, Location};
use self::metrics as names;
use super::directory::{OpenError, private};

/// What is larger goes up in parts.
const WHOLE: usize = 20 << 20;
const PART: usize = 8 << 20;
/// Room for what is read, before any of it is there.
const RESERVED: usize = 1 << 20;
/// How long one request for a whole object may take.
const WRITING: Duration = Duration::from_secs(300);
/// Bytes a second below which writing is given up.
const SLOWEST: u64 = 256 << 10;
/// How long searches do not ask again after the storage did not answer.
const LEFT_ALONE: i64 = 30_000_000;

/// Object storage, open. Clones share it.
#[derive(Clone, Debug)]
pub struct Cold(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: Box<dyn ObjectStore>,
    /// Where they lie, when that is a directory.
    directory: Option<PathBuf>,
    /// Its URL, to name it by.
    shown: String,
    turns: Semaphore,
    timeout: Duration,
    /// Until when searches leave it alone (microseconds since the epoch).
    away_until: AtomicI64,
    up: AtomicBool,
    /// Names what this process tries the storage with.
    probe: String,
}

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    #[error("object {0} is missing")]
    Missing(String),
    #[error("object storage: {0}")]
    Away(String),
    /// What was written does not read back.
    #[error("object {0} is not what was written")]
    Broken(String),
}

impl Cold {
    /// Connects to what `config` names; none when it names nothing. Asks nothing of it yet.
    ///
    /// # Errors
    /// A directory that cannot be made, or settings that do not go together.
    pub fn open(config: &ColdConfig) -> Result<Option<Self>, OpenError> {
        let wrong = |why: String| OpenError::Cold { url: config.shown().to_owned(), why };
        let location = Location::parse(&config.url).map_err(|possible| wrong(format!("possible: {possible}")))?;
        let mut directory = None;
        let objects: Box<dyn ObjectStore> = match location {
            None => return Ok(None),
            Some(Location::Directory(path)) => {
                directory = Some(path.clone());
                let made = private().recursive(true).create(&path);
                made.map_err(|error| wrong(format!("the directory cannot be made: {error}")))?;
                let files = LocalFileSystem::new_with_prefix(&path).map_err(|error| wrong(error.to_string()))?;
                Box::new(files.with_fsync(true))
            }
            Some(Location::S3 { bucket, prefix }) => {
                let requests = config.client().map_err(wrong)?.with_timeout(WRITING);
                let client = config.s3(&bucket).map_err(|why| wrong(why.to_owned()))?.with_client_options(requests);
                let client = client.with_http_connector(answers::Bounded::default());
                let client = client.with_retry(retries(config.timeout.0)).build();
                Box::new(PrefixStore::new(client.map_err(|error| wrong(error.to_string()))?, Path::from(prefix)))
            }
        };
        names::describe();
        let inner = Inner {
            objects,
            directory,
            shown: config.shown().to_owned(),
            turns: Semaphore::new(usize::try_from(config.max_reads).unwrap_or(1).max(1)),
            timeout: config.timeout.0,
            away_until: AtomicI64::new(0),
            up: AtomicBool::new(true),
            probe: probe_name(),
        };
        Ok(Some(Self(Arc::new(inner))))
    }

    /// Its URL.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.0.shown
    }

    /// Writes, reads and removes a small object.
    ///
    /// # Errors
    /// What of it failed.
    pub async fn probe(&self) -> Result<(), ColdError> {
        // A name for each process: one that ended in between leaves it for the next to write over.
        let name = format!("probe/{}", self.0.probe);
        let text = Bytes::from_static(b"mailroom was here");
        let tried = async {
            self.put(&name, text.clone()).await?;
            let read = self.read(&name, 9..17).await?;
            self.remove(&name).await?;
            if read == text.slice(9..17) { Ok(()) } else { Err(ColdError::Broken(name.clone())) }
        };
        let tried = tried.await;
        self.note(tried.as_ref().err());
        tried
    }

    /// Notes whether writing there worked, and says when that changes.
    fn note(&self, failed: Option<&ColdError>) {
        let up = failed.is_none();
        gauge!(names::UP).set(if up { 1.0 } else { 0.0 });
        let before = self.0.up.swap(up, Ordering::Relaxed);
        match failed {
            Some(error) if before => tracing::error!(url = self.shown(), %error, "object storage cannot be used"),
            None if !before => tracing::info!(url = self.shown(), "object storage can be used again"),
            _ => {}
        }
    }

    /// Some bytes of an object, within the time that one read may take; waits for its turn.
    ///
    /// # Errors
    /// `Missing`, or `Away` when it takes too long too.
    pub async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, ColdError> {
        let began = Instant::now();
        let read = async {
            let _turn = self.0.turns.acquire().await.map_err(|error| ColdError::Away(error.to_string()))?;
            self.get(name, Some(range.clone()), range.end.saturating_sub(range.start)).await
        };
        let late = |_| ColdError::Away(format!("no answer within {:?}", self.0.timeout));
        let read = tokio::time::timeout(self.0.timeout, read).await.map_err(late).and_then(|read| read);
        let read = read.and_then(|bytes| match bytes.len() as u64 == range.end.saturating_sub(range.start) {
            true => Ok(bytes),
            false => Err(ColdError::Broken(name.to_owned())),
        });
        let outcome = match &read {
            Ok(_) => "read",
            Err(ColdError::Away(_)) => "away",
            Err(_) => "missing",
        };
        match &read {
            Err(ColdError::Away(_)) => self.leave_alone(),
            _ => self.0.away_until.store(0, Ordering::Relaxed),
        }
        counter!(names::READS, "outcome" => outcome).increment(1);
        histogram!(names::READ).record(began.elapsed());
        read
    }

    /// Lets searches go without for a while: one after the other would wait as long.
    fn leave_alone(&self) {
        let until = crate::clock::now_micros().saturating_add(LEFT_ALONE);
        self.0.away_until.store(until, Ordering::Relaxed);
    }

    /// Whether it did not answer a moment ago: who can do without does not ask.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.0.away_until.load(Ordering::Relaxed) > crate::clock::now_micros()
    }

    /// Why it cannot be used, as the last round or a read a moment ago had it.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match (self.0.up.load(Ordering::Relaxed), self.is_away()) {
            (false, _) => Some("object storage cannot be used: old bodies cannot be read, and none are moved"),
            (true, true) => Some("object storage did not answer a moment ago: old bodies cannot be read"),
            (true, false) => None,
        }
    }

    /// A whole object, of which the database says that it has so many `bytes`. It may have fewer.
    ///
    /// # Errors
    /// As [`Cold::read`]; `Broken` when there are more.
    pub async fn whole(&self, name: &str, bytes: u64) -> Result<Bytes, ColdError> {
        within(WRITING, self.get(name, None, bytes)).await
    }

    /// What there is of `range`, or all; takes no more than `most` bytes from the storage, whatever it sends.
    async fn get(&self, name: &str, range: Option<Range<u64>>, most: u64) -> Result<Bytes, ColdError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let got = self.0.objects.get_opts(&Path::from(name), options).await.map_err(|error| failed(name, &error))?;
        let broken = || ColdError::Broken(name.to_owned());
        if got.range.end.saturating_sub(got.range.start) > most {
            return Err(broken());
        }
        let mut stream = match got.payload {
            GetResultPayload::Stream(stream) => stream,
            // Read at once, and no more than its range.
            GetResultPayload::File(..) => return got.bytes().await.map_err(|error| failed(name, &error)),
        };
        let mut read = Vec::with_capacity(usize::try_from(most).unwrap_or(usize::MAX).min(RESERVED));
        while let Some(chunk) = stream.try_next().await.map_err(|error| failed(name, &error))? {
            if (read.len() + chunk.len()) as u64 > most {
                return Err(broken());
            }
            read.extend_from_slice(&chunk);
        }
        Ok(read.into())
    }

    /// Writes an object whole: durable, or not there, when this returns.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), ColdError> {
        let path = Path::from(name);
        let whole = bytes.len() as u64;
        let limit = self.0.timeout + Duration::from_secs(whole / SLOWEST);
        if bytes.len() <= WHOLE {
            let put = self.0.objects.put(&path, PutPayload::from_bytes(bytes));
            within(limit, async { put.await.map(drop).map_err(|error| failed(name, &error)) }).await?;
        } else {
            let begun = self.0.objects.put_multipart(&path);
            let upload = within(self.0.timeout, async { begun.await.map_err(|error| failed(name, &error)) }).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
            upload.put(bytes);
            within(limit, async { upload.finish().await.map(drop).map_err(|error| failed(name, &error)) }).await?;
        }
        let head =
            within(self.0.timeout, async { self.0.objects.head(&path).await.map_err(|error| failed(name, &error)) });
        if head.await?.size == whole { Ok(()) } else { Err(ColdError::Broken(name.to_owned())) }
    }

    /// Removes an object; one that is not there is gone.
    async fn remove(&self, name: &str) -> Result<(), ColdError> {
        let removed = async { self.0.objects.delete(&Path::from(name)).await.map_err(|error| failed(name, &error)) };
        if let Some(directory) = &self.0.directory {
            // What the process was writing when it ended.
            let _ = std::fs::remove_file(directory.join(format!("{name}#1")));
        }
        match within(self.0.timeout, removed).await {
            Err(ColdError::Missing(_)) => Ok(()),
            removed => removed,
        }
    }
}

/// The machine and the process.
fn probe_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    format!("{host}-{}", std::process::id())
}

async fn within<T>(limit: Duration, what: impl Future<Output = Result<T, ColdError>>) -> Result<T, ColdError> {
    let late = |_| ColdError::Away(format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, what).await.map_err(late)?
}

fn failed(name: &str, error: &object_store::Error) -> ColdError {
    match error {
        object_store::Error::NotFound { .. } => ColdError::Missing(name.to_owned()),
        error => ColdError::Away(whole(error)),
    }
}

/// An error with its causes, as far as it does not name them by itself.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn retries(timeout: Duration) -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: timeout / 4, base: 2.0 };
    RetryConfig { backoff, max_retries: 4, retry_timeout: timeout }
}
