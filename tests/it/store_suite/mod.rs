//! What every store must do, one named test for each promise. Run on SQLite.

mod basics;
mod support;
