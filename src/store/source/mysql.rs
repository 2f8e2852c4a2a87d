//! Connections to MySQL and MariaDB.

use std::time::Duration;

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPoolOptions};
use sea_orm::sqlx::{ConnectOptions as _, Executor as _};
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, SqlxMySqlConnector};

use super::{ACQUIRE, RESTED, Url, connect_error, lives};

/// For every connection of MySQL. It reckons the sizes of tables anew once a day unless it is told otherwise.
const MYSQL: &str = "SET SESSION transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 15, \
                     information_schema_stats_expiry = 0";
/// For those of MySQL that write: it has no limit for transactions that stand still, but ends connections that nobody speaks
/// on, in a transaction or not.
const IDLE: &str = "SET SESSION wait_timeout = 10, net_read_timeout = 10";
/// For every connection of MariaDB; from 11.1 on it has MySQL's name for the isolation.
const MARIADB: [&str; 2] = [
    "SET SESSION transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 15, idle_write_transaction_timeout = 10",
    "SET SESSION tx_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 15, idle_write_transaction_timeout = 10",
];

pub fn options(url: &Url<MySqlConnectOptions>) -> MySqlConnectOptions {
    crate::tls::provider();
    url.options.clone().statement_cache_capacity(200).disable_statement_logging()
}

pub fn lazily(url: &Url<MySqlConnectOptions>, pool: MySqlPoolOptions) -> DatabaseConnection {
    SqlxMySqlConnector::from_sqlx_mysql_pool(pool.connect_lazy_with(options(url)))
}

pub fn pool(url: &Url<MySqlConnectOptions>, connections: u32, patience: Duration, writes: bool) -> MySqlPoolOptions {
    let options = MySqlPoolOptions::new().max_connections(connections.max(1)).acquire_timeout(patience);
    let since = url.since.clone();
    let options = options.test_before_acquire(false).before_acquire(move |connection, known| {
        let allowed = since.allows(known.age);
        Box::pin(async move { Ok(allowed && (known.idle_for < RESTED || lives(connection).await)) })
    });
    let options = options.after_release(|connection, _| Box::pin(async move { Ok(is_at_rest(connection).await) }));
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            if say(connection, MYSQL).await? {
                return if writes { connection.execute(IDLE).await.map(drop) } else { Ok(()) };
            }
            match say(connection, MARIADB[0]).await? {
                true => Ok(()),
                false => connection.execute(MARIADB[1]).await.map(drop),
            }
        })
    })
}

/// Whether a connection that is given back can be used again. Who went away while a statement was prepared leaves it waiting
/// for an answer that it has had, for ever; who went away while a transaction began leaves that open, and no other can begin.
async fn is_at_rest(connection: &mut MySqlConnection) -> bool {
    matches!(tokio::time::timeout(ACQUIRE / 2, connection.execute("ROLLBACK")).await, Ok(Ok(_)))
}

/// Changes settings of the session; false when the server does not have one of them.
async fn say(connection: &mut MySqlConnection, text: &'static str) -> Result<bool, sea_orm::sqlx::Error> {
    match connection.execute(text).await {
        Ok(_) => Ok(true),
        Err(sea_orm::sqlx::Error::Database(error)) if is_unknown(error.as_ref()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The server has no setting of this name.
fn is_unknown(error: &dyn DatabaseError) -> bool {
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| error.number() == 1193)
}

pub async fn connect(url: &Url<MySqlConnectOptions>, pool: MySqlPoolOptions) -> Result<DatabaseConnection, DbErr> {
    let pool = pool.connect_with(options(url)).await.map_err(error)?;
    Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
}

/// Without TLS a password of MySQL 8 would have to be encrypted with a key that nobody vouches for.
pub fn error(error: sea_orm::sqlx::Error) -> DbErr {
    match error {
        sea_orm::sqlx::Error::Configuration(why) if why.to_string().contains("RSA auth") => {
            DbErr::Conn(RuntimeErr::Internal(
                "the server takes this user's password (caching_sha2_password) over TLS only: leave ssl-mode=DISABLED out \
                 of the URL, or switch TLS on in the server"
                    .into(),
            ))
        }
        other => connect_error(other),
    }
}
