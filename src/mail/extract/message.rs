//! The codes of a whole message, and of its line in a list: two views of one detector, so that a code that a list
//! shows is written as the message's own answer writes it.

use super::codes;
use crate::mail::plain;
use crate::mail::preview::MAX_PREVIEW;

/// Octets of text that the html is read for.
const MAX_HTML_TEXT: usize = 64 * 1024;

/// The codes in subject and text; where they have none, in subject and html: the text part of many a mail says only that
/// the mail is to be read as html.
#[must_use]
pub fn message_codes(subject: &str, text: &str, html: Option<&str>) -> Vec<String> {
    let found = codes(&format!("{subject}\n\n{text}"));
    match html {
        Some(html) if found.is_empty() => codes(&format!("{subject}\n\n{}", plain::text_of_html(html, MAX_HTML_TEXT))),
        _ => found,
    }
}

/// The codes in subject and preview, for lists. On the path of every message: most hold nothing that looks like one.
#[must_use]
pub fn summary_codes(subject: &str, preview: &str) -> Vec<String> {
    if !may_hold(subject) && !may_hold(preview) {
        return Vec::new();
    }
    let mut text = String::with_capacity(subject.len() + preview.len() + 16);
    text.push_str(subject);
    text.push_str("\n\n");
    // A preview is one line: the ends of its sentences stand in for the ends of lines that it lost.
    for piece in whole(preview).split_inclusive(['.', '!', '?', '。', '！', '？']) {
        let starts = piece.strip_prefix(' ');
        if starts.is_some() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(starts.unwrap_or(piece));
    }
    codes(&text)
}

/// Whether any group of letters and digits could be a code or, by itself or digit by digit, a piece of one.
fn may_hold(text: &str) -> bool {
    let mut single = 0;
    text.as_bytes().split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-').any(|group| {
        let digits = group.iter().filter(|byte| byte.is_ascii_digit()).count();
        single += usize::from(digits == 1 && group.len() == 1);
        single > 3 || (digits > 0 && group.len() > 2) || (group.len() > 6 && group.contains(&b'-'))
    })
}

/// Without what a preview that is full may have cut through.
fn whole(preview: &str) -> &str {
    // A space at the end of a full preview is left out.
    if preview.len() < MAX_PREVIEW - 1 || preview.chars().count() < MAX_PREVIEW - 1 {
        return preview;
    }
    let kept = preview.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '-');
    kept.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, ' ' | '-'))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{FOUND, NONE};
    use super::*;
    use crate::mail::preview::preview;

    #[test]
    fn a_text_that_sends_its_reader_to_the_html_is_not_all() {
        let html = Some("<style>.c{}</style><p>Your verification code is <b>554321</b></p>");
        let placeholder = "Please view this in an HTML client.";
        assert_eq!(message_codes("Hello", placeholder, html), ["554321"]);
        assert_eq!(message_codes("Hello", "Your code is 111222", html), ["111222"]);
        assert_eq!(
            message_codes("Hello", placeholder, Some("<p style='color:#482913'>Code</p>")),
            Vec::<String>::new()
        );
        assert_eq!(message_codes("Your code", "554321", None), ["554321"]);
    }

    #[test]
    fn a_list_shows_nothing_that_the_message_does_not() {
        for (text, _) in FOUND {
            let whole = message_codes("Hello", text, None);
            let listed = summary_codes("Hello", &preview(text));
            assert!(listed.iter().all(|code| whole.contains(code)), "{text:?}: {listed:?} of {whole:?}");
            assert_eq!(
                summary_codes(text.lines().next().unwrap_or_default(), ""),
                codes(text.lines().next().unwrap_or_default())
            );
        }
        for text in NONE {
            assert_eq!(summary_codes("Hello", &preview(text)), Vec::<String>::new(), "{text:?}");
        }
        let far = "Your sign-in code is in the other mail.\n\nTotal 123456\n";
        assert_eq!(summary_codes("Hello", &preview(far)), message_codes("Hello", far, None));
    }

    #[test]
    fn a_list_finds_the_first_code_of_most_messages() {
        let found = FOUND.iter().filter(|(text, codes)| {
            summary_codes("Hello", &preview(text)).first() == codes.first().map(|code| (*code).to_owned()).as_ref()
        });
        assert!(found.count() * 10 >= FOUND.len() * 9);
    }

    proptest::proptest! {
        #[test]
        fn no_line_of_a_list_makes_it_panic(subject in ".{0,40}", preview in "(code|[0-9]{1,4}|[ .!。-]|验证码|é|A1|.){0,90}") {
            proptest::prop_assert!(summary_codes(&subject, &preview).len() <= super::super::MAX_CODES);
        }
    }

    #[test]
    fn a_code_that_the_preview_cuts_is_not_shown() {
        for code in ["482913", "482 913", "482-913", "4829 1300", "A1B2-C3D4"] {
            for length in 150..200 {
                let text =
                    format!("{} code: {code} and more words after it", "word ".repeat(60).get(..length).unwrap());
                let whole = codes(&text);
                let listed = summary_codes("", &preview(&text));
                assert!(listed.is_empty() || listed == whole, "{code} {length}: {listed:?}");
            }
        }
    }
}
