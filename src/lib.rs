//! Mailroom.

pub mod accounts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod handoff;
pub mod inbound;
pub mod mail;
pub mod ops;
pub mod settings;
pub mod smtp;
pub mod sockets;
pub mod startup;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod web;
