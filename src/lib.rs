//! Mailroom.

pub mod clock;
pub mod inbound;
pub mod mail;
pub mod settings;
pub mod smtp;
pub mod store;
