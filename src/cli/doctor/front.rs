//! What stands around the server: the proxies that it believes, and who ends it when.

use super::{Check, running};
use crate::accounts::metrics::UNNAMED;
use crate::config::Config;
use crate::inbound::metrics::REFUSED;
use crate::settings::Network;
use crate::smtp::reply;

/// Proxies in front are a few machines; in a network of more addresses than this there are others too.
const MOST_ADDRESSES_BITS: u32 = 16;

/// How long Kubernetes waits between SIGTERM and SIGKILL where a pod does not say otherwise.
const DEFAULT_GRACE: u64 = 30;

/// What a pod is told about its `terminationGracePeriodSeconds` (deploy/kubernetes), since nothing inside says it.
const GRACE_VARIABLE: &str = "TERMINATION_GRACE_SECONDS";

/// All of them.
pub fn checks(config: &Config) -> Vec<Check> {
    let in_kubernetes = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let grace = std::env::var(GRACE_VARIABLE).ok();
    let mut checks = vec![proxies(config)];
    checks.extend(running::metrics(config.ops.listen.0).iter().flat_map(|metrics| unnamed(metrics)));
    checks.push(stop(config, in_kubernetes, grace.as_deref()));
    checks.extend(shown(config));
    checks
}

/// What the server that runs here has seen of proxies that nobody named.
fn unnamed(metrics: &str) -> Vec<Check> {
    let of_smtp = running::counter(metrics, REFUSED, &format!("reason=\"{}\"", reply::PROXY_HEADER.name()));
    let of_http = running::counter(metrics, UNNAMED, "");
    let said = |count: u64, what: &str, setting: &str| {
        let found =
            format!("since its start the server heard {what} from a peer that {setting} does not name, {count} times");
        let advice = format!("the log of serve says which (peer=): name it in {setting} if it is a proxy of yours");
        (count > 0).then(|| Check::warn("proxies", found, advice))
    };
    let of_smtp = said(of_smtp, "a PROXY header", "[smtp] proxy_protocol_from");
    of_smtp.into_iter().chain(said(of_http, "X-Forwarded-For", "[http] trusted_proxies")).collect()
}

/// Whether users behind a proxy are told its address, and not what the node listens on.
fn shown(config: &Config) -> Option<Check> {
    if let Some((host, port)) = config.smtp.public() {
        return Some(Check::ok("SMTP shown", format!("users are told to send to {host}, port {port}")));
    }
    let is_behind = !config.smtp.proxy_protocol_from.is_empty();
    is_behind.then(|| {
        let found = format!("users are told to send to {}", config.smtp.listen.join(", "));
        let advice = "mail comes through a proxy: say its name and port in [smtp] public_address";
        Check::notice("SMTP shown", found, advice)
    })
}

/// Whether those who may say for whom they come are few, and the same for mail and for HTTP.
fn proxies(config: &Config) -> Check {
    let (smtp, http) = (&config.smtp.proxy_protocol_from, &config.http.trusted_proxies);
    let list = |networks: &[Network]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = match (smtp.is_empty(), http.is_empty()) {
        (true, true) => return Check::ok("proxies", "none: every client is who it seems to be"),
        (false, false) => format!("SMTP {}; HTTP {}", list(smtp), list(http)),
        (false, true) => format!("SMTP {}; HTTP none", list(smtp)),
        (true, false) => format!("SMTP none; HTTP {}", list(http)),
    };
    if let Some(wide) = smtp.iter().chain(http).find(|network| network.host_bits() > MOST_ADDRESSES_BITS) {
        let advice = format!("whoever is in {wide} may claim any address: name the proxies alone");
        return Check::warn("proxies", found, advice);
    }
    if smtp.is_empty() != http.is_empty() {
        let advice = "where one proxy serves both, its clients are told apart for one of them only: set \
                      [smtp] proxy_protocol_from and [http] trusted_proxies";
        return Check::notice("proxies", found, advice);
    }
    Check::ok("proxies", found)
}

/// Whether a stop, its drain among it, is over before somebody ends the process.
fn stop(config: &Config, in_kubernetes: bool, grace: Option<&str>) -> Check {
    let (drain, within) = (config.runtime.drain_time(), config.runtime.stop_within.0);
    let found = format!("within {} s, of which {} s are the drain", within.as_secs_f64(), drain.as_secs_f64());
    if !in_kubernetes && grace.is_none() {
        return Check::ok("stop", found);
    }
    let seconds = match grace.map(str::parse::<u64>) {
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => return Check::warn("stop", found, format!("{GRACE_VARIABLE} is not a number of seconds")),
        None => DEFAULT_GRACE,
    };
    let found = format!("{found}; killed after {seconds} s");
    if within.as_secs_f64() >= seconds as f64 {
        let advice = format!(
            "terminationGracePeriodSeconds must be more than [runtime] stop_within; say it in {GRACE_VARIABLE} too, as \
             deploy/kubernetes does"
        );
        return Check::warn("stop", found, advice);
    }
    if drain.is_zero() {
        let advice = "clients are still sent here for some seconds after the end has begun: [runtime] drain = \"10s\"";
        return Check::warn("stop", found, advice);
    }
    Check::ok("stop", found)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::mail::units::Period;

    fn with(smtp: &[&str], http: &[&str]) -> Level {
        let mut config = Config::default();
        config.smtp.proxy_protocol_from = smtp.iter().map(|text| text.parse().unwrap()).collect();
        config.http.trusted_proxies = http.iter().map(|text| text.parse().unwrap()).collect();
        proxies(&config).level
    }

    #[test]
    fn proxies_are_few_and_the_same_for_both() {
        assert_eq!(with(&[], &[]), Level::Ok);
        assert_eq!(with(&["10.0.0.2"], &["10.0.0.2", "10.244.0.0/16", "2001:db8::/112"]), Level::Ok);
        assert_eq!(with(&["10.0.0.2"], &[]), Level::Notice);
        assert_eq!(with(&[], &["10.0.0.2"]), Level::Notice);
        assert_eq!(with(&["10.0.0.0/8"], &["10.0.0.2"]), Level::Warn);
        assert_eq!(with(&["10.0.0.2"], &["2001:db8::/64"]), Level::Warn);
    }

    #[test]
    fn behind_a_proxy_users_are_told_its_address() {
        let mut config = Config::default();
        assert_eq!(shown(&config), None);
        config.smtp.proxy_protocol_from = vec!["10.0.0.2".parse().unwrap()];
        assert_eq!(shown(&config).unwrap().level, Level::Notice);
        config.smtp.public_address = "mail.example.com:25".into();
        let shown = shown(&config).unwrap();
        assert_eq!(
            (shown.level, shown.found.as_str()),
            (Level::Ok, "users are told to send to mail.example.com, port 25")
        );
    }

    #[test]
    fn a_proxy_that_nobody_named_is_a_warning_once_a_server_has_seen_it() {
        let found = |metrics: &str| unnamed(metrics).into_iter().map(|check| check.advice).collect::<Vec<_>>();
        assert!(found("smtp_refused_total{reason=\"syntax_error\"} 7\nhttp_requests_total 9\n").is_empty());
        let both = found("smtp_refused_total{reason=\"proxy_header\"} 7\nhttp_unnamed_proxies_total 9\n");
        assert!(
            both[0].contains("[smtp] proxy_protocol_from") && both[1].contains("[http] trusted_proxies"),
            "{both:?}"
        );
    }

    #[test]
    fn a_stop_is_over_before_kubernetes_kills() {
        let mut config = Config::default();
        let level = |config: &Config, in_kubernetes, grace| stop(config, in_kubernetes, grace).level;
        assert_eq!(level(&config, false, None), Level::Ok);
        assert_eq!(level(&config, true, None), Level::Warn, "30 s are not more than 30 s");
        assert_eq!(level(&config, true, Some("45")), Level::Ok);
        assert_eq!(level(&config, false, Some("30")), Level::Warn);
        assert_eq!(level(&config, true, Some("soon")), Level::Warn);
        config.runtime.stop_within = Period::secs(20);
        assert_eq!(level(&config, true, None), Level::Ok);
        config.runtime.drain = Period::secs(0);
        assert_eq!(level(&config, true, None), Level::Warn);
        assert_eq!(level(&config, false, None), Level::Ok);
    }
}
