//! The process's own figures, read from `/proc` at scrape time, under the names every Prometheus client uses.

use std::fmt::Write;
use std::fs;

/// Jiffies a second in `/proc`, the same on every Linux.
const USER_HZ: f64 = 100.0;

/// What `/proc/self` says; zero where it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub cpu_seconds: f64,
    pub threads: u64,
    pub open_fds: u64,
    pub max_fds: u64,
}

/// The usage of this process now.
#[must_use]
pub fn usage() -> Usage {
    let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let status = read("status");
    Usage {
        resident_bytes: status_number(&status, "VmRSS:") * 1_024,
        virtual_bytes: status_number(&status, "VmSize:") * 1_024,
        cpu_seconds: cpu_seconds(&read("stat")),
        threads: status_number(&status, "Threads:"),
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX),
    }
}

/// The number behind `key` in `/proc/self/status`; sizes there are in KiB.
fn status_number(status: &str, key: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    rest.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Fields 14 and 15, counted after the command's name, which stands in parentheses and may hold blanks (proc(5)).
fn cpu_seconds(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let jiffies: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
    jiffies as f64 / USER_HZ
}

/// Exposition text of the usage and of the start time (seconds since the epoch).
#[must_use]
pub fn render(usage: &Usage, started_seconds: f64) -> String {
    let mut out = String::with_capacity(1_024);
    let mut add = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    };
    add("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", usage.cpu_seconds);
    add("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", usage.resident_bytes as f64);
    add("process_virtual_memory_bytes", "gauge", "Virtual memory in bytes.", usage.virtual_bytes as f64);
    add("process_open_fds", "gauge", "Open file descriptors.", usage.open_fds as f64);
    add("process_max_fds", "gauge", "Limit of open file descriptors.", usage.max_fds as f64);
    add("process_threads", "gauge", "Threads of the process.", usage.threads as f64);
    add("process_start_time_seconds", "gauge", "Start time, seconds since the epoch.", started_seconds);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_after_a_name_with_blanks_and_parentheses() {
        assert_eq!(cpu_seconds("42 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 7"), 3.0);
        assert_eq!(cpu_seconds(""), 0.0);
    }

    #[test]
    fn reads_a_number_of_the_status() {
        let status = "Name:\tmailroom\nVmRSS:\t   12345 kB\nThreads:\t7\n";
        assert_eq!(status_number(status, "VmRSS:"), 12_345);
        assert_eq!(status_number(status, "Threads:"), 7);
        assert_eq!(status_number(status, "VmSize:"), 0);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let usage = usage();
        assert!(usage.resident_bytes > 100_000 && usage.threads >= 1 && usage.open_fds >= 3, "{usage:?}");
        assert!(usage.max_fds >= usage.open_fds, "{usage:?}");
    }

    #[test]
    fn renders_help_type_and_value() {
        let text = render(&Usage { open_fds: 12, ..Usage::default() }, 1.5);
        assert!(text.contains("# TYPE process_open_fds gauge\nprocess_open_fds 12\n"), "{text}");
        assert!(text.contains("process_start_time_seconds 1.5\n"), "{text}");
    }
}
