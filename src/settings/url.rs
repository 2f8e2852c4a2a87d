//! Texts that may have a password in them: how far they may be repeated. Pure.

/// A text that was refused where a URL is wanted, as it may be shown: whole where no login can stand in it, otherwise its
/// scheme alone.
#[must_use]
pub fn shown(text: &str) -> String {
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("", text),
    };
    // A password may have anything in it, where its writer forgot to escape it.
    if !rest.contains(['@', ':', '?', '#', '&']) {
        return text.to_owned();
    }
    match (scheme, rest.starts_with("//")) {
        ("", _) => "…".to_owned(),
        (scheme, true) => format!("{scheme}://…"),
        (scheme, false) => format!("{scheme}:…"),
    }
}

/// A message with texts in quotes, of which those that are URLs are shown as [`shown`] has it.
#[must_use]
pub fn scrubbed(message: &str) -> String {
    let is_url = |part: &str| part.contains("://") && part.contains('@');
    let parts = message.split('"').map(|part| if is_url(part) { shown(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("\"")
}

/// The name of a parameter of a URL, for who is to mend it; hidden where it may be a part of a password with a `?` in it.
#[must_use]
pub fn parameter(name: &str, query: &str) -> String {
    if query.contains('@') { "…".to_owned() } else { format!("{name:?}") }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 20
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_a_password_in_it_is_not_repeated() {
        for (text, wanted) in [
            ("mail.db", "mail.db"),
            ("sqlite:", "sqlite:"),
            ("oracle://host/mail", "oracle://host/mail"),
            ("postgress://ann:secret@host/mail", "postgress://…"),
            ("postgres:/ann:secret@host/mail", "postgres:…"),
            ("postgress://ann:sec#r?e@t@host", "postgress://…"),
            ("postgress://host/mail?password=secret", "postgress://…"),
            ("ann:secret@host", "ann:…"),
            ("secret@host", "…"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn urls_in_messages_are_shown_in_part() {
        assert_eq!(
            scrubbed(r#"invalid type: string "amqp://ann:secret@host", expected "10MiB""#),
            r#"invalid type: string "amqp://…", expected "10MiB""#
        );
        assert_eq!(scrubbed("\"ann@example.com\" is no URL"), "\"ann@example.com\" is no URL");
    }
}
