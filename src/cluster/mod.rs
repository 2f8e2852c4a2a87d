//! What several nodes, and the engines between them, need: [`broker`], the queue between SMTP and the store.
//!
//! Nothing here decides about mail; `app` connects it where it is configured, and without it a node works alone.

pub mod broker;
