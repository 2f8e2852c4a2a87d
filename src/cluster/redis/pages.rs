//! The second level of the cache of lists: pages in Redis, under names that say exactly what they are of.
//!
//! Called by the store through `app`. A page is never changed: what changes has another name. Reading waits `[redis]
//! timeout` at the longest, keeping never does.

use std::time::Duration;

use bytes::Bytes;
use deadpool_redis::redis::cmd;
use tokio::sync::mpsc;

use super::pool::Redis;
use crate::cluster::metrics as names;

/// Pages that wait to be kept; more are not.
const QUEUE: usize = 256;
/// Smaller ones are not worth compressing.
const SMALL: usize = 512;
/// A larger one is not kept.
const LARGEST: usize = 1 << 20;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// See the module.
pub struct Pages {
    redis: Redis,
    prefix: String,
    queue: mpsc::Sender<(String, Bytes)>,
}

impl Pages {
    /// Needs a running tokio runtime, on which it keeps pages until it is dropped.
    #[must_use]
    pub fn start(redis: Redis, prefix: &str, life: Duration) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(String, Bytes)>(QUEUE);
        let keeper = redis.clone();
        tokio::spawn(async move {
            while let Some((name, page)) = waiting.recv().await {
                let packed = pack(&page);
                let mut command = cmd("SET");
                command.arg(name).arg(packed).arg("PX").arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
                let kept = keeper.query::<()>(&command).await.is_ok();
                count(if kept { "kept" } else { "dropped" });
            }
        });
        Self { redis, prefix: prefix.to_owned(), queue }
    }

    /// The page of this name.
    pub async fn get(&self, name: &str) -> Option<Bytes> {
        let mut command = cmd("GET");
        command.arg(self.name(name));
        let packed = self.redis.query::<Option<Vec<u8>>>(&command).await.ok().flatten();
        let page = packed.and_then(|packed| unpack(&packed));
        count(if page.is_some() { "hit" } else { "miss" });
        page
    }

    /// Keeps a page, some time soon.
    pub fn keep(&self, name: &str, page: Bytes) {
        if page.len() > LARGEST || !self.redis.is_up() || self.queue.try_send((self.name(name), page)).is_err() {
            count("dropped");
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}:page:{name}", self.prefix)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(names::PAGES, "outcome" => outcome).increment(1);
}

fn pack(page: &[u8]) -> Vec<u8> {
    let packed = if page.len() > SMALL { zstd::bulk::compress(page, 1).ok() } else { None };
    let (kind, bytes) = match &packed {
        Some(packed) if packed.len() < page.len() => (ZSTD, packed.as_slice()),
        _ => (PLAIN, page),
    };
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.push(kind);
    out.extend_from_slice(bytes);
    out
}

fn unpack(packed: &[u8]) -> Option<Bytes> {
    match packed.split_first()? {
        (&PLAIN, page) => Some(Bytes::copy_from_slice(page)),
        (&ZSTD, page) => zstd::bulk::decompress(page, LARGEST).ok().map(Into::into),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_as_it_was() {
        let long: Vec<u8> = (0..20_000_u32).flat_map(|n| (n % 100).to_string().into_bytes()).collect();
        for page in [&b""[..], b"short", &long] {
            assert_eq!(unpack(&pack(page)).unwrap(), page);
        }
        assert!(pack(&long).len() < long.len() / 4);
        assert!(unpack(b"").is_none() && unpack(&[9, 1]).is_none() && unpack(&[ZSTD, 1, 2]).is_none());
    }
}
