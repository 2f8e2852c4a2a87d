//! A limit that all nodes count together in Redis.
//!
//! The state of a client is one number there, the time at which all it took would be paid back (GCRA), which one script reads
//! and moves by the clock of Redis. A node takes a few at once ([`Bucket::share`]) and gives them out by itself; what it
//! does not use within a second lapses. A refusal holds here until there is a share again, a second at most, so that a flood
//! costs Redis about as many questions as what it gets through.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use parking_lot::Mutex;

use super::bucket::Bucket;
use super::{Kind, Refused};
use crate::cluster::metrics as names;
use crate::cluster::redis::{Away, Redis};

/// KEYS: the client. ARGV: microseconds from one to the next, burst, how many are wanted. Answers how many are granted, or
/// none and the microseconds until the next.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local latest = now + interval * burst
local paid = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or now), now), latest)
local granted = math.min(math.floor((latest - paid) / interval), wanted)
if granted < 1 then
  return {0, paid + interval - latest}
end
paid = paid + granted * interval
redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000) + 1)
return {granted, 0}
";

/// How long a share, or a refusal, holds.
const HOLDS: Duration = Duration::from_secs(1);
const SWEEP: u32 = 1_000;

/// See the module.
pub struct Shared {
    redis: Redis,
    prefix: String,
    bucket: Bucket,
    clients: Mutex<HashMap<IpAddr, Client>>,
    calls: AtomicU32,
    kind: Kind,
}

/// What this node has for a client.
struct Client {
    left: u32,
    refused: Option<Duration>,
    since: Instant,
    /// Held by the one who asks Redis; the others wait for its answer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Shared {
    #[must_use]
    pub fn new(redis: Redis, prefix: &str, kind: Kind, bucket: Bucket) -> Self {
        let prefix = format!("{prefix}:limit:{}", kind.name());
        Self { redis, prefix, bucket, clients: Mutex::default(), calls: AtomicU32::new(0), kind }
    }

    #[must_use]
    pub fn is_up(&self) -> bool {
        self.redis.is_up()
    }

    /// Takes one of what is here; none where Redis is to be asked.
    #[must_use]
    pub fn take(&self, client: IpAddr) -> Option<Result<(), Refused>> {
        let mut clients = self.clients.lock();
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            clients.retain(|_, client| client.since.elapsed() < HOLDS || Arc::strong_count(&client.turn) > 1);
        }
        let known = clients.get_mut(&client)?;
        let age = known.since.elapsed();
        if age >= HOLDS {
            return None;
        }
        if known.left > 0 {
            known.left -= 1;
            return Some(Ok(()));
        }
        let wait = known.refused?.checked_sub(age).filter(|wait| !wait.is_zero())?;
        Some(Err(Refused { wait }))
    }

    /// Asks Redis for another share, and takes one of it.
    ///
    /// # Errors
    /// Redis is away. Within, how long to wait for the next.
    pub async fn ask(&self, client: IpAddr) -> Result<Result<(), Refused>, Away> {
        let turn = {
            let mut clients = self.clients.lock();
            let new = || Client { left: 0, refused: None, since: Instant::now(), turn: Arc::default() };
            Arc::clone(&clients.entry(client).or_insert_with(new).turn)
        };
        let _turn = turn.lock().await;
        // Somebody may have asked meanwhile.
        if let Some(answer) = self.take(client) {
            return Ok(answer);
        }
        metrics::counter!(names::ASKED, "kind" => self.kind.name()).increment(1);
        let Bucket { interval, burst, share } = self.bucket;
        let mut command = cmd("EVAL");
        command.arg(TAKE).arg(1).arg(format!("{}:{client}", self.prefix)).arg(interval).arg(burst).arg(share);
        let (granted, wait): (u32, u64) = self.redis.query(&command).await?;
        let wait = Duration::from_micros(wait);
        // Who asked for each one that comes back would ask as often as there is one.
        let until_share = Duration::from_micros(interval.saturating_mul(share.into()));
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get_mut(&client) {
            known.since = Instant::now();
            known.left = granted.saturating_sub(1);
            known.refused = (granted == 0).then_some(wait.max(until_share).min(HOLDS));
        }
        Ok(if granted > 0 { Ok(()) } else { Err(Refused { wait }) })
    }
}
