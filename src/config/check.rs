//! What is well formed but would not do: refused at start, or worth a warning.

use super::{Config, Problem};

/// What a reading of the whole configuration found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// `serve` refuses to start with any of these.
    pub problems: Vec<Problem>,
    /// It starts, but the operator should know.
    pub warnings: Vec<Problem>,
}

/// Looks at the settings together.
#[must_use]
pub fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    check_ops(config, &mut findings);
    check_log(config, &mut findings);
    findings
}

impl Findings {
    fn problem(&mut self, place: &str, text: impl Into<String>) {
        self.problems.push(Problem { place: place.into(), text: text.into() });
    }

    fn warning(&mut self, place: &str, text: impl Into<String>) {
        self.warnings.push(Problem { place: place.into(), text: text.into() });
    }
}

fn check_ops(config: &Config, findings: &mut Findings) {
    let listen = config.ops.listen;
    if !listen.ip().is_loopback() {
        findings
            .warning("ops.listen", format!("{listen} is not loopback: anyone who reaches it reads health and metrics"));
    }
}

fn check_log(config: &Config, findings: &mut Findings) {
    if let Err(text) = config.log.filter() {
        findings.problem("log.level", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(check(&Config::default()), Findings::default());
    }

    #[test]
    fn operations_on_a_public_address_is_a_warning() {
        let mut config = Config::default();
        config.ops.listen = "0.0.0.0:8025".parse().unwrap();
        let findings = check(&config);
        assert!(findings.problems.is_empty());
        assert_eq!(findings.warnings[0].place, "ops.listen");
    }

    #[test]
    fn a_log_filter_that_cannot_be_read_is_a_problem() {
        let mut config = Config::default();
        config.log.level = "mailroom=loud".into();
        assert_eq!(check(&config).problems[0].place, "log.level");
    }
}
