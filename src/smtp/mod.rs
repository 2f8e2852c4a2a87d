//! SMTP as a protocol, pure: bytes in, replies and events out. No sockets, no actors, no clock.
//!
//! Map: [`server`] is the server's side of a session. It reads lines with `line`, commands with [`command`] and `path`,
//! messages with [`data`], and answers from the table [`reply`] and with [`extensions`]; [`limits`] bounds it all.

pub mod command;
pub mod data;
pub mod extensions;
pub mod limits;
mod line;
mod path;
pub mod reply;
pub mod server;

pub use data::LineEnds;
pub use limits::Limits;
pub use reply::Reply;
pub use server::{Message, Phase, Server, Step};
