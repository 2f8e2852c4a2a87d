//! Where a reader stands in a stream of events: opaque outside, ordered inside. A [`Cursor`] is a place in one
//! mailbox, a [`StreamCursor`] a place in the stream over all mailboxes.
//!
//! A database that was restored from a backup, or lost commits, gets a new lineage, so that cursors from before answer `reset`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A place in one mailbox's events. Zero, the cursor of an address without a row, replays everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Which history of the database: changes when it goes back; zero only in the zero cursor.
    pub lineage: u32,
    /// Which life of the mailbox: given when its row is made, never the same for a later one.
    pub incarnation: u64,
    /// The last modification sequence that the reader has seen (RFC 7162).
    pub modseq: u64,
}

/// A place in the stream over all mailboxes. Zero replays everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StreamCursor {
    /// As in [`Cursor`].
    pub lineage: u32,
    /// The stamp of the last event that the reader has seen: strictly increasing in commit order.
    pub stamp: i64,
}

/// The text is not a cursor that this program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct NotACursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{:x}-{:x}-{:x}", self.lineage, self.incarnation, self.modseq)
    }
}

impl fmt::Display for StreamCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:x}-{:x}", self.lineage, self.stamp.max(0))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut fields = text.strip_prefix('m').ok_or(NotACursor)?.split('-');
        let cursor = Self {
            lineage: u32::try_from(hex(fields.next())?).map_err(|_| NotACursor)?,
            incarnation: hex(fields.next())?,
            modseq: hex(fields.next())?,
        };
        fields.next().is_none().then_some(cursor).ok_or(NotACursor)
    }
}

impl FromStr for StreamCursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut fields = text.strip_prefix('s').ok_or(NotACursor)?.split('-');
        let cursor = Self {
            lineage: u32::try_from(hex(fields.next())?).map_err(|_| NotACursor)?,
            stamp: i64::try_from(hex(fields.next())?).map_err(|_| NotACursor)?,
        };
        fields.next().is_none().then_some(cursor).ok_or(NotACursor)
    }
}

/// Lower-case hexadecimal as `Display` writes it: no sign, no leading zero, so that a cursor has one spelling.
fn hex(field: Option<&str>) -> Result<u64, NotACursor> {
    let field = field.ok_or(NotACursor)?;
    let value = u64::from_str_radix(field, 16).map_err(|_| NotACursor)?;
    (format!("{value:x}") == field).then_some(value).ok_or(NotACursor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_cursor_reads_back(lineage: u32, incarnation: u64, modseq: u64, stamp in 0..i64::MAX) {
            let cursor = Cursor { lineage, incarnation, modseq };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            let stream = StreamCursor { lineage, stamp };
            prop_assert_eq!(stream.to_string().parse(), Ok(stream));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text.clone());
            }
            if let Ok(cursor) = text.parse::<StreamCursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
