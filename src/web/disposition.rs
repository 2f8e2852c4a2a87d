//! What a browser may do with a part of a message: under which type it is sent, and whether it is shown or saved
//! (`Content-Disposition`, RFC 6266, names beyond ASCII by RFC 8187). Names come from strangers. Pure.

use std::fmt::Write;

/// Types that a browser shows without running anything in them, under a CSP that forbids what they would fetch.
/// SVG and HTML run scripts and are never among them; PDF is shown by a viewer that the CSP `sandbox` would break, and is
/// saved instead (the dashboard shows it from a blob of its own).
const SHOWN: [&str; 12] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "text/plain",
    "audio/mpeg",
    "audio/ogg",
    "video/mp4",
];

/// Longest name sent, in bytes.
const MAX_NAME: usize = 180;

/// How a part is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub content_type: String,
    pub disposition: String,
}

/// How to send a part that claims to be `media_type` (lower-case `type/subtype`) and to be named `name`.
#[must_use]
pub fn sending(media_type: &str, name: &str, save: bool) -> Sending {
    let is_shown = !save && SHOWN.contains(&media_type);
    let content_type = match media_type {
        // Whatever its charset was, the bytes are sent as they are; UTF-8 is what most are.
        "text/plain" => "text/plain; charset=utf-8".to_owned(),
        shown if SHOWN.contains(&shown) => shown.to_owned(),
        other if is_token_pair(other) && !is_active(other) => other.to_owned(),
        _ => "application/octet-stream".to_owned(),
    };
    Sending { content_type, disposition: disposition(if is_shown { "inline" } else { "attachment" }, name) }
}

/// Types that a browser would run in some place or other, even when told to save them.
fn is_active(media_type: &str) -> bool {
    let (kind, subtype) = media_type.split_once('/').unwrap_or_default();
    kind == "multipart"
        || ["html", "xml", "svg", "script", "ecmascript", "shockwave", "xslt", "mathml"]
            .iter()
            .any(|word| subtype.contains(word))
}

fn is_token_pair(media_type: &str) -> bool {
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    media_type.len() <= 127
        && media_type.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// `attachment; filename="…"` and, for a name beyond ASCII, `filename*=UTF-8''…` with it.
#[must_use]
pub fn disposition(kind: &str, name: &str) -> String {
    let name = safe_name(name);
    let ascii: String = name.chars().map(|c| if c.is_ascii() && c != '%' { c } else { '_' }).collect();
    let mut header = format!("{kind}; filename=\"{ascii}\"");
    if ascii != name {
        header.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                header.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(header, "%{byte:02X}");
            }
        }
    }
    header
}

/// A name that is safe in a header and on any file system: no path, no control or bidirectional character, no leading
/// dot, none of Windows' own, not too long.
#[must_use]
pub fn safe_name(name: &str) -> String {
    let is_bad = |c: char| {
        c.is_control()
            || "\"*/:<>?\\|".contains(c)
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let base = name.rsplit(['/', '\\']).find(|part| !part.trim().is_empty()).unwrap_or_default();
    let clean: String = base.chars().map(|c| if is_bad(c) { '_' } else { c }).collect();
    let clean = clean.trim().trim_start_matches('.').trim_end_matches(['.', ' ']);
    if clean.is_empty() {
        return "attachment".to_owned();
    }
    let clean = shortened(clean);
    if is_device(&clean) { format!("_{clean}") } else { clean }
}

/// At most [`MAX_NAME`] bytes, with its extension.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let extension = match name.rfind('.').and_then(|at| name.get(at..)) {
        Some(extension) if extension.len() <= 16 => extension,
        _ => "",
    };
    let mut end = MAX_NAME - extension.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", name.get(..end).unwrap_or_default())
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered =
        |prefix: &str| stem.strip_prefix(prefix).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_cannot_leave_the_header_or_the_folder() {
        for (name, safe) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\evil.exe", "evil.exe"),
            ("a\"b\r\nSet-Cookie: x.txt", "a_b__Set-Cookie_ x.txt"),
            (".bashrc", "bashrc"),
            ("", "attachment"),
            ("...", "attachment"),
            ("dir/", "dir"),
            ("con.txt", "_con.txt"),
            ("COM1", "_COM1"),
            ("exe\u{202e}fdp.scr", "exe_fdp.scr"),
            ("你好.txt", "你好.txt"),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
        let long = safe_name(&format!("{}.html", "你".repeat(300)));
        assert!(long.len() <= MAX_NAME && long.ends_with("你.html"), "{long}");
    }

    #[test]
    fn names_beyond_ascii_have_both_forms() {
        assert_eq!(disposition("inline", "a.png"), "inline; filename=\"a.png\"");
        assert_eq!(
            disposition("attachment", "é 1%.txt"),
            "attachment; filename=\"_ 1_.txt\"; filename*=UTF-8''%C3%A9%201%25.txt"
        );
    }

    #[test]
    fn nothing_that_runs_is_shown_or_keeps_its_type() {
        for active in [
            "text/html",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "application/javascript",
            "multipart/related",
            "nonsense",
            "a/b/c",
            "text/html; charset=x",
            "x/y\r\nA: b",
        ] {
            let sending = sending(active, "x", false);
            assert_eq!(sending.content_type, "application/octet-stream", "{active}");
            assert!(sending.disposition.starts_with("attachment;"));
        }
        assert_eq!(sending("application/pdf", "x.pdf", false).content_type, "application/pdf");
        assert!(sending("application/pdf", "x.pdf", false).disposition.starts_with("attachment"));
        assert!(sending("image/png", "x.png", false).disposition.starts_with("inline"));
        assert!(sending("image/png", "x.png", true).disposition.starts_with("attachment"));
    }

    proptest! {
        #[test]
        fn every_name_makes_a_header(name in "\\PC*|[\\x00-\\x7f]{0,300}|.{0,200}") {
            let header = disposition("attachment", &name);
            prop_assert!(header.bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", header);
            prop_assert_eq!(header.matches('"').count(), 2);
            let safe = safe_name(&name);
            prop_assert!(!safe.is_empty() && safe.len() <= MAX_NAME + 1);
            prop_assert!(!safe.contains(['/', '\\']));
        }
    }
}
