//! Asks a query of one message without an index: the same columns, the same tokens, the same answer.

use super::tokens::{Joined, SEPARATOR, tokens};
use super::{Column, Condition, Phrase, Query};
use crate::mail::summary::{Listed, Party};

/// A message that a query is asked of.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub listed: &'a Listed,
    /// The readable text, as it is indexed; may be empty where [`Query::needs_text`] says so.
    pub text: &'a str,
}

/// The columns of the index for one message: tokens, each followed by a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    pub subject: String,
    /// Name and address of the sender.
    pub sender: String,
    /// Names and addresses of the recipients in the header, and the mailbox itself, which a blind copy does not name.
    pub recipients: String,
    pub body: String,
}

/// What the index stores for a message; `text` is its readable text.
#[must_use]
pub fn index_columns(listed: &Listed, text: &str) -> Columns {
    Columns {
        subject: joined(&listed.subject),
        sender: sender(listed),
        recipients: recipients(listed),
        body: joined(text),
    }
}

impl Query {
    /// Whether a message is found by this query: what the index and the list columns would answer.
    #[must_use]
    pub fn matches(&self, message: &Candidate<'_>) -> bool {
        self.filters.iter().all(|filter| filter.condition.holds(message.listed) != filter.negated)
            && (self.words.is_empty() || self.words_match(message))
    }

    fn words_match(&self, message: &Candidate<'_>) -> bool {
        let listed = message.listed;
        let uses = |column| {
            let mut phrases = self.words.iter().flat_map(|words| &words.any);
            phrases.any(|phrase| phrase.column == column || phrase.column == Column::Any)
        };
        let columns = Columns {
            subject: if uses(Column::Subject) { joined(&listed.subject) } else { String::new() },
            sender: if uses(Column::Sender) { sender(listed) } else { String::new() },
            recipients: if uses(Column::Recipients) { recipients(listed) } else { String::new() },
            body: if self.needs_text() { joined(message.text) } else { String::new() },
        };
        self.words.iter().all(|words| words.any.iter().any(|phrase| phrase.found(&columns)) != words.negated)
    }
}

impl Condition {
    fn holds(&self, listed: &Listed) -> bool {
        match self {
            Self::HasAttachment => listed.attachments > 0,
            Self::Unread => !listed.is_read,
            Self::Before(time) => listed.received_at < *time,
            Self::After(time) => listed.received_at >= *time,
            Self::Larger(size) => listed.size > *size,
            Self::Smaller(size) => listed.size < *size,
            Self::Tag(tag) => listed.tags.contains(tag),
        }
    }
}

impl Phrase {
    fn found(&self, columns: &Columns) -> bool {
        let mut needle = self.tokens.join(" ");
        if !self.prefix {
            needle.push(' ');
        }
        match self.column {
            Column::Any => [&columns.subject, &columns.sender, &columns.recipients, &columns.body]
                .into_iter()
                .any(|column| stands_in(column, &needle)),
            Column::Subject => stands_in(&columns.subject, &needle),
            Column::Sender => stands_in(&columns.sender, &needle),
            Column::Recipients => stands_in(&columns.recipients, &needle),
        }
    }
}

/// Whether `needle` stands in `column` at the beginning of a token.
fn stands_in(column: &str, needle: &str) -> bool {
    column.match_indices(needle).any(|(at, _)| at == 0 || column.as_bytes().get(at - 1) == Some(&b' '))
}

fn joined(text: &str) -> String {
    let mut column = String::with_capacity(text.len() + text.len() / 8);
    tokens(text, &mut Joined(&mut column));
    column
}

fn sender(listed: &Listed) -> String {
    let mut column = String::new();
    listed.from.iter().for_each(|party| add_party(party, &mut column));
    column
}

fn recipients(listed: &Listed) -> String {
    let mut column = String::new();
    listed.to.iter().for_each(|party| add_party(party, &mut column));
    tokens(listed.mailbox.as_str(), &mut Joined(&mut column));
    column
}

fn add_party(party: &Party, column: &mut String) {
    for part in [&party.name, &party.address].into_iter().flatten() {
        tokens(part, &mut Joined(column));
        column.push_str(SEPARATOR);
        column.push(' ');
    }
}
