//! The broker, where there is one: whether it answers, takes messages, and has the queues as they must be.

use super::Check;
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
    vec![judge(&config.broker.place(), runtime.block_on(examine(&config.broker)))]
}

fn judge(place: &str, finding: Finding) -> Check {
    match finding {
        Finding::Unreachable(why) => match Trouble::find(&why) {
            Some(trouble) => Check::fail(
                "broker",
                format!("{place}: {} ({why})", trouble.text()),
                trouble.advice("[broker] ca_file", "[broker] cert_file and key_file"),
            ),
            None => Check::fail(
                "broker",
                format!("{place} cannot be used: {why}"),
                "all mail is answered 451: start RabbitMQ, and see that user and vhost in [broker] url are right",
            ),
        },
        Finding::Blocked(why) => Check::fail(
            "broker",
            format!("{place} takes no messages: {why}"),
            "all mail is answered 451: give its machine free disk or memory (disk_free_limit, vm_memory_high_watermark)",
        ),
        Finding::Otherwise(why) => Check::fail("broker", why, "serve would not start: see docs/operations.md"),
        Finding::Earlier { limit, waiting } => Check::warn(
            "broker",
            format!(
                "{place} takes messages; {waiting} wait; its queues are of an earlier version: what comes back {limit} times, \
                 by outages or crashes too, becomes a dead letter"
            ),
            "make them anew when no older version runs any more: see \"Mail through a broker\" in docs/operations.md",
        ),
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
        let level = |finding| judge("amqp://mq", finding).level;
        assert_eq!(level(Finding::Well { missing: 0, waiting: 5, dead: 0 }), Level::Ok);
        assert_eq!(level(Finding::Well { missing: 19, waiting: 0, dead: 0 }), Level::Ok);
        assert_eq!(level(Finding::Well { missing: 0, waiting: 0, dead: 1 }), Level::Warn);
        assert_eq!(level(Finding::Earlier { limit: 20, waiting: 0 }), Level::Warn);
        assert_eq!(level(Finding::Blocked("low on disk".into())), Level::Fail);
        assert_eq!(level(Finding::Otherwise("x".into())), Level::Fail);
    }

    #[test]
    fn without_a_broker_there_is_nothing_to_say() {
        assert_eq!(checks(&Config::default()), []);
    }
}
