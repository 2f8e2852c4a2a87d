//! What a reader missed: events after a position, in order.

use std::sync::Arc;

use crate::mail::cursor::{Cursor, StreamCursor};
use crate::mail::event::Announced;

/// A place in one mailbox's events or in the stream over all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Mailbox(Cursor),
    Stream(StreamCursor),
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mailbox(cursor) => cursor.fmt(f),
            Self::Stream(cursor) => cursor.fmt(f),
        }
    }
}

/// The answer to "what came after this position?".
#[derive(Clone, Debug)]
pub enum Replay {
    /// Events in order (at most the limit). `at` is the position after the last of them (or, when there was
    /// nothing more, of the snapshot); `head` says that nothing lay beyond it in the snapshot.
    Page { events: Vec<Arc<Announced>>, at: Position, head: bool },
    /// The position cannot be continued; `at` is the present one: reload, then go on from there.
    Reset { at: Position },
}
