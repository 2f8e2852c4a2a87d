//! Takes deliveries from the queues and brings them into the store.
//!
//! [`super::node`] runs one task a queue; the broker lets one node at a time take from each. A delivery is handed to the store as
//! it comes, and acknowledged once it is committed. When the store fails, the database is asked: if it is away or full, the task
//! closes its channel, by which it hands back what it has, once and in order, and takes again when the database is back. If it is
//! not, what failed is tried alone. What fails by itself is counted after a pause: it goes to the end of its queue with its count,
//! or to the dead letters. Returns that the broker counts (an outage, a lost connection, a node that crashes) are no failures.

mod doubt;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{FutureExt, join_all};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ErrorKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::message::{Mail, Undecodable};
use super::metrics as names;
use super::monitor::Mode;
use super::node::{Consumers, Turn};
use super::publisher::{self, Letter, Sent};
use super::topology::Names;
use super::window::{Held, State, Window};
use crate::mail::address::MailboxKey;
use crate::store::{Gone, Incoming, Repeat, WriteFailed};

/// How long what the store has may take before the rest is handed back; also the time in which other nodes notice an outage,
/// so that they do not get the same messages to hand them back once more.
const HAND_BACK: Duration = Duration::from_secs(5);
/// Before something is tried again that could not be done.
const AGAIN: Duration = Duration::from_millis(20);
const BURY_AGAIN: Duration = Duration::from_secs(1);

/// What became of a message that somebody was asked to take.
enum Verdict {
    Stored(Result<(), WriteFailed>, Gone),
    /// Whether it is where it was sent: with the dead letters, or at the end of its queue with its count.
    Moved(bool),
    /// The pause before its failure counts is over.
    Count,
    /// Some time is over.
    Again,
}

/// Why taking from a queue ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Away,
    /// Another node is to have the queue.
    LetGo,
    Stop,
}

/// One queue, for as long as one channel is open.
pub struct Task {
    all: Consumers,
    turn: Arc<Turn>,
    queue: String,
    channel: Channel,
    window: Window,
    /// What consumers do, as far as it knows.
    mode: Mode,
    /// Bytes for which the database had no room.
    lacking: Option<usize>,
    told: mpsc::Sender<(u64, Verdict)>,
    verdicts: mpsc::Receiver<(u64, Verdict)>,
}

impl Task {
    /// On a channel of its own with this prefetch.
    #[must_use]
    pub fn new(
        all: Consumers,
        queue: String,
        channel: Channel,
        turn: Arc<Turn>,
        (prefetch, mode): (u16, Mode),
    ) -> Self {
        let (told, verdicts) = mpsc::channel(usize::from(prefetch) * 2 + 1);
        Self { all, turn, queue, channel, window: Window::default(), mode, lacking: None, told, verdicts }
    }

    /// Consumes until the database is away, another node is to have the queue, or the server stops; gives back what is not done
    /// by then.
    ///
    /// # Errors
    /// The connection's; what was taken comes again.
    pub async fn consume(mut self) -> Result<End, lapin::Error> {
        let end = self.work().await;
        // Nobody comes back to what lies before them on this channel.
        self.passed(self.window.tags(State::Settled).len() as u64);
        end
    }

    async fn work(&mut self) -> Result<End, lapin::Error> {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer =
            self.channel.basic_consume(self.queue.as_str().into(), "".into(), options, arguments).await?;
        let end = self.take(&mut consumer).await?;
        if end == End::LetGo {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        }
        while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
            self.window.push(held(delivery, State::Failed));
        }
        self.hand_back(end).await?;
        Ok(end)
    }

    async fn take(&mut self, consumer: &mut Consumer) -> Result<End, lapin::Error> {
        let (mut monitor, turn) = (self.all.monitor.clone(), Arc::clone(&self.turn));
        loop {
            tokio::select! {
                biased;
                mode = monitor.other_than(self.mode) => match mode {
                    Mode::Stop => return Ok(End::Stop),
                    Mode::Rest | Mode::Try => return Ok(End::Away),
                    Mode::Take => {
                        self.mode = mode;
                        self.go_on().await;
                    }
                },
                () = turn.let_go.notified() => return Ok(End::LetGo),
                Some((tag, verdict)) = self.verdicts.recv() => {
                    self.hear(tag, verdict);
                    while let Ok((tag, verdict)) = self.verdicts.try_recv() {
                        self.hear(tag, verdict);
                    }
                    self.acknowledge().await?;
                    if self.window.has(State::Failed) && !self.doubt().await? {
                        return Ok(End::Away);
                    }
                    self.go_on().await;
                }
                delivery = consumer.next() => match delivery {
                    Some(delivery) => {
                        metrics::counter!(names::CONSUMED).increment(1);
                        turn.had.store(true, Ordering::Relaxed);
                        self.window.push(held(delivery?, State::Again));
                        self.go_on().await;
                    }
                    // The broker cancelled it: the queue was deleted.
                    None => return Err(ErrorKind::InvalidChannel(self.channel.id()).into()),
                }
            }
        }
    }

    /// Asks for what may be asked for: one at a time as long as it is a trial.
    async fn go_on(&mut self) {
        while self.mode == Mode::Take || !self.window.has(State::Asked) {
            let Some(tag) = self.window.first(State::Again) else { return };
            self.ask(tag).await;
        }
    }

    /// Gives a message to the store, or to the dead letters if it cannot be understood.
    async fn ask(&mut self, tag: u64) {
        let Some(held) = self.window.get(tag) else { return };
        held.state = State::Asked;
        match Mail::decode(&held.data) {
            Ok(mail) => self.store(tag, mail).await,
            Err(why) => {
                let data = held.data.clone();
                let label = if matches!(why, Undecodable::Newer(_)) { "newer" } else { "malformed" };
                self.bury(tag, data, (label, why.to_string()));
            }
        }
    }

    async fn store(&self, tag: u64, mail: Mail) {
        let gone = Gone::default();
        let (told, noted) = (self.told.clone(), gone.clone());
        let Mail { id, received_at, envelope, parts, summary, body } = mail;
        let done = Box::new(move |stored| {
            // A task that has ended gets the message again.
            let _ = told.try_send((tag, Verdict::Stored(stored, noted)));
        });
        let repeat = Repeat::Possible(gone);
        let mut next = Some(Incoming { id, received_at, envelope, body, summary, parts, repeat, done });
        while let Some(incoming) = next.take() {
            let Err(returned) = self.all.store.append(incoming) else { return };
            if self.all.store.is_closed() {
                return (returned.done)(Err(WriteFailed::Failed));
            }
            // Its queue is full: it has enough to do.
            tokio::time::sleep(AGAIN).await;
            next = Some(*returned);
        }
    }

    /// Puts `data` to the dead letters; the broker keeps the message until they have it.
    fn bury(&self, tag: u64, data: Vec<u8>, (label, reason): (&'static str, String)) {
        let told = self.told.clone();
        let done = Box::new(move |sent| {
            if sent == Sent::Has {
                metrics::counter!(names::DEAD, "reason" => label).increment(1);
            }
            let _ = told.try_send((tag, Verdict::Moved(sent == Sent::Has)));
        });
        let id = Mail::decode(&data).ok().map(|mail| mail.id);
        tracing::warn!(
            queue = self.queue,
            message.id = id.map(tracing::field::display),
            reason,
            "put to the dead letters"
        );
        let queue = Names::new(&self.all.config).dead();
        self.all.publisher.send(Letter { queue, id, data, failed: 0, dead: Some((reason, self.queue.clone())), done });
    }

    fn hear(&mut self, tag: u64, verdict: Verdict) {
        let state = match verdict {
            Verdict::Stored(Ok(()), gone) => {
                self.all.monitor.stored();
                let gone = gone.keys();
                if gone.is_empty() {
                    State::Done
                } else {
                    self.bury_parts(tag, &gone);
                    State::Asked
                }
            }
            Verdict::Stored(Err(WriteFailed::MailboxGone), _) => {
                let data = self.window.get(tag).map(|held| held.data.clone()).unwrap_or_default();
                self.bury(tag, data, ("gone", "no mailbox of it is there any more".into()));
                State::Asked
            }
            Verdict::Stored(Err(why), _) => {
                if why == WriteFailed::NoSpace {
                    self.lacking = self.lacking.max(Some(self.size(tag)));
                }
                State::Failed
            }
            Verdict::Moved(true) => State::Done,
            Verdict::Moved(false) => {
                self.later(tag);
                State::Asked
            }
            // It may be no failure of its own: nothing counts while everyone rests.
            Verdict::Count if self.all.monitor.mode() != self.mode => State::Paused,
            Verdict::Count => {
                self.count(tag);
                State::Asked
            }
            // It goes the whole way again: what is stored is known by its id.
            Verdict::Again => State::Again,
        };
        self.window.set(tag, state);
    }

    /// The mailboxes that are gone have a dead letter of their own; the others have the message.
    fn bury_parts(&self, tag: u64, gone: &[MailboxKey]) {
        let Some(mail) = self.window.peek(tag).and_then(|held| Mail::decode(&held.data).ok()) else { return };
        let names: Vec<&str> = gone.iter().map(MailboxKey::as_str).collect();
        let reason = format!("no mailbox any more: {}", names.join(", "));
        self.bury(tag, mail.part_of(gone).encode(), ("gone", reason));
    }

    /// It may be tried again after a while.
    fn later(&self, tag: u64) {
        self.tell_after(BURY_AGAIN, tag, Verdict::Again);
    }

    fn tell_after(&self, pause: Duration, tag: u64, verdict: Verdict) {
        let told = self.told.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // A task that has ended gets the message again.
            let _ = told.send((tag, verdict)).await;
        });
    }

    fn size(&self, tag: u64) -> usize {
        self.window.peek(tag).map_or(0, |held| held.data.len())
    }

    fn passed(&self, passed: u64) {
        self.all.condition.counts.settled(&self.queue, passed);
    }

    async fn acknowledge(&mut self) -> Result<(), lapin::Error> {
        let (acks, count, passed) = self.window.acknowledge();
        metrics::counter!(names::ACKED).increment(count as u64);
        self.passed(passed);
        let acks =
            acks.into_iter().map(|ack| self.channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }));
        join_all(acks).await.into_iter().collect()
    }

    /// Waits a little for what the store has, then closes the channel: the broker puts back what is not acknowledged, in order and
    /// with what was on its way here. What the store still has may come to be stored meanwhile; its id tells when it comes again.
    async fn hand_back(&mut self, why: End) -> Result<(), lapin::Error> {
        let end = Instant::now() + HAND_BACK;
        let waits = |window: &Window| match why {
            End::Stop | End::LetGo => window.has(State::Asked),
            End::Away => [State::Asked, State::Again, State::Failed].into_iter().any(|state| window.has(state)),
        };
        while waits(&self.window) && Instant::now() < end {
            self.listen(end).await?;
        }
        metrics::counter!(names::REQUEUED, "reason" => "away").increment(self.window.unsettled() as u64);
        self.channel.close(200, "handed back".into()).await
    }

    /// Hears one verdict, until `end` at the latest; an error when the connection is gone.
    async fn listen(&mut self, end: Instant) -> Result<(), lapin::Error> {
        if let Ok(Some((tag, verdict))) = tokio::time::timeout_at(end, self.verdicts.recv()).await {
            self.hear(tag, verdict);
        }
        self.acknowledge().await
    }
}

fn held(delivery: Delivery, state: State) -> Held {
    Held { tag: delivery.delivery_tag, failed: publisher::failed(&delivery), data: delivery.data, state }
}
