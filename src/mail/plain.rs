//! Html as the text that a reader would see: for previews, for search, and for pages that are too large to show.
//! One pass that stops at its limit; no tree is built, so nesting costs nothing.

use mail_parser::decoders::html::add_html_token;

/// The text of `html`, at most about `limit` octets of it (a last word may go a little beyond).
#[must_use]
pub fn text_of_html(html: &str, limit: usize) -> String {
    let mut reader = Reader { out: String::with_capacity(html.len().min(limit) / 4), gap: Gap::None, preformatted: 0 };
    let mut rest = html;
    while reader.out.len() < limit {
        let Some(at) = memchr::memchr2(b'<', b'&', rest.as_bytes()) else {
            reader.text(rest);
            break;
        };
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        reader.text(before);
        rest = if from.starts_with('&') {
            reader.reference(from)
        } else if let Some(after) = reader.markup(from) {
            after
        } else {
            reader.text("<");
            from.get(1..).unwrap_or_default()
        };
    }
    reader.out
}

/// No element that is treated in any way has a longer name.
const LONGEST_NAME: usize = 12;

/// What separates the last word from the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Line,
    Paragraph,
}

struct Reader {
    out: String,
    gap: Gap,
    /// How many `pre` are open.
    preformatted: usize,
}

impl Reader {
    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            self.flush();
            self.out.extend(text.chars().filter(|&c| c != '\r'));
            return;
        }
        let mut rest = text;
        while let Some(start) = rest.bytes().position(|b| !b.is_ascii_whitespace()) {
            if start > 0 {
                self.gap = self.gap.max(Gap::Space);
            }
            rest = rest.get(start..).unwrap_or_default();
            let end = rest.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            self.flush();
            self.out.push_str(word);
            rest = after;
        }
        if !rest.is_empty() {
            self.gap = self.gap.max(Gap::Space);
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.out.push_str(match self.gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        self.gap = Gap::None;
    }

    /// A character reference at the start of `from`; what follows it is the result.
    fn reference<'a>(&mut self, from: &'a str) -> &'a str {
        const LONGEST: usize = 34;
        let name = from.as_bytes().iter().skip(1).take(LONGEST);
        let length = name.take_while(|b| b.is_ascii_alphanumeric() || **b == b'#').count() + 1;
        let ends = from.as_bytes().get(length) == Some(&b';');
        let Some((token, rest)) = from.split_at_checked(length + usize::from(ends)) else { return "" };
        if ends {
            if token == "&nbsp;" {
                self.gap = self.gap.max(Gap::Space);
                return rest;
            }
            self.flush();
            add_html_token(&mut self.out, token.as_bytes(), false);
        } else {
            self.text(token);
        }
        rest
    }

    /// A tag, comment or declaration at the start of `from`; what follows it is the result. `None` when it is none.
    fn markup<'a>(&mut self, from: &'a str) -> Option<&'a str> {
        if let Some(comment) = from.strip_prefix("<!--") {
            return Some(after(comment, "-->"));
        }
        let inner = from.get(1..)?;
        if inner.starts_with(['!', '?']) {
            return Some(after(inner, ">"));
        }
        let (closes, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let length = inner.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (name, attributes) = inner.split_at_checked(length)?;
        let mut lower = [0; LONGEST_NAME];
        let name = lower.get_mut(..name.len()).map_or("", |lower| {
            lower.copy_from_slice(name.as_bytes());
            lower.make_ascii_lowercase();
            std::str::from_utf8(lower).unwrap_or_default()
        });
        let rest = after_tag(attributes);
        if !closes && matches!(name, "script" | "style" | "title" | "template" | "noembed" | "iframe" | "svg") {
            return Some(after_element(rest, name));
        }
        self.gap = self.gap.max(gap(name));
        if name == "pre" {
            self.preformatted = if closes { self.preformatted.saturating_sub(1) } else { self.preformatted + 1 };
        }
        Some(rest)
    }
}

fn gap(name: &str) -> Gap {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "ul" | "ol" | "pre" | "hr" => Gap::Paragraph,
        "br" | "div" | "tr" | "li" | "table" | "section" | "article" | "header" | "footer" | "dt" | "dd" | "center"
        | "body" | "form" | "address" | "main" | "nav" | "figure" => Gap::Line,
        "td" | "th" | "img" | "option" => Gap::Space,
        _ => Gap::None,
    }
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    let found = memchr::memmem::find(text.as_bytes(), end.as_bytes());
    found.and_then(|at| text.get(at + end.len()..)).unwrap_or_default()
}

/// Behind the `>` of a tag. One inside a quoted value does not end it.
fn after_tag(attributes: &str) -> &str {
    let mut rest = attributes;
    loop {
        let Some(at) = memchr::memchr3(b'>', b'"', b'\'', rest.as_bytes()) else { return "" };
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let after = from.get(1..).unwrap_or_default();
        match from.as_bytes().first() {
            Some(b'>') | None => return after,
            // A quote begins a value only behind an equals sign.
            Some(&quote) if before.trim_ascii_end().ends_with('=') => {
                let Some(end) = memchr::memchr(quote, after.as_bytes()) else { return "" };
                rest = after.get(end + 1..).unwrap_or_default();
            }
            Some(_) => rest = after,
        }
    }
}

/// Behind the end tag of an element whose content is no text; the end where there is none.
fn after_element<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    loop {
        rest = after(rest, "</");
        if rest.is_empty() {
            return "";
        }
        if rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            return after_tag(rest.get(name.len()..).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_page() {
        for (html, text) in [
            (
                "<html><head><title>no</title><style>p{}</style></head><body><p>Hello <b>big</b>\n world</p><p>Next</p></body>",
                "Hello big world\n\nNext",
            ),
            ("a<br>b<br/>c", "a\nb\nc"),
            ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "1 2\n3"),
            ("x<script>if (a<b) '</p>'</script>y", "xy"),
            ("a &amp; b &lt;c&gt; &euro; &#8364; &#x20ac; &nbsp; d &unknown; AT&T", "a & b <c> € € € d &unknown; AT&T"),
            ("<!-- <p>no</p> -->yes<!doctype html>", "yes"),
            ("<a href=\"x>y\" title='it>s'>link</a>", "link"),
            ("1 < 2 and <3", "1 < 2 and <3"),
            ("<pre>a\n  b</pre>c", "a\n  b\n\nc"),
            ("<style>never closed", ""),
            ("unclosed <a href=\"", "unclosed"),
            ("", ""),
        ] {
            assert_eq!(text_of_html(html, 1000).trim_end(), text, "{html}");
        }
    }

    #[test]
    fn stops_at_the_limit() {
        let text = text_of_html(&"<p>word</p>".repeat(100_000), 1000);
        assert!((1000..1010).contains(&text.len()));
    }

    #[test]
    fn hostile_pages_cost_linear_time() {
        for piece in ["<", "<a ", "<script>", "<!--", "&", "&#", "<a b=\"", "</", "<style></", "<pre>"] {
            let page = piece.repeat(200_000);
            let begun = std::time::Instant::now();
            let _ = text_of_html(&page, usize::MAX);
            assert!(begun.elapsed().as_secs() < 5, "{piece} {:?}", begun.elapsed());
        }
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(html in "[<>/!a-c&;#x0-9\"'= é\\n-]{0,80}", any in any::<String>()) {
            let _ = (text_of_html(&html, 1000), text_of_html(&any, 10));
        }
    }
}
