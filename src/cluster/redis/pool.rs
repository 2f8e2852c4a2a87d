//! Commands to Redis, within a bounded time or not at all.
//!
//! The first command that fails or takes too long opens the circuit: from then on everyone hears [`Away`] at once, until
//! [`Redis::tend`], the only one who still tries, had an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use deadpool_redis::cluster::{ClusterClient, ClusterConnection};
use deadpool_redis::redis::aio::ConnectionLike;
use deadpool_redis::redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, Value, cmd};
use deadpool_redis::{PoolError, Runtime};
use parking_lot::Mutex;

use super::config::RedisConfig;
use crate::cluster::metrics as names;

/// How often an answer is looked for while there is none, and while there is.
const PROBE_AWAY: Duration = Duration::from_millis(250);
const PROBE_UP: Duration = Duration::from_secs(2);
/// A new connection may take longer than a command, but only the one who probes waits for it.
const CONNECT: Duration = Duration::from_secs(2);

/// Redis does not answer, or did not a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis is away")]
pub struct Away;

/// A cheap handle.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    pool: Pool,
    timeout: Duration,
    up: AtomicBool,
    /// It was said that it is away, if it was so from the start.
    told: AtomicBool,
    /// Why it is away.
    trouble: Mutex<Option<String>>,
}

enum Pool {
    Single(deadpool_redis::Pool),
    Cluster(ClusterPool),
}

type ClusterPool = managed::Pool<Nodes>;

/// Makes connections to a cluster, each of which finds its nodes by itself.
struct Nodes(ClusterClient);

impl managed::Manager for Nodes {
    type Type = ClusterConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<ClusterConnection, RedisError> {
        self.0.get_async_connection().await
    }

    async fn recycle(&self, connection: &mut ClusterConnection, _: &Metrics) -> RecycleResult<RedisError> {
        Ok(cmd("PING").query_async::<Value>(connection).await.map(drop)?)
    }
}

enum Failed {
    Late,
    Pool(String),
    Redis(RedisError),
}

impl Redis {
    /// Connects nothing yet; Redis counts as away until [`Redis::tend`] had an answer. None without a URL.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(config: &RedisConfig) -> Result<Option<Self>, String> {
        let mut servers = config.servers()?.into_iter();
        let Some(first) = servers.next() else { return Ok(None) };
        let (timeout, size) = (config.timeout.0, config.connections);
        let pool = if config.url.is_cluster() {
            let pool = ClusterPool::builder(Nodes(config.cluster()?)).max_size(size).runtime(Runtime::Tokio1);
            let pool = pool.wait_timeout(Some(timeout)).create_timeout(Some(CONNECT)).recycle_timeout(Some(timeout));
            Pool::Cluster(pool.build().map_err(|error| error.to_string())?)
        } else {
            let connection =
                AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CONNECT));
            let manager = deadpool_redis::Manager::new_with_config(first.info, connection);
            let pool = deadpool_redis::Pool::builder(manager.map_err(|error| error.to_string())?);
            let pool = pool.max_size(size).runtime(Runtime::Tokio1).wait_timeout(Some(timeout));
            let pool = pool.create_timeout(Some(CONNECT)).recycle_timeout(Some(timeout)).build();
            Pool::Single(pool.map_err(|error| error.to_string())?)
        };
        let trouble = Mutex::new(Some("not connected yet".to_owned()));
        Ok(Some(Self(Arc::new(Inner {
            pool,
            timeout,
            up: AtomicBool::new(false),
            told: AtomicBool::default(),
            trouble,
        }))))
    }

    /// Whether it answered last.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Relaxed)
    }

    /// Why it is away; none while it is not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().clone()
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// At once while Redis is away, after `[redis] timeout` at the latest.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        self.within(self.0.timeout, async {
            match &self.0.pool {
                Pool::Single(pool) => Ok(command.query_async(&mut pool.get().await?).await?),
                Pool::Cluster(pool) => Ok(command.query_async(&mut *pool.get().await?).await?),
            }
        })
        .await
    }

    /// Sends many commands side by side, whose answers are numbers.
    ///
    /// # Errors
    /// As [`Redis::query`], for all of them.
    pub async fn send(&self, commands: &[Cmd]) -> Result<(), Away> {
        self.within(self.0.timeout, async {
            match &self.0.pool {
                Pool::Single(pool) => {
                    let mut pipeline = Pipeline::with_capacity(commands.len());
                    for command in commands {
                        pipeline.add_command(command.clone()).ignore();
                    }
                    Ok(pipeline.exec_async(&mut pool.get().await?).await?)
                }
                Pool::Cluster(pool) => {
                    let connection = pool.get().await?;
                    let each = commands.iter().map(|command| {
                        let mut connection = connection.clone();
                        async move { connection.req_packed_command(command).await }
                    });
                    futures_util::future::try_join_all(each).await?;
                    Ok(())
                }
            }
        })
        .await
    }

    /// Looks whether Redis answers, for as long as the program runs. `news` is called when that changes.
    pub async fn tend(self, news: impl Fn(bool)) {
        loop {
            let was = self.is_up();
            match tokio::time::timeout(CONNECT, self.probe()).await {
                Ok(Ok(())) => self.came(),
                Ok(Err(error)) => self.went(&error),
                Err(_) => self.went("no answer"),
            }
            let is = self.is_up();
            metrics::gauge!(names::UP).set(f64::from(u8::from(is)));
            if was != is {
                news(is);
            }
            tokio::time::sleep(if is { PROBE_UP } else { PROBE_AWAY }).await;
        }
    }

    async fn probe(&self) -> Result<(), String> {
        // What takes longer than a command may would be away again with the next one.
        let limit = self.0.timeout;
        let ping = cmd("PING");
        let pong = match &self.0.pool {
            Pool::Single(pool) => {
                let mut connection = pool.get().await.map_err(cause)?;
                tokio::time::timeout(limit, ping.query_async::<String>(&mut connection)).await
            }
            Pool::Cluster(pool) => {
                let mut connection = pool.get().await.map_err(cause)?;
                tokio::time::timeout(limit, ping.query_async::<String>(&mut *connection)).await
            }
        };
        match pong {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("answers too slowly".to_owned()),
        }
    }

    async fn within<T>(&self, limit: Duration, asked: impl Future<Output = Result<T, Failed>>) -> Result<T, Away> {
        if !self.is_up() {
            return Err(Away);
        }
        let failed = match tokio::time::timeout(limit, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failed)) => failed,
            Err(_) => Failed::Late,
        };
        metrics::counter!(names::FAILURES).increment(1);
        match failed {
            Failed::Late => self.went("a command took too long"),
            Failed::Pool(error) => self.went(&error),
            Failed::Redis(error) if means_away(&error) => self.went(&error.to_string()),
            // It answers, but not to this.
            Failed::Redis(error) => tracing::warn!(%error, "Redis refused a command"),
        }
        Err(Away)
    }

    fn came(&self) {
        if !self.0.up.swap(true, Ordering::Relaxed) {
            *self.0.trouble.lock() = None;
            tracing::info!("Redis answers");
        }
    }

    fn went(&self, why: &str) {
        *self.0.trouble.lock() = Some(why.to_owned());
        let was_up = self.0.up.swap(false, Ordering::Relaxed);
        if !self.0.told.swap(true, Ordering::Relaxed) || was_up {
            metrics::gauge!(names::UP).set(0.0);
            tracing::warn!(why, "Redis is away: this node goes on alone until it answers");
        }
    }
}

/// Whether more commands would fail too. What the server refuses with a code that the library does not know (OOM, WRONGTYPE, …)
/// is about that command.
fn means_away(error: &RedisError) -> bool {
    use deadpool_redis::redis::ServerErrorKind as Server;
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            Server::BusyLoading | Server::ClusterDown | Server::MasterDown | Server::ReadOnly | Server::TryAgain
        ),
        ErrorKind::Extension => false,
        _ => true,
    }
}

/// Without what the pool says before it.
fn cause(error: PoolError) -> String {
    match error {
        PoolError::Backend(error) => error.to_string(),
        PoolError::Timeout(_) => "no connection in time".into(),
        other => other.to_string(),
    }
}

impl From<RedisError> for Failed {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        Self::Pool(cause(error))
    }
}
