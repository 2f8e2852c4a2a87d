//! PostgreSQL, durable as in production.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use rustix::process::Signal;

use super::super::certificates::Signed;
use super::super::process::free_addresses;
use super::running::{Account, Running, Words, directory};

const USER: &str = "mailroom";

pub struct Postgres(Running);

impl Postgres {
    pub fn start() -> Self {
        Self::with([])
    }

    /// With settings such as `-c work_mem=1MB`, two words each.
    pub fn with<const N: usize>(settings: [&str; N]) -> Self {
        Self::begin(Words::default().and(settings), None)
    }

    /// With `ssl=on` and this certificate.
    pub fn with_tls(own: &Signed) -> Self {
        let certificate = format!("ssl_cert_file={}", own.certificate);
        Self::begin(
            Words::default().and(["-c", "ssl=on", "-c", &certificate, "-c", "ssl_key_file=server.key"]),
            Some(own),
        )
    }

    fn begin(settings: Words, own: Option<&Signed>) -> Self {
        let ([address], directory, account) = (free_addresses(), directory(), Account::new("postgres"));
        let data = directory.join("data");
        account.directory(&data);
        let data = data.to_str().expect("a path in text");
        let initdb = programs().join("initdb");
        Words::new([initdb.to_str().expect("text"), "--pgdata", data, "--username", USER, "--auth", "trust"])
            .and(["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"])
            .by(&account)
            .run();
        if let Some(own) = own {
            // It refuses a key that others may read.
            account.file(&PathBuf::from(data).join("server.key"), &std::fs::read(&own.key).expect("a key"));
        }
        let server = server(data, address.port()).then(settings).by(&account);
        let probe = psql(address.port(), "postgres").and(["-c", "SELECT 1"]);
        Self(Running::start(server, probe, directory, address))
    }

    /// A streaming replica of this one, on a port of its own, that serves reads.
    pub fn replica(&self) -> Self {
        let ([address], directory, account) = (free_addresses(), directory(), Account::new("postgres"));
        let data = directory.join("data");
        account.directory(&data);
        let data = data.to_str().expect("a path in text");
        let copy = programs().join("pg_basebackup");
        Words::new([copy.to_str().expect("text"), "-h", "127.0.0.1", "-p", &self.0.address.port().to_string()])
            .and(["-U", USER, "-D", data, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"])
            .and(["--no-sync"])
            .by(&account)
            .run();
        let probe = psql(address.port(), "postgres").and(["-c", "SELECT 1"]);
        Self(Running::start(server(data, address.port()).by(&account), probe, directory, address))
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.0.address)
    }

    /// Runs statements, each in a transaction of its own; what they gave, a line a row, columns divided by `|`.
    pub fn sql(&self, database: &str, text: &str) -> String {
        self.try_sql(database, text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same where an error is an answer.
    pub fn try_sql(&self, database: &str, text: &str) -> Result<String, String> {
        psql(self.0.address.port(), database).and(["-c", text]).output()
    }

    /// Ends every connection but this one.
    pub fn disconnect(&self) {
        self.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
    }

    /// A fast shutdown: transactions under way are ended, everything is on the disk.
    pub fn stop(&mut self) {
        self.0.stop(Signal::INT);
    }
}

impl Deref for Postgres {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.0
    }
}

fn server(data: &str, port: u16) -> Words {
    let postgres = programs().join("postgres");
    Words::new([postgres.to_str().expect("text"), "-D", data, "-h", "127.0.0.1", "-p", &port.to_string()])
        .and(["-c", "unix_socket_directories=", "-c", "fsync=on", "-c", "synchronous_commit=on"])
        .and(["-c", "full_page_writes=on", "-c", "max_connections=1000", "-c", "shared_buffers=64MB"])
        .and(["-c", "log_min_messages=fatal", "-c", "autovacuum_naptime=10s"])
}

fn psql(port: u16, database: &str) -> Words {
    Words::new(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
        .and(["-p", &port.to_string(), "-U", USER, "-d", database])
        .set("PGCONNECT_TIMEOUT", "5")
        .set("PGOPTIONS", "-c client_min_messages=warning")
}

/// Where Debian has the programs of the newest PostgreSQL.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: scripts/setup.sh installs it");
    let newest = versions.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    PathBuf::from(format!("/usr/lib/postgresql/{}/bin", newest.expect("a version of PostgreSQL")))
}
