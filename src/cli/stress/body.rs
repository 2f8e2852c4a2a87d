//! Messages to send: what of their size is realistic text, and what no compressor shortens.
//!
//! A message is a head, which each connection owns and patches with a token for every message, and a body, which all share.
//! Both end in CRLF, are dot-stuffed and hold nothing that SMTP forbids.

use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

/// What messages are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BodyKind {
    /// Sentences and html, which compress to about 40 %, as real mail does
    Text,
    /// 8-bit noise, which does not compress
    Random,
    /// Half text, half a base64 attachment
    Mixed,
}

/// Hex digits of a token.
pub const TOKEN: usize = 16;

/// Stands before the token in the subject, so that a frame can be searched for it.
pub const MARK: &str = "stress-token-";

const BOUNDARY: &str = "=_mailroom_stress_boundary";

/// Longer than what most mailers write, and within the 998 of RFC 5322 §2.1.1.
const NOISE_LINE: usize = 900;

const WORDS: &[&str] = &[
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "for",
    "was",
    "on",
    "are",
    "as",
    "with",
    "your",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "order",
    "by",
    "not",
    "but",
    "what",
    "all",
    "were",
    "we",
    "when",
    "can",
    "there",
    "an",
    "each",
    "which",
    "their",
    "if",
    "will",
    "account",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
    "so",
    "these",
    "would",
    "other",
    "into",
    "has",
    "more",
    "her",
    "two",
    "like",
    "him",
    "see",
    "time",
    "could",
    "no",
    "make",
    "than",
    "first",
    "been",
    "its",
    "who",
    "now",
    "people",
    "my",
    "made",
    "over",
    "did",
    "down",
    "only",
    "way",
    "find",
    "use",
    "may",
    "water",
    "long",
    "little",
    "very",
    "after",
    "words",
    "called",
    "just",
    "where",
    "most",
    "know",
    "delivery",
    "invoice",
    "Thursday",
    "confirm",
    "password",
    "reset",
    "address",
    "shipping",
    "customer",
    "service",
    "meeting",
    "schedule",
    "attached",
    "document",
    "please",
    "regards",
    "thanks",
    "reply",
    "forward",
    "project",
    "deadline",
    "review",
    "comments",
    "team",
    "update",
    "release",
    "version",
    "server",
    "report",
    "quarter",
    "budget",
    "numbers",
    "weather",
    "holiday",
    "travel",
    "booking",
    "reference",
    "number",
    "payment",
    "received",
    "balance",
    "statement",
    "subscription",
    "newsletter",
    "unsubscribe",
    "privacy",
    "policy",
    "terms",
    "conditions",
];

/// A message before its token is set.
#[derive(Clone, Debug)]
pub struct Draft {
    head: Vec<u8>,
    /// Where tokens stand in the head.
    tokens: Vec<usize>,
    body: Rc<[u8]>,
}

impl Draft {
    /// A message of about `size` bytes in all. `seed` makes different ones.
    pub fn new(kind: BodyKind, size: usize, domain: &str, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let content_type = match kind {
            BodyKind::Text => "text/plain; charset=utf-8".to_owned(),
            BodyKind::Random => "application/octet-stream".to_owned(),
            BodyKind::Mixed => format!("multipart/mixed; boundary=\"{BOUNDARY}\""),
        };
        let encoding = if kind == BodyKind::Random { "8bit" } else { "7bit" };
        let blank = "0".repeat(TOKEN);
        let head = format!(
            "From: Stress Test <stress@{domain}>\r\nTo: Someone <someone@{domain}>\r\nSubject: {MARK}{blank}\r\n\
             Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{blank}@{domain}>\r\nMIME-Version: 1.0\r\n\
             Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        );
        let tokens = head.match_indices(&blank).map(|(at, _)| at).collect();
        let room = size.saturating_sub(head.len()).max(2);
        let body = match kind {
            BodyKind::Text => text(room, &mut random),
            BodyKind::Random => noise(room, &mut random),
            BodyKind::Mixed => mixed(room, &mut random),
        };
        Self { head: head.into_bytes(), tokens, body: body.into() }
    }

    /// Gives the message its token: 16 hex digits of `number`, in the subject and the message id.
    pub fn set_token(&mut self, number: u64) {
        let digits = token(number);
        for at in &self.tokens {
            if let Some(place) = self.head.get_mut(*at..at + TOKEN) {
                place.copy_from_slice(digits.as_bytes());
            }
        }
    }

    /// Header block with its empty line.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Everything after it; ends in CRLF.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// The digits of a token.
pub fn token(number: u64) -> String {
    format!("{number:016x}")
}

/// Common words more often than rare ones, as in a language; a third of it marked up.
fn text(size: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 128);
    while out.len() + 2 < size {
        let start = out.len();
        let marked_up = random.random_ratio(1, 3);
        if marked_up {
            out.extend_from_slice(b"<p style=\"margin:0 0 12px;font-size:14px\">");
        }
        while out.len() - start < 72 && out.len() + 2 < size {
            out.extend_from_slice(word(random).as_bytes());
            match random.random_range(0..40) {
                0 => out.extend_from_slice(format!(" {}", random.random_range(10..99_999)).as_bytes()),
                1..=3 => out.extend_from_slice(b", "),
                4..=6 => out.extend_from_slice(b". "),
                _ => out.push(b' '),
            }
        }
        if marked_up {
            out.extend_from_slice(b"</p>");
        }
        out.extend_from_slice(b"\r\n");
    }
    cut(out, size)
}

fn word(random: &mut SmallRng) -> &'static str {
    let skewed = random.random::<f64>().powi(2);
    let index = (skewed * WORDS.len() as f64) as usize;
    WORDS.get(index).copied().unwrap_or("the")
}

/// Every byte but NUL, CR and LF, and no dot at the beginning of a line.
fn noise(size: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut out = vec![0; size];
    random.fill_bytes(&mut out);
    for byte in &mut out {
        if matches!(*byte, 0 | b'\r' | b'\n' | b'.') {
            *byte = 0xa5;
        }
    }
    for line in out.chunks_mut(NOISE_LINE) {
        if let Some(end) = line.last_chunk_mut::<2>() {
            *end = *b"\r\n";
        }
    }
    cut(out, size)
}

fn mixed(size: usize, random: &mut SmallRng) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("--{BOUNDARY}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n").into_bytes();
    out.extend(text(size / 2, random));
    out.extend_from_slice(
        format!(
            "\r\n--{BOUNDARY}\r\nContent-Type: application/pdf; name=\"invoice.pdf\"\r\n\
             Content-Disposition: attachment; filename=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        )
        .as_bytes(),
    );
    let end = format!("--{BOUNDARY}--\r\n");
    while out.len() + 78 + end.len() < size {
        out.extend((0..76).map(|_| ALPHABET.get(random.random_range(0..64)).copied().unwrap_or(b'A')));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(end.as_bytes());
    out
}

/// Shortened to `size`, with CRLF at its end and nowhere a lone CR or LF.
fn cut(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    bytes.truncate(size.saturating_sub(2));
    while bytes.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        bytes.pop();
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(draft: &Draft) -> Vec<u8> {
        [draft.head(), draft.body()].concat()
    }

    #[test]
    fn every_kind_is_of_the_size_asked_for_and_fit_for_smtp() {
        for kind in [BodyKind::Text, BodyKind::Random, BodyKind::Mixed] {
            for size in [1_000, 10_240, 100_000] {
                let draft = Draft::new(kind, size, "mailroom.test", 7);
                let bytes = whole(&draft);
                assert!(bytes.len().abs_diff(size) <= 160, "{kind:?} {size}: {}", bytes.len());
                assert!(bytes.ends_with(b"\r\n"));
                for line in bytes.split(|byte| *byte == b'\n') {
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    assert!(line.len() <= 998 && !line.starts_with(b"."), "{kind:?}");
                    assert!(!line.contains(&b'\r') && !line.contains(&0), "{kind:?}");
                }
                let ends = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
                assert_eq!(ends, bytes.iter().filter(|byte| **byte == b'\n').count(), "{kind:?}");
            }
        }
    }

    #[test]
    fn text_compresses_as_mail_does_and_noise_does_not() {
        let ratio = |kind| {
            let draft = Draft::new(kind, 10_240, "mailroom.test", 3);
            let bytes = whole(&draft);
            zstd::bulk::compress(&bytes, 1).unwrap().len() as f64 / bytes.len() as f64
        };
        let (text, random, mixed) = (ratio(BodyKind::Text), ratio(BodyKind::Random), ratio(BodyKind::Mixed));
        assert!((0.3..0.5).contains(&text), "{text}");
        assert!(random > 0.97, "{random}");
        assert!((0.5..0.75).contains(&mixed), "{mixed}");
    }

    #[test]
    fn a_token_changes_subject_and_message_id_alone() {
        let mut draft = Draft::new(BodyKind::Text, 2_000, "mailroom.test", 1);
        draft.set_token(0xbeef);
        let head = String::from_utf8(draft.head().to_vec()).unwrap();
        assert!(head.contains("Subject: stress-token-000000000000beef\r\n"), "{head}");
        assert!(head.contains("Message-ID: <000000000000beef@"), "{head}");
        draft.set_token(1);
        assert_eq!(head.len(), draft.head().len());
    }
}
