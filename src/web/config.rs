//! `[http]`: where the dashboard, the API and the WebSocket listen, and how long they wait for clients.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::mail::units::{Bytes, Period};
use crate::settings::{Check, Listen, Network, Wrong, is_domain};

crate::settings! {
    /// The dashboard, the API and the WebSocket.
    pub struct Config {
        /// Address and port; a port alone is one of 127.0.0.1. Beyond loopback, open mailboxes need `[mailboxes] insecure_open`.
        pub listen: Listen = Listen::loopback(8080),
        /// Host names under which this server is known, besides `localhost` and IP addresses: "name", or "name:port"
        /// where a proxy serves pages from another port than the scheme's own. A request for any other name is
        /// refused with 421 (DNS rebinding).
        pub allowed_hosts: Vec<String> = Vec::new(),
        /// Networks of proxies in front that are believed about who asks: `X-Forwarded-For` (the right-most address that is
        /// none of theirs) is the client for limits, `X-Forwarded-Host` must be a name of this server as Host must, and
        /// an Origin must have the scheme of `X-Forwarded-Proto`. From anyone else these fields mean nothing. Name the
        /// proxies alone: who is in it may claim to be anyone.
        pub trusted_proxies: Vec<Network> = Vec::new(),
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
        /// one client, unless it is one of trusted_proxies: then its clients are counted, each request as a connection.
        pub max_connections_per_client: usize = 20_000,
        /// Bytes of messages that are read and sent at one time. A request that finds no room for 2 s is answered 503.
        pub max_bytes_in_flight: Bytes = Bytes::mib(256),
        /// Mailboxes that one client (an IPv4 address, a /64 of IPv6) may make in a minute, as many of them at once, where
        /// mailboxes ask for a token; 0 is no limit. Counts and exempts as `[limits]` does. Behind a proxy that is not one of
        /// trusted_proxies all clients are one.
        pub mailboxes_per_minute: u32 = 60,
        /// Connections that the kernel holds before they are accepted.
        pub backlog: u32 = 4_096,
        /// Threads that answer requests; 0 is one for each processor.
        pub workers: usize = 0,
        /// How often an idle event stream sends a comment, so that proxies keep it open.
        pub heartbeat: Period = Period::secs(15),
    }
}

impl Check for Config {
    fn check(&self, wrong: &mut Wrong) {
        for host in self.allowed_hosts.iter().filter(|host| !is_host(host)) {
            wrong.refuse_text(
                "allowed_hosts",
                host,
                "\"name\" or \"name:port\", as in allowed_hosts = [\"mail.example.com\"]",
            );
        }
        let second = Period::secs(1);
        wrong.least("max_json", self.max_json, Bytes::kib(1));
        wrong.least("keep_alive", self.keep_alive, second);
        wrong.least("client_timeout", self.client_timeout, second);
        wrong.least("write_timeout", self.write_timeout, second);
        wrong.least("max_connections", self.max_connections, 1);
        wrong.least("max_connections_per_client", self.max_connections_per_client, 1);
        wrong.least("max_bytes_in_flight", self.max_bytes_in_flight, Bytes::mib(1));
        wrong.least("backlog", self.backlog, 1);
        wrong.within("workers", self.workers, 0, 1_024);
        wrong.least("heartbeat", self.heartbeat, second);
    }
}

/// As a Host field has it: a name or an IP address, and perhaps a port.
fn is_host(text: &str) -> bool {
    let port =
        text.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let name = port.and_then(|port| text.strip_suffix(port)?.strip_suffix(':')).unwrap_or(text);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
        None => {
            name.is_ascii() && (is_domain(name.strip_suffix('.').unwrap_or(name)) || name.parse::<Ipv4Addr>().is_ok())
        }
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
        assert_eq!(config.listen.0.port(), 80);
        config.set("listen", Value::from("8080")).unwrap();
        assert_eq!(config.listen, Listen::loopback(8080));
        assert!(config.set("listen", Value::from("mail.example:80")).is_err());
        assert!(config.set("keep_alive", Value::from("75")).is_err());
    }

    #[test]
    fn a_host_is_a_name_or_an_address_perhaps_with_a_port() {
        for host in
            ["mail.example.com", "mailroom", "my_mail:8080", "127.0.0.1", "10.0.0.1:80", "[::1]", "[::1]:80", "a."]
        {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "*", "http://x.y", "http://x.y/z", "x.y/z", "x.y:", "x.y:0", "x.y:99999", "a b", "x@y", "::1"]
        {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn there_is_a_thread_for_requests() {
        assert!(Config::default().worker_threads() >= 1);
    }
}
