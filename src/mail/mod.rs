//! Mail as data: addresses, envelopes, messages, events, the search syntax. Everything here is pure:
//! no actors, no sockets, no database, no clock; time is a parameter.
//!
//! Map: [`address`] and [`envelope`] say who writes to whom; [`id`], [`time`] and [`cursor`] name and order
//! things; [`structure`] finds the parts of a message, [`header`], [`content`] and [`plain`] decode them, [`body`]
//! chooses among them, [`summary`] makes the list columns ([`preview`], [`clean`]), [`parsed`] the full view of one
//! message; [`event`] is what subscribers are told; [`query`] is the search syntax, [`html`] makes foreign pages
//! harmless, [`extract`] finds codes and links, [`trace`] writes and counts `Received`; [`units`] reads sizes
//! and times in settings.

pub mod address;
pub mod body;
pub mod clean;
pub mod content;
pub mod cursor;
pub mod envelope;
pub mod event;
pub mod extract;
pub mod header;
pub mod html;
pub mod id;
pub mod parsed;
pub mod plain;
pub mod preview;
pub mod query;
pub mod structure;
pub mod summary;
pub mod time;
pub mod trace;
pub mod units;
