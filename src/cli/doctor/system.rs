//! Limits, memory, kernel settings and the clock.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::config::Config;
use crate::mail::units::Bytes;

/// Descriptors for everything that is no connection: database, segments, listeners, log.
const OTHER_DESCRIPTORS: u64 = 1_000;

/// With fewer there is nothing left for connections.
const FEWEST_DESCRIPTORS: u64 = OTHER_DESCRIPTORS + 24;

/// As many connections as the listeners ask the kernel to hold.
const BACKLOG: u64 = 4_096;

/// 2026-01-01, in seconds since the epoch: a clock before it is wrong.
const NOT_BEFORE: i64 = 1_767_225_600;

/// All of them.
pub fn checks(config: &Config) -> Vec<Check> {
    vec![
        descriptors(config),
        memory(),
        kernel_floor("somaxconn", "net/core/somaxconn", BACKLOG, "bursts of connections are refused by the kernel"),
        kernel_floor(
            "syn backlog",
            "net/ipv4/tcp_max_syn_backlog",
            1_024,
            "bursts of connections are dropped half open",
        ),
        port_range(),
        overcommit(),
        clock(),
    ]
}

fn descriptors(config: &Config) -> Check {
    judge_descriptors(config, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX))
}

/// Fewer than the configuration allows connections is a warning to who asked for as many, and a notice to who did not:
/// the defaults are ceilings that few servers come near.
fn judge_descriptors(config: &Config, hard: u64) -> Check {
    let need = configured_connections(config).saturating_add(OTHER_DESCRIPTORS);
    let room = hard.saturating_sub(OTHER_DESCRIPTORS);
    let advice =
        format!("set LimitNOFILE={} in the unit, or ulimit -Hn", need.clamp(65_536, 1 << 30).next_power_of_two());
    if hard < need
        && hard >= FEWEST_DESCRIPTORS
        && need == configured_connections(&Config::default()) + OTHER_DESCRIPTORS
    {
        let found = format!("{hard} (serve raises its soft limit to this): some {room} connections at once");
        return Check::notice("descriptors", found, format!("for all that the defaults allow ({need}) {advice}"));
    }
    let found = format!("{hard} (serve raises its soft limit to this); the configured connections need {need}");
    Check::floor("descriptors", hard, FEWEST_DESCRIPTORS, need, found, advice)
}

/// Connections that the configuration allows at once; WebSocket clients are among those of HTTP.
fn configured_connections(config: &Config) -> u64 {
    (config.smtp.max_sessions as u64).saturating_add(config.http.max_connections as u64)
}

fn memory() -> Check {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = number_after(&meminfo, "MemAvailable:").unwrap_or(0) * 1_024;
    let limit = cgroup_limit();
    let room = limit.map_or(available, |limit| limit.min(available));
    let found = match limit {
        Some(limit) => format!("{} MiB available, {} MiB allowed", available >> 20, limit >> 20),
        None => format!("{} MiB available", available >> 20),
    };
    let advice = "give it 256 MiB at least, 1 GiB for thousands of connections".to_owned();
    Check::floor("memory", room, Bytes::mib(64).0, Bytes::mib(256).0, found, advice)
}

/// What a container allows (cgroup v2).
fn cgroup_limit() -> Option<u64> {
    fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

fn kernel_floor(name: &'static str, path: &str, want: u64, harm: &str) -> Check {
    let Some(value) = fs::read_to_string(format!("/proc/sys/{path}")).ok().and_then(|text| text.trim().parse().ok())
    else {
        return Check::ok(name, "cannot be read here");
    };
    let advice = format!("below {want} {harm}: sysctl -w {}={want}", path.replace('/', "."));
    Check::floor(name, value, 0, want, value.to_string(), advice)
}

/// Matters to whoever connects: proxies in front of it and `mailroom stress`.
fn port_range() -> Check {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|text| text.parse::<u64>().ok());
    let (Some(low), Some(high)) = (numbers.next(), numbers.next()) else {
        return Check::ok("local ports", "cannot be read here");
    };
    let advice =
        "a proxy in front of it has few ports: sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"".to_owned();
    Check::floor("local ports", high.saturating_sub(low), 0, 20_000, format!("{low} to {high}"), advice)
}

fn overcommit() -> Check {
    match fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default().trim() {
        "2" => Check::warn(
            "overcommit",
            "2: memory that is only reserved counts as used",
            "sysctl -w vm.overcommit_memory=0, or give the machine more memory",
        ),
        other => Check::ok("overcommit", if other.is_empty() { "cannot be read here" } else { other }),
    }
}

fn clock() -> Check {
    let seconds = crate::clock::now_micros() / 1_000_000;
    let shown = jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
    if seconds < NOT_BEFORE {
        return Check::fail(
            "clock",
            format!("{shown} is in the past"),
            "set the clock: mail would expire at once later",
        );
    }
    Check::ok("clock", shown)
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_clock() {
        let checks = checks(&Config::default());
        for name in ["memory", "clock"] {
            let check = checks.iter().find(|check| check.name == name).unwrap();
            assert_ne!(check.level, super::super::Level::Fail, "{check:?}");
        }
    }

    #[test]
    fn few_descriptors_are_a_warning_only_to_who_asked_for_more() {
        use super::super::Level;
        let mut config = Config::default();
        let level = |config: &Config, hard| judge_descriptors(config, hard).level;
        assert_eq!(level(&config, 1_000), Level::Fail);
        assert_eq!(level(&config, 20_000), Level::Notice);
        assert_eq!(level(&config, 1 << 20), Level::Ok);
        config.smtp.max_sessions = 50_000;
        assert_eq!(level(&config, 20_000), Level::Warn);
    }
}
