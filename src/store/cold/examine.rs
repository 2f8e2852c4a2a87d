//! What `doctor` wants to know of object storage: whether an object can be written, read and removed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::config::{ColdConfig, Location};
use super::{Cold, tidy};
use crate::store::config::Config;
use crate::store::directory::Directory;
use crate::store::{connect, source::Source};

/// How long a connection to the database may take.
const ASKING: Duration = Duration::from_secs(2);
/// How long it may take, all together.
const LONGEST: Duration = Duration::from_secs(20);

/// How object storage was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// The directory is to be made by `serve`, which it can.
    Missing(PathBuf),
    /// An object was written, looked at, read and removed, in this time.
    Well(Duration),
    /// It cannot be used, and why.
    Unusable(String),
}

/// Tries the storage of `config`; none where it names none. Blocks; makes a runtime of its own.
#[must_use]
pub fn examine(config: &ColdConfig) -> Option<Finding> {
    let location = match Location::parse(&config.url) {
        Ok(location) => location?,
        Err(possible) => return Some(Finding::Unusable(format!("possible: {possible}"))),
    };
    if let Location::Directory(path) = &location
        && !path.exists()
    {
        return Some(to_be_made(path));
    }
    Some(tried(config).unwrap_or_else(Finding::Unusable))
}

/// Whether bodies lie in object storage, as the database of `config` has it; false where it cannot be asked. Blocks; makes a
/// runtime of its own.
#[must_use]
pub fn is_needed(config: &Config) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return false };
    runtime.block_on(async {
        let db = match Source::server(&config.database.url) {
            Ok(Some(source)) => {
                source.attempt(ASKING).await.ok()?;
                source.session().await.ok()?
            }
            Ok(None) => {
                let path = Directory::new(config).ok()?.database;
                if !path.exists() {
                    return None;
                }
                connect::reading(&path, 1).await.ok()?
            }
            Err(_) => return None,
        };
        let any = tidy::any(&db).await.ok();
        let _ = db.close().await;
        any
    }) == Some(true)
}

/// Makes nothing that would stay.
fn to_be_made(path: &Path) -> Finding {
    let above = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    match above.is_dir() && rustix::fs::access(above, rustix::fs::Access::WRITE_OK).is_ok() {
        true => Finding::Missing(path.to_owned()),
        false => Finding::Unusable(format!("the directory cannot be made: {} cannot be written", above.display())),
    }
}

fn tried(config: &ColdConfig) -> Result<Finding, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        // Its own runtime: the client keeps connections on the one that it began with.
        let cold = Cold::open(config).map_err(|error| error.to_string())?.ok_or("no storage")?;
        let began = Instant::now();
        match tokio::time::timeout(LONGEST, cold.probe()).await {
            Ok(Ok(())) => Ok(Finding::Well(began.elapsed())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LONGEST.as_secs())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(url: String) -> Option<Finding> {
        examine(&ColdConfig { url, ..ColdConfig::default() })
    }

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        assert_eq!(look(String::new()), None);
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        assert!(matches!(look(url.clone()), Some(Finding::Well(_))));
        let files = |path: &Path| path.read_dir().map(Iterator::count).unwrap_or(0);
        assert_eq!(files(&directory.path().join("probe")), 0, "nothing is left behind");
        let missing = directory.path().join("a/b");
        assert_eq!(look(format!("{url}/a/b")), Some(Finding::Missing(missing.clone())));
        assert!(!missing.exists());
    }

    #[test]
    fn what_is_no_directory_cannot_be_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path().to_owned(), file.path().join("a")] {
            let found = look(format!("file://{}", path.display()));
            assert!(matches!(&found, Some(Finding::Unusable(why)) if why.contains("cannot be made")), "{found:?}");
        }
        assert!(matches!(look("file://srv".into()), Some(Finding::Unusable(_))));
    }
}
