//! MariaDB, durable as in production. Where `MAILROOM_TEST_MYSQLD` names a program, MySQL of its kind stands in its place in
//! every test: with its defaults, but for what a server of a test has to have ([`super::mysql`]).

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::super::certificates::Signed;
use super::super::process::free_addresses;
use super::mysql;
use super::running::{Account, Running, Words, directory};

const USER: &str = "mailroom";
const INIT: &str =
    "CREATE USER IF NOT EXISTS mailroom@'%';\nGRANT ALL PRIVILEGES ON *.* TO mailroom@'%' WITH GRANT OPTION;\n";

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
        let server = match mysql::program() {
            Some(program) => {
                std::fs::write(&init, mysql::INIT).expect("writes");
                mysql::make(&program, &data).by(&account).run();
                mysql::server(&program, &data)
            }
            None => {
                std::fs::write(&init, INIT).expect("writes");
                make(&data).by(&account).run();
                server(&data)
            }
        };
        let server = server
            .and([&format!("--datadir={}", data.display()), &format!("--tmpdir={}", data.display())])
            .and([&format!("--socket={}", data.join("socket").display()), "--bind-address=127.0.0.1"])
            .and([&format!("--port={}", address.port()), &format!("--init-file={}", init.display())])
            .and(["--skip-name-resolve", "--max-connections=1000", "--max-connect-errors=100000"])
            .and(["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M", "--performance-schema=off"])
            .and(settings)
            .by(&account);
        let probe = client(address.port()).and(["-e", "SELECT 1"]);
        Self(Running::start(server, probe, directory, address))
    }

    pub fn url(&self, database: &str) -> String {
        match mysql::program() {
            Some(_) => format!("mysql://{USER}:{}@{}/{database}", mysql::PASSWORD, self.0.address),
            None => format!("mysql://{USER}@{}/{database}", self.0.address),
        }
    }

    /// Runs statements; what they gave, a line a row, columns divided by tabs. An empty database is none.
    pub fn sql(&self, database: &str, text: &str) -> String {
        self.try_sql(database, text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same where an error is an answer.
    pub fn try_sql(&self, database: &str, text: &str) -> Result<String, String> {
        client(self.0.address.port()).and(["-D", database, "-e", text]).output()
    }

    /// Ends every connection but this one.
    pub fn disconnect(&self) {
        // The table of them is a failure of MySQL 9 where one of them runs a statement with bytes in it.
        let list = self.sql("", "SHOW PROCESSLIST");
        let others = list.lines().filter(|line| !line.contains("PROCESSLIST"));
        for (id, rest) in others.filter_map(|line| line.split_once('\t')) {
            if !rest.starts_with(USER) {
                continue;
            }
            // It may have gone by itself.
            let _ = client(self.0.address.port()).and(["-e", &format!("KILL {id}")]).output();
        }
    }

    /// A script that copies the database `$2` of the server at `$0`, port `$1`, to `$3` over the file `$4`, as docs/operations.md says
    /// it: for MySQL with its own tools, where they lie beside it.
    pub fn copying(&self) -> String {
        let beside = |name: &str| {
            let program = PathBuf::from(mysql::program()?).with_file_name(name);
            program.exists().then(|| program.display().to_string())
        };
        let (dump, options, client) = match (beside("mysqldump"), beside("mysql")) {
            (Some(dump), Some(client)) => (dump, " --no-tablespaces --set-gtid-purged=OFF", client),
            _ => ("mariadb-dump".to_owned(), "", "mariadb".to_owned()),
        };
        let to = "--protocol=tcp -h $0 -P $1 -u mailroom";
        format!("{dump} --single-transaction --hex-blob{options} {to} $2 > $4 && {client} {to} $3 < $4")
    }

    /// What its clients take a password from.
    pub fn entry(&self) -> Option<(&'static str, &'static str)> {
        mysql::program().map(|_| ("MYSQL_PWD", mysql::PASSWORD))
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

/// Makes the files of an empty server.
fn make(data: &Path) -> Words {
    Words::new(["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .and([&format!("--datadir={}", data.display()), &format!("--tmpdir={}", data.display())])
        .and(["--skip-name-resolve", "--innodb-flush-method=nosync", "--innodb-log-file-size=64M"])
}

fn server(data: &Path) -> Words {
    Words::new(["mariadbd", "--no-defaults", &format!("--pid-file={}", data.join("pid").display())]).and([
        "--innodb-log-file-size=64M",
        "--skip-log-bin",
        "--table-open-cache=4000",
        "--log-warnings=1",
    ])
}

/// MariaDB's client, which knows what MySQL asks of it, too.
fn client(port: u16) -> Words {
    let words = Words::new(["mariadb", "--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-u", USER, "--batch"]);
    let words = words.and(["--skip-column-names", "--connect-timeout=5", "-P", &port.to_string()]);
    match mysql::program() {
        Some(_) => words.set("MYSQL_PWD", mysql::PASSWORD),
        None => words,
    }
}
