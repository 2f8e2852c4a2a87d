//! What the integration tests share: a server in this process on free ports, one in a process of its own that can be
//! killed, an SMTP client that says exactly what it is told, and HTTP calls.

pub mod api;
pub mod certificates;
pub mod confirmed;
pub mod process;
pub mod server;
pub mod servers;
pub mod smtp;
pub mod socket;
pub mod switch;

pub use api::Api;
pub use process::Process;
pub use server::TestServer;
pub use smtp::SmtpClient;
pub use socket::Socket;

use std::time::{Duration, Instant};

/// How long anything in a test may take before it counts as failed. Nothing waits for it that goes well: it is for machines
/// with two cores that do other things too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until `done` says so; fails with `what` when it takes too long.
pub async fn until<F>(what: &str, mut done: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let end = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < end, "still waiting for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Between two looks; nothing is assumed to have happened after it.
const POLL: Duration = Duration::from_millis(5);

/// A message with CRLF lines.
pub fn message(subject: &str, body: &str) -> String {
    format!("From: Ann <ann@sender.test>\r\nTo: someone@example.com\r\nSubject: {subject}\r\n\r\n{body}\r\n")
}
