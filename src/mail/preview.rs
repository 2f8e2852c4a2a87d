//! The first words of a message as a list shows them: what the sender wrote, without quotes, rulers and signature.

use super::clean;

/// Characters of a preview.
pub const MAX_PREVIEW: usize = 200;

/// The first words of `text`, on one line. When all of it is quoted, the quotes are shown.
#[must_use]
pub fn preview(text: &str) -> String {
    let own = words(text, true);
    if own.is_empty() { words(text, false) } else { own }
}

fn words(text: &str, own_only: bool) -> String {
    // Enough for a preview behind a long quote, and a bound for one behind an endless quote.
    const LOOK_AT: usize = 64 * 1024;
    let mut out = String::with_capacity(MAX_PREVIEW + 64);
    let mut left = MAX_PREVIEW;
    let mut lines = clean::head(text, LOOK_AT).lines().peekable();
    while let Some(line) = lines.next() {
        if left == 0 {
            break;
        }
        if own_only {
            if line.starts_with('>') || is_ruler(line) {
                continue;
            }
            // "On Monday, Bob wrote:", in whatever language.
            let introduces = line.trim_end().ends_with(':');
            if introduces && next_is_quote(&mut lines) {
                continue;
            }
            if line == "-- " || line == "--" || is_original(line) {
                break;
            }
        }
        let line = if own_only { line } else { line.trim_start_matches(['>', ' ']) };
        clean::append(&mut out, line, &mut left);
    }
    out
}

fn next_is_quote<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
    while lines.peek().is_some_and(|line| line.trim_ascii().is_empty()) {
        lines.next();
    }
    lines.peek().is_some_and(|line| line.starts_with('>'))
}

/// A line of `=`, `-`, `_` or `*`.
fn is_ruler(line: &str) -> bool {
    let line = line.trim_ascii();
    line.len() >= 3 && line.bytes().all(|b| matches!(b, b'=' | b'-' | b'_' | b'*' | b'#' | b'~' | b' '))
}

/// What Outlook puts before the message that it answers: `-----Original Message-----`.
fn is_original(line: &str) -> bool {
    let line = line.trim_ascii();
    line.len() > 12 && line.starts_with("-----") && line.ends_with("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_the_sender_wrote() {
        for (text, expected) in [
            ("Hello,\n\n  world\u{200b}\t!\n", "Hello, world !"),
            ("On Monday, Bob wrote:\n\n> old\n>> older\n\nYes.\n-- \nAnn", "Yes."),
            ("> all\n> quoted\n", "all quoted"),
            ("Title\n=====\nText", "Title Text"),
            ("Fine.\n\n-----Original Message-----\nFrom: x", "Fine."),
            ("Note:\nfirst", "Note: first"),
            ("", ""),
        ] {
            assert_eq!(preview(text), expected, "{text:?}");
        }
        assert_eq!(preview(&"word ".repeat(100)).chars().count(), 199);
        assert_eq!(preview(&"語".repeat(1000)).chars().count(), 200);
    }

    #[test]
    fn an_endless_quote_costs_little() {
        assert_eq!(preview(&"> q\n".repeat(1_000_000)).chars().count(), 199);
    }
}
