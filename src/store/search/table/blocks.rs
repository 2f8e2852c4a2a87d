//! Places in the order of a list, as words of the index: blocks of several sizes.
//!
//! A full-text index of a database server finds all there is and sorts it then. So each message also has the words of
//! the blocks that it lies in, and a search asks block by block, newest first: of a size that has about as many hits as it
//! wants. Blocks of all mailboxes are spans of their rows' stamps, blocks of one mailbox are spans of UIDs; the last level is
//! everything.

use crate::mail::query::Spelling;

/// Sizes of blocks of stamps, as powers of two: of about a second, 17 seconds, 4 minutes, an hour, 19 hours, 13 days, 200
/// days.
const STAMPS: &[u32] = &[30, 34, 38, 42, 46, 50, 54];
/// The first stamp that blocks tell from the one before: the year 2025.
const FIRST: i64 = 1_735_689_600_000_000 << 10;
/// Sizes of blocks of UIDs.
const UIDS: &[u32] = &[10, 14, 18, 22];
/// How many levels below its own a piece is cut: what it asks for beyond its end is a 256th of it.
const FINER: usize = 2;

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// All mailboxes, by stamp.
    Stamps,
    /// One mailbox, by UID.
    Uids(i64),
}

impl Axis {
    pub fn mailbox(self) -> Option<i64> {
        match self {
            Self::Stamps => None,
            Self::Uids(mailbox) => Some(mailbox),
        }
    }

    fn sizes(self) -> &'static [u32] {
        match self {
            Self::Stamps => STAMPS,
            Self::Uids(_) => UIDS,
        }
    }

    /// The level that has one block.
    pub fn top(self) -> usize {
        self.sizes().len()
    }

    /// The largest level whose blocks are no larger than `span`.
    pub fn level(self, span: i64) -> usize {
        self.sizes().iter().take_while(|size| span >> **size > 0).count().saturating_sub(1)
    }

    fn base(self) -> i64 {
        if self == Self::Stamps { FIRST } else { 0 }
    }

    fn number(self, level: usize, order: i64) -> i64 {
        let from = order.saturating_sub(self.base()).max(0);
        self.sizes().get(level).map_or(0, |size| from >> size)
    }

    /// Where the block that holds `order` begins; all that lies before the first block belongs to it.
    pub fn begin(self, level: usize, order: i64) -> i64 {
        match (self.number(level, order), self.sizes().get(level)) {
            (0, _) | (_, None) => i64::MIN,
            (number, Some(size)) => (number << size).saturating_add(self.base()),
        }
    }

    /// Where the block after it begins.
    fn end(self, level: usize, order: i64) -> i64 {
        let Some(size) = self.sizes().get(level) else { return i64::MAX };
        let next = i128::from(self.number(level, order) + 1) << size;
        i64::try_from(next + i128::from(self.base())).unwrap_or(i64::MAX)
    }

    /// The words of blocks that cover from `start` until before `end`, for a piece that was begun at `level`: none is
    /// larger than a block there, and beyond the ends lies little.
    pub fn cover(self, spelling: Spelling, level: usize, (start, end): (i64, i64)) -> Vec<String> {
        let finest = level.saturating_sub(FINER);
        let mut at = start;
        let mut words = Vec::new();
        while at < end {
            let fits = |level: &usize| self.begin(*level, at) >= start && self.end(*level, at) <= end;
            let level = (finest..=level).rev().find(fits).unwrap_or(finest);
            words.push(spelling.place(self.mailbox(), level, self.number(level, at)));
            at = self.end(level, at);
        }
        words
    }
}

/// The words of all blocks that a message lies in.
pub fn places(spelling: Spelling, mailbox: i64, uid: i64, stamp: i64) -> Vec<String> {
    let of = |axis: Axis, order| {
        (0..=axis.top()).map(move |level| spelling.place(axis.mailbox(), level, axis.number(level, order)))
    };
    of(Axis::Stamps, stamp).chain(of(Axis::Uids(mailbox), uid)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = FIRST + (60_000_000_000_000 << 10);

    #[test]
    fn everything_is_one_block() {
        for axis in [Axis::Stamps, Axis::Uids(7)] {
            let words = axis.cover(Spelling::Lexemes, axis.top(), (i64::MIN, i64::MAX));
            assert_eq!(words.len(), 1, "{words:?}");
        }
        assert_eq!(Axis::Uids(31).cover(Spelling::Lexemes, 0, (1_024, 2_048)), ["M1f.01"]);
        assert_eq!(places(Spelling::Lexemes, 31, 5, NOW).len(), 13);
        assert_eq!([0, 1_023, 1_024, 20_000, i64::MAX].map(|span| Axis::Uids(1).level(span)), [0, 0, 0, 1, 3]);
    }

    proptest! {
        #[test]
        fn a_cover_has_all_that_lies_within(
            level in 0_usize..=7,
            end in NOW - (1 << 60)..NOW,
            into in 0_i64..1 << 56,
            at in 0.0_f64..1.0,
            mailbox: bool,
        ) {
            let axis = if mailbox { Axis::Uids(3) } else { Axis::Stamps };
            let end = if mailbox { (end - FIRST).rem_euclid(1 << 26) + 1 } else { end };
            let level = level.min(axis.top());
            let start = axis.begin(level, end - 1).max(end.saturating_sub(into)).max(0);
            let words: HashSet<String> = axis.cover(Spelling::Encoded, level, (start, end)).into_iter().collect();
            prop_assert!(words.len() <= 600, "{}", words.len());
            let inside = start + ((end - 1 - start) as f64 * at) as i64;
            for order in [start, inside, end - 1] {
                let (uid, stamp) = if mailbox { (order, NOW) } else { (1, order) };
                let own = places(Spelling::Encoded, 3, uid, stamp);
                prop_assert!(own.iter().any(|place| words.contains(place)), "{} in {:?}", order, (start, end));
            }
        }
    }
}
