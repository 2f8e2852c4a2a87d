//! Settings of the store: `[database]` and `[bodies]`, and what it needs to know of `[mailboxes]`.

use std::path::PathBuf;
use std::time::Duration;

use super::cold::config::ColdConfig;
use super::directory::{DATABASES, database_path};
use super::mailboxes::WhenFull;
use super::search::config::SearchConfig;
use super::source::Source;
use crate::mail::units::{Bytes, Period};
use crate::settings::{Check, Wrong, url};

crate::settings! {
    /// The database of mailboxes and message lists.
    pub struct DatabaseConfig {
        /// `sqlite:PATH`, or empty for `mailroom.db` in the data directory; `postgres://user:password@host/name` or
        /// `mysql://user:password@host/name` for a database server, which several nodes may share.
        pub url: String = String::new(),
        /// Read replicas of the server in `url`, round robin: lists, messages and searches are read there where the
        /// replica has caught up with what is read, otherwise from `url`. For one row that `url` is asked, most of the work of
        /// a read goes elsewhere.
        pub replicas: Vec<String> = Vec::new(),
        /// Free disk space below which mail is refused with 452; deletion and expiry go on.
        pub min_free: Bytes = Bytes::mib(256),
        /// Connections for reading. More help when many clients page through long lists at once.
        pub read_connections: u32 = 4,
        /// Deliveries that may wait for the writer; more are answered 451.
        pub queue: u32 = 4_096,
        /// Memory for the pages of lists that are asked for again and again; `"0"` turns it off.
        pub list_cache: Bytes = Bytes::mib(32),
    }
}

impl DatabaseConfig {
    /// Whether `url` names a database server, which several nodes may share.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(Source::server(&self.url), Ok(Some(_)))
    }
}

impl Check for DatabaseConfig {
    fn check(&self, wrong: &mut Wrong) {
        match Source::server(&self.url) {
            Ok(Some(_)) => {}
            Ok(None) if database_path(&self.url, &PathBuf::new()).is_some() => {}
            Ok(None) => wrong.refuse_text("url", url::shown(&self.url), DATABASES),
            // The reason and not the text, which may have a password.
            Err(why) => wrong.refuse_text("url", &why, "postgres://user:password@host:port/name, or mysql://…"),
        }
        for replica in &self.replicas {
            match (Source::server(&self.url), Source::server(replica)) {
                (Ok(Some(primary)), Ok(Some(replica))) if primary.is_like(&replica) => {}
                // Said about the URL before, or the reason without the password.
                (Err(_), _) => {}
                (_, Err(why)) => wrong.refuse_text("replicas", &why, "URLs of replicas of the server in url"),
                _ => wrong.refuse("replicas", "a replica of another engine than url has", "the same engine as url"),
            }
        }
        wrong.least("read_connections", self.read_connections, 1);
        wrong.least("queue", self.queue, 1);
    }
}

crate::settings! {
    /// The files that hold messages as they were received.
    pub struct BodiesConfig {
        /// Size at which a file is closed and the next begun. Smaller files give space back sooner.
        pub segment_size: Bytes = Bytes::mib(64),
        /// Age at which a file is closed, so that expired mail does not wait for it to fill.
        pub segment_age: Period = Period::hours(24),
        /// A closed file is rewritten when less than this percentage of it is still needed.
        pub compact_below: u32 = 50,
    }
}

impl Check for BodiesConfig {
    fn check(&self, wrong: &mut Wrong) {
        wrong.least("segment_size", self.segment_size, Bytes::kib(4));
        wrong.least("segment_age", self.segment_age, Period::secs(1));
        wrong.within("compact_below", self.compact_below, 0, 100);
    }
}

/// What the store is opened with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The data directory; made when it is missing.
    pub data: PathBuf,
    pub database: DatabaseConfig,
    pub bodies: BodiesConfig,
    pub search: SearchConfig,
    pub cold: ColdConfig,
    pub defaults: Defaults,
    /// The largest message that may come (`[smtp] max_message_size`); 0 where it does not matter.
    pub largest: Bytes,
}

/// What holds for mailboxes that do not say otherwise (`[mailboxes]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// None: messages live as long as their mailbox.
    pub message_ttl: Option<Duration>,
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    pub when_full: WhenFull,
}
