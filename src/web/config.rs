//! `[http]`: where the dashboard, the API and the WebSocket listen, and how long they wait for clients.

use std::net::{Ipv4Addr, SocketAddr};

use crate::mail::units::{Bytes, Period};

crate::settings! {
    /// The dashboard, the API and the WebSocket.
    pub struct Config {
        /// Address and port. Beyond loopback, open mailboxes need `[mailboxes] insecure_open`.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
        /// Host names under which this server is known, besides `localhost` and IP addresses: "name", or "name:port"
        /// where a proxy serves pages from another port than the scheme's own. A request for any other name is
        /// refused with 421 (DNS rebinding).
        pub allowed_hosts: Vec<String> = Vec::new(),
        /// The largest request body.
        pub max_json: Bytes = Bytes::kib(64),
        /// How long an idle connection is kept for the next request. A proxy in front should close first.
        pub keep_alive: Period = Period::secs(75),
        /// How long a client may take to send the head of its request, and then its body.
        pub client_timeout: Period = Period::secs(10),
        /// How long a client may take for the next 16 KiB of an answer; then it is cut off.
        pub write_timeout: Period = Period::secs(30),
        /// Connections in all, WebSockets and event streams among them; more are refused. Less than that where the process
        /// has no descriptors for them: `serve` says at start how many there are.
        pub max_connections: usize = 120_000,
        /// Connections of one client (an IPv4 address, a /64 of IPv6), at most three quarters of all. A proxy in front is
        /// one client.
        pub max_connections_per_client: usize = 20_000,
        /// Bytes of messages that are read and sent at one time. A request that finds no room for 2 s is answered 503.
        pub max_bytes_in_flight: Bytes = Bytes::mib(256),
        /// Mailboxes that one client (an IPv4 address, a /64 of IPv6) may make in a minute, as many of them at once, where
        /// mailboxes ask for a token; 0 is no limit. Behind a proxy all clients are one.
        pub mailboxes_per_minute: u32 = 60,
        /// Connections that the kernel holds before they are accepted.
        pub backlog: u32 = 4_096,
        /// Threads that answer requests; 0 is one for each processor.
        pub workers: usize = 0,
        /// How often an idle event stream sends a comment, so that proxies keep it open.
        pub heartbeat: Period = Period::secs(15),
    }
}

impl Config {
    /// Threads that answer requests.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::settings::Section;

    #[test]
    fn addresses_and_times_are_checked_when_they_are_read() {
        let mut config = Config::default();
        config.set("listen", Value::from("0.0.0.0:80")).unwrap();
        assert_eq!(config.listen.port(), 80);
        assert!(config.set("listen", Value::from("8080")).is_err());
        assert!(config.set("keep_alive", Value::from("75")).is_err());
    }

    #[test]
    fn there_is_a_thread_for_requests() {
        assert!(Config::default().worker_threads() >= 1);
    }
}
