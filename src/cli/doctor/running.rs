//! The server that runs already, by what its operations listener says of itself: `parts.process` of `/health`, and the
//! counters of `/metrics`.
//!
//! On a database server no file is locked that would tell who it is, and the processes of another user cannot be looked into.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

/// Whoever listens there answers at once or is no server of ours.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any answer, in bytes.
const LONGEST: u64 = 4 << 20;

/// A server that runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Running {
    /// Of its process, where it runs; in a container another one than outside.
    pub id: u32,
    /// Without password.
    pub database: String,
    pub listeners: Vec<SocketAddr>,
}

impl Running {
    /// Whether it is this server that keeps `addr` from being listened on.
    #[must_use]
    pub fn holds(&self, addr: SocketAddr) -> bool {
        let meets = |one: IpAddr| one == addr.ip() || one.is_unspecified() || addr.ip().is_unspecified();
        self.listeners.iter().any(|own| own.port() == addr.port() && meets(own.ip()))
    }
}

/// Who answers at the operations listener of the configuration; none where nobody does, or no server of this kind.
#[must_use]
pub fn ask(listen: SocketAddr) -> Option<Running> {
    let answer = fetch(listen, "/health").ok()?;
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let body: serde_json::Value = serde_json::from_slice(answer.get(start..)?).ok()?;
    serde_json::from_value(body.pointer("/parts/process")?.clone()).ok()
}

/// The text of its metrics; none where nothing answers as a server of ours does.
#[must_use]
pub fn metrics(listen: SocketAddr) -> Option<String> {
    let answer = fetch(listen, "/metrics").ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.starts_with("HTTP/1.1 200 ").then_some(answer)
}

/// The value of a counter, by its name and a label that it has; 0 where it is not there.
#[must_use]
pub fn counter(metrics: &str, name: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values =
        lines.filter(|line| line.contains(label)).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// The whole answer, head and body, whatever its status.
fn fetch(listen: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let addr = SocketAddr::new(host, listen.port());
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece, as a request of this size is expected to come.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(listeners: &[&str]) -> Running {
        let listeners = listeners.iter().map(|text| text.parse().unwrap()).collect();
        Running { id: 1, database: "postgres://mail@db/mail".into(), listeners }
    }

    #[test]
    fn a_server_holds_the_addresses_that_meet_its_own() {
        let server = running(&["0.0.0.0:2525", "127.0.0.1:8080"]);
        for (addr, held) in [
            ("0.0.0.0:2525", true),
            ("10.0.0.1:2525", true),
            ("127.0.0.1:8080", true),
            ("0.0.0.0:8080", true),
            ("10.0.0.1:8080", false),
            ("127.0.0.1:2526", false),
        ] {
            assert_eq!(server.holds(addr.parse().unwrap()), held, "{addr}");
        }
    }

    /// What `answer` makes of somebody else's port.
    fn asked(answer: &'static str) -> Option<Running> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let found = ask(addr);
        assert!(server.join().unwrap().starts_with("GET /health HTTP/1.1\r\n"));
        found
    }

    #[test]
    fn only_a_mailroom_is_one_ready_or_not() {
        let found = asked(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n{\"parts\": {\"process\": \
             {\"ok\": true, \"id\": 1, \"database\": \"postgres://mail@db/mail\", \"listeners\": [\"[::]:25\"]}}}",
        );
        assert_eq!(found, Some(running(&["[::]:25"])));
        for other in ["", "220 mail.example.com\r\n", "HTTP/1.1 200 OK\r\n\r\n<p>hello", "HTTP/1.1 200 OK\r\n\r\n{}"] {
            assert_eq!(asked(other), None, "{other}");
        }
        assert_eq!(ask("127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    fn a_counter_is_read_by_name_and_label() {
        let metrics = "HTTP/1.1 200 OK\r\n\r\n# TYPE a_total counter\na_total{reason=\"x\"} 3\na_total{reason=\"y\"} 4\n\n\
                       a_total_more 9\nb_total 2\n";
        assert_eq!(counter(metrics, "a_total", "reason=\"x\""), 3);
        assert_eq!(counter(metrics, "a_total", ""), 7);
        assert_eq!(counter(metrics, "b_total", ""), 2);
        assert_eq!(counter(metrics, "c_total", ""), 0);
    }
}
