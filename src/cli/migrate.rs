//! `mailroom migrate`: brings the database to this version's schema, while no server uses it.

use super::serve::Place;
use crate::startup::DataLock;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
}

/// Runs the migrations that are missing; does nothing when none is.
///
/// # Errors
/// The data directory is in use, or the database refuses.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.place.read()?;
    let _lock = DataLock::take(&config.runtime.data)?;
    super::serve::app::migrate(&config)
}
