//! MariaDB, durable as in production.

use std::ops::{Deref, DerefMut};

use rustix::process::Signal;

use super::super::certificates::Signed;
use super::super::process::free_addresses;
use super::running::{Account, Running, Words, directory};

const USER: &str = "mailroom";
const INIT: &str = "CREATE USER IF NOT EXISTS mailroom@'%';\nGRANT ALL PRIVILEGES ON *.* TO mailroom@'%';\n";

pub struct MariaDb(Running);

impl MariaDb {
    pub fn start() -> Self {
        Self::with([])
    }

    /// With this certificate.
    pub fn with_tls(own: &Signed) -> Self {
        Self::with([&format!("--ssl-cert={}", own.certificate), &format!("--ssl-key={}", own.key)])
    }

    /// With settings such as `--max-allowed-packet=1M`.
    pub fn with<const N: usize>(settings: [&str; N]) -> Self {
        let ([address], directory, account) = (free_addresses(), directory(), Account::new("mysql"));
        let (data, init) = (directory.join("data"), directory.join("init.sql"));
        account.directory(&data);
        std::fs::write(&init, INIT).expect("writes");
        let data = format!("--datadir={}", data.display());
        let temporary = format!("--tmpdir={}", directory.join("data").display());
        Words::new([
            "mariadb-install-db",
            "--no-defaults",
            &data,
            &temporary,
            "--auth-root-authentication-method=normal",
        ])
        .and(["--skip-test-db", "--skip-name-resolve", "--innodb-flush-method=nosync", "--innodb-log-file-size=64M"])
        .by(&account)
        .run();
        let socket = directory.join("data").join("socket");
        let server = Words::new(["mariadbd", "--no-defaults", &data, &temporary, "--bind-address=127.0.0.1"])
            .and([&format!("--port={}", address.port()), &format!("--socket={}", socket.display())])
            .and([&format!("--init-file={}", init.display()), "--skip-name-resolve", "--max-connections=1000"])
            .and(["--innodb-flush-log-at-trx-commit=1", "--innodb-log-file-size=64M", "--innodb-buffer-pool-size=128M"])
            .and([
                "--performance-schema=off",
                "--skip-log-bin",
                "--table-open-cache=4000",
                "--max-connect-errors=100000",
            ])
            .and(["--log-warnings=1"])
            .and(settings)
            .by(&account);
        let probe = mariadb(address.port()).and(["-e", "SELECT 1"]);
        Self(Running::start(server, probe, directory, address))
    }

    pub fn url(&self, database: &str) -> String {
        format!("mysql://{USER}@{}/{database}", self.0.address)
    }

    /// Runs statements; what they gave, a line a row, columns divided by tabs. An empty database is none.
    pub fn sql(&self, database: &str, text: &str) -> String {
        mariadb(self.0.address.port()).and(["-D", database, "-e", text]).run()
    }

    /// Ends every connection but this one.
    pub fn disconnect(&self) {
        let list = "SELECT id FROM information_schema.processlist WHERE user = 'mailroom' AND id <> connection_id()";
        for id in self.sql("", list).lines() {
            // It may have gone by itself.
            let _ = mariadb(self.0.address.port()).and(["-e", &format!("KILL {id}")]).output();
        }
    }

    /// An orderly end: everything is on the disk.
    pub fn stop(&mut self) {
        self.0.stop(Signal::TERM);
    }
}

impl Deref for MariaDb {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl DerefMut for MariaDb {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.0
    }
}

fn mariadb(port: u16) -> Words {
    Words::new(["mariadb", "--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-u", USER, "--batch"]).and([
        "--skip-column-names",
        "--connect-timeout=5",
        "-P",
        &port.to_string(),
    ])
}
