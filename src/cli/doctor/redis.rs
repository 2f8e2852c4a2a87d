//! Redis, as `[redis]` has it: whether each server answers and fits.

use super::Check;
use crate::cluster::redis::look::{Found, look};
use crate::config::Config;

const ADVICE: &str = "without it this node goes on, with events of other nodes a second later and limits of its own; see docs/cluster.md";

/// Nothing where there is none.
pub fn checks(config: &Config) -> Vec<Check> {
    if config.redis.url.is_empty() {
        return Vec::new();
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(look(&config.redis)).into_iter().map(check).collect(),
        Err(error) => vec![Check::warn("redis", error.to_string(), "too few threads or descriptors")],
    }
}

/// What to mend, as far as the error tells; none for what is about the server's own settings.
fn mend(text: &str) -> Option<&'static str> {
    const KNOWN: &[(&str, &str)] = &[
        ("_file ", "mend that setting of [redis]"),
        ("NOAUTH", "it wants a password: [redis] url = \"redis://user:password@host:port\""),
        ("uthentication", "see that user and password in [redis] url are the server's (redis-cli ACL LIST)"),
        ("WRONGPASS", "see that user and password in [redis] url are the server's (redis-cli ACL LIST)"),
        ("NOPERM", "give the user of [redis] url its rights (redis-cli ACL SETUSER)"),
        ("does not answer", "see that it runs, and that [redis] url names its host and port"),
    ];
    KNOWN.iter().find(|(said, _)| text.contains(said)).map(|(_, mend)| *mend)
}

fn check(Found { server, fine, trouble, text }: Found) -> Check {
    let found = if server.is_empty() { text.clone() } else { format!("{server}: {text}") };
    let advice = trouble.map(|trouble| trouble.advice("[redis] ca_file", "[redis] cert_file and key_file"));
    match advice {
        Some(advice) => Check::warn("redis", found, advice),
        None if fine => Check::ok("redis", found),
        None => match mend(&text) {
            Some(mend) => Check::warn("redis", found, format!("{mend}; {ADVICE}")),
            None => Check::warn("redis", found, ADVICE),
        },
    }
}
