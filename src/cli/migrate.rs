//! `mailroom migrate`: brings the database to this version's schema, while no server uses it.

use std::io::Write;

use super::serve::Place;
use crate::store::Store;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
}

/// Runs the migrations that are missing; does nothing when none is. `serve` does the same at its start.
///
/// # Errors
/// The data directory is in use, or the database refuses.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.place.read()?.store();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (database, newer) = runtime.block_on(Store::migrate(&config))?;
    match newer.as_slice() {
        [] => writeln!(std::io::stdout(), "the database {database} has this version's schema")?,
        newer => writeln!(
            std::io::stdout(),
            "the database {database} has this version's schema and more, of a newer version: {}",
            newer.join(", ")
        )?,
    }
    Ok(())
}
