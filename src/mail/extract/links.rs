//! The links of a message in page order: anchors of its html with their visible text, and addresses in plain text.
//! Linear in the size of the message.

use std::collections::HashMap;

use serde::Serialize;

use crate::mail::html::scan::{Scan, Token, decode};
use crate::mail::html::url::{after_scheme, bare};
use crate::mail::query::spaceless;

/// More links of one message are left out.
pub const MAX_LINKS: usize = 1_000;

/// A longer address is no link.
const MAX_URL_BYTES: usize = 8 * 1024;

/// How much of an anchor's text is kept.
const MAX_TEXT_CHARS: usize = 300;

/// An `http` or `https` address in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Link {
    /// As it was written, with character references decoded.
    pub url: String,
    /// What a reader sees in its place: the anchor's text or its image's, or the address itself.
    pub text: String,
}

/// Finds the links of a message, each once, at most [`MAX_LINKS`]: first those of its html, then those that only its
/// text has.
#[must_use]
pub fn links(text: Option<&str>, html: Option<&str>) -> Vec<Link> {
    let mut found = Found::default();
    if let Some(html) = html {
        in_html(html, &mut found);
    }
    if let Some(text) = text {
        in_text(text, &mut found);
    }
    found.links
}

#[derive(Default)]
struct Found {
    links: Vec<Link>,
    places: HashMap<String, usize>,
}

impl Found {
    fn is_full(&self) -> bool {
        self.links.len() >= MAX_LINKS
    }

    /// Takes a link; a text takes the place of the address that stood in for one.
    fn add(&mut self, url: &str, text: &str) {
        if let Some(link) = self.places.get(url).and_then(|at| self.links.get_mut(*at)) {
            if link.text == link.url && !text.is_empty() {
                text.clone_into(&mut link.text);
            }
        } else if !self.is_full() {
            self.places.insert(url.to_owned(), self.links.len());
            let text = if text.is_empty() { url } else { text };
            self.links.push(Link { url: url.to_owned(), text: text.to_owned() });
        }
    }
}

/// An anchor that is being read.
struct Anchor {
    url: String,
    /// With single spaces.
    text: String,
    chars: usize,
    /// The first alternative text of an image in it.
    image: String,
}

impl Anchor {
    fn read(&mut self, text: &str) {
        if self.chars >= MAX_TEXT_CHARS {
            return;
        }
        if text.starts_with(char::is_whitespace) {
            self.space();
        }
        for (at, word) in text.split_whitespace().enumerate() {
            if at > 0 {
                self.space();
            }
            for c in word.chars().take(MAX_TEXT_CHARS.saturating_sub(self.chars)) {
                self.text.push(c);
                self.chars += 1;
            }
        }
        if text.ends_with(char::is_whitespace) {
            self.space();
        }
    }

    fn space(&mut self) {
        if self.chars < MAX_TEXT_CHARS && !self.text.is_empty() && !self.text.ends_with(' ') {
            self.text.push(' ');
            self.chars += 1;
        }
    }

    fn end(self, found: &mut Found) {
        let text = self.text.trim();
        found.add(&self.url, if text.is_empty() { &self.image } else { text });
    }
}

fn in_html(html: &str, found: &mut Found) {
    let mut open: Option<Anchor> = None;
    for token in Scan::new(html) {
        match token {
            Token::Start { name, attributes } if name == "a" || name == "area" => {
                if let Some(anchor) = open.take() {
                    anchor.end(found);
                }
                if found.is_full() {
                    return;
                }
                let value = |wanted| attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| decode(value));
                let Some(url) = value("href").and_then(|href| web(&bare(&href))) else { continue };
                let image = value("alt").unwrap_or_default();
                let anchor = Anchor { url, text: String::new(), chars: 0, image };
                if name == "a" { open = Some(anchor) } else { anchor.end(found) }
            }
            Token::Start { name, attributes } => {
                let Some(anchor) = &mut open else { continue };
                let alt = attributes.iter().find(|(name, _)| name == "alt");
                if let (true, true, Some((_, alt))) = (name == "img", anchor.image.is_empty(), alt) {
                    anchor.image = decode(alt).split_whitespace().collect::<Vec<_>>().join(" ");
                    anchor.image.truncate(anchor.image.floor_char_boundary(MAX_TEXT_CHARS));
                } else if matches!(name.as_str(), "br" | "div" | "p" | "td" | "tr" | "li") {
                    anchor.space();
                }
            }
            Token::End { name } if name == "a" => {
                if let Some(anchor) = open.take() {
                    anchor.end(found);
                }
            }
            Token::Text(text) => match &mut open {
                Some(anchor) => anchor.read(&decode(text)),
                None => in_text(&decode(text), found),
            },
            Token::Raw { .. } | Token::End { .. } => {}
        }
    }
    if let Some(anchor) = open {
        anchor.end(found);
    }
}

fn in_text(text: &str, found: &mut Found) {
    let mut rest = text;
    while let Some(colon) = rest.find("://") {
        if found.is_full() {
            return;
        }
        let start = ["https", "http"].iter().find_map(|scheme| {
            let start = colon.checked_sub(scheme.len())?;
            rest.get(start..colon)?.eq_ignore_ascii_case(scheme).then_some(start)
        });
        let before = rest;
        let after = rest.get(colon + 3..).unwrap_or_default();
        rest = after;
        let Some(start) = start else { continue };
        let length = after.find(|c| !in_url(c)).unwrap_or(after.len());
        let url = trimmed(before.get(start..colon + 3 + length).unwrap_or_default());
        if let Some(url) = web(url) {
            found.add(&url, "");
        }
        // What an address holds (`?next=https://…`) is part of it.
        rest = after.get(length..).unwrap_or_default();
    }
}

/// The address, if it is one of the web with a host.
fn web(url: &str) -> Option<String> {
    let host = after_scheme(url, "http://").or_else(|| after_scheme(url, "https://"))?;
    let named = host.starts_with(|c: char| c.is_alphanumeric() || c == '[');
    (named && url.len() <= MAX_URL_BYTES).then(|| url.to_owned())
}

fn in_url(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '`' | '\\' | '{' | '}' | '|' | '^')
    } else {
        // Addresses in Chinese or Japanese sentences end where the sentence goes on.
        c.is_alphanumeric() && !spaceless(c)
    }
}

/// Without the punctuation of the sentence around it; brackets stay if they were opened within.
fn trimmed(url: &str) -> &str {
    let count = |c: char| url.chars().filter(|x| *x == c).count();
    // How many brackets at the end close nothing.
    let (mut round, mut square) = (count(')').saturating_sub(count('(')), count(']').saturating_sub(count('[')));
    url.trim_end_matches(|c| match c {
        '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '*' | '_' | '~' => true,
        ')' if round > 0 => {
            round -= 1;
            true
        }
        ']' if square > 0 => {
            square -= 1;
            true
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: Option<&str>, html: Option<&str>) -> Vec<(String, String)> {
        links(text, html).into_iter().map(|link| (link.url, link.text)).collect()
    }

    #[test]
    fn finds_addresses_in_text() {
        for (text, expected) in [
            ("See https://a.example/x.", "https://a.example/x"),
            ("(see http://a.example/x_(y))", "http://a.example/x_(y)"),
            ("<https://a.example/?a=1&b=2#c>", "https://a.example/?a=1&b=2#c"),
            ("\"HTTPS://A.example\"!", "HTTPS://A.example"),
            ("点击https://a.example/abc完成验证。", "https://a.example/abc"),
            ("https://a.example/, or not", "https://a.example/"),
            ("https://bücher.example/ü?", "https://bücher.example/ü"),
            ("https://a.example/?next=https://b.example/", "https://a.example/?next=https://b.example/"),
            ("[link](https://a.example/x)", "https://a.example/x"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://127.0.0.1:3000/reset?t=a-b_c~d", "http://127.0.0.1:3000/reset?t=a-b_c~d"),
        ] {
            assert_eq!(pairs(Some(text), None), [(expected.to_owned(), expected.to_owned())], "{text:?}");
        }
        for text in ["", "ftp://a.example", "http://", "https:// a", "javascript://a", "xhttp//a", "://", "mailto:a@b"]
        {
            assert_eq!(pairs(Some(text), None), [], "{text:?}");
        }
    }

    #[test]
    fn finds_anchors_with_what_a_reader_sees() {
        let html = "<style>a{b:url(https://no.example)}</style><!-- <a href=https://no.example>x</a> -->\
            <a href=\" https://a.example/?a=1&amp;b=2\n\">Press  <b>here</b>\n&amp; now</a> \
            <a href='https://b.example'><img src=x alt='Our shop'></a><a href=https://c.example></a>\
            <a href=mailto:x@y>mail</a><a href=javascript:x()>x</a><a>y</a> or https://d.example/x&amp;y. \
            <a href=https://a.example/?a=1&b=2>again</a><area href=https://e.example alt=E>";
        let expected = [
            ("https://a.example/?a=1&b=2", "Press here & now"),
            ("https://b.example", "Our shop"),
            ("https://c.example", "https://c.example"),
            ("https://d.example/x&y", "https://d.example/x&y"),
            ("https://e.example", "E"),
            ("https://f.example", "https://f.example"),
        ];
        let found = pairs(Some("https://b.example https://f.example"), Some(html));
        assert_eq!(found, expected.map(|(url, text)| (url.to_owned(), text.to_owned())));
    }

    #[test]
    fn bounds_what_it_finds() {
        let html: String =
            (0..5_000).map(|n| format!("<a href=https://a.example/{n}>{}</a>", "x".repeat(400))).collect();
        let found = links(None, Some(&html));
        assert_eq!(found.len(), MAX_LINKS);
        assert!(found.iter().all(|link| link.text.len() <= MAX_TEXT_CHARS));
        assert_eq!(links(Some(&format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES))), None), []);
    }

    #[test]
    fn takes_linear_time() {
        for repeated in ["http://", "://", "https://a/(", "<a href=http://x>", "<a href=\"", "<a>x", "&", "http://a "] {
            let text = repeated.repeat(1024 * 1024 / repeated.len());
            let started = std::time::Instant::now();
            assert!(links(Some(&text), Some(&text)).len() <= MAX_LINKS);
            assert!(started.elapsed() < std::time::Duration::from_secs(10), "{repeated:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn finds_only_addresses_of_the_web(html in "(<a href=|https?://|[\"'>< &;]|&amp;|</a>|x|é|.){0,60}") {
            for link in links(Some(&html), Some(&html)) {
                proptest::prop_assert!(web(&link.url).is_some() && !link.text.is_empty());
            }
        }
    }
}
