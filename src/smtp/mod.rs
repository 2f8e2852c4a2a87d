//! SMTP as a protocol, pure: bytes in, replies and events out. No sockets, no actors, no clock.

pub mod command;
pub mod data;
pub mod extensions;
pub mod reply;
pub mod server;
