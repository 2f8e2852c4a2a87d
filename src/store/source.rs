//! Where connections come from: a SQLite file, or a database server.

mod mysql;
mod postgres;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{ConnectOptions as _, Connection, Database};
use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, RuntimeErr, TransactionTrait,
};

pub(super) use postgres::COMMITTING;

use super::{connect, parameters};

/// Connections of a writer. It uses one at a time: the other is looked at by the pool after its transaction.
pub(super) const WRITING: u32 = 2;
/// How long to wait for a connection before the database counts as away.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection that nobody used for so long is tried first: the server may have gone and come back meanwhile.
const RESTED: Duration = Duration::from_secs(1);
/// A writer's connection that nobody used for so long is given back.
const UNUSED: Duration = Duration::from_secs(5);
/// Where connections come from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Postgres(Url<PgConnectOptions>),
    MySql(Url<MySqlConnectOptions>),
}

/// Options read from a URL, and the URL without its password to name it by.
#[derive(Clone)]
pub struct Url<T> {
    options: T,
    shown: String,
    since: Since,
}

/// The moment from which on a connection must have been made to be used again.
#[derive(Clone, Default)]
struct Since(Arc<Mutex<Option<Instant>>>);

impl Since {
    /// Whether one of this age will do.
    fn allows(&self, age: Duration) -> bool {
        self.0.lock().is_none_or(|since| since.elapsed() > age)
    }
}

impl<T> fmt::Debug for Url<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(&url.shown),
            Self::MySql(url) => f.write_str(&url.shown),
        }
    }
}

impl Source {
    /// A database server, when `url` names one.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn server(url: &str) -> Result<Option<Self>, String> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        match scheme {
            "postgres" | "postgresql" => Ok(Some(Self::Postgres(read(url)?))),
            "mysql" | "mariadb" => Ok(Some(Self::MySql(read(url)?))),
            _ => Ok(None),
        }
    }

    /// Whether both are of one engine.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Lets go of all connections that were made until now, by whomever: each is closed when it is wanted next, and made anew to
    /// where the name leads then.
    pub fn forsake(&self) {
        let since = match self {
            Self::File(_) => return,
            Self::Postgres(url) => &url.since,
            Self::MySql(url) => &url.since,
        };
        *since.0.lock() = Some(Instant::now());
    }

    /// One connection, for what is of one session: it is kept however long nobody uses it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn session(&self) -> Result<DatabaseConnection, DbErr> {
        match self {
            Self::File(path) => connect::reading(path, 1).await,
            Self::Postgres(url) => {
                self.explained(postgres::connect(postgres::options(url), kept(postgres::pool(url, 1, ACQUIRE)))).await
            }
            Self::MySql(url) => self.explained(mysql::connect(url, kept(mysql::pool(url, 1, ACQUIRE, false)))).await,
        }
    }

    /// A connection that is made and closed again: says what is wrong at once, where a pool tries for a while and then says
    /// that it took too long.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub async fn attempt(&self, limit: Duration) -> Result<(), DbErr> {
        let tried = async {
            match self {
                Self::File(_) => Ok(()),
                Self::Postgres(url) => {
                    drop_gently(postgres::options(url).connect().await.map_err(connect_error)?).await
                }
                Self::MySql(url) => drop_gently(mysql::options(url).connect().await.map_err(mysql::error)?).await,
            }
        };
        let late = || DbErr::Conn(RuntimeErr::Internal(format!("no answer within {} s", limit.as_secs_f64())));
        tokio::time::timeout(limit, tried).await.unwrap_or_else(|_| Err(late()))
    }

    /// The cause, where all that a pool has to say is that it took too long.
    async fn explained(
        &self,
        connecting: impl Future<Output = Result<DatabaseConnection, DbErr>>,
    ) -> Result<DatabaseConnection, DbErr> {
        match connecting.await {
            Err(error) if is_late(&error) => Err(self.attempt(ACQUIRE).await.err().unwrap_or(error)),
            connected => connected,
        }
    }

    /// The connection of a writer.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn writing(&self) -> Result<DatabaseConnection, DbErr> {
        match self {
            Self::File(path) => connect::writing(path).await,
            Self::Postgres(url) => {
                postgres::connect(postgres::options(url).options(postgres::PLANS), postgres::writing(url)).await
            }
            Self::MySql(url) => {
                mysql::connect(url, mysql::pool(url, WRITING, ACQUIRE, true).idle_timeout(UNUSED)).await
            }
        }
    }

    /// The same, made when it is asked for. None for a file.
    pub fn writing_lazily(&self) -> Option<DatabaseConnection> {
        match self {
            Self::File(_) => None,
            Self::Postgres(url) => {
                Some(postgres::lazily(postgres::options(url).options(postgres::PLANS), postgres::writing(url)))
            }
            Self::MySql(url) => Some(mysql::lazily(url, mysql::pool(url, WRITING, ACQUIRE, true).idle_timeout(UNUSED))),
        }
    }

    /// Connections for reading that are made when they are asked for, within `patience`. None for a file.
    pub fn reading_lazily(&self, connections: u32, patience: Duration) -> Option<DatabaseConnection> {
        match self {
            Self::File(_) => None,
            Self::Postgres(url) => {
                Some(postgres::lazily(postgres::options(url), postgres::pool(url, connections, patience)))
            }
            Self::MySql(url) => Some(mysql::lazily(url, mysql::pool(url, connections, patience, false))),
        }
    }

    /// Connections for reading.
    ///
    /// # Errors
    /// When the first cannot be made.
    pub async fn reading(&self, connections: u32) -> Result<DatabaseConnection, DbErr> {
        match self {
            Self::File(path) => connect::reading(path, connections).await,
            Self::Postgres(url) => {
                self.explained(postgres::connect(postgres::options(url), postgres::pool(url, connections, ACQUIRE)))
                    .await
            }
            Self::MySql(url) => {
                self.explained(mysql::connect(url, mysql::pool(url, connections, ACQUIRE, false))).await
            }
        }
    }
}

/// A transaction that sees one state of the database throughout. Whoever waits for it may give up at any moment.
///
/// # Errors
/// When the database is away.
pub async fn snapshot(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    match db.get_database_backend() {
        DbBackend::Sqlite => db.begin().await,
        _ => {
            // One that is given up while it begins would go back to its pool begun, and the next to use it would fail: it
            // begins in a task of its own, at whose end it is rolled back when nobody wants it any more.
            let db = db.clone();
            let begin = async move {
                db.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)).await
            };
            let lost = |error: tokio::task::JoinError| DbErr::Custom(error.to_string());
            tokio::spawn(begin).await.map_err(lost)?
        }
    }
}

fn read<T: FromStr<Err = sea_orm::sqlx::Error>>(url: &str) -> Result<Url<T>, String> {
    // The scheme that the driver knows.
    let known = url.replacen("mariadb://", "mysql://", 1);
    parameters::check(&known)?;
    let options = known.parse::<T>().map_err(|error| error.to_string())?;
    Ok(Url { options, shown: without_password(url), since: Since::default() })
}

/// `scheme://user:secret@host/name?a=b` as `scheme://user@host/name`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let bare = |place: &str| place.split(['?', '#']).next().unwrap_or_default().to_owned();
    // A password may have anything in it, and what follows the last @ is none.
    match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split([':', '?', '#', '/']).next().unwrap_or_default();
            format!("{scheme}://{user}@{}", bare(place))
        }
        None => format!("{scheme}://{}", bare(rest)),
    }
}

/// Whether the other side of a connection that was not used for a while is still there.
async fn lives(connection: &mut impl Connection) -> bool {
    matches!(tokio::time::timeout(ACQUIRE / 2, connection.ping()).await, Ok(Ok(())))
}

/// Nobody closes its connections for being idle or old.
fn kept<D: Database>(pool: PoolOptions<D>) -> PoolOptions<D> {
    pool.idle_timeout(None).max_lifetime(None)
}

/// What the server itself said comes without the line of its own source.
fn connect_error(error: sea_orm::sqlx::Error) -> DbErr {
    match error {
        sea_orm::sqlx::Error::Database(said) => DbErr::Conn(RuntimeErr::Internal(said.message().to_owned())),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

/// A pool got no connection in time.
fn is_late(error: &DbErr) -> bool {
    matches!(error, DbErr::Conn(RuntimeErr::SqlxError(error)) if matches!(**error, sea_orm::sqlx::Error::PoolTimedOut))
}

/// So that the server does not log that a client went away without a word.
async fn drop_gently(connection: impl Connection) -> Result<(), DbErr> {
    // It is not needed any more.
    let _ = connection.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_a_session_is_one_and_stays() {
        let url = |url: &str| Source::server(url).unwrap().unwrap();
        let (Source::Postgres(at), Source::MySql(and_at)) = (url("postgres://h/m"), url("mysql://h/m")) else {
            panic!("of each engine one");
        };
        let postgres = kept(postgres::pool(&at, 1, ACQUIRE));
        assert_eq!((postgres.get_idle_timeout(), postgres.get_max_lifetime()), (None, None));
        assert_eq!(postgres.get_max_connections(), 1);
        let mysql = kept(mysql::pool(&and_at, 1, ACQUIRE, false));
        assert_eq!((mysql.get_idle_timeout(), mysql.get_max_lifetime()), (None, None));
        assert_eq!(mysql.get_max_connections(), 1);
    }

    #[test]
    fn connections_from_before_a_moment_are_let_go_of_by_all_who_have_them() {
        let source = Source::server("postgres://h/m").unwrap().unwrap();
        let Source::Postgres(copy) = source.clone() else { panic!("it is PostgreSQL") };
        assert!(copy.since.allows(Duration::from_secs(60)));
        source.forsake();
        assert!(!copy.since.allows(Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(2));
        assert!(copy.since.allows(Duration::ZERO));
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://ann:se@cret@db.example/mail?sslmode=require", "postgres://ann@db.example/mail"),
            ("postgres://ann:1?options=se@cret#x@db.example/mail", "postgres://ann@db.example/mail"),
            ("mysql://root@127.0.0.1:3306/mail", "mysql://root@127.0.0.1:3306/mail"),
            ("mariadb://h/m", "mariadb://h/m"),
        ] {
            let source = Source::server(url).unwrap().unwrap();
            assert_eq!(source.to_string(), shown);
            assert!(!format!("{source:?}").contains("cret"));
        }
        assert!(Source::server("sqlite:x").unwrap().is_none());
        assert!(Source::server("postgres://h:notaport/x").is_err());
    }
}
