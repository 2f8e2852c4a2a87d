//! The search syntax: what `q` means in lists, in `wait`, in subscriptions and in the dashboard's search box.
//!
//! A [`Query`] is read once ([`syntax`]) and then asked in two ways that give the same answer: as conditions for the
//! store ([`Query::fts`] over an FTS5 index of [`index_columns`], [`Query::filters`] over list columns), and directly
//! ([`Query::matches`]) for what is live or not indexed yet. [`tokens`] makes the words for both; a word is never made
//! elsewhere, which is what keeps the two equal.
//!
//! The index is `CREATE VIRTUAL TABLE … USING fts5(subject, sender, recipients, body, tokenize = 'ascii', …)`: every
//! token is ASCII letters and digits in lower case or characters beyond ASCII, which that tokenizer keeps whole.

mod matches;
mod syntax;
mod tokens;

pub use matches::{Candidate, Columns, index_columns};
pub use syntax::{MAX_QUERY_BYTES, MAX_TERMS, Problem, QueryError};
pub use tokens::MAX_TEXT_BYTES;
pub(in crate::mail) use tokens::spaceless;

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

/// The text part for FTS5, as the right side of `MATCH`: made of quoted tokens only, whatever was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fts {
    /// The messages that match this expression.
    Match(String),
    /// All messages but those that match this expression: there is no word that must be there.
    Exclude(String),
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

    /// The conditions on list columns; all of them must hold.
    #[must_use]
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// The text part for the index; nothing when the query has no words.
    #[must_use]
    pub fn fts(&self) -> Option<Fts> {
        let group = |words: &Words| {
            let any: Vec<String> = words.any.iter().map(Phrase::fts).collect();
            format!("({})", any.join(" OR "))
        };
        let (excluded, wanted): (Vec<&Words>, Vec<&Words>) = self.words.iter().partition(|words| words.negated);
        let wanted = wanted.into_iter().map(group).collect::<Vec<_>>().join(" AND ");
        let excluded = excluded.into_iter().map(group).collect::<Vec<_>>().join(" OR ");
        match (wanted.is_empty(), excluded.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Fts::Exclude(excluded)),
            (false, true) => Some(Fts::Match(wanted)),
            (false, false) => Some(Fts::Match(format!("({wanted}) NOT ({excluded})"))),
        }
    }
}

impl Phrase {
    /// `subject : "two words" *`.
    fn fts(&self) -> String {
        let column = match self.column {
            Column::Any => "",
            Column::Subject => "subject : ",
            Column::Sender => "sender : ",
            Column::Recipients => "recipients : ",
        };
        let star = if self.prefix { " *" } else { "" };
        format!("{column}\"{}\"{star}", self.tokens.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_an_expression_of_quoted_tokens_only() {
        let fts = |text: &str| Query::parse(text).unwrap().fts();
        assert_eq!(fts(""), None);
        assert_eq!(fts("is:unread"), None);
        assert_eq!(fts("Hello from:bob@x.org"), Some(Fts::Match(r#"("hello") AND (sender : "bob x org")"#.into())));
        assert_eq!(fts("a OR b* -c"), Some(Fts::Match(r#"(("a" OR "b" *)) NOT (("c"))"#.into())));
        assert_eq!(fts("-a -\"b c\""), Some(Fts::Exclude(r#"("a") OR ("b c")"#.into())));
        assert_eq!(fts("NEAR(a subject:\"b) OR NOT\""), {
            Some(Fts::Match(r#"("near a") AND (subject : "b or not")"#.into()))
        });
    }

    #[test]
    fn one_character_is_how_a_pair_begins() {
        let fts = |text: &str| Query::parse(text).unwrap().fts();
        assert_eq!(fts("東"), Some(Fts::Match(r#"("東" *)"#.into())));
        assert_eq!(fts("東京都"), Some(Fts::Match(r#"("東京 京都")"#.into())));
        assert_eq!(fts("手机iPhone"), Some(Fts::Match(r#"("手机 机 iphone")"#.into())));
    }
}
