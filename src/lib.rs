//! Mailroom.

pub mod clock;
pub mod mail;
pub mod smtp;
