//! One-time codes: the numbers and short groups of letters and digits that a message asks its reader to type in.
//!
//! One pass cuts the text into words and candidates. A candidate counts if a word that announces a code is near and
//! nothing around it says that it is a date, a price, a phone or an order number. Linear in the size of the text.

use super::vocabulary::{Hint, hint, is_currency, is_entering, is_typing, is_unit, leads_to_entering, run_hint};
use crate::mail::query::spaceless;

/// The likeliest are kept.
pub const MAX_CODES: usize = 10;

/// Codes stand near the top; the rest of a long text is not read.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Finds the one-time codes in a message (its subject, an empty line, its text), the likeliest first.
///
/// A code is 4 to 10 digits, or that many letters and digits, or groups of them joined by hyphens (`A1B2-C3D4`,
/// returned as written). Digits in two groups (`482 913`, `482-913`) or each by itself are returned joined, and the
/// `G-` of `G-482913` is left out: what is returned is what one types in.
#[must_use]
pub fn codes(text: &str) -> Vec<String> {
    let text = text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text);
    let pieces = joined(pieces(text));
    let mut found: Vec<(i32, String)> = Vec::new();
    if !pieces.iter().any(|piece| code(piece).is_some()) {
        return Vec::new();
    }
    let hints = hints(&pieces);
    for (at, piece) in pieces.iter().enumerate() {
        let Some(code) = code(piece) else { continue };
        let Some(score) = score(text, &pieces, &hints, at) else { continue };
        if let Some((known, _)) = found.iter_mut().find(|(_, known)| *known == code) {
            *known = score.max(*known);
        } else if found.len() < 100 {
            found.push((score, code));
        } else {
            break;
        }
    }
    found.sort_by_key(|(score, _)| -score);
    found.truncate(MAX_CODES);
    found.into_iter().map(|(_, code)| code).collect()
}

/// A word, or something that may be a code.
#[derive(Clone, Debug)]
struct Piece {
    /// In lower case if it is a word.
    text: String,
    start: usize,
    end: usize,
    /// Which line it stands on; empty lines do not count.
    line: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    /// Of a script without spaces.
    Run,
    /// ASCII letters and digits, perhaps with hyphens.
    Group,
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut line = 0;
    let mut fresh = true;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let start = text.len() - rest.len();
        let kind = if first.is_ascii_alphanumeric() {
            Kind::Group
        } else if spaceless(first) {
            Kind::Run
        } else if first.is_alphabetic() {
            Kind::Word
        } else {
            fresh |= first == '\n';
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        let end = rest.find(|c: char| !belongs(kind, c)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        rest = after;
        line += usize::from(std::mem::take(&mut fresh));
        add(piece, start, line, kind, &mut pieces);
    }
    pieces
}

fn belongs(kind: Kind, c: char) -> bool {
    match kind {
        Kind::Run => spaceless(c),
        Kind::Word | Kind::Group => c == '-' || (c.is_alphanumeric() && !spaceless(c)) || c == '\u{301}',
    }
}

/// A group without digits is words, unless it looks like `ABCD-EFGH`; a group with letters beyond ASCII is too.
fn add(piece: &str, start: usize, line: usize, kind: Kind, pieces: &mut Vec<Piece>) {
    let piece = piece.trim_end_matches('-');
    let digits = piece.bytes().any(|byte| byte.is_ascii_digit());
    let upper_groups = piece.contains('-') && piece.split('-').all(|part| part.len() >= 3 && is_upper(part));
    if kind == Kind::Run || (piece.is_ascii() && (digits || upper_groups)) {
        let kind = if kind == Kind::Run { Kind::Run } else { Kind::Group };
        pieces.push(Piece { text: piece.to_owned(), start, end: start + piece.len(), line, kind });
        return;
    }
    let mut at = start;
    for word in piece.split('-') {
        if !word.is_empty() {
            pieces.push(Piece { text: word.to_lowercase(), start: at, end: at + word.len(), line, kind: Kind::Word });
        }
        at += word.len() + 1;
    }
}

fn is_upper(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Joins what is written as `482 913`, `4829 1300` or `4 8 2 9 1 3`: nothing but one space or line between the groups,
/// and no further group of digits beside them.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut run: Vec<Piece> = Vec::new();
    for piece in pieces {
        let follows = run.last().is_none_or(|last| {
            last.text.len() == piece.text.len() && piece.start - last.end <= if piece.text.len() == 1 { 6 } else { 2 }
        });
        let digits = piece.kind == Kind::Group && is_digits(&piece.text) && matches!(piece.text.len(), 1 | 3 | 4);
        if !(digits && follows) {
            flush(&mut run, &mut out);
        }
        if digits { run.push(piece) } else { out.push(piece) }
    }
    flush(&mut run, &mut out);
    out
}

fn flush(run: &mut Vec<Piece>, out: &mut Vec<Piece>) {
    let each = run.first().map_or(0, |piece| piece.text.len());
    let one_line = run.first().map(|piece| piece.line) == run.last().map(|piece| piece.line);
    let joins = match each {
        1 => (4..=8).contains(&run.len()),
        3 | 4 => run.len() == 2 && one_line,
        _ => false,
    };
    // `020 7946 0958`, `4111 1111 1111 1111`: phones and cards have a group more.
    let more = out.last().zip(run.first()).is_some_and(|(before, first)| {
        each > 1 && before.kind == Kind::Group && is_digits(&before.text) && first.start - before.end <= 2
    });
    match (run.first(), run.last()) {
        (Some(first), Some(last)) if joins && !more => {
            let text = run.iter().map(|piece| piece.text.as_str()).collect();
            out.push(Piece { text, start: first.start, end: last.end, line: first.line, kind: Kind::Group });
            run.clear();
        }
        // Many groups in a row are no codes, not even one by one.
        _ if run.len() > 2 => run.clear(),
        _ => out.append(run),
    }
}

/// What one would type in, if a piece has the shape of a code.
fn code(piece: &Piece) -> Option<String> {
    if piece.kind != Kind::Group {
        return None;
    }
    let parts: Vec<&str> = piece.text.split('-').take(7).collect();
    let sized = |text: &str| (4..=10).contains(&text.len());
    match parts.as_slice() {
        [digits] if is_digits(digits) => sized(digits).then(|| (*digits).to_owned()),
        [mixed] => {
            let letters = mixed.bytes().filter(u8::is_ascii_alphabetic).count();
            // `1234th`, `H1234x`: a code in one piece is in capitals, or mixes its digits among small letters.
            (sized(mixed) && letters < mixed.len()).then(|| (*mixed).to_owned())
        }
        [prefix, digits] if prefix.len() <= 2 && !is_digits(prefix) && is_digits(digits) && sized(digits) => {
            Some((*digits).to_owned())
        }
        [left, right] if is_digits(left) && is_digits(right) => {
            (left.len() == right.len() && matches!(left.len(), 3 | 4)).then(|| format!("{left}{right}"))
        }
        [first, others @ ..] if others.len() < 6 => {
            let even = first.len() >= 3 && first.len() <= 6 && others.iter().all(|part| part.len() == first.len());
            let letters = parts.iter().any(|part| !is_digits(part));
            (even && letters && parts.iter().all(|part| is_upper(part))).then(|| piece.text.clone())
        }
        _ => None,
    }
}

fn hints(pieces: &[Piece]) -> Vec<Hint> {
    let mut before = "";
    let mut hints = Vec::with_capacity(pieces.len());
    for piece in pieces {
        hints.push(match piece.kind {
            Kind::Word => hint(&piece.text, before),
            Kind::Run => run_hint(&piece.text),
            Kind::Group => Hint::None,
        });
        before = &piece.text;
    }
    hints
}

/// How likely the candidate at `at` is a code; `None` if it is none.
fn score(text: &str, pieces: &[Piece], hints: &[Hint], at: usize) -> Option<i32> {
    let piece = pieces.get(at)?;
    let before = || pieces.iter().zip(hints).take(at).rev().take(24);
    if !stands_free(text, piece) {
        return None;
    }
    let next = pieces.get(at + 1).filter(|next| next.line == piece.line && next.start - piece.end <= 2);
    if next.is_some_and(|next| is_unit(&next.text.to_lowercase())) {
        return None;
    }
    if before().next().is_some_and(|(last, _)| last.end + 1 == piece.start && is_currency(&last.text)) {
        return None;
    }
    // The nearest hint on the line decides.
    let mut near = before().take_while(|(other, _)| other.line == piece.line).take(16).enumerate();
    let nearest = near.find(|(_, (_, hint))| **hint != Hint::None).map(|(words, (_, hint))| (words, *hint));
    if nearest.is_some_and(|(words, hint)| hint == Hint::Other && words < 3) {
        return None;
    }
    let first_on_line = before().next().is_none_or(|(other, _)| other.line < piece.line);
    let alone = first_on_line && pieces.get(at + 1).is_none_or(|next| next.line > piece.line);
    let direct = nearest.filter(|(_, hint)| *hint == Hint::Code).map(|(words, _)| words);
    let direct = direct.or_else(|| is_to_be_typed(pieces, at).then_some(1));
    let above = || before().any(|(other, hint)| *hint == Hint::Code && other.line + 3 > piece.line);
    let after = || {
        let following = pieces.iter().zip(hints).skip(at + 1).take(8).take_while(|(other, _)| other.line == piece.line);
        following.enumerate().find(|(_, (_, hint))| **hint == Hint::Code).map(|(words, _)| words)
    };
    let below = || pieces.iter().zip(hints).skip(at + 1).take(8).any(|(_, hint)| *hint == Hint::Code);
    let score = if let Some(words) = direct {
        300 - 10 * small(words)
    } else if let Some(words) = after() {
        260 - 10 * small(words)
    } else if alone && above() {
        280
    } else if (first_on_line && above()) || (alone && below()) {
        150
    } else {
        return None;
    };
    let bonus = shape(&piece.text, alone, direct)?;
    Some(score + bonus + if alone { 40 } else { 0 })
}

/// `Use 482913 to log in` names no code: a word for typing stands before it, one for getting in after it.
fn is_to_be_typed(pieces: &[Piece], at: usize) -> bool {
    let Some(piece) = pieces.get(at) else { return false };
    let same_line = |other: &&Piece| other.line == piece.line;
    let mut before = pieces.iter().take(at).rev().take_while(same_line).take(2);
    let mut after = pieces.iter().skip(at + 1).take_while(same_line).take(7);
    let leads = after.clone().next().is_some_and(|next| leads_to_entering(&next.text));
    leads && before.any(|other| is_typing(&other.text)) && after.any(|other| is_entering(&other.text))
}

fn small(words: usize) -> i32 {
    i32::try_from(words).unwrap_or(i32::MAX / 100)
}

/// What its shape adds; `None` where the shape needs a nearer word than there is.
fn shape(text: &str, alone: bool, direct: Option<usize>) -> Option<i32> {
    let near = alone || direct.is_some_and(|words| words <= 3);
    if is_digits(text) {
        let year = text.len() == 4 && (text.starts_with("19") || text.starts_with("20"));
        return match text.len() {
            4 if year => (alone || direct.is_some_and(|words| words <= 1)).then_some(-60),
            6 => Some(60),
            4..=8 => Some(20),
            _ => near.then_some(0),
        };
    }
    let lower = text.bytes().any(|byte| byte.is_ascii_lowercase());
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    match (lower, digits) {
        (false, true) => Some(30),
        _ => near.then_some(-20),
    }
}

/// Whether nothing beside it makes it part of a date, a time, an amount, an address or a colour.
fn stands_free(text: &str, piece: &Piece) -> bool {
    let mut before = text.get(..piece.start).unwrap_or_default().chars().rev();
    let mut after = text.get(piece.end..).unwrap_or_default().chars();
    let (left, lefter) = (before.next().unwrap_or(' '), before.next().unwrap_or(' '));
    let (right, righter) = (after.next().unwrap_or(' '), after.next().unwrap_or(' '));
    let currency = |c: char| matches!(c, '$' | '€' | '£' | '¥' | '￥' | '₩' | '₽' | '₹' | '%' | '₺' | '฿');
    let digit = |c: char| c.is_ascii_digit();
    let left_bound = match left {
        '#' | '+' | '/' | '\\' | '=' | '@' | '_' | '&' | '-' | '?' => true,
        '.' | ',' | ':' | '\'' => lefter.is_ascii_alphanumeric() && (left != ':' || digit(lefter)),
        ' ' | '\u{a0}' => currency(lefter) || lefter == '+' || lefter == '№',
        other => currency(other),
    };
    let right_bound = match right {
        '/' | '\\' | '=' | '@' | '_' | '&' | '%' => true,
        '.' | ',' | ':' | '\'' => righter.is_ascii_alphanumeric() && (right != ':' || digit(righter)),
        ' ' | '\u{a0}' => currency(righter),
        other => currency(other),
    };
    !left_bound && !right_bound
}

#[cfg(test)]
mod tests {
    use super::super::samples::{FOUND, NONE};
    use super::*;

    #[test]
    fn finds_what_is_to_be_typed_in() {
        for (text, expected) in FOUND {
            assert_eq!(codes(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn leaves_other_numbers_alone() {
        for text in NONE {
            assert_eq!(codes(text), Vec::<String>::new(), "{text:?}");
        }
    }

    #[test]
    fn the_likeliest_comes_first() {
        let text = "Security alert 5417\n\nYour verification code is 482913. Reply with code word 7788 otherwise.";
        assert_eq!(codes(text).first().map(String::as_str), Some("482913"));
        let many: String = (0..500).map(|n| format!("code {}\n", 100_000 + n)).collect();
        assert_eq!(codes(&many).len(), MAX_CODES);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(code|[0-9]{1,4}|[ \n\\-#.]|验证码|é|A1|.){0,60}") {
            for code in codes(&text) {
                proptest::prop_assert!((4..=41).contains(&code.len()), "{:?}", code);
            }
        }
    }
}
