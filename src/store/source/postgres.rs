//! Connections to PostgreSQL.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::{ConnectOptions as _, Executor as _};
use sea_orm::{DatabaseConnection, DbErr, SqlxPostgresConnector};

use super::{ACQUIRE, RESTED, Url, WRITING, connect_error, lives};

/// How long a transaction may stand still before the server ends it: a node that was stopped holds rows no longer.
const IDLE_TRANSACTION: Duration = Duration::from_secs(10);

/// A statement that is prepared on the connections of a writer on PostgreSQL, so that a commit is one message without being
/// planned each time: (number of events, mark, events, and what the node knows: lineage, stamp, stamp of a commit, its mark). The
/// mark is put twice, which fails, where the database does not have what is known ([`crate::store::history`]).
pub const COMMITTING: &str = "mailroom_commit";
const COMMIT: &str = "PREPARE mailroom_commit (bigint, uuid, bytea, bigint, bigint, bigint, uuid) AS \
    WITH taken AS (UPDATE meta SET stamp = stamp + $1 WHERE id = 1 RETURNING stamp, lineage, restored, stream_floor) \
    INSERT INTO commits (batch, last, events) SELECT $2, CASE WHEN $1 > 0 THEN stamp END, $3 \
    FROM taken, generate_series(1, 2) turn WHERE turn = 1 OR lineage <> $4 OR restored OR stamp < $5 + $1 \
    OR (stream_floor < $6 AND NOT EXISTS (SELECT 1 FROM commits known WHERE known.batch = $7))";
/// A writer's plans are kept for as long as its connection lives, and may be made when there is hardly a row: whatever it
/// looks for it finds by an index.
pub const PLANS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

pub fn options(url: &Url<PgConnectOptions>) -> PgConnectOptions {
    // A mode that looks at an authority and not at names takes it from the process.
    crate::tls::provider();
    let options = url.options.clone().application_name("mailroom").statement_cache_capacity(200);
    let options = options.options([
        ("idle_in_transaction_session_timeout", format!("{}s", IDLE_TRANSACTION.as_secs())),
        ("default_transaction_isolation", "read committed".to_owned()),
    ]);
    options.disable_statement_logging()
}

pub fn pool(url: &Url<PgConnectOptions>, connections: u32, patience: Duration) -> PgPoolOptions {
    let options = PgPoolOptions::new().max_connections(connections.max(1)).acquire_timeout(patience);
    let since = url.since.clone();
    options.test_before_acquire(false).before_acquire(move |connection, known| {
        let allowed = since.allows(known.age);
        Box::pin(async move { Ok(allowed && (known.idle_for < RESTED || lives(connection).await)) })
    })
}

/// Those of a writer, with the statement that ends its transactions prepared.
pub fn writing(url: &Url<PgConnectOptions>) -> PgPoolOptions {
    pool(url, WRITING, ACQUIRE)
        .after_connect(|connection, _| Box::pin(async move { connection.execute(COMMIT).await.map(drop) }))
}

pub fn lazily(options: PgConnectOptions, pool: PgPoolOptions) -> DatabaseConnection {
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(options))
}

pub async fn connect(options: PgConnectOptions, pool: PgPoolOptions) -> Result<DatabaseConnection, DbErr> {
    let pool = pool.connect_with(options).await.map_err(connect_error)?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}
