//! What is wrong with a read replica, in words: for `doctor`, and for the log when one cannot be read.

use std::fmt;
use std::time::Duration;

use entity::meta;

use crate::store::config::Config;
use crate::store::source::Source;
use crate::store::{head, trouble};

/// How long a connection to one may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a replica was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It cannot be reached, or does not let this user in.
    Away(String),
    /// A database in which no store was ever opened.
    Empty,
    /// It has another history than the primary.
    Foreign,
    /// The primary itself could not be asked.
    Alone,
    /// So many events are still to come.
    Behind(u64),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => f.write_str(why),
            Self::Empty => {
                f.write_str("it has no tables of ours: it is no replica of [database] url, or has nothing of it yet")
            }
            Self::Foreign => f.write_str("it has another history than [database] url: it is another store, or follows a server that is not the primary any more"),
            Self::Alone => f.write_str("it answers"),
            Self::Behind(0) => f.write_str("it has everything"),
            Self::Behind(events) => write!(f, "it is {events} events behind"),
        }
    }
}

/// Asks each of `[database] replicas`, named without its password. Blocks; makes a runtime of its own.
#[must_use]
pub fn ask(config: &Config) -> Vec<(String, Found)> {
    let sources: Vec<_> = config.database.replicas.iter().filter_map(|url| Source::server(url).ok()?).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), false) = (runtime, sources.is_empty()) else { return Vec::new() };
    runtime.block_on(async {
        let mut all = Vec::new();
        for source in sources {
            // First, so that what is committed meanwhile does not count as behind.
            let primary = match Source::server(&config.database.url) {
                Ok(Some(primary)) => row(&primary).await.ok(),
                _ => None,
            };
            let found = match row(&source).await {
                Ok(row) => judge(primary.as_ref(), &row),
                Err(found) => found,
            };
            all.push((source.to_string(), found));
        }
        all
    })
}

/// Where the store of a server stands.
pub async fn row(source: &Source) -> Result<meta::Model, Found> {
    source.attempt(PATIENCE).await.map_err(|error| Found::Away(error.to_string()))?;
    let asked = async {
        let db = source.session().await.map_err(|error| Found::Away(error.to_string()))?;
        let found = head::find(&db).await;
        let _ = db.close().await;
        match found {
            Ok(row) => row.ok_or(Found::Empty),
            Err(error) if trouble::is_no_such_table(&error) => Err(Found::Empty),
            Err(error) => Err(Found::Away(error.to_string())),
        }
    };
    let late = || Found::Away(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}

fn judge(primary: Option<&meta::Model>, replica: &meta::Model) -> Found {
    match primary {
        None => Found::Alone,
        Some(primary) if primary.lineage != replica.lineage => Found::Foreign,
        Some(primary) => Found::Behind(u64::try_from(primary.stamp.saturating_sub(replica.stamp)).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(lineage: i64, stamp: i64) -> meta::Model {
        meta::Model { id: 1, lineage, stamp, stream_floor: 0, next_mailbox: 1, message_ttl: 0, restored: false }
    }

    #[test]
    fn another_history_is_no_replica_however_far_it_is() {
        let primary = meta(7, 100);
        assert_eq!(judge(Some(&primary), &meta(8, 100)), Found::Foreign);
        assert_eq!(judge(Some(&primary), &meta(7, 90)), Found::Behind(10));
        assert_eq!(judge(Some(&primary), &meta(7, 105)), Found::Behind(0));
        assert_eq!(judge(None, &meta(8, 0)), Found::Alone);
    }
}
