//! Cuts html into tags and text (HTML 13.2.5), once from front to back.
//!
//! Comments, declarations and processing instructions are skipped. The content of `style`, `script`, `textarea` and
//! the like is one piece. What is not closed at the end is taken as far as it goes. Nothing is decoded.

/// A piece of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mail) enum Token<'a> {
    Text(&'a str),
    /// Names are in lower case.
    Start {
        name: String,
        attributes: Vec<(String, &'a str)>,
    },
    /// An element whose content is no markup, with that content.
    Raw {
        name: String,
        attributes: Vec<(String, &'a str)>,
        content: &'a str,
    },
    End {
        name: String,
    },
}

/// More attributes of one tag are ignored.
const MAX_ATTRIBUTES: usize = 64;

const RAW: &[&str] = &["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"];

/// The tokens of `html`, in order.
pub(in crate::mail) struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    pub(in crate::mail) const fn new(html: &'a str) -> Self {
        Self { rest: html }
    }

    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Skips to behind the next `end`, or all that is left.
    fn skip_past(&mut self, end: &str) {
        self.take(self.rest.find(end).map_or(self.rest.len(), |at| at + end.len()));
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
    }

    fn comment(&mut self) {
        self.take(4);
        if self.rest.starts_with('>') {
            self.take(1);
        } else if self.rest.starts_with("->") {
            self.take(2);
        } else {
            let bytes = self.rest.as_bytes();
            let length = (0..bytes.len()).find_map(|at| match bytes.get(at..)? {
                [b'-', b'-', b'>', ..] => Some(at + 3),
                [b'-', b'-', b'!', b'>', ..] => Some(at + 4),
                _ => None,
            });
            self.take(length.unwrap_or(bytes.len()));
        }
    }

    fn name(&mut self, ends: impl Fn(char) -> bool) -> String {
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        self.take(length).to_ascii_lowercase()
    }

    /// A tag from its name to its `>`.
    fn tag(&mut self) -> (String, Vec<(String, &'a str)>) {
        let name = self.name(|c| c.is_ascii_whitespace() || matches!(c, '/' | '>'));
        let mut attributes = Vec::new();
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if self.rest.is_empty() || self.rest.starts_with('>') {
                self.take(1);
                return (name, attributes);
            }
            let attribute = self.attribute();
            if attributes.len() < MAX_ATTRIBUTES {
                attributes.push(attribute);
            }
        }
    }

    fn attribute(&mut self) -> (String, &'a str) {
        // A leading `=` belongs to the name.
        let lead = if self.rest.starts_with('=') { self.take(1) } else { "" };
        let name = lead.to_owned() + &self.name(|c| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '='));
        self.skip_space();
        if !self.rest.starts_with('=') {
            return (name, "");
        }
        self.take(1);
        self.skip_space();
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                self.take(1);
                let value = self.take(self.rest.find(quote).unwrap_or(self.rest.len()));
                self.take(1);
                value
            }
            _ => self.take(self.rest.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(self.rest.len())),
        };
        (name, value)
    }

    /// The content up to `</name`, which stays.
    fn raw(&mut self, name: &str) -> &'a str {
        let end = self.rest.match_indices("</").map(|(at, _)| at).find(|at| {
            let after = self.rest.get(at + 2..).unwrap_or_default();
            let (named, next) = after.split_at_checked(name.len()).unwrap_or_default();
            named.eq_ignore_ascii_case(name)
                && next.starts_with(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>')
        });
        self.take(end.unwrap_or(self.rest.len()))
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let mut after = self.rest.chars().skip(1);
            let (first, second) = (after.next(), after.next());
            if self.rest.is_empty() {
                return None;
            }
            if !self.rest.starts_with('<') {
                return Some(Token::Text(self.take(self.rest.find('<').unwrap_or(self.rest.len()))));
            }
            match (first, second) {
                (Some(c), _) if c.is_ascii_alphabetic() => {
                    self.take(1);
                    let (name, attributes) = self.tag();
                    if !RAW.contains(&name.as_str()) {
                        return Some(Token::Start { name, attributes });
                    }
                    let content = self.raw(&name);
                    return Some(Token::Raw { name, attributes, content });
                }
                (Some('/'), Some(c)) if c.is_ascii_alphabetic() => {
                    self.take(2);
                    return Some(Token::End { name: self.tag().0 });
                }
                (Some('!'), _) if self.rest.starts_with("<!--") => self.comment(),
                (Some('!' | '?' | '/'), _) => self.skip_past(">"),
                _ => return Some(Token::Text(self.take(1))),
            }
        }
    }
}

/// Decodes the character references that addresses and short texts have: the numeric ones and the common names.
/// An unknown one stays as it is.
pub(in crate::mail) fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, reference) = rest.split_at_checked(at).unwrap_or((rest, ""));
        decoded.push_str(before);
        // The longest reference that means something here has 8 characters: `&#x1F600;` less its ampersand.
        let body = reference.get(1..).unwrap_or_default();
        let length = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(body.len());
        let name = body.get(..length).unwrap_or_default();
        let closed = body.get(length..).is_some_and(|after| after.starts_with(';'));
        match reference_char(name).filter(|_| closed || name.starts_with('#')) {
            Some(c) => {
                decoded.push(c);
                rest = body.get(length + usize::from(closed)..).unwrap_or_default();
            }
            None => {
                decoded.push('&');
                rest = body;
            }
        }
    }
    decoded + rest
}

fn reference_char(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| *c != '\0').or(Some('\u{fffd}'));
    }
    Some(match name {
        "amp" | "AMP" => '&',
        "lt" | "LT" => '<',
        "gt" | "GT" => '>',
        "quot" | "QUOT" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "colon" => ':',
        "sol" => '/',
        "period" => '.',
        "equals" => '=',
        "quest" => '?',
        "num" => '#',
        "lpar" => '(',
        "rpar" => ')',
        "Tab" => '\t',
        "NewLine" => '\n',
        "shy" => '\u{ad}',
        "copy" => '©',
        "reg" => '®',
        "hellip" => '…',
        "ndash" => '–',
        "mdash" => '—',
        "laquo" => '«',
        "raquo" => '»',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "rarr" => '→',
        "larr" => '←',
        "bull" => '•',
        "middot" => '·',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        "egrave" => 'è',
        "agrave" => 'à',
        "ccedil" => 'ç',
        "ntilde" => 'ñ',
        _ => return None,
    })
}
