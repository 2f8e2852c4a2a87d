//! Fresh databases for tests, on one server of each engine for a whole run.
//!
//! A database belongs to the data directory of the store that uses it: who asks again for the same directory gets the same
//! database, and it is dropped some time after the directory is gone.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::{MariaDb, Postgres, RabbitMq, Redis, mysql};

/// Queues of a server, beside that of large messages: two, so that mailboxes are shared out, and hundreds of servers are cheap.
pub const QUEUES: u16 = 2;

/// What a store keeps its rows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    /// Or MySQL, where `MAILROOM_TEST_MYSQLD` names one.
    MariaDb,
}

/// A database that was given to a test.
#[derive(Clone, Debug)]
pub struct Database {
    pub engine: Engine,
    pub name: String,
    /// For `[database] url`; empty for SQLite.
    pub url: String,
    directory: PathBuf,
}

static GIVEN: Mutex<Vec<Database>> = Mutex::new(Vec::new());

impl Engine {
    /// The one that this run is about: `MAILROOM_TEST_ENGINE`, or SQLite.
    pub fn chosen() -> Self {
        match std::env::var("MAILROOM_TEST_ENGINE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok("mariadb") => Self::MariaDb,
            Ok("mysql") => {
                assert!(mysql::program().is_some(), "MAILROOM_TEST_MYSQLD does not say which mysqld");
                Self::MariaDb
            }
            Ok(other) => panic!("MAILROOM_TEST_ENGINE={other}: possible are sqlite, postgres, mariadb and mysql"),
        }
    }

    /// Mail goes through a broker: on PostgreSQL, so that the runs cover both ways.
    pub fn has_broker(self) -> bool {
        self == Self::Postgres
    }

    /// The database of a data directory, fresh when it is asked for the first time.
    pub fn database(self, directory: &Path) -> Database {
        let mut given = GIVEN.lock();
        if let Some(known) = given.iter().find(|known| known.engine == self && known.directory == directory) {
            return known.clone();
        }
        let (gone, kept) = std::mem::take(&mut *given).into_iter().partition(|known| !known.directory.exists());
        *given = kept;
        let database = Database::new(self, directory);
        given.push(database.clone());
        drop(given);
        // Somebody may write to one still; then it stays until the server goes.
        Vec::into_iter(gone).for_each(|gone| drop(gone.try_on_server(&gone.dropped())));
        database.make();
        database
    }
}

impl Database {
    fn new(engine: Engine, directory: &Path) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let url = match engine {
            Engine::Sqlite => String::new(),
            Engine::Postgres => postgres().url(&name),
            Engine::MariaDb => mariadb().url(&name),
        };
        Self { engine, name, url, directory: directory.to_owned() }
    }

    fn make(&self) {
        let text = match self.engine {
            Engine::Sqlite => return,
            Engine::Postgres => format!("CREATE DATABASE {} TEMPLATE template0", self.name),
            Engine::MariaDb => format!("CREATE DATABASE {} CHARACTER SET utf8mb4", self.name),
        };
        self.try_on_server(&text).unwrap_or_else(|error| panic!("{error}"));
    }

    fn dropped(&self) -> String {
        match self.engine {
            Engine::Postgres => format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            _ => format!("SET lock_wait_timeout = 1; DROP DATABASE IF EXISTS {}", self.name),
        }
    }

    fn try_on_server(&self, text: &str) -> Result<String, String> {
        match self.engine {
            Engine::Sqlite => Ok(String::new()),
            Engine::Postgres => postgres().try_sql("postgres", text),
            Engine::MariaDb => mariadb().try_sql("mysql", text),
        }
    }

    /// The bus of the nodes on it, for `[redis] url`: none where the database is of one node alone. [`Database::name`] is a
    /// prefix that no other test has.
    pub fn redis(&self) -> Option<String> {
        (self.engine != Engine::Sqlite).then(|| redis().url())
    }

    /// What mail goes through, for `[broker] url`. [`Database::name`] is a prefix that no other test has, and [`QUEUES`] are enough.
    pub fn broker(&self) -> Option<String> {
        self.engine.has_broker().then(|| rabbitmq().url("%2f"))
    }

    /// Runs statements in it, from outside of the store; what they gave, a line a row.
    pub async fn sql(&self, text: &str) -> String {
        if self.engine == Engine::Sqlite {
            return sqlite(&self.directory.join("mailroom.db"), text).await;
        }
        match self.engine {
            Engine::Postgres => postgres().sql(&self.name, text),
            _ => mariadb().sql(&self.name, text),
        }
    }
}

async fn sqlite(file: &Path, text: &str) -> String {
    use sea_orm::ConnectionTrait;
    let db = sea_orm::Database::connect(format!("sqlite:{}", file.display())).await.unwrap();
    db.execute_unprepared(text).await.unwrap();
    db.close().await.unwrap();
    String::new()
}

/// The PostgreSQL that all tests of this run share.
pub fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}

/// The Redis that all tests of this run share, each under a prefix of its own.
pub fn redis() -> &'static Redis {
    static SHARED: OnceLock<Redis> = OnceLock::new();
    SHARED.get_or_init(Redis::start)
}

/// The RabbitMQ that all tests of this run share, each under a prefix or in a vhost of its own.
pub fn rabbitmq() -> &'static RabbitMq {
    static SHARED: OnceLock<RabbitMq> = OnceLock::new();
    SHARED.get_or_init(RabbitMq::start)
}

/// The MariaDB (or MySQL) that all tests of this run share.
pub fn mariadb() -> &'static MariaDb {
    static SHARED: OnceLock<MariaDb> = OnceLock::new();
    SHARED.get_or_init(MariaDb::start)
}

/// A module for each engine, with a test for each of these functions, which take the engine.
macro_rules! everywhere {
    ($($name:ident)*) => {
        everywhere!(@on sqlite Sqlite $($name)*);
        everywhere!(@on postgres Postgres $($name)*);
        everywhere!(@on mariadb MariaDb $($name)*);
    };
    (@on $module:ident $engine:ident $($name:ident)*) => {
        mod $module {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::servers::Engine::$engine).await;
            })*
        }
    };
}
pub(crate) use everywhere;
