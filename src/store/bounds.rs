//! What bounds a list: the position that its messages came after, and the place that a page of it lies below.

use std::borrow::Cow;

use super::messages::ListRequest;
use super::replay::Position;
#[cfg(doc)]
use super::stream;
use super::{StoreError, columns};

/// Begins the name of a page in the order of the stream.
const STREAM: char = 's';

/// `request` without a `since` that bounds nothing: one of another life of the mailbox or of the database, from before any
/// event, or of the stream from before what it still tells. The list is then of everything, as for a reader who starts over.
pub(super) fn believed(request: &ListRequest, present: Position, told: i64) -> Cow<'_, ListRequest> {
    let holds = match (request.since, present) {
        (Some(Position::Mailbox(since)), Position::Mailbox(present)) => {
            (since.lineage, since.incarnation) == (present.lineage, present.incarnation)
                && since.modseq <= present.modseq
        }
        (Some(Position::Stream(since)), Position::Stream(present)) => {
            since.lineage == present.lineage && (told..=present.stamp).contains(&since.stamp)
        }
        (since, _) => since.is_none(),
    };
    if holds { Cow::Borrowed(request) } else { Cow::Owned(ListRequest { since: None, ..request.clone() }) }
}

/// Where in the order of the list its rows lie after `since`, which was found to hold.
pub(super) fn after(since: Option<Position>) -> Option<i64> {
    since.map(|since| match since {
        Position::Mailbox(cursor) => columns::signed(cursor.modseq),
        Position::Stream(cursor) => cursor.stamp,
    })
}

/// What a page lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// A place in the order of the list.
    Order(i64),
    /// A stamp of the stream on a database server, whose rows have another order ([`stream`]).
    Stamp(i64),
}

impl Before {
    pub fn parse(page: &str) -> Result<Self, StoreError> {
        let (kind, place): (fn(i64) -> Self, &str) = match page.strip_prefix(STREAM) {
            Some(place) => (Self::Stamp, place),
            None => (Self::Order, page),
        };
        let place = i64::from_str_radix(place, 16).ok().filter(|place| *place > 0).ok_or(StoreError::BadPage)?;
        Ok(kind(place))
    }

    /// The place, where a list is in the order of its rows.
    pub fn order(self) -> Result<i64, StoreError> {
        match self {
            Self::Order(place) => Ok(place),
            Self::Stamp(_) => Err(StoreError::BadPage),
        }
    }

    /// The stamp, where it is in the order of the stream.
    pub fn stamp(self) -> Result<i64, StoreError> {
        match self {
            Self::Stamp(stamp) => Ok(stamp),
            Self::Order(_) => Err(StoreError::BadPage),
        }
    }
}

/// The page that begins with the line at `order`.
pub(super) fn page_from(order: i64) -> String {
    format!("{:x}", order.saturating_add(1))
}

/// `page`, whose place is a stamp of the stream.
pub(super) fn in_stream(page: String) -> String {
    format!("{STREAM}{page}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_in_which_order_it_is() {
        let rows = Before::parse(&page_from(41)).unwrap();
        assert_eq!((rows.order().unwrap(), rows.stamp().is_err()), (42, true));
        let stream = Before::parse(&in_stream(page_from(41))).unwrap();
        assert_eq!((stream.stamp().unwrap(), stream.order().is_err()), (42, true));
        for wrong in ["", "s", "0", "s0", "-1", "ss1", "x", "s-1", "10000000000000000"] {
            assert!(matches!(Before::parse(wrong), Err(StoreError::BadPage)), "{wrong}");
        }
    }
}
