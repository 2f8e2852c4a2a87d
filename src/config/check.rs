//! What is well formed but would not do: refused at start, or worth a warning.

use std::net::SocketAddr;

use super::{Config, Problem};
use crate::cluster::broker::BrokerConfig;
use crate::inbound::config::AccessMode;
use crate::settings::Wrong;

/// What a reading of the whole configuration found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// `serve` refuses to start with any of these.
    pub problems: Vec<Problem>,
    /// It starts, but the operator should know.
    pub warnings: Vec<Problem>,
}

/// Looks at the settings: what each section says of its own, then what lies between two of them.
#[must_use]
pub fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    for (name, section) in config.sections() {
        for (setting, text) in Wrong::of(section) {
            findings.problem(&format!("{name}.{setting}"), text);
        }
    }
    check_addresses(config, &mut findings);
    check_smtp(config, &mut findings);
    check_domains(config, &mut findings);
    check_http(config, &mut findings);
    check_ops(config, &mut findings);
    check_proxies(config, &mut findings);
    check_stop(config, &mut findings);
    check_cluster(config, &mut findings);
    check_broker(config, &mut findings);
    findings
}

/// Redis carries what other nodes do, which there are only on a database server; there they have the same objects.
fn check_cluster(config: &Config, findings: &mut Findings) {
    if !config.redis.url.is_empty() && !config.database.is_server() {
        findings.warning("redis.url", "there are no other nodes on SQLite: Redis serves limits alone");
    }
    if config.cold.url.starts_with("file://") && config.database.is_server() {
        findings.warning(
            "cold.url",
            "other nodes read and remove what this one moves there: it must be a directory that all nodes share",
        );
    }
}

/// No sender repeats a message for days that can never pass.
fn check_broker(config: &Config, findings: &mut Findings) {
    let smtp = &config.smtp;
    let needed = BrokerConfig::largest(smtp.max_message_size, smtp.max_recipients);
    let largest = config.broker.max_message_size;
    if config.broker.is_used() && largest < needed {
        findings.problem(
            "broker.max_message_size",
            format!(
                "{largest} will not do; possible: {needed} or more for [smtp] max_message_size = {}, and max_message_size of \
                 RabbitMQ as much; or a smaller [smtp] max_message_size",
                smtp.max_message_size
            ),
        );
    }
}

impl Findings {
    fn problem(&mut self, place: &str, text: impl Into<String>) {
        self.problems.push(Problem { place: place.into(), text: text.into() });
    }

    fn warning(&mut self, place: &str, text: impl Into<String>) {
        self.warnings.push(Problem { place: place.into(), text: text.into() });
    }
}

/// The kernel gives an address to one listener.
fn check_addresses(config: &Config, findings: &mut Findings) {
    let setting = |name| match name {
        "SMTP" => "smtp.listen",
        "HTTP" => "http.listen",
        _ => "ops.listen",
    };
    let listeners = config.listeners();
    for (index, (name, addr)) in listeners.iter().enumerate() {
        let taken = listeners.iter().take(index).find(|(_, other)| is_same(*addr, *other));
        if let Some((other, other_addr)) = taken {
            findings.problem(
                setting(*name),
                format!("{addr} will not do beside {} at {other_addr}; possible: another port", setting(*other)),
            );
        }
    }
}

/// Whether both cannot be had: `0.0.0.0` takes the port of every address. A listener of IPv6 takes none of IPv4.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && overlap
}

fn check_smtp(config: &Config, findings: &mut Findings) {
    if config.smtp.listen.is_empty() {
        findings.warning("smtp.listen", "is empty: no mail is received");
    }
    let all = config.domains.accept.iter().any(|domain| domain == "*");
    let addresses = config.listeners().into_iter().filter(|(name, _)| *name == "SMTP").map(|(_, address)| address);
    for address in addresses.filter(|address| all && !address.ip().is_loopback()) {
        findings.warning("domains.accept", format!("\"*\" on {address}: it takes mail for every domain there is"));
    }
}

fn check_domains(config: &Config, findings: &mut Findings) {
    if config.domains.accept.is_empty() {
        findings.warning("domains.accept", "is empty: every recipient is refused");
    }
}

/// Nobody shows everybody's mail to a network by accident.
fn check_http(config: &Config, findings: &mut Findings) {
    let listen = config.http.listen.0;
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

/// Who may say for whom it comes.
fn check_proxies(config: &Config, findings: &mut Findings) {
    let lists = [
        ("smtp.proxy_protocol_from", &config.smtp.proxy_protocol_from),
        ("http.trusted_proxies", &config.http.trusted_proxies),
    ];
    for (setting, networks) in lists {
        if let Some(network) = networks.iter().find(|network| network.is_everyone()) {
            findings.warning(setting, format!("{network} is everyone: any client may claim any address"));
        }
    }
}

fn check_stop(config: &Config, findings: &mut Findings) {
    let runtime = &config.runtime;
    if runtime.drain.0 > runtime.drain_time() && runtime.drain != super::RuntimeConfig::default().drain {
        let (drain, within) = (runtime.drain, runtime.stop_within);
        findings.warning("runtime.drain", format!("{drain} is more than half of stop_within ({within}): half is used"));
    }
}

fn check_ops(config: &Config, findings: &mut Findings) {
    let listen = config.ops.listen.0;
    if !listen.ip().is_loopback() {
        findings
            .warning("ops.listen", format!("{listen} is not loopback: anyone who reaches it reads health and metrics"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(check(&Config::default()), Findings::default());
    }

    /// What is said of a configuration that differs from the default in these settings, written as TOML.
    fn problems(settings: &[(&str, &str)]) -> Vec<String> {
        with(settings).problems.iter().map(ToString::to_string).collect()
    }

    fn with(settings: &[(&str, &str)]) -> Findings {
        let mut config = Config::default();
        for (name, value) in settings {
            let (section, key) = name.split_once('.').unwrap();
            let table: toml::Table = format!("value = {value}").parse().unwrap();
            config.section_mut(section).unwrap().set(key, table["value"].clone()).unwrap();
        }
        check(&config)
    }

    #[test]
    fn what_would_break_the_server_is_one_line_with_what_is_possible() {
        for (setting, value, line) in [
            ("smtp.max_sessions", "0", "0 will not do; possible: 1 or more"),
            ("smtp.max_sessions_per_client", "0", "0 will not do; possible: 1 or more"),
            ("smtp.max_recipients", "0", "0 will not do; possible: 1 or more"),
            ("smtp.max_message_size", "\"0\"", "0 will not do; possible: 1KiB or more"),
            (
                "smtp.hostname",
                "\"a b\"",
                "\"a b\" will not do; possible: a host name in ASCII, or \"\" for this machine's",
            ),
            ("smtp.read_timeout", "\"0s\"", "0s will not do; possible: 1s or more"),
            (
                "smtp.listen",
                "[\"mail.example:25\"]",
                "\"mail.example:25\" will not do; possible: smtp://ADDRESS:PORT, as in listen = [\"smtp://127.0.0.1:2525\"]",
            ),
            (
                "smtp.max_bytes_in_flight",
                "\"1MiB\"",
                "1MiB will not do; possible: max_message_size (10MiB) or more: no large message would pass",
            ),
            ("mailboxes.message_ttl", "\"0s\"", "0s will not do; possible: 1s or more"),
            ("mailboxes.max_messages", "0", "0 will not do; possible: 1 or more"),
            (
                "domains.accept",
                "[\"example.com\", \"a@b.c\"]",
                "\"a@b.c\" will not do; possible: \"*\", a domain, or \"*.\" and a domain, as in accept = [\"example.com\", \
                 \"*.example.org\"]",
            ),
            (
                "domains.default",
                "\"a b\"",
                "\"a b\" will not do; possible: a domain, as in default = \"mailroom.test\"",
            ),
            (
                "http.allowed_hosts",
                "[\"http://x.y/z\"]",
                "\"http://x.y/z\" will not do; possible: \"name\" or \"name:port\", as in allowed_hosts = [\"mail.example.com\"]",
            ),
            (
                "database.url",
                "\"oracle://x\"",
                "\"oracle://x\" will not do; possible: \"sqlite:PATH\", \"postgres://…\", \"mysql://…\", or \"\" for mailroom.db in the data directory",
            ),
            ("bodies.compact_below", "500", "500 will not do; possible: 0 to 100"),
            (
                "cold.url",
                "\"ftp://x\"",
                "\"ftp://x\" will not do; possible: \"file:///DIRECTORY\", \"s3://BUCKET/PREFIX\", or \"\" for none",
            ),
            ("cold.after", "\"30d\"", "30d will not do; possible: \"never\" as long as url is empty"),
            (
                "cold.endpoint",
                "\"minio:9000\"",
                "\"minio:9000\" will not do; possible: \"https://HOST:PORT\", or \"\" for Amazon's",
            ),
            ("sockets.silence", "\"30s\"", "30s will not do; possible: more than ping (30s)"),
            (
                "ops.listen",
                "8080",
                "127.0.0.1:8080 will not do beside http.listen at 127.0.0.1:8080; possible: another port",
            ),
            (
                "http.listen",
                "2525",
                "127.0.0.1:2525 will not do beside smtp.listen at 127.0.0.1:2525; possible: another port",
            ),
            ("runtime.data", "\"\"", "\"\" will not do; possible: a directory, as in data = \"data\""),
            ("runtime.stop_within", "\"0\"", "0s will not do; possible: 1s or more"),
            (
                "log.level",
                "\"verbose\"",
                "\"verbose\" will not do; possible: \"error\", \"warn\", \"info\", \"debug\" or \"trace\", and behind commas \
                 PART=LEVEL, as in \"info,mailroom::store=debug\"",
            ),
        ] {
            assert_eq!(problems(&[(setting, value)]), [format!("{setting}: {line}")]);
        }
    }

    #[test]
    fn what_this_build_cannot_do_is_one_line_with_what_it_can() {
        for (setting, value, line) in [
            (
                "cold.url",
                "\"gs://x\"",
                "\"gs://x\" will not do; possible: \"s3://BUCKET/PREFIX\" with endpoint = \
                 \"https://storage.googleapis.com\" and an HMAC key, which is how this build reaches Google Cloud Storage",
            ),
            (
                "redis.url",
                "\"redis+sentinel://a:26379/mail\"",
                "\"this build asks no sentinels\" will not do; possible: redis://user:password@host:port/number, rediss:// \
                 with TLS, or a list of such for a cluster",
            ),
            (
                "database.url",
                "\"postgres://ann:secret@db/mail?sslmode=allow\"",
                "\"this build knows no sslmode=allow; possible: disable, prefer, require, verify-ca, verify-full\" will not do; \
                 possible: postgres://user:password@host:port/name, or mysql://…",
            ),
            (
                "broker.ca_file",
                "\"/ca.pem\"",
                "\"/ca.pem\" will not do; possible: \"\" as long as url does not begin with amqps://",
            ),
            (
                "smtp.listen",
                "[\"smtps://0.0.0.0:465\"]",
                "\"smtps://0.0.0.0:465\" will not do; possible: smtp://ADDRESS:PORT: this build receives without TLS",
            ),
        ] {
            assert_eq!(problems(&[(setting, value)]), [format!("{setting}: {line}")]);
        }
    }

    #[test]
    fn what_an_operator_may_well_want_is_taken() {
        for (setting, value) in [
            ("smtp.listen", "[\"2525\", \"smtp://localhost:2526\", \":2527\"]"),
            ("smtp.hostname", "\"mx_1.example.com\""),
            ("smtp.min_data_rate", "0"),
            ("mailboxes.message_ttl", "\"never\""),
            ("mailboxes.max_messages", "1"),
            ("domains.accept", "[\"*.example.com\", \"bücher.example\", \"localhost\"]"),
            ("domains.default", "\"Mail.Example\""),
            ("http.allowed_hosts", "[\"mailroom:8080\"]"),
            ("http.listen", "0"),
            ("database.url", "\"sqlite:/srv/mail.db\""),
            ("database.min_free", "0"),
            ("database.list_cache", "\"0\""),
            ("bodies.compact_below", "100"),
            ("log.level", "\"warn,mailroom::store=debug\""),
        ] {
            assert_eq!(problems(&[(setting, value)]), Vec::<String>::new(), "{setting} = {value}");
        }
    }

    /// Amounts of which nothing at all makes sense.
    const MAY_BE_NONE: [&str; 15] = [
        "smtp.min_data_rate",
        "database.min_free",
        "database.list_cache",
        "bodies.compact_below",
        "cold.keep",
        "cold.repack_below",
        "http.workers",
        "http.mailboxes_per_minute",
        "runtime.drain",
        "limits.requests",
        "limits.requests_burst",
        "limits.connections",
        "limits.connections_burst",
        "limits.messages",
        "limits.messages_burst",
    ];

    #[test]
    fn every_amount_has_a_lower_bound_or_may_be_none() {
        let default = Config::default();
        let mut amounts = 0;
        for (section, table) in default.sections() {
            for setting in table.settings() {
                let name = format!("{section}.{}", setting.name);
                let mut config = default.clone();
                let zero = match table.get(setting.name).unwrap() {
                    toml::Value::Integer(_) => toml::Value::Integer(0),
                    toml::Value::String(text) if is_amount(&text) => toml::Value::from("0"),
                    _ => continue,
                };
                amounts += 1;
                let refused = config.section_mut(section).unwrap().set(setting.name, zero).is_err()
                    || check(&config).problems.iter().any(|problem| problem.place == name);
                assert_eq!(refused, !MAY_BE_NONE.contains(&name.as_str()), "{name}");
            }
        }
        assert!(amounts > 35, "{amounts}");
    }

    fn is_amount(text: &str) -> bool {
        use crate::mail::units::{Bytes, Limit, Period};
        text.parse::<Limit<Period>>().is_ok() || text.parse::<Limit<Bytes>>().is_ok()
    }

    #[test]
    fn a_broker_takes_every_message_that_smtp_does() {
        let of = |settings: &[(&str, &str)]| {
            let url = ("broker.url", "\"amqp://mq\"");
            problems(&[&[url], settings].concat())
        };
        assert_eq!(of(&[]), Vec::<String>::new());
        let large = ("smtp.max_message_size", "\"40MiB\"");
        let found = of(&[large]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("broker.max_message_size: 16MiB will not do; possible: "), "{found:?}");
        assert_eq!(of(&[large, ("broker.max_message_size", "\"43MiB\"")]), Vec::<String>::new());
        assert_eq!(of(&[large, ("broker.max_message_size", "\"42MiB\"")]).len(), 1, "there are recipients, too");
        assert_eq!(problems(&[large]), Vec::<String>::new(), "there is no broker");
    }

    #[test]
    fn proxies_that_are_everyone_and_a_drain_that_is_cut_are_warnings() {
        let of = |setting, value| {
            let findings = with(&[(setting, value)]);
            assert_eq!(findings.problems, []);
            findings.warnings.into_iter().map(|warning| warning.place).collect::<Vec<_>>()
        };
        for setting in ["smtp.proxy_protocol_from", "http.trusted_proxies"] {
            assert_eq!(of(setting, "[\"10.0.0.1\", \"::/0\"]"), [setting]);
            assert_eq!(of(setting, "[\"10.0.0.0/8\"]"), [""; 0]);
        }
        assert_eq!(of("runtime.drain", "\"16s\""), ["runtime.drain"]);
        assert_eq!(of("runtime.drain", "\"15s\""), [""; 0]);
        assert_eq!(of("runtime.stop_within", "\"2s\""), [""; 0]);
    }

    #[test]
    fn a_directory_for_objects_beside_a_database_server_is_a_warning() {
        let of = |url, database| {
            let findings = with(&[("cold.url", url), ("database.url", database)]);
            assert_eq!(findings.problems, []);
            findings.warnings.into_iter().map(|warning| warning.place).collect::<Vec<_>>()
        };
        let server = "\"postgres://mail@db/mail\"";
        assert_eq!(of("\"file:///srv/cold\"", server), ["cold.url"]);
        assert_eq!(of("\"file:///srv/cold\"", "\"\""), [""; 0]);
        assert_eq!(of("\"s3://bucket\"", server), [""; 0]);
    }

    #[test]
    fn an_address_is_given_to_one_listener() {
        let both = |http: &str, ops: &str| {
            let quoted = |text| format!("\"{text}\"");
            let token = ("mailboxes.access", "\"token\"");
            problems(&[token, ("http.listen", &quoted(http)), ("ops.listen", &quoted(ops))]).len()
        };
        assert_eq!(both("0.0.0.0:80", "127.0.0.1:80"), 1);
        assert_eq!(both("127.0.0.1:80", "127.0.0.2:80"), 0);
        assert_eq!(both("127.0.0.1:80", "[::]:80"), 0);
        assert_eq!(both("127.0.0.1:0", "127.0.0.1:0"), 0);
        let twice = problems(&[("smtp.listen", "[\"25\", \"smtp://127.0.0.1:25\"]")]);
        assert_eq!(
            twice,
            ["smtp.listen: 127.0.0.1:25 will not do beside smtp.listen at 127.0.0.1:25; possible: another port"]
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
}
