//! What stands around the server in production: nginx in front, systemd, compose, Kubernetes, Prometheus, each read by its own tools.

mod exported;
mod files;
pub mod nginx;
mod rolling;
mod unit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tree that is tested.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program that `scripts/setup.sh` installs, wherever Debian puts it.
fn program(name: &str) -> Command {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().map(|place| PathBuf::from(place).join(name)).find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} is missing: run scripts/setup.sh")))
}

/// Runs to the end; fails with what it said when it fails.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{said}");
    said
}
