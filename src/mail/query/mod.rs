//! The search syntax: what `q` means in lists, in `wait`, in subscriptions and in the dashboard's search box.
//!
//! A [`Query`] is read once ([`syntax`]) and then asked in two ways that give the same answer: as conditions for the
//! store ([`Query::fts`] over an FTS5 index of [`index_columns`] and [`Query::asked`] over that of a database server,
//! [`Query::filters`] over list columns), and directly
//! ([`Query::matches`]) for what is live or not indexed yet. [`tokens`] makes the words for both; a word is never made
//! elsewhere, which is what keeps the two equal.
//!
//! The index knows which words a column has, not where they stand: that makes it a quarter as large and three times as
//! fast to write. What that leaves open (the order of a phrase, and what would cost it too much) is [`Query::unsettled`],
//! which is asked of each message that the index finds. Every token is ASCII letters and digits in lower case or
//! characters beyond ASCII, which the `ascii` tokenizer of FTS5 keeps whole.

#[cfg(test)]
mod costs;
mod distinct;
mod fts;
mod matches;
#[cfg(test)]
mod sample;
mod spelling;
mod syntax;
mod tokens;

pub use distinct::Seen;
pub use fts::Fts;
pub use matches::{Candidate, Columns, index_columns};
pub use spelling::{Asked, Spelling, Tokens};
pub use syntax::{MAX_QUERY_BYTES, MAX_TERMS, Problem, QueryError};
pub use tokens::MAX_TEXT_BYTES;
pub(in crate::mail) use tokens::spaceless;

use super::summary::Listed;
use super::time::Timestamp;

/// A parsed search: all of its parts must hold. The empty one holds for every message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    words: Vec<Words>,
    filters: Vec<Filter>,
}

/// One condition on list columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The message must not satisfy the condition.
    pub negated: bool,
    pub condition: Condition,
}

/// What a list column must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `has:attachment`: `attachments > 0`.
    HasAttachment,
    /// `is:unread`; `is:read` is its negation.
    Unread,
    /// `before:`: `received_at` is less.
    Before(Timestamp),
    /// `after:`: `received_at` is this or more, so that `after:` and `before:` of one day each are half-open.
    After(Timestamp),
    /// `larger:`: `size` is more, in bytes.
    Larger(u64),
    /// `smaller:`: `size` is less, in bytes.
    Smaller(u64),
    /// `tag:`: one of the tags is exactly this.
    Tag(String),
}

/// Alternatives (`a OR b`) of which one must be found, or, negated, none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    negated: bool,
    any: Vec<Phrase>,
}

/// Tokens that must stand side by side in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phrase {
    column: Column,
    /// One or more; none is empty or holds a space or a quote.
    tokens: Vec<String>,
    /// The last token may go on.
    prefix: bool,
}

/// Where a phrase is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Any,
    Subject,
    Sender,
    Recipients,
}

impl Query {
    /// Reads a search as a user typed it.
    ///
    /// Terms are separated by space and all must hold: `word`, `word*` (how a word begins), `"a phrase"`, `from:`,
    /// `to:`, `subject:` (each with a word, a phrase or a beginning), `has:attachment`, `is:unread`, `is:read`,
    /// `before:` and `after:` (`2026-11-21`, the start of that day in UTC, or RFC 3339), `larger:` and `smaller:`
    /// (`10`, `10K`, `2MB`; K is 1,024), `tag:`. `-` before a term negates it. `OR` in capitals between words,
    /// `from:`, `to:` or `subject:` means that either is enough and binds closer than the space.
    ///
    /// # Errors
    /// What is wrong and at which character; see [`Problem`].
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        syntax::parse(text)
    }

    /// Whether every message matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.filters.is_empty()
    }

    /// Whether [`Query::matches`] looks at a message's text; otherwise the list columns are enough and
    /// [`Candidate::text`] may be empty.
    #[must_use]
    pub fn needs_text(&self) -> bool {
        self.words.iter().flat_map(|words| &words.any).any(|phrase| phrase.column == Column::Any)
    }

    /// Whether the conditions on list columns hold, those that SQL does not look into (tags) too.
    #[must_use]
    pub fn filters_hold(&self, listed: &Listed) -> bool {
        self.filters.iter().all(|filter| filter.condition.holds(listed) != filter.negated)
    }

    /// The conditions on list columns; all of them must hold.
    #[must_use]
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }
}
