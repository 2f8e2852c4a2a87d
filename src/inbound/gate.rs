//! What all sessions share and may run out of: places in all and for each client, and bytes of messages in flight.
//! Each is given out as a guard that gives it back when dropped, so that a panic leaks nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Why there is no place for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    InAll,
    FromClient,
}

/// The limits and what is taken of them.
#[derive(Debug)]
pub struct Gate {
    max_sessions: usize,
    max_per_client: usize,
    max_bytes: u64,
    sessions: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
    bytes: AtomicU64,
}

/// A session's place.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    client: IpAddr,
}

/// Bytes in flight of one session; grows as a message comes in.
#[derive(Debug)]
pub struct Room {
    gate: Arc<Gate>,
    bytes: u64,
}

impl Gate {
    #[must_use]
    pub fn new(max_sessions: usize, max_per_client: usize, max_bytes: u64) -> Arc<Self> {
        let (sessions, clients, bytes) = (AtomicUsize::new(0), Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { max_sessions, max_per_client, max_bytes, sessions, clients, bytes })
    }

    /// A place for a session of `client`.
    ///
    /// # Errors
    /// Which of the two caps is reached.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Place, Crowded> {
        let mut clients = self.clients.lock();
        if self.sessions.load(Ordering::Relaxed) >= self.max_sessions {
            return Err(Crowded::InAll);
        }
        let client = network(client);
        let count = clients.entry(client).or_insert(0);
        if *count >= self.max_per_client {
            return Err(Crowded::FromClient);
        }
        *count += 1;
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(Place { gate: Arc::clone(self), client })
    }

    /// Room for nothing yet.
    #[must_use]
    pub fn room(self: &Arc<Self>) -> Room {
        Room { gate: Arc::clone(self), bytes: 0 }
    }

    /// What may be in flight in all.
    #[must_use]
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.gate.clients.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
        self.gate.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    /// Grows to `bytes` in all; false when that is not to be had, then it stays as it was.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.gate.bytes.fetch_add(more, Ordering::Relaxed);
        if more > 0 && taken.saturating_add(more) > self.gate.max_bytes {
            self.gate.bytes.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }

    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One client: an IPv4 address, or the /64 that one customer has of IPv6.
#[must_use]
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_places_back() {
        let gate = Gate::new(2, 1, 10);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = gate.enter(a).unwrap();
        assert_eq!(gate.enter(a).unwrap_err(), Crowded::FromClient);
        let _second = gate.enter(b).unwrap();
        assert_eq!(gate.enter("10.0.0.3".parse().unwrap()).unwrap_err(), Crowded::InAll);
        drop(first);
        assert!(gate.enter(a).is_ok());
    }

    #[test]
    fn a_v6_client_is_its_64() {
        let gate = Gate::new(9, 1, 10);
        let _place = gate.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(gate.enter("2001:db8::2".parse().unwrap()).is_err());
        assert!(gate.enter("2001:db8:0:1::2".parse().unwrap()).is_ok());
    }

    #[test]
    fn room_is_bounded_in_all() {
        let gate = Gate::new(1, 1, 10);
        let mut one = gate.room();
        let mut other = gate.room();
        assert!(one.grow(8));
        assert!(!other.grow(3));
        assert!(other.grow(2));
        drop(one);
        assert!(other.grow(10));
        assert_eq!(gate.bytes(), 10);
    }
}
