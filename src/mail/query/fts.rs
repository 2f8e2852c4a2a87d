//! What of a query the index answers: the expression for FTS5, made of quoted tokens only, whatever was typed, and what is
//! left for [`Query::matches`].
//!
//! The expression finds every message that matches, and maybe others. So what is only nearly answered is left out of an
//! exclusion, and a group of alternatives of which one cannot be asked for is not asked for at all.

use super::{Asked, Column, Phrase, Query, Spelling, Words};

/// Words of one phrase that the index is asked for, the longest: rare enough together.
const PHRASE_WORDS: usize = 8;
/// Beginnings that the index is asked for in one query: each reads all words that begin so, up to 50 ms in a million
/// messages.
const BEGINNINGS: usize = 4;

/// The text part of a query, as the right side of `MATCH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fts {
    /// The messages that match this expression.
    Match(String),
    /// All messages but those that match this expression: there is no word that must be there.
    Exclude(String),
    /// All messages: the index cannot narrow it.
    All,
}

/// How well the index answers for a phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    Exact,
    /// It finds more than what matches.
    Nearly,
    Not,
}

impl Query {
    /// The text part for the index; nothing when the query has no words.
    #[must_use]
    pub fn fts(&self) -> Option<Fts> {
        let (mut wanted, mut excluded) = (Vec::new(), Vec::new());
        for (words, answer) in self.answers(None) {
            let any: Vec<String> = words.any.iter().map(Phrase::fts).collect();
            let group = format!("({})", any.join(" OR "));
            match (answer, words.negated) {
                (Answer::Exact, true) => excluded.push(group),
                (Answer::Exact | Answer::Nearly, false) => wanted.push(group),
                (Answer::Nearly | Answer::Not, _) => {}
            }
        }
        let (wanted, excluded) = (wanted.join(" AND "), excluded.join(" OR "));
        match (wanted.is_empty(), excluded.is_empty()) {
            _ if self.words.is_empty() => None,
            (true, true) => Some(Fts::All),
            (true, false) => Some(Fts::Exclude(excluded)),
            (false, true) => Some(Fts::Match(wanted)),
            (false, false) => Some(Fts::Match(format!("({wanted}) NOT ({excluded})"))),
        }
    }

    /// What the index leaves open: the words that [`Query::matches`] is still to be asked for, of each message found.
    #[must_use]
    pub fn unsettled(&self) -> Option<Query> {
        self.open(None)
    }

    /// The text part for the index of a database server; nothing when the query has no words.
    #[must_use]
    pub fn asked(&self, spelling: Spelling) -> Option<Asked> {
        let (mut wanted, mut excluded) = (Vec::new(), Vec::new());
        for (words, answer) in self.answers(Some(spelling)) {
            let any: Vec<String> = words.any.iter().map(|phrase| phrase.spelled(spelling)).collect();
            match (answer, words.negated) {
                (Answer::Exact, true) => excluded.push(spelling.any(&any)),
                (Answer::Exact | Answer::Nearly, false) => wanted.push(spelling.any(&any)),
                (Answer::Nearly | Answer::Not, _) => {}
            }
        }
        (!self.words.is_empty()).then_some(Asked { spelling, wanted, excluded })
    }

    /// As [`Query::unsettled`], of the index of a database server.
    #[must_use]
    pub fn unsettled_by(&self, spelling: Spelling) -> Option<Query> {
        self.open(Some(spelling))
    }

    fn open(&self, spelling: Option<Spelling>) -> Option<Query> {
        let open = self.answers(spelling).filter(|(_, answer)| *answer != Answer::Exact);
        let words: Vec<Words> = open.map(|(words, _)| words.clone()).collect();
        (!words.is_empty()).then(|| Query { words, filters: Vec::new() })
    }

    /// The groups, each with how well the index answers for all of it.
    fn answers(&self, spelling: Option<Spelling>) -> impl Iterator<Item = (&Words, Answer)> {
        let mut beginnings = 0;
        self.words.iter().map(move |words| {
            beginnings += words.any.iter().filter(|phrase| phrase.prefix && phrase.tokens.len() == 1).count();
            let answer = |phrase: &Phrase| {
                let cut = spelling.map_or(Answer::Exact, |spelling| spelling.answer(phrase));
                phrase.answer().max(cut)
            };
            let worst = words.any.iter().map(answer).max().unwrap_or(Answer::Exact);
            let asks = words.any.iter().any(|phrase| phrase.prefix && phrase.tokens.len() == 1);
            (words, if asks && beginnings > BEGINNINGS { Answer::Not } else { worst })
        })
    }
}

impl Phrase {
    fn answer(&self) -> Answer {
        match self.tokens.as_slice() {
            [only] if self.prefix && too_short(only) => Answer::Not,
            [_] => Answer::Exact,
            _ => Answer::Nearly,
        }
    }

    /// `subject : ("two" AND "words")`. Of several words the last is asked for only if it is whole.
    fn fts(&self) -> String {
        let column = match self.column {
            Column::Any => "",
            Column::Subject => "subject : ",
            Column::Sender => "sender : ",
            Column::Recipients => "recipients : ",
        };
        if let [only] = self.tokens.as_slice() {
            return format!("{column}\"{only}\"{}", if self.prefix { " *" } else { "" });
        }
        let words: Vec<String> = self.longest().map(|word| format!("\"{word}\"")).collect();
        format!("{column}({})", words.join(" AND "))
    }

    /// The same for a database server.
    fn spelled(&self, spelling: Spelling) -> String {
        if let [only] = self.tokens.as_slice() {
            return spelling.one(self.column, only, self.prefix);
        }
        let words: Vec<String> = self.longest().map(|word| spelling.one(self.column, word, false)).collect();
        spelling.all(&words)
    }

    /// What the index is asked for of several words.
    fn longest(&self) -> impl Iterator<Item = &String> {
        let whole = self.tokens.len() - usize::from(self.prefix);
        let mut words: Vec<&String> = self.tokens.iter().take(whole).collect();
        words.sort_by_key(|word| (std::cmp::Reverse(word.len()), *word));
        words.dedup();
        words.into_iter().take(PHRASE_WORDS)
    }
}

/// One ASCII character begins a part of all words: the index would read as much, half a second in a million messages. Of
/// other scripts it begins few.
fn too_short(beginning: &str) -> bool {
    beginning.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fts(text: &str) -> Option<Fts> {
        Query::parse(text).unwrap().fts()
    }

    fn wanted(expression: &str) -> Option<Fts> {
        Some(Fts::Match(expression.into()))
    }

    fn unsettled(text: &str) -> Option<Query> {
        Query::parse(text).unwrap().unsettled()
    }

    #[test]
    fn makes_an_expression_of_quoted_tokens_only() {
        assert_eq!(fts(""), None);
        assert_eq!(fts("is:unread"), None);
        assert_eq!(fts("Hello from:bob@x.org"), wanted(r#"("hello") AND (sender : ("bob" AND "org" AND "x"))"#));
        assert_eq!(fts("a OR be* -c"), wanted(r#"(("a" OR "be" *)) NOT (("c"))"#));
        assert_eq!(fts("-a -b"), Some(Fts::Exclude(r#"("a") OR ("b")"#.into())));
        assert_eq!(
            fts("NEAR(a subject:\"b) OR NOT\""),
            wanted(r#"(("near" AND "a")) AND (subject : ("not" AND "or" AND "b"))"#)
        );
    }

    #[test]
    fn one_character_is_how_a_pair_begins() {
        assert_eq!(fts("東"), wanted(r#"("東" *)"#));
        assert_eq!(fts("東京都"), wanted(r#"(("京都" AND "東京"))"#));
        assert_eq!(fts("手机iPhone"), wanted(r#"(("iphone" AND "手机" AND "机"))"#));
    }

    #[test]
    fn what_the_index_cannot_tell_is_left_to_matches() {
        for settled in ["hello", "be*", "-hello", "東", "a OR b", "is:unread hello"] {
            assert_eq!(unsettled(settled), None, "{settled}");
        }
        assert_eq!(unsettled("hello \"a b\" is:unread"), Query::parse("\"a b\"").ok());
        assert_eq!(unsettled("hello OR \"a b\""), Query::parse("hello OR \"a b\"").ok());
        assert_eq!(fts("hello -\"a b\""), wanted(r#"("hello")"#));
        assert_eq!(unsettled("hello -\"a b\""), Query::parse("-\"a b\"").ok());
        assert_eq!(fts("-\"a b\""), Some(Fts::All));
        assert!(!unsettled("hello from:a@b.c").unwrap().needs_text());
    }

    #[test]
    fn what_costs_the_index_much_is_not_asked_of_it() {
        assert_eq!((fts("a*"), fts("-a*")), (Some(Fts::All), Some(Fts::All)));
        assert_eq!(fts("a* OR hello"), Some(Fts::All));
        assert_eq!(unsettled("a* OR hello"), Query::parse("a* OR hello").ok());
        let many: String = (10..70).map(|n| format!("{n}* ")).collect();
        let Some(Fts::Match(expression)) = fts(&many) else { panic!() };
        assert_eq!(expression.matches('*').count(), BEGINNINGS);
        let joined: Vec<String> = (10..40).map(|n| format!("{n}*")).collect();
        assert_eq!(fts(&joined.join(" OR ")), Some(Fts::All));
        let Some(Fts::Match(long)) = fts(&format!("\"{}\"", (0..400).map(|n| format!("w{n} ")).collect::<String>()))
        else {
            panic!()
        };
        assert_eq!(long.matches("AND").count(), PHRASE_WORDS - 1);
    }
}
