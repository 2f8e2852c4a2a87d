//! The unit for systemd: understood whole, narrow, and true to the program.

use std::fs;

use mailroom::config::Config;

use super::{program, root, run};

/// Where the unit expects the program.
const INSTALLED: &str = "/usr/local/bin/mailroom";

fn unit() -> String {
    fs::read_to_string(root().join("deploy/mailroom.service")).unwrap()
}

/// The value of a line that stands there once.
fn value<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let (found, more) = (lines.next(), lines.next());
    assert_eq!(more, None, "{name}");
    found.unwrap_or_else(|| panic!("{name} is not set"))
}

/// What systemd says of a unit whose program is the one under test; nothing when it understands every line.
fn verified(unit: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mailroom.service");
    assert!(unit.contains(INSTALLED));
    fs::write(&path, unit.replace(INSTALLED, env!("CARGO_BIN_EXE_mailroom"))).unwrap();
    // Systemd would look for the units of whoever runs the tests, too.
    run(program("systemd-analyze").env_remove("XDG_RUNTIME_DIR").args(["verify", "--man=no"]).arg(path))
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    assert_eq!(verified(&unit()), "");
    let misspelt = unit().replace("RestrictRealtime=", "RestrictRealTimes=");
    assert!(verified(&misspelt).contains("RestrictRealTimes"), "the test would not notice a line that means nothing");
}

#[test]
fn the_unit_leaves_the_program_little_but_time_to_stop() {
    let unit = unit();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mailroom.service");
    fs::write(&path, &unit).unwrap();
    // In tenths: systemd's own scale goes from 0 to 10, "OK" ends at 5.
    run(program("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(path));
    let seconds: u64 = value(&unit, "TimeoutStopSec").parse().unwrap();
    assert!(seconds > Config::default().runtime.stop_within.0.as_secs());
    assert!(value(&unit, "LimitNOFILE").parse::<u64>().unwrap() > Config::default().http.max_connections as u64);
    // The configuration is wrong (sysexits.h), as `mailroom --help` says.
    assert_eq!(value(&unit, "RestartPreventExitStatus"), "78");
    let text = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    for path in [INSTALLED, "/etc/mailroom/mailroom.toml"] {
        assert!(value(&unit, "ExecStart").contains(path) && text.contains(path), "{path}");
    }
    assert_eq!(value(&unit, "WorkingDirectory"), format!("/var/lib/{}", value(&unit, "StateDirectory")));
}
