//! Words as the full-text indexes of database servers take them: each message a list of tokens, each search an expression
//! of tokens, whatever was typed.
//!
//! PostgreSQL takes any bytes as a lexeme. The words of all columns are together; a capital letter before a word says
//! that it is in the subject (`S`), the sender (`F`) or the recipients (`T`), and others are for places.
//!
//! FULLTEXT of MySQL and MariaDB cuts text by rules that its operator may change (least and largest length, stop words,
//! what a letter is). So a token there is two letters (`qa`: anywhere, `qs`, `qf`, `qt`) and the word with each character beyond
//! ASCII written as `_` and four digits: three characters or more, no stop word, and the beginning of a word spells the
//! beginning of its token. Longer tokens than the index takes are cut; what that leaves open is asked of `matches`.

use super::fts::Answer;
use super::{Column, Columns, Phrase};

/// How words are written for an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Lexemes of a `tsvector` (PostgreSQL).
    Lexemes,
    /// Letters, digits and `_` (FULLTEXT of MySQL and MariaDB).
    Encoded,
}

/// Bytes of tokens that one message may have: a `tsvector` takes a mebibyte.
const MOST_BYTES: usize = 960 << 10;
/// Characters of an encoded token; FULLTEXT takes 84.
const MOST_ENCODED: usize = 80;
/// What one character takes at most.
const ESCAPE: usize = 5;
/// The token of a message that has too many words to be indexed.
const PARTIAL: [&str; 2] = ["O", "zoo"];

/// The tokens of one message, each once, with a space between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub text: String,
    /// False when there were too many words: then it has only its places, and every search must look at it.
    pub whole: bool,
}

/// What an index is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(super) spelling: Spelling,
    /// Groups; all must be there.
    pub(super) wanted: Vec<String>,
    /// Groups; none may be there.
    pub(super) excluded: Vec<String>,
}

impl Spelling {
    /// The tokens of a message with these words, which lies in these places.
    #[must_use]
    pub fn tokens(self, columns: &Columns, places: Vec<String>) -> Tokens {
        let Columns { subject, sender, recipients, body } = columns;
        let all = [subject, sender, recipients, body];
        let anywhere = all.into_iter().flat_map(|words| words.split_ascii_whitespace());
        let mut tokens: Vec<String> = anywhere.map(|word| self.word(Column::Any, word)).collect();
        for (column, words) in [(Column::Subject, subject), (Column::Sender, sender), (Column::Recipients, recipients)]
        {
            tokens.extend(words.split_ascii_whitespace().map(|word| self.word(column, word)));
        }
        tokens.sort_unstable();
        tokens.dedup();
        let bytes: usize = places.iter().chain(&tokens).map(|token| token.len() + 1).sum();
        let whole = bytes <= MOST_BYTES;
        if !whole {
            tokens = vec![self.partial().to_owned()];
        }
        tokens.extend(places);
        Tokens { text: tokens.join(" "), whole }
    }

    /// The token of a place: of block `number` at a level, in a mailbox or in all of them.
    #[must_use]
    pub fn place(self, mailbox: Option<i64>, level: usize, number: i64) -> String {
        match (self, mailbox) {
            (Self::Lexemes, None) => format!("B{level:x}{number:x}"),
            (Self::Lexemes, Some(id)) => format!("M{id:x}.{level:x}{number:x}"),
            (Self::Encoded, None) => format!("zb{level:x}{number:x}"),
            (Self::Encoded, Some(id)) => format!("zm{id:x}_{level:x}{number:x}"),
        }
    }

    fn partial(self) -> &'static str {
        let [lexeme, encoded] = PARTIAL;
        if self == Self::Lexemes { lexeme } else { encoded }
    }

    fn word(self, column: Column, word: &str) -> String {
        let mut token = String::with_capacity(word.len() + 2);
        match self {
            Self::Lexemes => {
                token.push_str(match column {
                    Column::Any => "",
                    Column::Subject => "S",
                    Column::Sender => "F",
                    Column::Recipients => "T",
                });
                token.push_str(word);
            }
            Self::Encoded => {
                token.push_str(match column {
                    Column::Any => "qa",
                    Column::Subject => "qs",
                    Column::Sender => "qf",
                    Column::Recipients => "qt",
                });
                encode(word, &mut token);
            }
        }
        token
    }

    /// How well an index with this spelling answers for a phrase, beyond what every index leaves open.
    pub(super) fn answer(self, phrase: &Phrase) -> Answer {
        match (self, phrase.tokens.as_slice()) {
            // As long as one that was cut: which of them it is, the index does not know.
            (Self::Encoded, [only]) if self.word(phrase.column, only).len() > MOST_ENCODED - ESCAPE => Answer::Nearly,
            _ => Answer::Exact,
        }
    }

    /// One token, or how tokens begin.
    pub(super) fn one(self, column: Column, word: &str, begins: bool) -> String {
        let token = self.word(column, word);
        match (self, begins) {
            (Self::Lexemes, false) => format!("'{token}'"),
            (Self::Lexemes, true) => format!("'{token}':*"),
            (Self::Encoded, false) => token,
            (Self::Encoded, true) => format!("{token}*"),
        }
    }

    /// All of `parts`, of which there is one at least.
    pub(super) fn all(self, parts: &[String]) -> String {
        match self {
            Self::Lexemes => format!("({})", parts.join(" & ")),
            Self::Encoded => format!("(+{})", parts.join(" +")),
        }
    }

    /// Any of `parts`, of which there is one at least.
    pub(super) fn any(self, parts: &[String]) -> String {
        match self {
            Self::Lexemes => format!("({})", parts.join(" | ")),
            Self::Encoded => format!("({})", parts.join(" ")),
        }
    }
}

impl Asked {
    /// The expression for messages in any of `places`, of which there is one at least.
    #[must_use]
    pub fn within(&self, places: &[String]) -> String {
        let places = self.spelled(places);
        match self.spelling {
            Spelling::Lexemes => {
                let excluded = self.excluded.iter().map(|group| format!("!{group}"));
                let parts = std::iter::once(places).chain(self.wanted.iter().cloned()).chain(excluded);
                parts.collect::<Vec<_>>().join(" & ")
            }
            Spelling::Encoded => {
                let wanted = self.wanted.iter().map(|group| format!(" +{group}"));
                let excluded = self.excluded.iter().map(|group| format!(" -{group}"));
                std::iter::once(format!("+{places}")).chain(wanted).chain(excluded).collect()
            }
        }
    }

    /// The expression for messages in any of `places` that have too many words to be indexed.
    #[must_use]
    pub fn partial(&self, places: &[String]) -> String {
        let (places, token) = (self.spelled(places), self.spelling.partial());
        match self.spelling {
            Spelling::Lexemes => format!("{places} & '{token}'"),
            Spelling::Encoded => format!("+{token} +{places}"),
        }
    }

    fn spelled(&self, places: &[String]) -> String {
        match self.spelling {
            Spelling::Lexemes => {
                self.spelling.any(&places.iter().map(|place| format!("'{place}'")).collect::<Vec<_>>())
            }
            Spelling::Encoded => self.spelling.any(places),
        }
    }
}

/// Adds `word`, as much of it as a token may have.
fn encode(word: &str, token: &mut String) {
    for c in word.chars() {
        let length = if c.is_ascii() { 1 } else { ESCAPE };
        if token.len() + length > MOST_ENCODED {
            return;
        }
        if c.is_ascii() {
            token.push(c);
            continue;
        }
        token.push('_');
        for place in [36 * 36 * 36, 36 * 36, 36, 1] {
            token.extend(char::from_digit(u32::from(c) / place % 36, 36));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::query::Query;

    fn columns(subject: &str, body: &str) -> Columns {
        Columns { subject: subject.into(), body: body.into(), ..Columns::default() }
    }

    fn asked(spelling: Spelling, text: &str) -> String {
        Query::parse(text).unwrap().asked(spelling).unwrap().within(&["p".into(), "r".into()])
    }

    #[test]
    fn a_message_is_a_list_of_tokens() {
        let columns = columns("b 東京 ", "a b ");
        let tokens = Spelling::Lexemes.tokens(&columns, vec![Spelling::Lexemes.place(Some(31), 2, 10)]);
        assert_eq!(tokens, Tokens { text: "Sb S東京 a b 東京 M1f.2a".into(), whole: true });
        let tokens = Spelling::Encoded.tokens(&columns, vec![Spelling::Encoded.place(None, 2, 10)]);
        assert_eq!(tokens.text, "qa_0kfl_0fjg qaa qab qs_0kfl_0fjg qsb zb2a");
    }

    #[test]
    fn a_search_is_an_expression_of_tokens() {
        let query = "hello from:bob@x.org a OR be* -\"東\" -c";
        assert_eq!(
            asked(Spelling::Lexemes, query),
            "('p' | 'r') & ('hello') & (('Fbob' & 'Forg' & 'Fx')) & ('a' | 'be':*) & !('東':*) & !('c')"
        );
        assert_eq!(
            asked(Spelling::Encoded, query),
            "+(p r) +(qahello) +((+qfbob +qforg +qfx)) +(qaa qabe*) -(qa_0kfl*) -(qac)"
        );
        assert_eq!(asked(Spelling::Lexemes, "a*"), "('p' | 'r')");
        assert_eq!(asked(Spelling::Encoded, "-a"), "+(p r) -(qaa)");
    }

    #[test]
    fn what_was_cut_is_left_to_matches() {
        let open = |word: &str| {
            let query = Query::parse(word).unwrap();
            query.unsettled_by(Spelling::Encoded).is_some()
        };
        assert!(!open(&"a".repeat(64)));
        assert!(!open(&"я".repeat(14)) && !open("я*"));
        assert!(open(&"я".repeat(15)) && open(&"я".repeat(32)) && open(&format!("{}*", "я".repeat(20))));
        let query = Query::parse(&"я".repeat(32)).unwrap();
        assert!(query.unsettled_by(Spelling::Lexemes).is_none());
        assert_eq!(
            Query::parse("hello -\"a b\"").unwrap().unsettled_by(Spelling::Lexemes),
            Query::parse("-\"a b\"").ok()
        );
    }

    #[test]
    fn more_words_than_an_index_takes_leave_the_places() {
        let body: String = (0..200_000).map(|n| format!("{n} ")).collect();
        let tokens = Spelling::Encoded.tokens(&columns("", &body), vec!["zb0".into()]);
        assert_eq!(tokens, Tokens { text: "zoo zb0".into(), whole: false });
        let partial = Query::parse("x").unwrap().asked(Spelling::Encoded).unwrap().partial(&["zb0".into()]);
        assert_eq!(partial, "+zoo +(zb0)");
        let places = [Spelling::Encoded.place(None, 0, 0), Spelling::Encoded.place(Some(1), 0, 0)];
        assert!(places.iter().map(String::as_str).chain([PARTIAL[1]]).all(|token| token.len() >= 3));
    }

    proptest! {
        #[test]
        fn tokens_are_what_fulltext_takes(word in "[a-z0-9é東🎉я]{1,64}", other in "[a-z0-9é東🎉я]{1,64}") {
            let token = Spelling::Encoded.word(Column::Any, &word);
            prop_assert!((3..=84).contains(&token.len()));
            prop_assert!(token.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            let open = token.len() > MOST_ENCODED - ESCAPE;
            let second = Spelling::Encoded.word(Column::Any, &other);
            if !open {
                prop_assert_eq!(token == second, word == other);
                prop_assert_eq!(second.starts_with(&token), other.starts_with(&word));
            }
        }
    }
}
