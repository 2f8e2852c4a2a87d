//! Writes foreign html anew: well-nested, of bounded depth, with only the elements and attributes that mail is made of.
//!
//! What a parser does with broken html takes quadratic time in the worst case (deep nesting, formatting that is never
//! closed, things between table cells, thousands of attributes). Here every open element is on a short stack, every
//! end tag closes its element and what is in it, and formatting cut off that way is opened again, within a budget;
//! so the parser behind gets nothing to repair.

use super::scan::{Scan, Token, decode};
use super::url::{Resource, link, resource};
use super::{HtmlContext, NotShown, css, tables};

/// Deeper elements lose their tags and keep their content. Browsers stop at 512.
const MAX_DEPTH: usize = 200;

/// How many tags and texts may stand in a table but in no cell: the parser moves each in front of the table.
const MAX_MISPLACED: usize = 1_000;

/// How many bytes of formatting tags are opened again.
const MAX_REOPENED: usize = 256 * 1024;

/// The serialiser looks through the whole rest of a text for each character it escapes. A comment, which ammonia takes
/// out, makes two texts of one that is longer than this.
const MAX_ESCAPED_TEXT: usize = 4 * 1024;

/// For the same reason a longer value of an attribute goes if it has more than a few such characters.
const MAX_ESCAPED_VALUE: usize = 16 * 1024;

#[derive(Default)]
pub(super) struct Tamed {
    pub html: String,
    pub css: String,
    pub remote: bool,
}

pub(super) fn tame(html: &str, context: &HtmlContext<'_>) -> Result<Tamed, NotShown> {
    let mut tamer = Tamer {
        out: Tamed::default(),
        open: Vec::new(),
        context,
        flattened: 0,
        gone: None,
        misplaced: 0,
        reopened: 0,
        broken_at: 0,
    };
    for token in Scan::new(html) {
        if tamer.is_gone(&token) {
            continue;
        }
        match token {
            Token::Text(text) => tamer.text(text),
            Token::Start { name, attributes } => tamer.start(&name, &attributes),
            Token::Raw { name, attributes, content } if name == "style" => tamer.style(&attributes, content),
            Token::Raw { .. } => {}
            Token::End { name } => tamer.end(&name),
        }
        if tamer.misplaced > MAX_MISPLACED {
            return Err(NotShown::TooBroken);
        }
    }
    tamer.close(0);
    Ok(tamer.out)
}

struct Open {
    name: &'static str,
    /// Its start tag as it was written.
    tag: String,
}

struct Tamer<'a> {
    out: Tamed,
    open: Vec<Open>,
    context: &'a HtmlContext<'a>,
    /// Start tags left out for depth whose end tags are to be left out too.
    flattened: usize,
    /// Inside an element that goes with its content: its name and how often it is open.
    gone: Option<(&'static str, usize)>,
    misplaced: usize,
    reopened: usize,
    /// Where text was last broken for the serialiser.
    broken_at: usize,
}

impl Tamer<'_> {
    /// Whether a token belongs to an element that goes whole.
    fn is_gone(&mut self, token: &Token<'_>) -> bool {
        if let Some((gone, depth)) = &mut self.gone {
            match token {
                Token::Start { name, .. } if name == gone => *depth += 1,
                Token::End { name } if name == gone => *depth -= 1,
                _ => {}
            }
            if *depth == 0 {
                self.gone = None;
            }
            return true;
        }
        if let Token::Start { name, .. } = token {
            self.gone = tables::GONE.iter().find(|gone| *gone == name).map(|gone| (*gone, 1));
        }
        self.gone.is_some()
    }

    fn text(&mut self, text: &str) {
        if self.between_cells() && !text.trim().is_empty() {
            self.misplaced += 1;
        }
        let mut rest = text;
        while let Some(at) = rest.find(['<', '>', '&', '\u{a0}', '\0']) {
            let (before, special) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.out.html.push_str(before);
            let c = special.chars().next().unwrap_or('\0');
            rest = special.get(c.len_utf8()..).unwrap_or_default();
            if self.out.html.len() - self.broken_at > MAX_ESCAPED_TEXT {
                self.out.html.push_str("<!---->");
                self.broken_at = self.out.html.len();
            }
            match c {
                '<' => self.out.html.push_str("&lt;"),
                '\0' => {}
                other => self.out.html.push(other),
            }
        }
        self.out.html.push_str(rest);
    }

    fn style(&mut self, attributes: &[(String, &str)], content: &str) {
        let media = attributes.iter().find(|(name, _)| name == "media").map(|(_, value)| decode(value));
        let media = media.filter(|media| media.chars().all(|c| c.is_ascii_alphanumeric() || " -:(),./".contains(c)));
        if let Some(media) = &media {
            self.out.css.extend(["@media ", media, "{"]);
        }
        css::clean(content, self.context, &mut self.out.css, &mut self.out.remote);
        self.out.css.push_str(if media.is_some() { "}\n" } else { "\n" });
    }

    fn start(&mut self, name: &str, attributes: &[(String, &str)]) {
        if name == "body" {
            return self.body(attributes);
        }
        let Some(name) = tables::kept(name) else {
            // An image written as `image` is one, as in every browser.
            if name == "image" {
                self.start("img", attributes);
            }
            return;
        };
        let mut again = Vec::new();
        for (ends, barriers) in tables::implied_ends(name) {
            let hit = self.open.iter().rposition(|open| ends.contains(&open.name) || barriers.contains(&open.name));
            if let Some(at) = hit.filter(|at| self.open.get(*at).is_some_and(|open| ends.contains(&open.name))) {
                again.extend(self.close(at));
            }
        }
        // A container of cells or items has no place for formatting of its own.
        if tables::is_container(name) {
            self.reopen(std::mem::take(&mut again));
        }
        if self.between_cells() && !tables::is_of_table(name) {
            self.misplaced += 1;
        }
        if self.open.len() >= MAX_DEPTH && !tables::is_void(name) {
            self.flattened += 1;
            return;
        }
        let mut tag = format!("<{name}");
        self.attributes(name, attributes, &mut tag);
        tag.push('>');
        self.out.html.push_str(&tag);
        if !tables::is_void(name) {
            self.open.push(Open { name, tag });
        }
        self.reopen(again);
    }

    /// The attributes of `body` that show are those of a box around its content.
    fn body(&mut self, attributes: &[(String, &str)]) {
        let value = |wanted: &str| {
            attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| decode(value)).unwrap_or_default()
        };
        let mut style = String::new();
        for (attribute, property) in [("bgcolor", "background-color"), ("text", "color")] {
            let colour = value(attribute);
            if !colour.is_empty() && colour.chars().all(|c| c.is_ascii_alphanumeric() || c == '#') {
                style.extend([property, ":", &colour, ";"]);
            }
        }
        let background = value("background");
        if !background.is_empty() {
            style.extend(["background-image:url(\"", &background.replace(['"', '\\', '\n'], ""), "\");"]);
        }
        style.push_str(&value("style"));
        if style.is_empty() && value("class").is_empty() {
            return;
        }
        let style = style.replace('&', "&amp;").replace('"', "&quot;");
        let attributes: Vec<(String, &str)> = attributes
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "class" | "id" | "dir" | "lang"))
            .cloned()
            .chain([("style".to_owned(), style.as_str())])
            .collect();
        self.start("div", &attributes);
    }

    fn end(&mut self, name: &str) {
        if self.flattened > 0 && tables::kept(name).is_some_and(|name| !tables::is_void(name)) {
            self.flattened -= 1;
            return;
        }
        let mut found = None;
        for (at, open) in self.open.iter().enumerate().rev() {
            if open.name == name {
                found = Some(at);
                break;
            }
            if !tables::closes_through(open.name, name) {
                break;
            }
        }
        if let Some(at) = found {
            let again = self.close(at);
            self.reopen(again);
        }
    }

    /// Whether what comes now would stand in a table but in no cell.
    fn between_cells(&self) -> bool {
        self.open.last().is_some_and(|open| tables::is_container(open.name) && tables::is_of_table(open.name))
    }

    /// Closes the element at `depth` with all in it. Returns the formatting that began in it and goes on behind it,
    /// unless the element was part of a table, which keeps it.
    fn close(&mut self, depth: usize) -> Vec<Open> {
        let mut again = Vec::new();
        while self.open.len() > depth {
            let Some(open) = self.open.pop() else { break };
            self.out.html.extend(["</", open.name, ">"]);
            if self.open.len() == depth {
                if tables::is_of_table(open.name) {
                    again.clear();
                }
            } else if tables::is_formatting(open.name) {
                again.push(open);
            }
        }
        again.reverse();
        again
    }

    fn reopen(&mut self, again: Vec<Open>) {
        for open in again {
            self.reopened += open.tag.len();
            if self.reopened <= MAX_REOPENED {
                self.out.html.push_str(&open.tag);
                self.open.push(open);
            }
        }
    }

    /// Writes the attributes that stay, each at most once, with addresses and styles rewritten.
    fn attributes(&mut self, element: &str, attributes: &[(String, &str)], tag: &mut String) {
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in attributes {
            if name == "srcset" && !value.trim().is_empty() {
                self.out.remote = true;
            }
            let Some(name) = tables::attribute(name).filter(|name| tables::takes(element, name)) else { continue };
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let Some(value) = self.value(name, value) else { continue };
            let escaped = value.matches(['&', '"', '<', '>', '\u{a0}']).count();
            if value.len() <= MAX_ESCAPED_VALUE || escaped < 100 {
                tag.extend([" ", name, "=\"", &value, "\""]);
            }
        }
    }

    /// The value of an attribute as it is written between quotes; nothing if it may not stay.
    fn value(&mut self, name: &str, value: &str) -> Option<String> {
        let rewritten = match name {
            "href" => link(&decode(value))?,
            "src" | "background" => self.resource(&decode(value))?,
            "style" => {
                let mut style = String::new();
                css::clean(&decode(value), self.context, &mut style, &mut self.out.remote);
                style
            }
            // Character references stay as they are.
            _ => return Some(value.replace('"', "&quot;").replace('<', "&lt;")),
        };
        Some(rewritten.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"))
    }

    fn resource(&mut self, url: &str) -> Option<String> {
        match resource(url, self.context) {
            Resource::Own(url) => Some(url),
            Resource::Remote(url) => {
                self.out.remote = true;
                Some(url)
            }
            Resource::Refused => None,
        }
    }
}
