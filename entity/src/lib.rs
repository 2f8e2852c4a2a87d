//! The SeaORM entities, one table a file. Only `store` names them.
//!
//! Times are microseconds since the Unix epoch, sizes bytes. The keys here are the logical ones; the migration
//! chooses for each engine what is clustered by what.

pub mod body;
pub mod change;
pub mod commit;
pub mod mailbox;
pub mod message;
pub mod meta;
pub mod object;
pub mod secret;
pub mod segment;
