//! `mailroom archive`: moves the bodies of old messages to object storage now.
//!
//! On a database server it works beside running nodes; with SQLite the data directory must be free, and a running server
//! moves what is old by itself.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;

use super::meter::Meter;
use super::serve::Place;
use crate::clock;
use crate::config::{Problems, check};
use crate::mail::event::Announced;
use crate::mail::time::Timestamp;
use crate::mail::units::Period;
use crate::startup::StartError;
use crate::store::cold::pass::{Archived, Which};
use crate::store::{Announce, Faults, OpenError, Store, StoreError};
use crate::telemetry;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Move what is older than this, such as 30d [default: `[cold] after`]
    #[arg(long, value_name = "AGE")]
    older_than: Option<Period>,
    /// Before that, take over the objects of the store that this one is a copy of and that is gone for good: those of which
    /// nothing is needed are removed from now on
    #[arg(long)]
    adopt: bool,
}

/// Why nothing was moved, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("[cold] url names no object storage")]
    NoPlace,
    #[error("how old? [cold] after says never: give --older-than, such as --older-than 30d")]
    NoAge,
    #[error("another node is moving mail now; try again later")]
    Busy,
    #[error("{0}; what has moved until then stays moved")]
    Store(#[from] StoreError),
}

/// Moves what is old, and says what it does on standard error.
///
/// # Errors
/// The configuration does not name storage or an age, the store is in use, or storage or database are away.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.place.read()?;
    let mut problems = check(&config).problems;
    problems.retain(|problem| problem.place.starts_with("cold.") || problem.place.starts_with("database."));
    if !problems.is_empty() {
        return Err(StartError::Config(Problems(problems)).into());
    }
    telemetry::log::install(&config.log)?;
    let store = config.store();
    if store.cold.url.is_empty() {
        return Err(ArchiveError::NoPlace.into());
    }
    let age = options.older_than.or(store.cold.after.0).ok_or(ArchiveError::NoAge)?;
    let age = i64::try_from(age.0.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp(clock::now_micros().saturating_sub(age));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(archive(&store, before, options.adopt))?;
    let Archived { records, bytes, objects } = done;
    writeln!(
        std::io::stdout(),
        "moved {records} messages ({} MiB) to {objects} objects at {}",
        bytes >> 20,
        store.cold.shown()
    )?;
    Ok(())
}

async fn archive(config: &crate::store::Config, before: Timestamp, adopt: bool) -> anyhow::Result<Archived> {
    let store = match Store::open(config, Arc::new(Nobody), Faults::default()).await {
        Err(error @ OpenError::InUse { .. }) => {
            let why = "a running server moves old mail itself, see [cold] after";
            return Err(error).context(why);
        }
        opened => opened?,
    };
    let mut meter = Meter::new();
    let mut show = |done: Archived| {
        let Archived { records, bytes, objects } = done;
        meter.show(|| format!("{records} messages, {} MiB, {objects} objects", bytes >> 20));
    };
    let done = async {
        store.probe_cold().await?;
        if adopt {
            let objects = store.adopt_objects().await?;
            eprintln!("took over {objects} objects");
        }
        let done = store.archive(before, Which::All, &mut show).await;
        done?.ok_or(ArchiveError::Busy)
    };
    let done = done.await;
    meter.clear();
    store.close().await;
    Ok(done?)
}

/// Nobody listens to what changes here: nothing that anyone sees does.
struct Nobody;

impl Announce for Nobody {
    fn announce(&self, _: i64, _: Vec<Arc<Announced>>) {}
}
