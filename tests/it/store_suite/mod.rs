//! What every store must do, one named test for each promise. Run on SQLite.

mod basics;
mod cache;
mod failures;
mod promised;
mod recovery;
mod replay;
mod retention;
mod space;
pub mod support;
