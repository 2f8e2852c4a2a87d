//! Foreign text made fit for a list, a log or a file system: no controls, no trick with the writing direction, bounded.
//! Called by the views of a message; nothing here fails.

/// The longest head of `text` of at most `limit` octets.
#[must_use]
pub fn head(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// One line of at most `limit` characters: controls and white space become single spaces, embeddings, overrides and
/// isolates of the writing direction (UAX #9) go.
#[must_use]
pub fn line(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit * 2));
    let mut left = limit;
    append(&mut out, text, &mut left);
    out
}

/// Appends `text` to one line that grows over several calls; `left` is how many characters it may still get.
/// Whatever stands between two calls is one space.
pub fn append(out: &mut String, text: &str, left: &mut usize) {
    let mut space = !out.is_empty();
    for c in text.chars() {
        if is_space(c) {
            space = true;
        } else if is_joiner(c) && (space || out.is_empty()) {
            // Between words it joins nothing: newsletters pad their previews with it.
        } else if !is_invisible(c) {
            if space && !out.is_empty() {
                if *left <= 1 {
                    *left = 0;
                    return;
                }
                out.push(' ');
                *left -= 1;
            }
            space = false;
            if *left == 0 {
                return;
            }
            out.push(c);
            *left -= 1;
        }
    }
}

/// A file name without path, controls, characters that a file system forbids, reserved names (of Windows) and hidden
/// files; at most 120 characters, its ending kept. Nothing usable is `None`.
#[must_use]
pub fn file_name(name: &str) -> Option<String> {
    const LIMIT: usize = 120;
    const ENDING: usize = 16;
    // Old clients send the whole path of their own machine.
    let name = match name.as_bytes() {
        [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic() => name.rsplit('\\').next().unwrap_or_default(),
        _ => name,
    };
    let one_line = line(name, 1_000);
    let swapped: String =
        one_line.chars().map(|c| if "/\\<>:\"|?*\u{2044}\u{2215}".contains(c) { '_' } else { c }).collect();
    let trimmed = swapped.trim_matches(|c: char| c == '.' || c == ' ' || is_mark(c));
    if trimmed.chars().all(|c| c == '_' || is_mark(c)) {
        return None;
    }
    let (stem, ending) = match trimmed.rsplit_once('.') {
        Some((stem, ending)) if ending.chars().count() <= ENDING => (stem, Some(ending)),
        _ => (trimmed, None),
    };
    let mut safe = String::with_capacity(trimmed.len() + 1);
    if is_reserved(trimmed.split('.').next().unwrap_or_default()) {
        safe.push('_');
    }
    safe.extend(stem.chars().take(LIMIT - ENDING - 1));
    if let Some(ending) = ending {
        safe.truncate(safe.trim_end().len());
        safe.push('.');
        safe.push_str(ending);
    }
    Some(safe)
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || (c.is_control() && c != '\0') || c == '\u{2800}'
}

/// What a reader does not see, but what changes or pads what he does see.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\0' | '\u{ad}' | '\u{34f}' | '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Direction marks and joiners, which are needed inside a word and mislead at the end of a name.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{61c}')
}

const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_reserved(stem: &str) -> bool {
    let stem = stem.trim().to_ascii_lowercase();
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul")
        || matches!(stem.as_bytes(), [b'c', b'o', b'm', b'0'..=b'9'] | [b'l', b'p', b't', b'0'..=b'9'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folds_and_bounds_a_line() {
        assert_eq!(line(" a\t\r\n b\u{1b}[31mc\u{202e}d\0 ", 100), "a b [31mcd");
        assert_eq!(line("größe", 3), "grö");
        assert_eq!(line("a \u{200c}\u{a0}\u{200c} b می\u{200c}خواهم", 100), "a b می\u{200c}خواهم");
        assert_eq!(line("ab cd", 3), "ab");
        assert_eq!(line("\u{200b}\u{feff}\u{a0}", 3), "");
        assert_eq!(head("größe", 3), "gr");
    }

    #[test]
    fn makes_file_names_safe() {
        for (name, safe) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("C:\\Users\\bob\\cv.doc", "cv.doc"),
            (".htaccess", "htaccess"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("com1.tar.gz", "_com1.tar.gz"),
            ("console.log", "console.log"),
            ("a\r\nb.txt", "a b.txt"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("a<b>|c?.txt", "a_b__c_.txt"),
            ("trailing. . ", "trailing"),
            ("日本語.pdf", "日本語.pdf"),
        ] {
            assert_eq!(file_name(name).as_deref(), Some(safe), "{name}");
        }
        for nothing in ["", "..", "/", "\u{200e}", " . ", "///"] {
            assert_eq!(file_name(nothing), None, "{nothing:?}");
        }
        let long = file_name(&format!("{}.pdf", "x".repeat(500))).unwrap();
        assert!(long.ends_with("x.pdf") && long.len() <= 120);
    }

    proptest! {
        #[test]
        fn every_name_is_safe(name in any::<String>()) {
            if let Some(safe) = file_name(&name) {
                prop_assert!(!safe.is_empty() && safe.chars().count() <= 120);
                prop_assert!(!safe.contains(['/', '\\', ':', '"']) && !safe.contains(char::is_control));
                prop_assert!(!safe.starts_with('.') && !safe.ends_with('.'), "{}", safe);
            }
        }

        #[test]
        fn every_line_is_bounded(text in any::<String>(), limit in 0_usize..50) {
            let line = line(&text, limit);
            prop_assert!(line.chars().count() <= limit);
            prop_assert!(!line.contains(char::is_control) && line.trim() == line && !line.contains("  "));
        }
    }
}
