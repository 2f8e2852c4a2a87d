//! The different words of a text, each about once: what the index stores, which keeps no places.
//!
//! [`Seen`] is a table of fixed size without chains: of two words that want the same place the later one stays, and the
//! other may be written again. That costs a few bytes and is why no text makes it slow.

use super::tokens::{Sink, tokens};

/// Places; a power of two. A letter has some hundred different words.
const PLACES: usize = 4_096;

/// Where the words of the present text are. Made once and used for many texts.
#[derive(Debug)]
pub struct Seen {
    places: Vec<Place>,
    /// Which text is read; a place of another one is free.
    text: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    text: u32,
    length: u32,
    /// The word itself up to 16 bytes, the beginning and the end of a longer one.
    ends: (u64, u64),
    /// Where a longer one begins.
    start: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { places: vec![Place::default(); PLACES], text: 0 }
    }
}

impl Seen {
    /// The words of `text`, each followed by a space, in the order in which they come first.
    pub(super) fn words<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) -> String {
        self.text = self.text.checked_add(1).unwrap_or_else(|| {
            self.places.fill(Place::default());
            1
        });
        let mut distinct = Distinct { seen: self, words: String::new() };
        for text in texts {
            distinct.words.reserve(text.len() / 8);
            tokens(text, &mut distinct);
        }
        distinct.words
    }

    /// Whether `word` was met before in this text; from now on it was.
    fn meets(&mut self, word: &str, words: &str) -> bool {
        let ends = ends(word.as_bytes());
        let Ok(length) = u32::try_from(word.len()) else { return false };
        let first = place(ends, length);
        let mut free = first;
        for at in [first, first ^ 1] {
            let Some(place) = self.places.get(at) else { continue };
            if place.text != self.text {
                free = at;
                break;
            }
            let alike = place.length == length && place.ends == ends;
            if alike && (word.len() <= 16 || words.get(place.start..place.start + word.len()) == Some(word)) {
                return true;
            }
        }
        if let Some(place) = self.places.get_mut(free) {
            *place = Place { text: self.text, length, ends, start: words.len() };
        }
        false
    }
}

struct Distinct<'a> {
    seen: &'a mut Seen,
    words: String,
}

impl Sink for Distinct<'_> {
    fn word(&mut self, word: &str) {
        if !self.seen.meets(word, &self.words) {
            self.words.push_str(word);
            self.words.push(' ');
        }
    }

    fn run(&mut self, run: &str) {
        let mut chars = run.char_indices().map(|(at, c)| (at, at + c.len_utf8())).peekable();
        while let Some((start, end)) = chars.next() {
            let end = chars.peek().map_or(end, |(_, end)| *end);
            self.word(run.get(start..end).unwrap_or_default());
        }
    }
}

/// The first and the last bytes of a word. With its length they are the whole of one up to 16 bytes.
fn ends(word: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        return (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
    }
    let byte = |at: usize| word.get(at).map_or(0, |byte| u64::from(*byte));
    (byte(0) | (byte(1) << 8) | (byte(2) << 16), 0)
}

/// Spreads words; nothing rests on it.
fn place((first, last): (u64, u64), length: u32) -> usize {
    const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];
    let wide = u128::from(first ^ KEYS[0] ^ u64::from(length)) * u128::from(last ^ KEYS[1]);
    ((wide >> 64) ^ wide) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::tokens::Joined;
    use super::*;

    fn set(words: &str) -> HashSet<&str> {
        words.split_terminator(' ').collect()
    }

    #[test]
    fn each_word_once_in_the_order_of_the_text() {
        let mut seen = Seen::default();
        assert_eq!(seen.words(["b a B, a 東京都 b", "c 東京 a"]), "b a 東京 京都 都 c 京 ");
        assert_eq!(seen.words(["a b"]), "a b ");
        assert_eq!(seen.words([""]), "");
    }

    #[test]
    fn words_that_differ_anywhere_are_different() {
        for length in 1..=64 {
            let word = "a".repeat(length);
            let text: String = (0..length).map(|at| format!("{word} {}b{} ", &word[..at], &word[at + 1..])).collect();
            let words = Seen::default().words([text.as_str()]);
            assert_eq!(set(&words).len(), length + 1, "{length}");
        }
    }

    #[test]
    fn a_text_of_many_words_is_whole_and_hardly_repeated() {
        let text: String = (0..20_000).map(|n| format!("w{} ", n % 2_000)).collect();
        let words = Seen::default().words([text.as_str()]);
        assert_eq!(set(&words).len(), 2_000);
        assert!(words.split_terminator(' ').count() < 5_000);
    }

    proptest! {
        #[test]
        fn the_words_are_those_that_matches_sees(texts in prop::collection::vec("[a-cA-C東京都é .]{0,40}", 1..4)) {
            let mut joined = String::new();
            texts.iter().for_each(|text| tokens(text, &mut Joined(&mut joined)));
            let mut seen = Seen::default();
            let _ = seen.words(["a b c"]);
            let words = seen.words(texts.iter().map(String::as_str));
            prop_assert_eq!(set(&words), set(&joined));
        }
    }
}
