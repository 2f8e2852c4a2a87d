//! The kernel settings of `deploy/sysctl`, as they are here. The file is the list: what it sets is what is looked at.

use std::fs;

use super::Check;

/// The settings with their reasons, a copy of which an operator installs.
const FILE: &str = include_str!("../../../deploy/sysctl/90-mailroom.conf");

const NAME: &str = "kernel";

/// One line for all of them: a machine with a few thousand connections does without.
pub fn checks() -> Vec<Check> {
    vec![judge(|name| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok())]
}

fn judge(read: impl Fn(&str) -> Option<String>) -> Check {
    let mut looked_at = 0;
    let mut others = Vec::new();
    // What concerns Redis beside us is not ours to judge.
    for (name, wanted) in settings().filter(|(name, _)| name.starts_with("net.") || name.starts_with("fs.")) {
        let Some(value) = read(name) else { continue };
        looked_at += 1;
        if !is_enough(name, &value, wanted) {
            others.push(format!("{name} = {}", value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    match (looked_at, others.is_empty()) {
        (0, _) => Check::ok(NAME, "its settings cannot be read here"),
        (_, true) => Check::ok(NAME, format!("{looked_at} settings are as deploy/sysctl has them, or better")),
        (_, false) => Check::notice(
            NAME,
            others.join(", "),
            "enough for some thousand connections; for more see deploy/sysctl/90-mailroom.conf, which says what each is for",
        ),
    }
}

/// Names and values of the file. A name with a dash before it may be missing in the kernel.
fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().trim_start_matches('-'), value.trim()))
    })
}

/// Whether the value serves as well as the wanted one.
fn is_enough(name: &str, value: &str, wanted: &str) -> bool {
    let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<_>>();
    let (has, wants) = (numbers(value), numbers(wanted));
    match name.rsplit('.').next().unwrap_or_default() {
        "ip_local_port_range" => width(&has) >= width(&wants),
        // Only of use where the range has these ports in it.
        "ip_local_reserved_ports" => true,
        // Switches: 2 is another way of yes.
        "tcp_syncookies" | "tcp_tw_reuse" => has.first().is_some_and(|value| *value > 0),
        // Less is better.
        "tcp_slow_start_after_idle" | "tcp_keepalive_time" | "tcp_keepalive_intvl" | "tcp_keepalive_probes" => {
            has.first() <= wants.first()
        }
        // The largest size; what a connection begins with is only a beginning.
        "tcp_rmem" | "tcp_wmem" => has.last().is_some() && has.last().map(|most| most * 4) >= wants.last().copied(),
        _ => has.first() >= wants.first(),
    }
}

fn width(range: &[u64]) -> u64 {
    match range {
        [low, high] => high.saturating_sub(*low),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn the_file_is_enough_for_itself() {
        let check = judge(|name| settings().find(|(own, _)| *own == name).map(|(_, value)| format!("{value}\n")));
        assert_eq!(check.level, Level::Ok, "{check:?}");
        assert!(settings().count() > 15);
        for (name, value) in settings() {
            assert!(
                name.contains('.') && value.bytes().all(|byte| byte.is_ascii_digit() || b" ,".contains(&byte)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_less_is_named() {
        let changed = |name: &'static str, value: &'static str| {
            judge(move |asked| {
                let own = settings().find(|(own, _)| *own == asked).map(|(_, value)| value.to_owned());
                if asked == name { Some(value.to_owned()) } else { own }
            })
        };
        for (name, value, level) in [
            ("net.core.somaxconn", "128", Level::Notice),
            ("net.core.somaxconn", "65535", Level::Ok),
            ("net.ipv4.ip_local_port_range", "32768\t60999", Level::Notice),
            ("net.ipv4.tcp_tw_reuse", "2", Level::Ok),
            ("net.ipv4.tcp_tw_reuse", "0", Level::Notice),
            ("net.ipv4.tcp_keepalive_time", "7200", Level::Notice),
            ("net.ipv4.tcp_keepalive_time", "60", Level::Ok),
            ("net.ipv4.tcp_rmem", "4096\t131072\t6291456", Level::Ok),
            ("net.ipv4.tcp_rmem", "4096\t131072\t1048576", Level::Notice),
            ("fs.nr_open", "1073741816", Level::Ok),
        ] {
            let check = changed(name, value);
            assert_eq!(check.level, level, "{check:?}");
            assert_eq!(check.found.contains(name), level == Level::Notice, "{check:?}");
        }
        assert_eq!(judge(|_| None).level, Level::Ok);
    }
}
