//! Variables that look like settings and are none, because their prefix is misspelt.
//!
//! `MAILROOM_SMTP__MAX_SESSIONS` (one underscore) would otherwise be ignored without a word. Not every variable that begins
//! with `MAILROOM_` is meant for us, so that only what spells a setting is refused and the rest is a warning.

use super::load::{PREFIX, Problem};
use super::nearest::nearest;
use super::{Config, Findings};

const NEARLY: &str = "MAILROOM_";

/// The project's own tests.
const OTHERS: [&str; 2] = ["MAILROOM_TEST_", "MAILROOM_E2E_"];

/// Variables of the environment that were meant for a setting (problems), or may have been (warnings).
#[must_use]
pub fn strangers(environment: &[(String, String)]) -> Findings {
    let config = Config::default();
    let sections = config.sections();
    let names: Vec<_> = sections
        .iter()
        .flat_map(|(section, table)| table.settings().iter().map(move |setting| (*section, setting.name)))
        .map(|(section, key)| (spelt(&format!("{section}_{key}")), format!("{section}__{key}").to_uppercase()))
        .collect();
    let known = || names.iter().map(|(spelt, _)| spelt.as_str());
    let setting = |found: &str| names.iter().find(|(spelt, _)| spelt == found).map(|(_, name)| name.as_str());
    let mut findings = Findings::default();
    let mut found: Vec<_> = environment.iter().filter(|(name, text)| is_stranger(name, text)).collect();
    found.sort();
    for (place, _) in found {
        let typed = spelt(place.get(NEARLY.len()..).unwrap_or_default());
        let say = |name: &str| format!("is not read: the prefix is {PREFIX}; did you mean {PREFIX}{name}?");
        match (setting(&typed), nearest(&typed, known()).and_then(setting)) {
            (Some(name), _) => findings.problems.push(Problem { place: place.clone(), text: say(name) }),
            (None, Some(name)) => findings.warnings.push(Problem { place: place.clone(), text: say(name) }),
            (None, None) => findings.warnings.push(Problem {
                place: place.clone(),
                text: format!("is not read: a setting is {PREFIX}SECTION__SETTING, as in {PREFIX}LOG__LEVEL"),
            }),
        }
    }
    findings
}

/// Lower case, with single underscores.
fn spelt(name: &str) -> String {
    name.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_").to_lowercase()
}

fn is_stranger(name: &str, text: &str) -> bool {
    let ours = name.starts_with(NEARLY) && !name.starts_with(PREFIX);
    ours && !OTHERS.iter().any(|prefix| name.starts_with(prefix)) && !is_service(name, text)
}

/// Container platforms tell of a service named `mailroom` like this: `MAILROOM_SERVICE_HOST`, `MAILROOM_PORT=tcp://…`,
/// `MAILROOM_PORT_8080_TCP_ADDR`.
fn is_service(name: &str, text: &str) -> bool {
    let protocol = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && protocol)
        || (name.ends_with("_PORT") && text.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> (Vec<String>, Vec<String>) {
        let lines = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
        let findings = strangers(&[(name.into(), text.into())]);
        (lines(&findings.problems), lines(&findings.warnings))
    }

    #[test]
    fn a_misspelt_prefix_is_refused_with_the_right_one() {
        for name in ["MAILROOM_SMTP__MAX_SESSIONS", "MAILROOM_SMTP_MAX_SESSIONS"] {
            let line =
                format!("{name}: is not read: the prefix is MAILROOM__; did you mean MAILROOM__SMTP__MAX_SESSIONS?");
            assert_eq!(of(name, "5"), (vec![line], vec![]));
        }
    }

    #[test]
    fn what_only_looks_like_a_setting_is_a_warning() {
        let (problems, warnings) = of("MAILROOM_SMTP_MAX_SESION", "5");
        assert!(problems.is_empty());
        assert!(warnings[0].ends_with("did you mean MAILROOM__SMTP__MAX_SESSIONS?"), "{warnings:?}");
        let (problems, warnings) = of("MAILROOM_X", "5");
        assert!(problems.is_empty());
        assert_eq!(
            warnings,
            ["MAILROOM_X: is not read: a setting is MAILROOM__SECTION__SETTING, as in MAILROOM__LOG__LEVEL"]
        );
    }

    #[test]
    fn what_others_mean_by_it_is_left_alone() {
        for (name, text) in [
            ("PATH", "/bin"),
            ("MAILROOM", "x"),
            ("MAILROOM__SMTP__MAX_SESSIONS", "5"),
            ("MAILROOM_TEST_STEPS", "x"),
            ("MAILROOM_E2E_HTTP", "x"),
            ("MAILROOM_SERVICE_HOST", "10.0.0.1"),
            ("MAILROOM_SERVICE_PORT_SMTP", "2525"),
            ("MAILROOM_PORT", "tcp://10.0.0.1:2525"),
            ("MAILROOM_PORT_2525_TCP_ADDR", "10.0.0.1"),
        ] {
            assert_eq!(of(name, text), (vec![], vec![]), "{name}");
        }
    }
}
