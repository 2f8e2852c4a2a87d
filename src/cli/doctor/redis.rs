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

fn check(Found { server, fine, trouble, text }: Found) -> Check {
    let found = format!("{server}: {text}");
    let advice = trouble.map(|trouble| trouble.advice("[redis] ca_file", "[redis] cert_file and key_file"));
    match advice {
        Some(advice) => Check::warn("redis", found, advice),
        None if fine => Check::ok("redis", found),
        None => Check::warn("redis", found, ADVICE),
    }
}
