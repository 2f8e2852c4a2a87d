//! MySQL in the place of MariaDB, for who has one: `MAILROOM_TEST_MYSQLD=/usr/sbin/mysqld` (`make test-mysql`).
//!
//! Its defaults are what is tested: passwords by `caching_sha2_password`, the strict SQL mode, `utf8mb4_0900_ai_ci`, a binary log.
//! Beyond them it asks every table for a primary key and has global transaction ids, as managed servers and group replication do.

use std::path::Path;

use super::running::Words;

/// Of the user that tests are; it has one, so that the whole exchange is tried.
pub const PASSWORD: &str = "pass-of-the-test";
pub const INIT: &str = "CREATE USER IF NOT EXISTS mailroom@'%' IDENTIFIED BY 'pass-of-the-test';\n\
                        GRANT ALL PRIVILEGES ON *.* TO mailroom@'%' WITH GRANT OPTION;\n";

/// The `mysqld` to use, if one was named.
pub fn program() -> Option<String> {
    std::env::var("MAILROOM_TEST_MYSQLD").ok().filter(|program| !program.is_empty())
}

/// Makes the files of an empty server.
pub fn make(program: &str, data: &Path) -> Words {
    Words::new([program, "--no-defaults", "--initialize-insecure", "--innodb-flush-method=nosync"])
        .and([&format!("--datadir={}", data.display()), "--secure-file-priv=NULL"])
}

pub fn server(program: &str, data: &Path) -> Words {
    Words::new([program, "--no-defaults", "--mysqlx=OFF", "--secure-file-priv=NULL"])
        .and(["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--sql-require-primary-key=ON"])
        .and([&format!("--pid-file={}", data.join("pid").display())])
}
