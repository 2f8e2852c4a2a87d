//! Which server has which channels: the only one, or the masters of a cluster by slot.

use std::collections::BTreeMap;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates, Value, cmd,
};

use super::shard::{channel, slot};
use crate::tls;

/// A server by host and port (or path), and how to reach it.
#[derive(Clone)]
pub struct Server {
    pub name: String,
    pub info: ConnectionInfo,
}

impl Server {
    /// `tls` says whom a URL with TLS believes.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str, tls: Option<&TlsCertificates>) -> Result<Self, RedisError> {
        // Whoever connects to it needs the cryptography.
        tls::provider();
        let info = match tls {
            Some(tls) => Client::build_with_tls(url, tls.clone())?.get_connection_info().clone(),
            None => url.into_connection_info()?,
        };
        Ok(Self { name: info.addr().to_string(), info })
    }

    /// Another server with the same credentials, over TLS where this one is.
    fn beside(&self, host: &str, port: u16) -> Self {
        // A server that does not know its own address is where it was asked.
        let known = !host.is_empty() && host != "?";
        let host = |own: &str| if known { host.to_owned() } else { own.to_owned() };
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: host(own), port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host(own), port),
            _ => ConnectionAddr::Tcp(host("localhost"), port),
        };
        Self { name: addr.to_string(), info: self.info.clone().set_addr(addr) }
    }
}

/// The shards of each server.
pub type Placement = BTreeMap<String, (Server, Vec<u16>)>;

/// All shards on one server.
#[must_use]
pub fn single(server: Server, shards: u16) -> Placement {
    Placement::from([(server.name.clone(), (server, (0..shards).collect()))])
}

/// Asks a node of a cluster where the shards are.
///
/// # Errors
/// It does not answer, or is no node of a cluster.
pub async fn cluster(asked: &Server, prefix: &str, shards: u16) -> Result<Placement, RedisError> {
    let client = Client::open(asked.info.clone())?;
    let mut connection: MultiplexedConnection = client.get_multiplexed_async_connection().await?;
    let answer: Value = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let ranges = ranges(&answer);
    let mut placement = Placement::new();
    for shard in 0..shards {
        let slot = slot(&channel(prefix, shard));
        let Some((_, _, host, port)) = ranges.iter().find(|(first, last, ..)| (*first..=*last).contains(&slot)) else {
            continue;
        };
        let server = asked.beside(host, *port);
        placement.entry(server.name.clone()).or_insert_with(|| (server, Vec::new())).1.push(shard);
    }
    Ok(placement)
}

/// First and last slot, host and port of each master in the answer to `CLUSTER SLOTS`.
fn ranges(answer: &Value) -> Vec<(u16, u16, String, u16)> {
    let Value::Array(rows) = answer else { return Vec::new() };
    rows.iter().filter_map(range).collect()
}

fn range(row: &Value) -> Option<(u16, u16, String, u16)> {
    let Value::Array(row) = row else { return None };
    let [first, last, Value::Array(master), ..] = row.as_slice() else { return None };
    let [host, port, ..] = master.as_slice() else { return None };
    Some((number(first)?, number(last)?, text(host), number(port)?))
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// Empty where the server does not know.
fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_read_by_slot_and_replicas_passed_over() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let host = |name: &str| Value::BulkString(name.as_bytes().to_vec());
        let answer = Value::Array(vec![
            Value::Array(vec![Value::Int(0), Value::Int(5_460), node(host("10.0.0.1"), 7_000), node(host("r"), 1)]),
            Value::Array(vec![Value::Int(5_461), Value::Int(16_383), node(Value::Nil, 7_001)]),
            Value::Okay,
        ]);
        assert_eq!(ranges(&answer), [(0, 5_460, "10.0.0.1".into(), 7_000), (5_461, 16_383, String::new(), 7_001)]);
    }

    #[test]
    fn a_server_that_does_not_know_itself_is_where_it_was_asked() {
        let asked = Server::new("redis://user:secret@seed.test:7000", None).unwrap();
        assert_eq!(asked.beside("", 7_001).name, "seed.test:7001");
        assert_eq!(asked.beside("?", 7_001).name, "seed.test:7001");
        let other = asked.beside("10.0.0.2", 7_002);
        assert_eq!((other.name.as_str(), other.info.redis_settings().password()), ("10.0.0.2:7002", Some("secret")));
        let none = TlsCertificates { client_tls: None, root_cert: None };
        let beside = Server::new("rediss://seed.test:7000", Some(&none)).unwrap().beside("?", 7_001);
        assert!(matches!(beside.info.addr(), ConnectionAddr::TcpTls { insecure: false, .. }), "{}", beside.name);
        assert_eq!(beside.name, "seed.test:7001");
    }
}
