//! What is well formed but would not do: refused at start, or worth a warning.

use std::net::SocketAddr;

use super::{Config, Problem};
use crate::inbound::config::AccessMode;

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
    check_smtp(config, &mut findings);
    check_domains(config, &mut findings);
    check_http(config, &mut findings);
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

fn check_smtp(config: &Config, findings: &mut Findings) {
    if config.smtp.listen.is_empty() {
        findings.warning("smtp.listen", "is empty: no mail is received");
    }
    for url in &config.smtp.listen {
        let address = url.strip_prefix("smtp://").and_then(|rest| rest.parse::<SocketAddr>().ok());
        match address {
            None => findings.problem(
                "smtp.listen",
                format!("{url:?} is not smtp://ADDRESS:PORT; for example listen = [\"smtp://127.0.0.1:2525\"]"),
            ),
            Some(address)
                if !address.ip().is_loopback() && config.domains.accept.iter().any(|domain| domain == "*") =>
            {
                findings
                    .warning("domains.accept", format!("\"*\" on {address}: it takes mail for every domain there is"));
            }
            Some(_) => {}
        }
    }
    if config.smtp.max_bytes_in_flight < config.smtp.max_message_size {
        findings.problem(
            "smtp.max_bytes_in_flight",
            format!("{} is less than max_message_size: no large message would pass", config.smtp.max_bytes_in_flight),
        );
    }
}

fn check_domains(config: &Config, findings: &mut Findings) {
    if config.domains.accept.is_empty() {
        findings.warning("domains.accept", "is empty: every recipient is refused");
    }
}

/// Nobody shows everybody's mail to a network by accident.
fn check_http(config: &Config, findings: &mut Findings) {
    let listen = config.http.listen;
    if listen.ip().is_loopback() || config.mailboxes.access != AccessMode::Open {
        return;
    }
    if config.mailboxes.insecure_open {
        findings.warning("http.listen", format!("{listen} is not loopback: anyone who reaches it reads all mail"));
        return;
    }
    findings.problem(
        "http.listen",
        format!(
            "{listen} is not loopback, and mailboxes are open: anyone who reaches it would read all mail; set [mailboxes] \
             access = \"token\", or insecure_open = true if that is meant"
        ),
    );
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
    fn a_listener_that_cannot_be_read_shows_one_that_can() {
        let mut config = Config::default();
        config.smtp.listen = vec!["127.0.0.1:25".into()];
        let problem = check(&config).problems.remove(0).to_string();
        assert_eq!(
            problem,
            "smtp.listen: \"127.0.0.1:25\" is not smtp://ADDRESS:PORT; for example listen = [\"smtp://127.0.0.1:2525\"]"
        );
    }

    #[test]
    fn a_catch_all_that_others_reach_is_a_warning() {
        let mut config = Config::default();
        config.smtp.listen = vec!["smtp://0.0.0.0:25".into()];
        assert_eq!(check(&config).warnings[0].place, "domains.accept");
        config.domains.accept = vec!["example.com".into()];
        assert_eq!(check(&config), Findings::default());
    }

    #[test]
    fn a_message_must_fit_into_what_may_be_in_flight() {
        let mut config = Config::default();
        config.smtp.max_bytes_in_flight = crate::mail::units::Bytes::mib(1);
        assert_eq!(check(&config).problems[0].place, "smtp.max_bytes_in_flight");
    }

    #[test]
    fn open_mailboxes_are_not_shown_to_a_network_unless_it_is_meant() {
        let mut config = Config::default();
        config.http.listen = "0.0.0.0:8080".parse().unwrap();
        let findings = check(&config);
        assert_eq!(findings.problems[0].place, "http.listen");
        assert!(!findings.problems[0].text.contains('\n'));

        config.mailboxes.insecure_open = true;
        let findings = check(&config);
        assert!(findings.problems.is_empty());
        assert_eq!(findings.warnings[0].place, "http.listen");

        config.mailboxes.insecure_open = false;
        config.mailboxes.access = AccessMode::Token;
        assert_eq!(check(&config), Findings::default());
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
