//! The mail that `stress ws` sends, matched with the frames that it causes by the token in each subject.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::body::{Draft, MARK, TOKEN};
use super::load::{Budget, Load};
use super::meter::{Latencies, Meter, Totals, latencies};
use super::smtp_client::{Connection, Failure, Pipelining};
use super::ws::{Options, mailbox};

/// Without a number of mailboxes ("*"), mail is spread over this many.
const MAILBOXES: u64 = 100;

/// When things happened to each message, and who waits for it.
#[derive(Default)]
pub struct Board {
    sent: Mutex<HashMap<u64, Sent>>,
    /// Clients of each mailbox; of all mail under `None`.
    clients: Mutex<HashMap<Option<u64>, u64>>,
    repeated: AtomicU64,
}

struct Sent {
    dot: Instant,
    verdict: Option<Instant>,
    first_frame: Option<Instant>,
    frames: u64,
    expected: u64,
}

impl Board {
    /// One more client follows `mailbox`.
    pub fn subscribed(&self, mailbox: Option<u64>) {
        *self.clients.lock().entry(mailbox).or_default() += 1;
    }

    /// A frame came: how long after its message's dot, when it is one of ours.
    pub fn frame(&self, text: &[u8]) -> Option<Duration> {
        let now = Instant::now();
        let token = find_token(text)?;
        let mut sent = self.sent.lock();
        let entry = sent.get_mut(&token)?;
        entry.first_frame.get_or_insert(now);
        entry.frames += 1;
        if entry.frames > entry.expected {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
        Some(now.duration_since(entry.dot))
    }

    /// Frames that should have come and did not: of messages that were accepted.
    pub fn missing(&self) -> u64 {
        let sent = self.sent.lock();
        sent.values()
            .filter(|entry| entry.verdict.is_some())
            .map(|entry| entry.expected.saturating_sub(entry.frames))
            .sum()
    }

    /// Frames beyond one for each client.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// From the final 250 to the first frame; zero where the frame was here first.
    pub fn since_verdict(&self) -> Latencies {
        let mut all = latencies();
        for entry in self.sent.lock().values() {
            if let (Some(verdict), Some(frame)) = (entry.verdict, entry.first_frame) {
                let micros = frame.saturating_duration_since(verdict).as_micros();
                all.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
            }
        }
        all
    }

    fn dot(&self, token: u64, mailbox: u64) {
        let clients = self.clients.lock();
        let of = |key| clients.get(&key).copied().unwrap_or(0);
        let expected = of(Some(mailbox)) + of(None);
        let entry = Sent { dot: Instant::now(), verdict: None, first_frame: None, frames: 0, expected };
        self.sent.lock().insert(token, entry);
    }

    fn verdict(&self, token: u64) {
        if let Some(entry) = self.sent.lock().get_mut(&token) {
            entry.verdict = Some(Instant::now());
        }
    }
}

/// Sends at the options' rate for their duration; returns what was accepted and what failed.
///
/// # Errors
/// The runtime cannot be made.
pub fn send_mail(options: &Options, addr: SocketAddr, board: &Board) -> anyhow::Result<Totals> {
    let load = Load {
        concurrency: options.senders,
        duration: Some(options.duration),
        count: None,
        rate: Some(options.rate),
        threads: 1,
        json: true,
    };
    let (budget, meter) = (Budget::new(&load), Meter::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let salt = u64::from(rand::random::<u32>()) << 32;
    let senders = (0..load.concurrency).map(|_| sender(options, addr, board, &budget, &meter, salt));
    runtime.block_on(futures_util::future::join_all(senders));
    Ok(Totals::of([&meter]))
}

async fn sender(options: &Options, addr: SocketAddr, board: &Board, budget: &Budget, meter: &Meter, salt: u64) {
    let mut draft = Draft::new(options.body, options.size.as_usize(), &options.domain, 1);
    let mailboxes = options.mailboxes.parse().unwrap_or(MAILBOXES).max(1);
    let mut connection = None;
    while let Some(ticket) = budget.next().await {
        let number = ticket.number % mailboxes;
        let token = salt | ticket.number;
        draft.set_token(token);
        let to = [mailbox(number, &options.domain)];
        match send_one(&mut connection, addr, &draft, &to, || board.dot(token, number)).await {
            Ok(()) => {
                board.verdict(token);
                meter.done(ticket.since.elapsed(), draft.len() as u64);
            }
            Err(Failure(kind)) => {
                connection = None;
                meter.failed(&kind);
            }
        }
    }
    if let Some(connection) = connection {
        let _ = connection.quit().await;
    }
}

async fn send_one(
    kept: &mut Option<Connection>,
    addr: SocketAddr,
    draft: &Draft,
    to: &[String],
    at_dot: impl FnOnce(),
) -> Result<(), Failure> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(addr, None, Pipelining::Group).await?),
    };
    connection.envelope("stress@mailroom.test", to).await?;
    at_dot();
    connection.content(draft, None).await?;
    connection.verdict().await
}

/// The token behind its mark, wherever it stands.
fn find_token(text: &[u8]) -> Option<u64> {
    let mark = MARK.as_bytes();
    let at = text.windows(mark.len()).position(|part| part == mark)? + mark.len();
    u64::from_str_radix(std::str::from_utf8(text.get(at..at + TOKEN)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_matched_with_its_message() {
        let board = Board::default();
        board.subscribed(Some(3));
        board.subscribed(Some(3));
        board.dot(0xabc, 3);
        let frame = br#"{"type":"message.received","subject":"stress-token-0000000000000abc"}"#;
        assert!(board.frame(frame).is_some());
        assert_eq!(board.missing(), 0, "not accepted yet");
        board.verdict(0xabc);
        assert_eq!(board.missing(), 1);
        board.frame(frame).unwrap();
        assert_eq!((board.missing(), board.repeated()), (0, 0));
        board.frame(frame).unwrap();
        assert_eq!(board.repeated(), 1);
        assert_eq!(board.since_verdict().len(), 1);
    }

    #[test]
    fn a_frame_of_other_mail_is_nobodys() {
        assert!(Board::default().frame(br#"{"subject":"hello"}"#).is_none());
        assert!(Board::default().frame(b"stress-token-12").is_none());
    }
}
