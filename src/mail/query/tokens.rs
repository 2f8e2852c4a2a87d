//! The words of a text, for the index and for queries alike.
//!
//! A word is a run of letters, digits and their marks, whatever stands between (`a.b-c_d` is four words, so an
//! address is found as a phrase). Compatibility forms are unified (NFKC), case is folded, and the accents of
//! alphabets are taken off (`É` is `e`, `ß` is `ss`), while those that make another letter (`が`, `й`) stay.
//! Scripts written without spaces are cut into pairs: 東京都 is 東京 京都 都. The last character stands alone so that
//! every character begins a token, and one character is found as how a token begins. An emoji is a word.

use unicode_normalization::char::{decompose_canonical, is_combining_mark};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// How much of a text is searched; the rest is left out.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// Longer words are cut here, in the index and in queries; a SHA-256 in hexadecimal just fits.
const MAX_WORD_BYTES: usize = 64;

/// Stands between two parties of one column, so that no phrase reaches over both. No text makes this token.
pub(super) const SEPARATOR: &str = "\u{e000}";

/// Where tokens go.
pub(super) trait Sink {
    /// A word, or a symbol; never empty.
    fn word(&mut self, word: &str);
    /// A run of a script without spaces; never empty.
    fn run(&mut self, run: &str);
}

/// Tokens as the index takes them: each with a space after it.
pub(super) struct Joined<'a>(pub &'a mut String);

impl Sink for Joined<'_> {
    fn word(&mut self, word: &str) {
        self.0.push_str(word);
        self.0.push(' ');
    }

    fn run(&mut self, run: &str) {
        let ends = run.char_indices().map(|(at, _)| at).skip(2).chain([run.len(), run.len()]);
        // With one character, the first end is already the end of the run, and there is one start.
        let ends = ends.skip(usize::from(run.chars().nth(1).is_none()));
        for ((start, _), end) in run.char_indices().zip(ends) {
            self.word(run.get(start..end).unwrap_or_default());
        }
    }
}

/// The tokens of a phrase in a query.
#[derive(Default)]
pub(super) struct Phrased {
    pub tokens: Vec<String>,
    /// The last token is one character of a longer run: to be found as how a token begins.
    pub open: bool,
    /// The pairs of the last run are in `tokens`; its last character is needed if something follows.
    pending: Option<char>,
}

impl Phrased {
    fn close_run(&mut self) {
        self.open = false;
        if let Some(last) = self.pending.take() {
            self.tokens.push(last.to_string());
        }
    }
}

impl Sink for Phrased {
    fn word(&mut self, word: &str) {
        self.close_run();
        self.tokens.push(word.to_owned());
    }

    fn run(&mut self, run: &str) {
        self.close_run();
        let chars: Vec<char> = run.chars().collect();
        self.tokens.extend(chars.windows(2).map(|pair| pair.iter().collect::<String>()));
        if chars.len() == 1 {
            self.tokens.push(run.to_owned());
            self.open = true;
        } else {
            self.pending = chars.last().copied();
        }
    }
}

/// Gives the tokens of the first [`MAX_TEXT_BYTES`] of `text` to `sink`, in order.
pub(super) fn tokens(text: &str, sink: &mut impl Sink) {
    let text = text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text);
    let bytes = text.as_bytes();
    let mut word = Word::default();
    let mut at = 0;
    while let Some(start) = bytes.iter().skip(at).position(|byte| in_chunk(*byte)).map(|skipped| at + skipped) {
        let rest = bytes.iter().skip(start);
        let end = rest.clone().position(|byte| !in_chunk(*byte)).map_or(bytes.len(), |length| start + length);
        let chunk = text.get(start..end).unwrap_or_default();
        if chunk.is_ascii() {
            word.ascii(chunk);
            word.end(sink);
        } else {
            word.chunk(chunk, sink);
        }
        at = end;
    }
}

/// A chunk ends at each ASCII character that is in no word; the rest of Unicode is looked at within the chunk.
const fn in_chunk(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// The word and the run that are being read; at most one of them is not empty.
#[derive(Default)]
struct Word {
    word: String,
    run: String,
}

/// What a character does to the words around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    /// Belongs to the letter before it, separates nothing.
    Mark,
    /// Of a script without spaces.
    Spaceless,
    /// A word by itself.
    Symbol,
    /// Invisible: as if it were not there.
    Ignored,
    Other,
}

impl Word {
    fn ascii(&mut self, word: &str) {
        self.word.push_str(word.get(..MAX_WORD_BYTES).unwrap_or(word));
        self.word.make_ascii_lowercase();
    }

    /// Ends what is being read.
    fn end(&mut self, sink: &mut impl Sink) {
        if !self.word.is_empty() {
            sink.word(&self.word);
            self.word.clear();
        }
        if !self.run.is_empty() {
            sink.run(&self.run);
            self.run.clear();
        }
    }

    fn chunk(&mut self, chunk: &str, sink: &mut impl Sink) {
        if is_nfkc_quick(chunk.chars()) == IsNormalized::Yes {
            chunk.chars().for_each(|c| self.char(c, sink));
        } else {
            chunk.nfkc().for_each(|c| self.char(c, sink));
        }
        self.end(sink);
    }

    fn char(&mut self, c: char, sink: &mut impl Sink) {
        match class(c) {
            Class::Letter => {
                if !self.run.is_empty() {
                    self.end(sink);
                }
                fold(c, &mut self.word);
            }
            Class::Mark if !self.word.is_empty() => fold(c, &mut self.word),
            Class::Spaceless => {
                if !self.word.is_empty() {
                    self.end(sink);
                }
                self.run.push(c);
            }
            Class::Symbol => {
                self.end(sink);
                let mut buffer = [0; 4];
                sink.word(c.encode_utf8(&mut buffer));
            }
            Class::Mark | Class::Ignored => {}
            Class::Other => self.end(sink),
        }
    }
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Class::Letter,
        '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{180e}' | '\u{640}' => Class::Ignored,
        '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' => Class::Symbol,
        _ if spaceless(c) => Class::Spaceless,
        _ if is_combining_mark(c) => Class::Mark,
        _ if c.is_alphanumeric() => Class::Letter,
        _ => Class::Other,
    }
}

/// Chinese, Japanese, Korean, and the scripts of South-East Asia that are written without spaces.
fn spaceless(c: char) -> bool {
    let script = matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3029}' | '\u{3041}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}' | '\u{1b000}'..='\u{1b16f}' | '\u{20000}'..='\u{3ffff}');
    script && (c.is_alphanumeric() || is_combining_mark(c))
}

/// Adds one letter or mark in lower case without its accents.
fn fold(c: char, word: &mut String) {
    if word.len() >= MAX_WORD_BYTES {
        return;
    }
    if c.is_ascii() {
        word.push(c.to_ascii_lowercase());
        return;
    }
    decompose_canonical(c, |part| {
        if accent(part, word.chars().next_back()) {
            return;
        }
        // Upper case first: it is what unites ß with ss, ς with σ, ı with i.
        for lower in part.to_uppercase().flat_map(char::to_lowercase) {
            match lower {
                'ł' => word.push('l'),
                'ø' => word.push('o'),
                'đ' => word.push('d'),
                'æ' => word.push_str("ae"),
                'œ' => word.push_str("oe"),
                '\u{307}' => {}
                other => word.push(other),
            }
        }
    });
}

/// Whether a mark only decorates the letter before it: Latin and Greek accents, the stress and ё of Cyrillic, the
/// points of Hebrew and Arabic.
fn accent(mark: char, base: Option<char>) -> bool {
    match mark {
        '\u{300}' | '\u{301}' => true,
        '\u{308}' if base == Some('е') => true,
        '\u{302}'..='\u{36f}' => !matches!(base, Some('\u{400}'..='\u{52f}')),
        '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}' => true,
        '\u{64b}'..='\u{65f}' | '\u{670}' => true,
        _ => false,
    }
}
