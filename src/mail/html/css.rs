//! Cleans style sheets and style attributes: one pass that reads CSS as CSS Syntax 3 does and writes it anew, so that
//! an escape or a comment hides nothing.
//!
//! `@import`, `@namespace`, `@charset` and `@font-face` go, addresses go through [`super::url`], and functions and
//! properties that run code or fetch by a string get a name that means nothing. The result has no `<`.

use std::fmt::Write as _;

use super::HtmlContext;
use super::url::{Resource, resource};

/// Stands for a name that may not stay: declarations with it are invalid and ignored.
const BLOCKED: &str = "x-blocked";

/// Cleans `css` and adds it to `out`; sets `remote` if it refers to something elsewhere.
pub(super) fn clean(css: &str, context: &HtmlContext<'_>, out: &mut String, remote: &mut bool) {
    let mut cleaner = Cleaner { rest: css, context, out, remote };
    while cleaner.step() {}
}

struct Cleaner<'a, 'b> {
    rest: &'a str,
    context: &'b HtmlContext<'b>,
    out: &'b mut String,
    remote: &'b mut bool,
}

impl Cleaner<'_, '_> {
    /// One token; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        match first {
            '/' if self.rest.starts_with("/*") => {
                self.skip_comment();
                self.out.push(' ');
            }
            '"' | '\'' => {
                let text = self.string();
                self.write_string(&text);
            }
            '@' => self.at_rule(),
            // A lone `<`, and the comment marks of html, which style sheets ignore.
            '<' => {
                let length = if self.rest.starts_with("<!--") { 4 } else { 1 };
                self.skip(length);
            }
            '-' if self.rest.starts_with("-->") => self.skip(3),
            '\\' if self.rest.get(1..).is_none_or(|after| after.is_empty() || after.starts_with(['\n', '\r'])) => {
                self.skip(1);
            }
            _ if in_name(first) || first == '\\' => self.named(),
            '\0' => self.skip(1),
            other => {
                self.out.push(other);
                self.skip(other.len_utf8());
            }
        }
        true
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    fn skip_comment(&mut self) {
        let end = self.rest.get(2..).and_then(|body| body.find("*/")).map_or(self.rest.len(), |at| at + 4);
        self.skip(end);
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
    }

    /// Behind a backslash: the character that is meant; `None` for an escaped line end.
    fn escape(&mut self) -> Option<char> {
        let digits = self.rest.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
        if digits > 0 {
            let code = u32::from_str_radix(self.rest.get(..digits).unwrap_or_default(), 16).unwrap_or(0);
            self.skip(digits);
            if self.rest.starts_with("\r\n") {
                self.skip(2);
            } else if self.rest.starts_with(|c: char| c.is_ascii_whitespace()) {
                self.skip(1);
            }
            return Some(char::from_u32(code).filter(|c| *c != '\0').unwrap_or('\u{fffd}'));
        }
        let next = self.rest.chars().next()?;
        self.skip(next.len_utf8());
        if next == '\r' && self.rest.starts_with('\n') {
            self.skip(1);
        }
        (!matches!(next, '\n' | '\r' | '\u{c}')).then_some(next)
    }

    /// A quoted string, decoded. It ends at its quote, or without it at the end of the line.
    fn string(&mut self) -> String {
        let quote = self.rest.chars().next();
        self.skip(1);
        let mut text = String::new();
        while let Some(c) = self.rest.chars().next() {
            if matches!(c, '\n' | '\r' | '\u{c}') {
                break;
            }
            self.skip(c.len_utf8());
            match c {
                _ if Some(c) == quote => break,
                '\\' => text.extend(self.escape()),
                _ => text.push(c),
            }
        }
        text
    }

    fn write_string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\' | '<' | '>' | '&') || c.is_control() {
                // Writing to a String cannot fail.
                let _ = write!(self.out, "\\{:x} ", u32::from(c));
            } else {
                self.out.push(c);
            }
        }
        self.out.push('"');
    }

    /// A name, decoded.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.chars().next() {
            if c == '\\' {
                self.skip(1);
                name.extend(self.escape());
            } else if in_name(c) && !self.rest.starts_with("-->") {
                self.skip(c.len_utf8());
                name.push(c);
            } else {
                break;
            }
        }
        name
    }

    /// A name or a number with its unit, and if it calls a function, what that needs.
    fn named(&mut self) {
        let escaped_first = self.rest.starts_with('\\');
        let name = self.name();
        let lower = name.to_ascii_lowercase();
        if self.rest.starts_with('(') {
            match lower.as_str() {
                "url" | "url-prefix" | "src" => return self.url(),
                "image-set" | "-webkit-image-set" | "image" | "-webkit-image" | "cross-fade" | "-webkit-cross-fade" => {
                    *self.remote = true;
                    return self.out.push_str(BLOCKED);
                }
                "expression" | "element" | "-moz-element" | "attr" | "paint" => return self.out.push_str(BLOCKED),
                _ => {}
            }
        }
        match lower.as_str() {
            "behavior" | "behaviour" | "-moz-binding" | "-ms-behavior" | "javascript" | "vbscript" | "expression"
            | "-o-link" | "-o-link-source" => self.out.push_str(BLOCKED),
            _ => self.write_name(&name, escaped_first),
        }
    }

    fn write_name(&mut self, name: &str, escaped_first: bool) {
        for (at, c) in name.chars().enumerate() {
            if !in_name(c) || (at == 0 && escaped_first && (c.is_ascii_digit() || c == '-')) {
                let _ = write!(self.out, "\\{:x} ", u32::from(c));
            } else {
                self.out.push(c);
            }
        }
    }

    /// From the `(` of `url(` to its end.
    fn url(&mut self) {
        self.skip(1);
        self.skip_space();
        let url = if self.rest.starts_with(['"', '\'']) { self.string() } else { self.bare_url() };
        // Modifiers and whatever else stands before the end.
        let end = self.rest.find([')', ';', '}', '"', '\'']).unwrap_or(self.rest.len());
        self.skip(end + usize::from(self.rest.get(end..).is_some_and(|rest| rest.starts_with(')'))));
        let url = match resource(&url, self.context) {
            Resource::Own(url) => url,
            Resource::Remote(url) => {
                *self.remote = true;
                url
            }
            Resource::Refused => "data:,".to_owned(),
        };
        self.out.push_str("url(");
        self.write_string(&url);
        self.out.push(')');
    }

    fn bare_url(&mut self) -> String {
        let mut url = String::new();
        while let Some(c) = self.rest.chars().next() {
            if c == ')' {
                break;
            }
            self.skip(c.len_utf8());
            if c == '\\' { url.extend(self.escape()) } else { url.push(c) }
        }
        url
    }

    fn at_rule(&mut self) {
        self.skip(1);
        let name = self.name();
        match name.to_ascii_lowercase().as_str() {
            "import" => {
                *self.remote = true;
                self.skip_rule();
            }
            "charset" | "namespace" | "font-face" | "property" | "-moz-document" | "document" => self.skip_rule(),
            _ => {
                self.out.push('@');
                self.write_name(&name, false);
            }
        }
    }

    /// To behind the `;` or the block that ends a rule.
    fn skip_rule(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '"' | '\'' => {
                    self.string();
                    continue;
                }
                '\\' => {
                    self.skip(1);
                    self.escape();
                    continue;
                }
                '/' if self.rest.starts_with("/*") => {
                    self.skip_comment();
                    continue;
                }
                '{' => depth += 1,
                // The end of the block around the rule is not the rule's.
                '}' if depth == 0 => return,
                '}' => depth -= 1,
                _ => {}
            }
            self.skip(c.len_utf8());
            if depth == 0 && matches!(c, ';' | '}') {
                return;
            }
        }
    }
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || (!c.is_ascii() && !c.is_control())
}
