//! Receiving: from a TCP connection to a committed row and an event for everyone who listens.

pub mod subscription;
