//! Object storage, as `[cold]` has it: whether an object can be written, read and removed there.

use std::time::Duration;

use super::Check;
use crate::config::Config;
use crate::store::cold::examine::{Finding, examine, is_needed};
use crate::tls::Trouble;

/// Reading an old message takes about a third of what was timed.
const SLOW: Duration = Duration::from_secs(1);
const NAME: &str = "object storage";

/// Nothing where there is none, and none is needed.
pub fn checks(config: &Config) -> Vec<Check> {
    match examine(&config.cold) {
        Some(finding) => vec![judge(config.cold.shown(), finding)],
        None if is_needed(&config.store()) => vec![Check::fail(
            NAME,
            "bodies of old messages lie there, and [cold] url names none: they cannot be read",
            "give this node the [cold] section of the node that moved them",
        )],
        None => Vec::new(),
    }
}

fn judge(url: &str, finding: Finding) -> Check {
    match finding {
        Finding::Missing(_) => Check::ok(NAME, format!("{url} is not there yet: serve makes it")),
        Finding::Well(took) if took > SLOW => Check::warn(
            NAME,
            format!("{url}: an object was written, read and removed, in {:.1} s", took.as_secs_f64()),
            "old messages open slowly: use storage that is nearer",
        ),
        Finding::Well(took) => {
            Check::ok(NAME, format!("{url}: an object was written, read and removed, in {} ms", took.as_millis()))
        }
        Finding::Unusable(why) => unusable(url, &why),
    }
}

/// Mail is received and lists are whole all the same; what has moved cannot be read.
fn unusable(url: &str, why: &str) -> Check {
    let trouble = Trouble::find(why);
    let found = match trouble {
        Some(trouble) => format!("{url}: {} ({why})", trouble.text()),
        None => format!("{url} cannot be used: {why}"),
    };
    let advice = match trouble {
        Some(trouble) => trouble.advice("[cold] ca_file", "the storage's settings"),
        None => {
            "what has moved cannot be read, and nothing moves: see that bucket or directory is there, and that the \
                 credentials may write, read and delete"
                .into()
        }
    };
    Check::fail(NAME, found, advice)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn slow_storage_is_a_warning_and_storage_that_is_away_a_failure() {
        let level = |finding| judge("s3://mail", finding).level;
        assert_eq!(level(Finding::Well(Duration::from_millis(30))), Level::Ok);
        assert_eq!(level(Finding::Well(Duration::from_secs(3))), Level::Warn);
        assert_eq!(level(Finding::Missing("/srv/cold".into())), Level::Ok);
        let away = judge("s3://mail", Finding::Unusable("object storage: 403 Forbidden".into()));
        assert_eq!(away.level, Level::Fail);
        assert!(away.found.contains("403") && away.advice.contains("credentials"), "{away:?}");
        let stranger = judge("s3://mail", Finding::Unusable("invalid peer certificate: UnknownIssuer".into()));
        assert!(stranger.advice.contains("[cold] ca_file"), "{stranger:?}");
    }

    #[test]
    fn without_storage_there_is_nothing_to_say() {
        assert_eq!(checks(&Config::default()), []);
    }
}
