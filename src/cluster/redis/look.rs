//! What `doctor` says of Redis: whether it answers, and whether its settings fit what it is used for.

use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, ConnectionAddr, ConnectionInfo, RedisError, cmd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::config::RedisConfig;
use super::topology::Server;
use crate::tls::Trouble;

const LIMIT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(1);
/// RESP3 and its pushes.
const OLDEST: (u32, u32) = (6, 2);
/// Sharded channels.
const OLDEST_CLUSTER: (u32, u32) = (7, 0);

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub server: String,
    /// False: the operator should do something.
    pub fine: bool,
    /// What is wrong between its certificate and the settings.
    pub trouble: Option<Trouble>,
    pub text: String,
}

/// Asks each server of the settings; nothing without a URL. Takes some seconds where one does not answer.
pub async fn look(config: &RedisConfig) -> Vec<Found> {
    let servers = match config.servers() {
        Ok(servers) => servers,
        Err(text) => return vec![Found { server: config.url.to_string(), fine: false, trouble: None, text }],
    };
    let mut all = Vec::new();
    for server in servers {
        let mut say = |fine: bool, text: String| {
            all.push(Found { server: server.name.clone(), fine, trouble: None, text });
        };
        let seen = match tokio::time::timeout(LIMIT, see(server.info.clone())).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                all.push(failed(server, &error.to_string()).await);
                continue;
            }
            Err(_) => {
                all.push(failed(server, "within 3 s").await);
                continue;
            }
        };
        for (fine, text) in judge(&seen, config) {
            say(fine, text);
        }
    }
    all
}

/// What a server says of itself.
#[derive(Debug, Default)]
struct Seen {
    info: String,
    answer: Duration,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.field("redis_version")?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

async fn failed(server: Server, error: &str) -> Found {
    let mut trouble = Trouble::find(error);
    // Redis takes a greeting of TLS for the beginning of a command, and waits for its end.
    if trouble.is_none() && tokio::time::timeout(ANSWER, is_plain(server.info.addr())).await.is_ok_and(|plain| plain) {
        trouble = Some(Trouble::NoTls);
    }
    let text = match trouble {
        Some(trouble) => format!("{} ({error})", trouble.text()),
        None => format!("does not answer: {error}"),
    };
    Found { server: server.name, fine: false, trouble, text }
}

/// Whether commands are answered without TLS where the settings want it.
async fn is_plain(addr: &ConnectionAddr) -> bool {
    let ConnectionAddr::TcpTls { host, port, .. } = addr else { return false };
    let asked = async {
        let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    // PONG, or an error, such as that a password is wanted.
    asked.await.is_ok_and(|first| first == b'+' || first == b'-')
}

async fn see(info: ConnectionInfo) -> Result<Seen, RedisError> {
    let mut connection: MultiplexedConnection = Client::open(info)?.get_multiplexed_async_connection().await?;
    let info = cmd("INFO").arg("everything").query_async(&mut connection).await?;
    let began = Instant::now();
    let _: String = cmd("PING").query_async(&mut connection).await?;
    Ok(Seen { info, answer: began.elapsed() })
}

fn judge(seen: &Seen, config: &RedisConfig) -> Vec<(bool, String)> {
    let oldest = if config.url.is_cluster() { OLDEST_CLUSTER } else { OLDEST };
    let mut all = Vec::new();
    match seen.version() {
        Some(version) if version >= oldest => {
            all.push((true, format!("version {}.{}, answers in {:?}", version.0, version.1, seen.answer)));
        }
        Some((major, minor)) => {
            all.push((false, format!("version {major}.{minor}: {}.{} or newer is needed", oldest.0, oldest.1)));
        }
        None => all.push((false, "does not say its version".into())),
    }
    if seen.answer * 2 > config.timeout.0 {
        let text =
            format!("answers in {:?}, and [redis] timeout is {}: it will count as away", seen.answer, config.timeout);
        all.push((false, text));
    }
    let is_cluster = seen.field("cluster_enabled") == Some("1");
    if is_cluster != config.url.is_cluster() {
        let (is, was) = if is_cluster { ("is", "give a list of URLs") } else { ("is not", "give one URL") };
        all.push((false, format!("{is} a node of a cluster: {was} in [redis] url")));
    }
    if seen.field("maxmemory_policy") == Some("noeviction") && seen.field("maxmemory") != Some("0") {
        let text =
            "maxmemory-policy noeviction: when it is full, limits count in each node alone; volatile-lru is better";
        all.push((false, text.into()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::redis::Servers;

    fn seen(info: &str) -> Seen {
        Seen { info: info.replace('\n', "\r\n"), answer: Duration::from_micros(300) }
    }

    fn bad(info: &str, url: Servers) -> Vec<String> {
        let config = RedisConfig { url, ..RedisConfig::default() };
        judge(&seen(info), &config).into_iter().filter(|(fine, _)| !fine).map(|(_, text)| text).collect()
    }

    #[test]
    fn says_what_does_not_fit() {
        let fine = "redis_version:7.0.15\ncluster_enabled:0\nmaxmemory:0\nmaxmemory_policy:noeviction\n";
        let one = || Servers::one("redis://a");
        assert!(bad(fine, one()).is_empty());
        assert!(bad("redis_version:5.0.1\n", one())[0].contains("6.2"));
        assert!(bad(fine, Servers::cluster(["redis://a".into()]))[0].contains("is not a node"));
        let full = fine.replace("maxmemory:0", "maxmemory:1000");
        assert!(bad(&full, one())[0].contains("volatile-lru"));
        let slow = Seen { answer: Duration::from_millis(90), ..seen(fine) };
        let config = RedisConfig { url: one(), ..RedisConfig::default() };
        assert!(judge(&slow, &config).iter().any(|(fine, text)| !fine && text.contains("away")));
    }
}
