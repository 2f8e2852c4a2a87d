//! Asks a query of one message without an index: the same columns, the same tokens, the same answer.

use super::distinct::Seen;
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

/// The columns of the index for one message: its different words, each followed by a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    pub subject: String,
    /// Name and address of the sender.
    pub sender: String,
    /// Names and addresses of the recipients in the header, and the mailbox itself, which a blind copy does not name.
    pub recipients: String,
    pub body: String,
}

impl Columns {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        [&self.subject, &self.sender, &self.recipients, &self.body].into_iter().map(String::len).sum()
    }

    /// Whether there is no word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the index stores for a message; `text` is its readable text.
#[must_use]
pub fn index_columns(listed: &Listed, text: &str, seen: &mut Seen) -> Columns {
    let parties = listed.to.iter().flat_map(parts);
    Columns {
        subject: seen.words([&*listed.subject]),
        sender: seen.words(listed.from.iter().flat_map(|party| parts(party))),
        recipients: seen.words(parties.chain([listed.mailbox.as_str()])),
        body: seen.words([text]),
    }
}

/// The same columns with every word in its place, as phrases need them; a space before each word and at the end.
#[derive(Default)]
struct Placed {
    subject: String,
    sender: String,
    recipients: String,
    body: String,
}

impl Query {
    /// Whether a message is found by this query: what the index and the list columns would answer.
    #[must_use]
    pub fn matches(&self, message: &Candidate<'_>) -> bool {
        self.filters_hold(message.listed) && (self.words.is_empty() || self.words_match(message))
    }

    fn words_match(&self, message: &Candidate<'_>) -> bool {
        let listed = message.listed;
        let uses = |column| {
            let mut phrases = self.words.iter().flat_map(|words| &words.any);
            phrases.any(|phrase| phrase.column == column || phrase.column == Column::Any)
        };
        let columns = Placed {
            subject: if uses(Column::Subject) { joined(&listed.subject) } else { String::new() },
            sender: if uses(Column::Sender) { sender(listed) } else { String::new() },
            recipients: if uses(Column::Recipients) { recipients(listed) } else { String::new() },
            body: if self.needs_text() { joined(message.text) } else { String::new() },
        };
        self.words.iter().all(|words| words.any.iter().any(|phrase| phrase.found(&columns)) != words.negated)
    }
}

impl Condition {
    pub(super) fn holds(&self, listed: &Listed) -> bool {
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
    fn found(&self, columns: &Placed) -> bool {
        // A space stands before every word, so what is found begins one.
        let mut needle = format!(" {}", self.tokens.join(" "));
        if !self.prefix {
            needle.push(' ');
        }
        let finder = memchr::memmem::Finder::new(&needle);
        let stands_in = |column: &String| finder.find(column.as_bytes()).is_some();
        match self.column {
            Column::Any => {
                [&columns.subject, &columns.sender, &columns.recipients, &columns.body].into_iter().any(stands_in)
            }
            Column::Subject => stands_in(&columns.subject),
            Column::Sender => stands_in(&columns.sender),
            Column::Recipients => stands_in(&columns.recipients),
        }
    }
}

fn joined(text: &str) -> String {
    let mut column = String::with_capacity(text.len() + text.len() / 8);
    column.push(' ');
    tokens(text, &mut Joined(&mut column));
    column
}

fn sender(listed: &Listed) -> String {
    let mut column = " ".to_owned();
    listed.from.iter().for_each(|party| add_party(party, &mut column));
    column
}

fn recipients(listed: &Listed) -> String {
    let mut column = " ".to_owned();
    listed.to.iter().for_each(|party| add_party(party, &mut column));
    tokens(listed.mailbox.as_str(), &mut Joined(&mut column));
    column
}

fn parts(party: &Party) -> impl Iterator<Item = &str> {
    [&party.name, &party.address].into_iter().flatten().map(String::as_str)
}

fn add_party(party: &Party, column: &mut String) {
    for part in parts(party) {
        tokens(part, &mut Joined(column));
        column.push_str(SEPARATOR);
        column.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::query::Fts;
    use crate::mail::query::sample::listed;

    fn found(query: &str, listed: &Listed, text: &str) -> bool {
        Query::parse(query).unwrap().matches(&Candidate { listed, text })
    }

    #[test]
    fn finds_by_words_and_columns() {
        let message = listed("Über Rechnung 4711", "Bob Smith", &["Zoë", "Ann"]);
        let text = "Hello world, see shop.example.com/a_b. 東京都に行く";
        for query in [
            "",
            "hello",
            "HELLO",
            "hell*",
            "\"hello world\"",
            "uber",
            "über",
            "subject:rechnung",
            "subject:\"rechnung 47\"*",
            "from:bob",
            "from:x@y.z",
            "to:zoe",
            "to:box@mailroom.test",
            "to:ann",
            "shop.example.com",
            "example.com/a",
            "東京都",
            "京",
            "都",
            "行く",
            "-bye",
            "-subject:hello",
            "bye OR hello",
            "\"bye bye\" OR from:smith OR nothing",
            "hello & world",
            "-\"world hello\"",
        ] {
            assert!(found(query, &message, text), "{query}");
        }
        for query in [
            "hell",
            "bye",
            "\"world hello\"",
            "subject:hello",
            "from:ann",
            "to:bob",
            "to:\"zoe ann\"",
            "to:\"z ann\"",
            "東都",
            "大",
            "-hello",
            "hello bye",
            "bye OR nothing",
            "hello -world",
            "-from:bob",
            "-bye -hello",
        ] {
            assert!(!found(query, &message, text), "{query}");
        }
    }

    #[test]
    fn finds_by_list_columns() {
        let message = listed("s", "f", &[]);
        for query in [
            "has:attachment",
            "is:unread",
            "-is:read",
            "after:2026-11-21",
            "before:2026-11-22",
            "after:2026-11-21T12:00:00Z",
            "-after:2026-11-22",
            "before:2026-11-21T13:00:01+01:00",
            "larger:1K",
            "larger:2047",
            "smaller:2049",
            "-larger:2K",
            "smaller:1MB",
            "tag:Invoice",
            "-tag:x",
        ] {
            assert!(found(query, &message, ""), "{query}");
            assert!(!Query::parse(query).unwrap().needs_text());
        }
        for query in [
            "-has:attachment",
            "is:read",
            "after:2026-11-22",
            "before:2026-11-21",
            "before:2026-11-21T12:00:00Z",
            "larger:2048",
            "smaller:2K",
            "tag:invoice",
            "-tag:Invoice",
        ] {
            assert!(!found(query, &message, ""), "{query}");
        }
        assert!(Query::parse("x").unwrap().needs_text());
        assert!(!Query::parse("from:x -subject:y OR to:z tag:x").is_ok_and(|query| query.needs_text()));
    }

    /// FTS5 over the columns, as its documentation says: reads the expression, not the query.
    struct Model<'a> {
        columns: [(&'static str, Vec<&'a str>); 4],
        rest: &'a str,
    }

    impl<'a> Model<'a> {
        fn new(columns: &'a Columns, expression: &'a str) -> Self {
            let cut = |text: &'a str| {
                let tokens = text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric());
                tokens.filter(|token| !token.is_empty()).collect()
            };
            let columns = [
                ("subject", cut(&columns.subject)),
                ("sender", cut(&columns.sender)),
                ("recipients", cut(&columns.recipients)),
                ("body", cut(&columns.body)),
            ];
            Self { columns, rest: expression }
        }

        fn takes(&mut self, what: &str) -> bool {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix(what) {
                Some(rest) => {
                    self.rest = rest;
                    true
                }
                None => false,
            }
        }

        /// NOT binds closest, then AND, then OR.
        fn or(&mut self) -> bool {
            let mut value = self.and();
            while self.takes("OR") {
                value |= self.and();
            }
            value
        }

        fn and(&mut self) -> bool {
            let mut value = self.not();
            while self.takes("AND") {
                value &= self.not();
            }
            value
        }

        fn not(&mut self) -> bool {
            let mut value = self.phrase();
            while self.takes("NOT") {
                value &= !self.phrase();
            }
            value
        }

        fn phrase(&mut self) -> bool {
            if self.takes("(") {
                let value = self.or();
                assert!(self.takes(")"), "{}", self.rest);
                return value;
            }
            let named = ["subject", "sender", "recipients"].into_iter().find(|name| self.takes(name));
            assert!(named.is_none() || self.takes(":"));
            if self.takes("(") {
                let mut value = self.word(named);
                while self.takes("AND") {
                    value &= self.word(named);
                }
                assert!(self.takes(")"), "{}", self.rest);
                return value;
            }
            self.word(named)
        }

        fn word(&mut self, named: Option<&str>) -> bool {
            assert!(self.takes("\""), "{}", self.rest);
            let (wanted, rest) = self.rest.split_once('"').unwrap();
            self.rest = rest;
            let prefix = self.takes("*");
            let mut columns = self.columns.iter().filter(|(name, _)| named.is_none_or(|named| named == *name));
            let is_it = |token: &&str| if prefix { token.starts_with(wanted) } else { *token == wanted };
            columns.any(|(_, tokens)| tokens.iter().any(is_it))
        }
    }

    fn text() -> impl Strategy<Value = String> {
        const PIECES: &[&str] = &[
            "a",
            "b",
            "ab",
            "abc",
            "B",
            "é",
            "e",
            "東",
            "京",
            "都",
            "東京",
            "が",
            "か\u{3099}",
            "x@y",
            ".",
            "-",
            "_",
            " ",
            " ",
            " ",
            "🎉",
            "한국",
            "1",
            "ß",
            "ss",
            "\"",
            "'",
            "й",
        ];
        let piece = prop_oneof![20 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn query() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["", "", "", "from:", "to:", "subject:"]);
        let term = (any::<bool>(), key, text(), any::<bool>(), prop::sample::select(vec![" ", " ", " OR "])).prop_map(
            |(negated, key, text, star, joint)| {
                let text = text.replace('"', "");
                format!("{}{key}\"{text}\"{}{joint}", if negated { "-" } else { "" }, if star { "*" } else { "" })
            },
        );
        prop::collection::vec(term, 0..5).prop_map(|terms| terms.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_index_gives_the_same_answer(
            query in query(), subject in text(), from in text(), to in text(), body in text(),
        ) {
            let Ok(query) = Query::parse(&query) else { return Ok(()) };
            let listed = listed(&subject, &from, &[&to, "ab"]);
            let columns = index_columns(&listed, &body, &mut Seen::default());
            let candidate = Candidate { listed: &listed, text: &body };
            let found = match query.fts() {
                None | Some(Fts::All) => true,
                Some(Fts::Match(expression)) => Model::new(&columns, &expression).or(),
                Some(Fts::Exclude(expression)) => !Model::new(&columns, &expression).or(),
            };
            let indexed = found && query.unsettled().is_none_or(|open| open.matches(&candidate));
            prop_assert_eq!(query.matches(&candidate), indexed, "{:?}", query);
        }

        #[test]
        fn a_message_is_found_by_any_piece_of_its_words(words in prop::collection::vec("[a-z東京都é]{1,6}", 1..6), at: prop::sample::Index) {
            let listed = listed("", "", &[]);
            let body = words.join(" ");
            let wanted = &words[at.index(words.len())];
            let query = format!("\"{}\" \"{}\"", wanted, body);
            prop_assert!(found(&query, &listed, &body), "{}", query);
        }
    }
}
