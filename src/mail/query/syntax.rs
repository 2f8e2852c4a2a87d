//! Reads what a user typed into a [`Query`], or says what is wrong and where.

use super::tokens::{Phrased, tokens};
use super::{Column, Condition, Filter, Phrase, Query, Words};
use crate::mail::time::Timestamp;

/// A longer search is refused: it comes in a URL.
pub const MAX_QUERY_BYTES: usize = 2_048;

/// More terms than this are refused.
pub const MAX_TERMS: usize = 64;

/// A search that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {})", .at + 1)]
pub struct QueryError {
    /// Characters before the one where it goes wrong.
    pub at: usize,
    pub problem: Problem,
}

/// What is wrong with a search.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error(
        "no field {:?}; there are from:, to:, subject:, has:, is:, before:, after:, larger:, smaller:, tag: \
         (put it in quotes to search for it)", .0.trim_end_matches(':')
    )]
    UnknownKey(String),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("{key} does not take {value:?}: {expected}")]
    BadValue { key: &'static str, value: String, expected: &'static str },
    #[error("the quote is not closed")]
    UnterminatedQuote,
    #[error("OR stands between two words, phrases, from:, to: or subject:")]
    MisplacedOr,
    #[error("a search has at most {MAX_TERMS} terms")]
    TooManyTerms,
    #[error("a search has at most {MAX_QUERY_BYTES} bytes")]
    TooLong,
}

/// One term as it was typed.
#[derive(Clone, Copy)]
struct Term<'a> {
    /// Byte offset in the search.
    at: usize,
    negated: bool,
    /// With its colon, as typed; `None` for a plain word.
    key: Option<&'a str>,
    value: &'a str,
    value_at: usize,
    quoted: bool,
    /// A `*` follows the value.
    star: bool,
}

/// What a term means.
enum Meaning {
    Phrase(Phrase),
    /// The condition, and whether the key itself negates it (`is:read`).
    Condition(Condition, bool),
    /// Nothing that could be searched for, as in `R & D`.
    Nothing,
}

pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    let fail = |at: usize, problem| {
        let at = text.get(..at).unwrap_or(text).chars().count();
        QueryError { at, problem }
    };
    if text.len() > MAX_QUERY_BYTES {
        return Err(fail(MAX_QUERY_BYTES, Problem::TooLong));
    }
    let mut query = Query::default();
    let mut at = 0;
    let mut count = 0;
    // The offset of an OR that waits for its right side.
    let mut or: Option<usize> = None;
    // Whether an OR may follow: the last term was a phrase.
    let mut joinable = false;
    while let Some(term) = term(text, &mut at).map_err(|(at, problem)| fail(at, problem))? {
        count += 1;
        if count > MAX_TERMS {
            return Err(fail(term.at, Problem::TooManyTerms));
        }
        if term.is_or() {
            if !joinable || or.is_some() {
                return Err(fail(term.at, Problem::MisplacedOr));
            }
            or = Some(term.at);
            continue;
        }
        let joined_at = or.take();
        joinable = false;
        match meaning(&term).map_err(|(at, problem)| fail(at, problem))? {
            Meaning::Phrase(phrase) => match (joined_at, query.words.last_mut()) {
                (Some(at), Some(words)) if words.negated || term.negated => return Err(fail(at, Problem::MisplacedOr)),
                (Some(_), Some(words)) => words.any.push(phrase),
                _ => query.words.push(Words { negated: term.negated, any: vec![phrase] }),
            },
            _ if joined_at.is_some() => return Err(fail(term.at, Problem::MisplacedOr)),
            Meaning::Condition(condition, negates) => {
                query.filters.push(Filter { negated: term.negated != negates, condition });
                continue;
            }
            Meaning::Nothing => continue,
        }
        joinable = true;
    }
    match or {
        Some(at) => Err(fail(at, Problem::MisplacedOr)),
        None => Ok(query),
    }
}

impl Term<'_> {
    fn is_or(&self) -> bool {
        self.key.is_none() && !self.quoted && !self.negated && !self.star && self.value == "OR"
    }
}

type Failed = (usize, Problem);

/// Takes the term at `at`, if there is one, and moves behind it.
fn term<'a>(text: &'a str, at: &mut usize) -> Result<Option<Term<'a>>, Failed> {
    let rest = text.get(*at..).unwrap_or_default();
    let trimmed = rest.trim_start();
    if trimmed.is_empty() {
        return Ok(None);
    }
    let start = *at + (rest.len() - trimmed.len());
    let negated = trimmed.starts_with('-');
    let body_at = start + usize::from(negated);
    let body = text.get(body_at..).unwrap_or_default();
    let key = key(body);
    let value_at = body_at + key.map_or(0, str::len);
    let value = text.get(value_at..).unwrap_or_default();
    let mut term = Term { at: start, negated, key, value, value_at, quoted: false, star: false };
    if let Some(quoted) = value.strip_prefix('"') {
        let length = quoted.find('"').ok_or((value_at, Problem::UnterminatedQuote))?;
        term.value = quoted.get(..length).unwrap_or_default();
        term.quoted = true;
        *at = value_at + length + 2;
        term.star = text.get(*at..).is_some_and(|rest| rest.starts_with('*'));
        *at += usize::from(term.star);
    } else {
        let length = value.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(value.len());
        *at = value_at + length;
        let value = value.get(..length).unwrap_or_default();
        term.value = value.trim_end_matches('*');
        term.star = term.value.len() < value.len();
    }
    Ok(Some(term))
}

/// `from:` in `from:bob`: letters and a colon. Not the scheme of a URL, and not a word that ends in a colon.
fn key(body: &str) -> Option<&str> {
    let length = body.find(|c: char| !c.is_ascii_alphabetic())?;
    let after = body.get(length..)?.strip_prefix(':')?;
    let key = body.get(..=length)?;
    let plain = length == 0 || after.starts_with("//") || (after.is_empty() || after.starts_with(char::is_whitespace));
    (!plain || known(key).is_some()).then_some(key)
}

/// The key in its usual writing.
fn known(key: &str) -> Option<&'static str> {
    const KEYS: [&str; 10] =
        ["from:", "to:", "subject:", "has:", "is:", "before:", "after:", "larger:", "smaller:", "tag:"];
    KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key))
}

fn meaning(term: &Term<'_>) -> Result<Meaning, Failed> {
    let Some(typed) = term.key else {
        return Ok(phrase(Column::Any, term).map_or(Meaning::Nothing, Meaning::Phrase));
    };
    let key_at = term.at + usize::from(term.negated);
    let key = known(typed).ok_or_else(|| (key_at, Problem::UnknownKey(typed.to_owned())))?;
    if term.value.trim().is_empty() {
        return Err((key_at, Problem::NoValue(key)));
    }
    let bad = |expected| {
        let value = format!("{}{}", term.value, if term.star { "*" } else { "" });
        (term.value_at, Problem::BadValue { key, value, expected })
    };
    let words = |column| phrase(column, term).map(Meaning::Phrase).ok_or_else(|| bad("it has no letter or digit"));
    let value = term.value;
    let (condition, negates, expected) = match key {
        "from:" => return words(Column::Sender),
        "to:" => return words(Column::Recipients),
        "subject:" => return words(Column::Subject),
        "has:" => {
            let attachment = ["attachment", "attachments"].iter().any(|known| known.eq_ignore_ascii_case(value));
            (attachment.then_some(Condition::HasAttachment), false, "attachment is all it knows")
        }
        "is:" => {
            let read = value.eq_ignore_ascii_case("read");
            let known = read || value.eq_ignore_ascii_case("unread");
            (known.then_some(Condition::Unread), read, "it is read or unread")
        }
        "before:" => (time(value).map(Condition::Before), false, EXPECTED_TIME),
        "after:" => (time(value).map(Condition::After), false, EXPECTED_TIME),
        "larger:" => (size(value).map(Condition::Larger), false, EXPECTED_SIZE),
        "smaller:" => (size(value).map(Condition::Smaller), false, EXPECTED_SIZE),
        _ => (Some(Condition::Tag(value.to_owned())), false, ""),
    };
    match condition {
        Some(condition) if !term.star => Ok(Meaning::Condition(condition, negates)),
        Some(_) => Err(bad("* stands only after words, from:, to: and subject:")),
        None => Err(bad(expected)),
    }
}

const EXPECTED_TIME: &str = "a day as 2026-11-21 or a time as 2026-11-21T09:30:00Z";
const EXPECTED_SIZE: &str = "bytes as 10, 10K or 2MB";

/// The tokens of a term; nothing when it has none.
fn phrase(column: Column, term: &Term<'_>) -> Option<Phrase> {
    let mut phrased = Phrased::default();
    tokens(term.value, &mut phrased);
    let prefix = phrased.open || (term.star && ends_in_word(term.value));
    (!phrased.tokens.is_empty()).then_some(Phrase { column, tokens: phrased.tokens, prefix })
}

/// A day is its first moment in UTC.
fn time(value: &str) -> Option<Timestamp> {
    let day = value.len() == 10 && value.is_ascii();
    if day { Timestamp::parse(&format!("{value}T00:00:00Z")) } else { Timestamp::parse(value) }
}

fn size(value: &str) -> Option<u64> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at_checked(digits)?;
    let power = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1024_u64.checked_pow(power)?)
}

/// `a.*` asks for the word, not for how it begins.
fn ends_in_word(value: &str) -> bool {
    value.chars().next_back().is_some_and(|last| !last.is_ascii() || last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str) -> (usize, Problem) {
        let error = parse(text).unwrap_err();
        (error.at, error.problem)
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(failed("a fro:b"), (2, Problem::UnknownKey("fro:".to_owned())));
        assert_eq!(failed("é -fro:b"), (3, Problem::UnknownKey("fro:".to_owned())));
        assert_eq!(failed("a \"b c"), (2, Problem::UnterminatedQuote));
        assert_eq!(failed("from:\"b c"), (5, Problem::UnterminatedQuote));
        assert_eq!(failed("from: b"), (0, Problem::NoValue("from:")));
        assert_eq!(failed("x tag:\"\""), (2, Problem::NoValue("tag:")));
        for (text, at) in [
            ("before:yesterday", 7),
            ("after:2026-02-30", 6),
            ("after:2026-1-1", 6),
            ("larger:10X", 7),
            ("larger:-1", 7),
            ("smaller:K", 8),
            ("smaller:99999999999999999999", 8),
            ("larger:99999999999G", 7),
            ("has:cheese", 4),
            ("is:great", 3),
            ("is:unread*", 3),
            ("subject:!!!", 8),
        ] {
            assert!(matches!(failed(text), (found, Problem::BadValue { .. }) if found == at), "{text}");
        }
        for text in ["OR", "a OR", "OR a", "a OR OR b", "a OR -b", "-a OR b", "a OR is:read", "is:read OR a"] {
            assert!(matches!(failed(text), (_, Problem::MisplacedOr)), "{text}");
        }
        assert!(matches!(failed(&"a ".repeat(65)), (128, Problem::TooManyTerms)));
        assert!(matches!(failed(&"a".repeat(3_000)), (2_048, Problem::TooLong)));
        assert_eq!(
            parse("foo:x").unwrap_err().to_string(),
            "no field \"foo\"; there are from:, to:, subject:, has:, is:, before:, after:, larger:, smaller:, tag: \
             (put it in quotes to search for it) (at character 1)"
        );
        assert_eq!(
            parse("larger:big").unwrap_err().to_string(),
            "larger: does not take \"big\": bytes as 10, 10K or 2MB (at character 8)"
        );
    }

    #[test]
    fn takes_what_people_type() {
        for text in [
            "",
            "  ",
            "-",
            "R & D",
            "***",
            "- -",
            "Re: Hello",
            "12:30",
            "https://a.example/x?y=z",
            "\"fro:b\"",
            "C++",
            "-\"\"",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        assert!(parse(" - & ").is_ok_and(|query| query.is_empty()));
        assert_eq!(parse("FROM:Bob"), parse("from:bob"));
        assert_eq!(parse("a  b\tc"), parse("a b c"));
        assert_eq!(parse("a\"b c\"d"), parse("a \"b c\" d"));
        assert_eq!(parse("or"), parse("\"OR\""));
        assert_eq!(parse("is:read"), parse("-is:unread"));
        assert_eq!(parse("larger:1MB"), parse("larger:1048576"));
        assert_eq!(parse("after:2026-11-21"), parse("after:2026-11-21T00:00:00Z"));
        assert_eq!(parse("tag:\"two words\"").map(|query| query.filters.len()), Ok(1));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "((from|is|larger|before|x):|[-\"* ]|OR|é|東|.){0,30}") {
            if let Err(error) = parse(&text) {
                proptest::prop_assert!(error.at <= text.chars().count());
            }
        }
    }
}
