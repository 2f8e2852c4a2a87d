//! Every flow of the platform over real ports, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod api;
mod backup;
mod check;
mod cli;
mod cold;
mod crash;
mod events;
mod export;
mod failures;
mod feeds;
mod flows;
mod full_disk;
mod hostile;
mod layering;
mod limits;
mod lives;
mod mail_through;
mod mime;
mod order;
mod receive;
mod retention;
mod search;
mod servers;
mod slow;
mod smtp_dialogues;
mod sockets;
mod store_suite;
mod support;
mod sync_fails;
mod synced;
mod torn;
