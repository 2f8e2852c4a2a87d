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
        let mut last = '\0';
        for (at, c) in run.chars().enumerate() {
            if at > 0 {
                self.0.push(last);
                self.0.push(c);
                self.0.push(' ');
            }
            last = c;
        }
        self.0.push(last);
        self.0.push(' ');
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
    // One pass for the whole text; most words are pieces of it as they are.
    let lower = text.to_ascii_lowercase();
    let mut word = Word::default();
    let mut at = 0;
    while let Some(start) = next(&lower, at, in_chunk) {
        let end = next(&lower, start, |byte| !byte.is_ascii_alphanumeric()).unwrap_or(lower.len());
        if lower.as_bytes().get(end).is_none_or(u8::is_ascii) {
            sink.word(lower.get(start..end.min(start + MAX_WORD_BYTES)).unwrap_or_default());
            at = end + 1;
            continue;
        }
        at = next(&lower, end, |byte| !in_chunk(byte)).unwrap_or(lower.len());
        // Separators too, but their NFKC is another character: without them most chunks need no table.
        let wide = ['，', '：', '；', '！', '？', '（', '）', '\u{3000}'];
        let chunk = text.get(start..at).unwrap_or_default();
        chunk.split(wide).for_each(|piece| word.chunk(piece, sink));
    }
}

/// Where the first byte at or after `from` is that `wanted` wants.
#[inline]
fn next(text: &str, from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = from;
    while let Some(byte) = text.as_bytes().get(at) {
        if wanted(*byte) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// A chunk ends at each ASCII character that is in no word; the rest of Unicode is looked at within the chunk.
const fn in_chunk(byte: u8) -> bool {
    !byte.is_ascii() || byte.is_ascii_alphanumeric()
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
        if chunk.chars().all(is_plain) || is_nfkc_quick(chunk.chars()) == IsNormalized::Yes {
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

/// What stays as it is under NFKC wherever it stands, told without a table: most of what is written.
const fn is_plain(c: char) -> bool {
    c.is_ascii()
        || matches!(c, 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ' | 'А'..='я' | 'Ё' | 'ё' | '–' | '—' | '‘'..='”' | '•' | '€')
        || matches!(c, '、'..='。' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// The commonest letters without the tables.
const fn folded(c: char) -> Option<&'static str> {
    Some(match c {
        'À'..='Å' | 'à'..='å' => "a",
        'Ç' | 'ç' => "c",
        'È'..='Ë' | 'è'..='ë' => "e",
        'Ì'..='Ï' | 'ì'..='ï' => "i",
        'Ñ' | 'ñ' => "n",
        'Ò'..='Ö' | 'ò'..='ö' | 'Ø' | 'ø' => "o",
        'Ù'..='Ü' | 'ù'..='ü' => "u",
        'Ý' | 'ý' | 'ÿ' => "y",
        'Æ' | 'æ' => "ae",
        'ß' => "ss",
        'Ё' | 'ё' => "е",
        _ => return None,
    })
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ' | 'А'..='я' => Class::Letter,
        '\u{3041}'..='\u{3096}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => Class::Spaceless,
        '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{180e}' | '\u{640}' => Class::Ignored,
        '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' => Class::Symbol,
        _ if spaceless(c) => Class::Spaceless,
        _ if is_combining_mark(c) => Class::Mark,
        _ if c.is_alphanumeric() => Class::Letter,
        _ => Class::Other,
    }
}

/// Chinese, Japanese, Korean, and the scripts of South-East Asia that are written without spaces.
pub(in crate::mail) fn spaceless(c: char) -> bool {
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
    if let Some(folded) = folded(c) {
        word.push_str(folded);
        return;
    }
    if let 'а'..='и' | 'к'..='я' = c {
        word.push(c);
        return;
    }
    decompose_canonical(c, |part| fold_part(part, word));
}

/// Adds one character of a decomposition.
fn fold_part(part: char, word: &mut String) {
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
            'ß' => word.push_str("ss"),
            '\u{307}' => {}
            other => word.push(other),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenised(text: &str) -> String {
        let mut out = String::new();
        tokens(text, &mut Joined(&mut out));
        out.trim_end().to_owned()
    }

    #[test]
    fn cuts_and_folds() {
        for (text, expected) in [
            ("", ""),
            ("Hello, World!", "hello world"),
            ("bob.smith+tag@mail-x.example.com", "bob smith tag mail x example com"),
            ("a.b-c_d can't", "a b c d can t"),
            ("Café CAFÉ Cafe\u{301}", "cafe cafe cafe"),
            ("Straße STRASSE straẞe", "strasse strasse strasse"),
            ("ΣΊΣΥΦΟΣ σίσυφος", "σισυφοσ σισυφοσ"),
            ("Łódź Ørsted Đà Nẵng", "lodz orsted da nang"),
            ("İstanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul"),
            ("Ёлка ёлка мо́й", "елка елка мои\u{306}"),
            ("ＡＢＣ１２３ ﬁne ①", "abc123 fine 1"),
            ("東京都", "東京 京都 都"),
            ("東", "東"),
            ("手机iPhone手机", "手机 机 iphone 手机 机"),
            ("がく か\u{3099}く ｶﾞ", "がく く がく く ガ"),
            ("한국어", "한국 국어 어"),
            ("สวัสดี", "สว วั ัส สด ดี ี"),
            ("शक्ति", "शक्ति"),
            ("שָׁלוֹם", "שלום"),
            ("مُحَمَّد", "محمد"),
            ("Yay🎉🎉!", "yay 🎉 🎉"),
            ("co\u{ad}op\u{200d}er", "cooper"),
            ("a\0b\u{e000}c", "a b c"),
        ] {
            assert_eq!(tokenised(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bounds_words_and_text() {
        assert_eq!(tokenised(&"a".repeat(1_000)).len(), MAX_WORD_BYTES);
        assert!(tokenised(&"é".repeat(1_000)).len() <= MAX_WORD_BYTES);
        let long = "word ".repeat(MAX_TEXT_BYTES);
        assert_eq!(tokenised(&long).len(), MAX_TEXT_BYTES);
        assert!(!tokenised(&format!("{}é", "x".repeat(MAX_TEXT_BYTES - 1))).is_empty());
    }

    #[test]
    fn shortcuts_agree_with_the_tables() {
        for c in ('\0'..=char::MAX).filter(|c| is_plain(*c)) {
            assert!(c.nfkc().eq([c]), "{c:?} changes");
            // Nothing that may follow it joins with it unless the chunk is looked up.
            assert!(!is_combining_mark(c), "{c:?}");
        }
        for c in ('\u{80}'..=char::MAX).filter(|c| folded(*c).is_some() || matches!(c, 'а'..='и' | 'к'..='я')) {
            let mut short = String::new();
            fold(c, &mut short);
            // Marks by themselves go the long way.
            let mut long = String::new();
            c.nfd().for_each(|part| fold_part(part, &mut long));
            assert_eq!(short, long, "{c:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_token_is_whole_for_the_ascii_tokenizer(text: String) {
            for token in tokenised(&text).split(' ').filter(|token| !token.is_empty()) {
                let whole = token.chars().all(|c| !c.is_ascii() || c.is_ascii_digit() || c.is_ascii_lowercase());
                proptest::prop_assert!(whole && token.len() <= MAX_WORD_BYTES + 16, "{:?}", token);
            }
        }

        #[test]
        fn equivalent_texts_have_the_same_tokens(text: String) {
            proptest::prop_assert_eq!(tokenised(&text), tokenised(&text.nfd().collect::<String>()));
            proptest::prop_assert_eq!(tokenised(&text), tokenised(&text.nfkc().collect::<String>()));
        }
    }
}
