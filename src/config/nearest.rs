//! The known name that a mistyped one was probably meant to be.

/// The nearest of `known` to `name`, when one is near enough to be worth naming.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate) || is_part(&wanted, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A third of the name may be wrong.
fn allowed(candidate: &str) -> usize {
    (candidate.len() / 3).max(2)
}

fn is_part(wanted: &str, candidate: &str) -> bool {
    wanted.len() >= 4 && (candidate.contains(wanted) || wanted.contains(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_that_was_meant() {
        let known = ["max_sessions", "max_recipients", "listen", "max_message_size"];
        for (typed, meant) in [
            ("max_sesions", Some("max_sessions")),
            ("max-sessions", Some("max_sessions")),
            ("recipients", Some("max_recipients")),
            ("listn", Some("listen")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
