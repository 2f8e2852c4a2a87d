//! Whether the configured addresses are free, and who has them when they are not.

use std::fs;
use std::net::SocketAddr;

use super::Check;
use super::running::{self, Running};
use crate::config::Config;
use crate::startup::{StartError, data_holder, listen};
use crate::store::engine;

/// The server of this configuration, should it run already.
enum Own {
    /// Whoever has the data directory locked.
    Files(Option<String>),
    /// Whoever answers at the operations listener; it is ours when it has our database.
    Shared { database: String, running: Option<Running> },
}

/// One check for each address that `serve` would listen on.
pub fn checks(config: &Config) -> Vec<Check> {
    let own = match engine::name(&config.store()) {
        None => Own::Files(data_holder(&config.runtime.data)),
        Some(database) => Own::Shared { database, running: running::ask(config.ops.listen.0) },
    };
    config.listeners().into_iter().map(|(name, addr)| check(name, addr, &own)).collect()
}

fn check(name: &'static str, addr: SocketAddr, own: &Own) -> Check {
    match listen(addr, "it", "the configuration") {
        Ok(_) if addr.port() == 0 => Check::ok(name, format!("{addr}: a free port is taken at start")),
        Ok(_) => Check::ok(name, format!("{addr} is free")),
        Err(StartError::PortTaken { .. }) => match own {
            Own::Shared { database, running: Some(running) } if running.holds(addr) => {
                held(name, addr, database, running)
            }
            Own::Shared { .. } => taken(name, addr, None),
            Own::Files(server) => taken(name, addr, server.as_deref()),
        },
        Err(error) => Check::fail(name, error.to_string(), "use an address of this machine and a port it may bind"),
    }
}

/// By a server that says who it is.
fn held(name: &'static str, addr: SocketAddr, database: &str, running: &Running) -> Check {
    let id = running.id;
    if running.database == database {
        return Check::ok(name, format!("{addr} is served by the running mailroom (process {id})"));
    }
    Check::fail(
        name,
        format!("{addr} is taken by a mailroom with another database (process {id}, {})", running.database),
        "stop that server, or choose another port in the configuration",
    )
}

fn taken(name: &'static str, addr: SocketAddr, server: Option<&str>) -> Check {
    let holder = listener_inode(addr.port()).and_then(|inode| process_with(&inode));
    match (holder, server) {
        (Some(holder), Some(server)) if server == format!("process {}", holder.id) => {
            Check::ok(name, format!("{addr} is served by the running mailroom ({server})"))
        }
        (Some(Process { id, name: program }), _) => Check::fail(
            name,
            format!("{addr} is taken by process {id} ({program})"),
            "stop that process, or choose another port in the configuration",
        ),
        (None, Some(server)) => {
            Check::ok(name, format!("{addr} is taken, it seems by the running mailroom ({server})"))
        }
        (None, None) => Check::fail(
            name,
            format!("{addr} is taken by a process that is not ours to see"),
            "find it with `ss -ltnp` as root, or choose another port in the configuration",
        ),
    }
}

struct Process {
    id: String,
    name: String,
}

/// The inode of the socket that listens on `port`, from `/proc/net/tcp` and `tcp6` (state 0A).
fn listener_inode(port: u16) -> Option<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|path| inode_in(&fs::read_to_string(path).ok()?, port))
}

fn inode_in(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, local) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (state == "0A" && u16::from_str_radix(local, 16) == Ok(port)).then(|| inode.to_owned())
    })
}

/// The process that has the socket open; only those of this user are seen, without root.
fn process_with(inode: &str) -> Option<Process> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id = entry.file_name().into_string().ok().filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))?;
        let mut descriptors = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let has = descriptors.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()));
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
        has.then_some(Process { id, name })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_free_and_a_taken_port_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let nobody = Own::Files(None);
        let check_taken = check("SMTP", addr, &nobody);
        assert_eq!(check_taken.level, Level::Fail);
        assert!(check_taken.found.contains(&format!("process {}", std::process::id())), "{}", check_taken.found);
        let ours = check("SMTP", addr, &Own::Files(Some(format!("process {}", std::process::id()))));
        assert_eq!(ours.level, Level::Ok, "{}", ours.found);
        drop(listener);
        assert_eq!(check("SMTP", addr, &nobody).level, Level::Ok);
    }

    #[test]
    fn a_port_of_the_running_server_is_well_where_it_has_the_same_database() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let level = |database: &str, listeners: Vec<SocketAddr>| {
            let running = Running { id: 7, database: "postgres://mail@db/mail".into(), listeners };
            check("SMTP", addr, &Own::Shared { database: database.into(), running: Some(running) }).level
        };
        assert_eq!(level("postgres://mail@db/mail", vec![addr]), Level::Ok);
        assert_eq!(level("postgres://mail@db/other", vec![addr]), Level::Fail);
        assert_eq!(level("postgres://mail@db/mail", Vec::new()), Level::Fail, "somebody else has it");
        let alone = Own::Shared { database: "postgres://mail@db/mail".into(), running: None };
        assert_eq!(check("SMTP", addr, &alone).level, Level::Fail);
    }

    #[test]
    fn finds_the_inode_of_a_listener_alone() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:09DD 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
             1: 0100007F:09DD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1\n";
        assert_eq!(inode_in(table, 0x09dd), Some("222".into()));
        assert_eq!(inode_in(table, 25), None);
    }
}
