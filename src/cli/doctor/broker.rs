//! The broker, where there is one: whether it answers, takes messages, and has the queues as they must be.

use super::Check;
use crate::cluster::broker::BrokerConfig;
use crate::cluster::broker::examine::{Finding, examine};
use crate::config::Config;
use crate::tls::Trouble;

/// Nothing where there is none.
pub fn checks(config: &Config) -> Vec<Check> {
    if !config.broker.is_used() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Check::fail("broker", error.to_string(), "look at the limits of this machine")],
    };
    vec![judge(&config.broker, runtime.block_on(examine(&config.broker)))]
}

/// What to mend, where the broker itself says what it misses.
fn mend(config: &BrokerConfig, why: &str) -> Option<String> {
    let (user, vhost) = config.who();
    if why.contains("ACCESS_REFUSED") && why.contains("Login") {
        return Some(
            "see user and password in [broker] url (rabbitmqctl list_users); guest may enter from the broker's own \
             machine alone"
                .into(),
        );
    }
    if why.contains("NOT_ALLOWED") && why.contains("not found") {
        return Some(format!("make it (rabbitmqctl add_vhost {vhost}), or name another in [broker] url"));
    }
    let is_forbidden = why.contains("ACCESS_REFUSED") || why.contains("NOT_ALLOWED");
    is_forbidden.then(|| format!("let the user in: rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'"))
}

fn judge(config: &BrokerConfig, finding: Finding) -> Check {
    let place = config.place();
    match finding {
        Finding::Unreachable(why) => match Trouble::find(&why) {
            Some(trouble) => Check::fail(
                "broker",
                format!("{place}: {} ({why})", trouble.text()),
                trouble.advice("[broker] ca_file", "[broker] cert_file and key_file"),
            ),
            None => {
                let start = || "start RabbitMQ, and see that user and vhost in [broker] url are right".to_owned();
                let advice = format!("all mail is answered 451: {}", mend(config, &why).unwrap_or_else(start));
                Check::fail("broker", format!("{place} cannot be used: {why}"), advice)
            }
        },
        Finding::Blocked(why) => Check::fail(
            "broker",
            format!("{place} takes no messages: {why}"),
            "all mail is answered 451: give its machine free disk or memory (disk_free_limit, vm_memory_high_watermark)",
        ),
        Finding::Earlier { limit, waiting } => Check::warn(
            "broker",
            format!(
                "{place} takes messages; {waiting} wait; its queues are of an earlier version: what comes back {limit} times, \
                 by outages or crashes too, becomes a dead letter"
            ),
            "make them anew when no older version runs any more: see \"Mail through a broker\" in docs/operations.md",
        ),
        Finding::Otherwise(why) => {
            let mend = mend(config, &why).unwrap_or_else(|| "see docs/operations.md".into());
            Check::fail("broker", why, format!("serve would not start: {mend}"))
        }
        Finding::Well { missing: 0, waiting, dead: 0 } => {
            Check::ok("broker", format!("{place} takes messages; {waiting} wait"))
        }
        Finding::Well { missing: 0, waiting, dead } => Check::warn(
            "broker",
            format!("{place} takes messages; {waiting} wait, {dead} dead letters"),
            "look at them with `mailroom queue dead list`",
        ),
        Finding::Well { missing, .. } => {
            Check::ok("broker", format!("{place} takes messages; serve makes {missing} queues"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn dead_letters_are_a_warning_and_a_broker_that_takes_nothing_a_failure() {
        let config = BrokerConfig { url: "amqp://mq".into(), ..BrokerConfig::default() };
        let level = |finding| judge(&config, finding).level;
        assert_eq!(level(Finding::Well { missing: 0, waiting: 5, dead: 0 }), Level::Ok);
        assert_eq!(level(Finding::Well { missing: 19, waiting: 0, dead: 0 }), Level::Ok);
        assert_eq!(level(Finding::Well { missing: 0, waiting: 0, dead: 1 }), Level::Warn);
        assert_eq!(level(Finding::Earlier { limit: 20, waiting: 0 }), Level::Warn);
        assert_eq!(level(Finding::Blocked("low on disk".into())), Level::Fail);
        assert_eq!(level(Finding::Otherwise("x".into())), Level::Fail);
    }

    #[test]
    fn what_the_broker_misses_is_named_with_what_to_do() {
        let config = BrokerConfig { url: "amqp://mail:secret@mq/v".into(), ..BrokerConfig::default() };
        let advice = |why: &str| {
            let check = judge(&config, Finding::Unreachable(why.into()));
            assert!(!format!("{check:?}").contains("secret"), "{check:?}");
            check.advice
        };
        assert!(advice("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN").contains("password"));
        assert!(advice("NOT_ALLOWED - vhost v not found").contains("rabbitmqctl add_vhost v"));
        for why in [
            "NOT_ALLOWED - access to vhost 'v' refused for user 'mail'",
            "ACCESS_REFUSED - access to queue 'q' refused",
        ] {
            assert!(advice(why).contains("rabbitmqctl set_permissions -p v mail '.*' '.*' '.*'"), "{}", advice(why));
        }
        assert!(advice("Connection refused").contains("start RabbitMQ"));
    }

    #[test]
    fn without_a_broker_there_is_nothing_to_say() {
        assert_eq!(checks(&Config::default()), []);
    }
}
