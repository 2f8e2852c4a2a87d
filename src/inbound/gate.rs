//! What all sessions share and may run out of: places, and bytes of messages in flight, in all and for each client.
//! Each is given out as a guard that gives it back when dropped, so that a panic leaks nothing.
//!
//! Bytes count as they come, not as they are announced. Half of them any one client may have; the other half is shared
//! out, so that no client takes all of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::config::SmtpConfig;

/// Messages in flight are counted in steps of this size.
pub const ROOM_STEP: u64 = 64 * 1024;

/// Why there is no place for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    InAll,
    FromClient,
}

/// What may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub sessions: usize,
    pub sessions_per_client: usize,
    pub bytes: u64,
    /// Once more than half of `bytes` are taken.
    pub bytes_per_client: u64,
}

/// The limits and what is taken of them.
#[derive(Debug)]
pub struct Gate {
    caps: Caps,
    sessions: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, Client>>,
    bytes: AtomicU64,
}

/// What one client has taken.
#[derive(Debug, Default)]
struct Client {
    sessions: usize,
    bytes: Arc<AtomicU64>,
}

/// A session's place.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    /// None for a connection of a proxy, which has many clients.
    share: Option<Share>,
}

/// One of a client's sessions, or something that counts as one.
#[derive(Debug)]
pub struct Share {
    gate: Arc<Gate>,
    client: IpAddr,
    bytes: Arc<AtomicU64>,
}

/// Bytes in flight of one session; grows as a message comes in.
#[derive(Debug)]
pub struct Room {
    gate: Arc<Gate>,
    client: Arc<AtomicU64>,
    bytes: u64,
}

impl From<&SmtpConfig> for Caps {
    fn from(config: &SmtpConfig) -> Self {
        let largest = config.max_message_size.0.next_multiple_of(ROOM_STEP).saturating_add(ROOM_STEP);
        Self {
            sessions: config.max_sessions,
            sessions_per_client: config.max_sessions_per_client,
            bytes: config.max_bytes_in_flight.0,
            bytes_per_client: config.max_bytes_in_flight_per_client.0.max(largest),
        }
    }
}

impl Gate {
    #[must_use]
    pub fn new(caps: Caps) -> Arc<Self> {
        let (sessions, clients, bytes) = (AtomicUsize::new(0), Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { caps, sessions, clients, bytes })
    }

    /// A place for a session of `client`.
    ///
    /// # Errors
    /// Which of the two caps is reached.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Place, Crowded> {
        let mut place = self.enter_proxy()?;
        place.share = Some(self.share(client)?);
        Ok(place)
    }

    /// A place for a connection of a proxy: it counts among all, and for no client.
    ///
    /// # Errors
    /// [`Crowded::InAll`].
    pub fn enter_proxy(self: &Arc<Self>) -> Result<Place, Crowded> {
        let taken = self.sessions.fetch_add(1, Ordering::Relaxed);
        // Dropped again when there is no room.
        let place = Place { gate: Arc::clone(self), share: None };
        if taken < self.caps.sessions { Ok(place) } else { Err(Crowded::InAll) }
    }

    /// One of the client's sessions without a place of its own: what comes for it through a proxy.
    ///
    /// # Errors
    /// [`Crowded::FromClient`].
    pub fn share(self: &Arc<Self>, client: IpAddr) -> Result<Share, Crowded> {
        let client = network(client);
        let mut clients = self.clients.lock();
        if clients.get(&client).is_some_and(|taken| taken.sessions >= self.caps.sessions_per_client) {
            return Err(Crowded::FromClient);
        }
        let taken = clients.entry(client).or_default();
        taken.sessions += 1;
        Ok(Share { gate: Arc::clone(self), client, bytes: Arc::clone(&taken.bytes) })
    }

    /// Whether a client may have `its` bytes when `all` are taken.
    const fn allows(&self, its: u64, all: u64) -> bool {
        all <= self.caps.bytes && (its <= self.caps.bytes_per_client || all <= self.caps.bytes / 2)
    }

    /// Room for nothing yet, of no client in particular.
    #[must_use]
    pub fn room(self: &Arc<Self>) -> Room {
        Room { gate: Arc::clone(self), client: Arc::default(), bytes: 0 }
    }

    /// What may be in flight in all.
    #[must_use]
    pub const fn max_bytes(&self) -> u64 {
        self.caps.bytes
    }

    /// How many sessions there may be.
    #[must_use]
    pub const fn max_sessions(&self) -> usize {
        self.caps.sessions
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

impl Place {
    /// Room for nothing yet.
    #[must_use]
    pub fn room(&self) -> Room {
        let client = self.share.as_ref().map_or_else(Arc::default, |share| Arc::clone(&share.bytes));
        Room { gate: Arc::clone(&self.gate), client, bytes: 0 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut clients = self.gate.clients.lock();
        if let Some(taken) = clients.get_mut(&self.client) {
            taken.sessions -= 1;
            if taken.sessions == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

impl Room {
    /// Grows to `bytes` in all; false when that is not to be had, then it stays as it was.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let all = self.gate.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let its = self.client.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        self.bytes += more;
        let allowed = self.gate.allows(its, all);
        if !allowed {
            self.give_back(more);
        }
        allowed
    }

    /// Whether it could grow to `bytes` now. Nothing is taken: who only says that much will come holds nothing.
    #[must_use]
    pub fn could_grow(&self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let (its, all) = (self.client.load(Ordering::Relaxed), self.gate.bytes.load(Ordering::Relaxed));
        self.gate.allows(its.saturating_add(more), all.saturating_add(more))
    }

    fn give_back(&mut self, bytes: u64) {
        self.gate.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.client.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.bytes);
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
    use crate::mail::units::Bytes;

    const CAPS: Caps = Caps { sessions: 9, sessions_per_client: 1, bytes: 20, bytes_per_client: 5 };

    fn places<const N: usize>(gate: &Arc<Gate>) -> [Place; N] {
        std::array::from_fn(|n| gate.enter([10, 0, 0, u8::try_from(n).unwrap()].into()).unwrap())
    }

    #[test]
    fn gives_places_back() {
        let gate = Gate::new(Caps { sessions: 2, ..CAPS });
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = gate.enter(a).unwrap();
        assert_eq!(gate.enter(a).unwrap_err(), Crowded::FromClient);
        let _second = gate.enter(b).unwrap();
        assert_eq!(gate.enter("10.0.0.3".parse().unwrap()).unwrap_err(), Crowded::InAll);
        drop(first);
        assert!(gate.enter(a).is_ok());
    }

    #[test]
    fn a_proxy_has_places_and_its_clients_have_shares() {
        let gate = Gate::new(Caps { sessions: 2, ..CAPS });
        let client: IpAddr = "10.0.0.1".parse().unwrap();
        let (first, _second) = (gate.enter_proxy().unwrap(), gate.enter_proxy().unwrap());
        assert_eq!(gate.enter_proxy().unwrap_err(), Crowded::InAll);
        assert_eq!(gate.sessions(), 2, "who was refused takes nothing");
        let share = gate.share(client).unwrap();
        assert_eq!(gate.share(client).unwrap_err(), Crowded::FromClient);
        drop(first);
        assert_eq!(gate.enter(client).unwrap_err(), Crowded::FromClient);
        assert_eq!(gate.sessions(), 1);
        drop(share);
        let place = gate.enter(client).unwrap();
        assert_eq!(gate.share(client).unwrap_err(), Crowded::FromClient);
        drop(place);
        assert!(gate.clients.lock().is_empty());
    }

    #[test]
    fn a_v6_client_is_its_64() {
        let gate = Gate::new(CAPS);
        let _place = gate.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(gate.enter("2001:db8::2".parse().unwrap()).is_err());
        assert!(gate.enter("2001:db8:0:1::2".parse().unwrap()).is_ok());
    }

    #[test]
    fn room_is_bounded_in_all() {
        let gate = Gate::new(CAPS);
        let [one, other, third, fourth] = places(&gate);
        let [mut one, mut other, mut third, mut fourth] = [one.room(), other.room(), third.room(), fourth.room()];
        assert!(one.grow(10));
        assert!(other.grow(5));
        assert!(third.grow(3));
        assert!(!fourth.could_grow(3));
        assert!(!fourth.grow(3));
        assert!(fourth.could_grow(2));
        assert_eq!((fourth.bytes(), gate.bytes()), (0, 18), "looking takes nothing, nor does what was refused");
        assert!(fourth.grow(2));
        drop(one);
        assert_eq!(gate.bytes(), 10);
    }

    #[test]
    fn one_client_takes_half_at_most_and_its_share_of_the_rest() {
        let gate = Gate::new(Caps { sessions_per_client: 2, ..CAPS });
        let [one, other] = places(&gate);
        let again = gate.enter([10, 0, 0, 0].into()).unwrap();
        let (mut first, mut second, mut others) = (one.room(), again.room(), other.room());
        assert!(first.grow(6));
        assert!(second.grow(4), "more than its share while half is free");
        assert!(!second.could_grow(5));
        assert!(!second.grow(5));
        assert!(others.grow(5));
        assert!(!others.grow(6));
        drop(first);
        // 9 are taken: 4 and 5.
        assert!(second.grow(5));
        assert!(!second.grow(6), "its share, since more than half is taken");
        drop((second, others));
        assert_eq!(gate.bytes(), 0);
        assert_eq!(one.share.as_ref().unwrap().bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_share_is_at_least_one_message() {
        let config = SmtpConfig { max_bytes_in_flight_per_client: Bytes(1), ..SmtpConfig::default() };
        assert!(Caps::from(&config).bytes_per_client >= config.max_message_size.0 + ROOM_STEP);
    }
}
