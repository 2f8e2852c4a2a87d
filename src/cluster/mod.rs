//! What several nodes share: the bus between them, a second level of cached pages, limits for each client ([`redis`],
//! [`limits`]), and the queue between SMTP and the store ([`broker`]).
//!
//! Built by `app`, which connects it with the other stages; `inbound` follows [`redis::Channels`], `inbound`, `sockets` and
//! `web` ask [`limits`]. Invariant: nothing here but the broker, where there is one, is needed for an answer to be right. What is
//! away is done without, within a bounded time, and nobody waits for it again until it is back.

pub mod broker;
pub mod limits;
pub mod metrics;
pub mod redis;
