//! One SMTP session: drives the pure state machine `smtp::server` over a socket.
//!
//! Started by the listener on the arbiter that accepted it; asks its door about recipients and gives it messages.
//! While an answer is awaited nothing is read, so a client can have only so much under way. It reads when readable
//! into a buffer of the thread and keeps only what is incomplete: an idle session holds no buffer. Ends with QUIT, a
//! closed connection, a time limit, or a stop of the server (421 once nothing is promised any more).

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler, WrapFuture};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::allowance;
use super::gate::{Gate, Place, ROOM_STEP, Room};
use super::line::{CHUNK, Readable, linger, write_all};
use super::listener::Sessions;
use super::metrics as names;
use super::receipt::{self, Receipt};
use super::unnamed;
use crate::cluster::limits::Limits as ClientLimits;
use crate::handoff::{Answer, Door, Refusal};
use crate::mail::id::SessionId;
use crate::settings::Network;
use crate::smtp::limits::Limits;
use crate::smtp::reply::{self, Reply};
use crate::smtp::server::{Phase, Server, Step};

/// The server stops: end as soon as nothing is promised any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// What all sessions of a listener share.
pub struct Site {
    pub door: Arc<dyn Door>,
    pub gate: Arc<Gate>,
    pub limits: Arc<Limits>,
    /// What each client network may do.
    pub client_limits: ClientLimits,
    pub host_name: Arc<str>,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    pub data_timeout: Duration,
    pub min_data_rate: u64,
    /// Peers in these networks begin with a PROXY header.
    pub proxies: Box<[Network]>,
    pub proxy_timeout: Duration,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// See the module.
pub struct SmtpSession {
    site: Arc<Site>,
    id: SessionId,
    client: IpAddr,
    stream: Rc<TcpStream>,
    server: Server,
    out: Vec<u8>,
    /// Input that came while a step was open.
    rest: Vec<u8>,
    room: Option<Room>,
    heard_at: Instant,
    data_since: Option<Instant>,
    draining: bool,
    /// A write is awaited: what comes to `out` meanwhile is written after it.
    writing: bool,
    closing: bool,
    /// Nothing came yet.
    is_new: bool,
    sessions: Sessions,
    place: Place,
}

impl SmtpSession {
    /// `first` is what the client said already.
    #[must_use]
    pub fn new(
        site: Arc<Site>,
        id: SessionId,
        client: IpAddr,
        stream: TcpStream,
        place: Place,
        sessions: Sessions,
        first: Vec<u8>,
    ) -> Self {
        let server = Server::new(Arc::clone(&site.limits), Arc::clone(&site.host_name));
        Self {
            site,
            id,
            client,
            stream: Rc::new(stream),
            server,
            out: Vec::new(),
            rest: first,
            room: None,
            heard_at: Instant::now(),
            data_since: None,
            draining: false,
            writing: false,
            closing: false,
            is_new: true,
            sessions,
            place,
        }
    }

    /// Reads what is there and lets the state machine have it.
    fn read(&mut self, ctx: &mut Context<Self>) {
        let taken = BUFFER.with_borrow_mut(|buffer| match self.stream.try_read(buffer) {
            Ok(0) => Err(None),
            Ok(n) => {
                self.heard_at = Instant::now();
                self.feed(buffer.get(..n).unwrap_or_default(), ctx);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Some(error)),
        });
        if let Err(error) = taken {
            tracing::debug!(session.id = %self.id, client = %self.client, ?error, "the client closed the connection");
            ctx.stop();
        }
    }

    /// Goes on with what was left when a step was opened.
    fn resume(&mut self, ctx: &mut Context<Self>) {
        let rest = std::mem::take(&mut self.rest);
        self.feed(&rest, ctx);
    }

    fn feed(&mut self, input: &[u8], ctx: &mut Context<Self>) {
        if !input.is_empty() && std::mem::take(&mut self.is_new) && unnamed::is_header(input) {
            unnamed::tell(&self.stream, &self.site.proxies);
            return self.end(reply::PROXY_HEADER, ctx);
        }
        let mut rest = input;
        loop {
            let (taken, step) = self.server.input(rest, &mut self.out);
            rest = rest.get(taken..).unwrap_or_default();
            self.note_refusals();
            let Some(step) = step else { break };
            if !self.step(step, ctx) {
                self.rest = rest.to_vec();
                break;
            }
        }
        self.mind_data();
        if self.draining && !self.closing && self.server.phase() == Phase::Command {
            self.end(reply::SHUTTING_DOWN, ctx);
        }
        self.flush(ctx);
    }

    /// Carries out a step; false when its answer comes later and `resume` goes on from there.
    fn step(&mut self, step: Step, ctx: &mut Context<Self>) -> bool {
        match step {
            Step::Recipient { address, declared_size } => {
                let answer = self.site.door.admit(&address, declared_size.unwrap_or(0));
                self.settle(answer, ctx, |session, verdict| {
                    session.server.recipient(verdict.map_err(refused), &mut session.out);
                })
            }
            Step::Data { declared_size } => {
                let answer = allowance::message(&self.site.client_limits, self.client);
                self.settle(answer, ctx, move |session, verdict| {
                    let verdict = verdict.and_then(|()| session.take_room(declared_size.unwrap_or(0)));
                    session.server.data(verdict, &mut session.out);
                })
            }
            Step::Message(message) => {
                self.data_since = None;
                let receipt = Receipt::begin(self.id, self.client, &self.site.host_name);
                let (id, deliver) = receipt.deliver(*message);
                let bytes = deliver.data.len();
                // The bytes count as in flight until the verdict.
                let room = self.room.take();
                let answer = self.site.door.deliver(deliver);
                self.settle(answer, ctx, move |session, verdict| {
                    drop(room);
                    receipt.close(id, bytes, verdict);
                    let text = receipt::stored_text(id);
                    session.server.message(verdict.map(|()| text.as_str()).map_err(refused), &mut session.out);
                })
            }
            Step::Close => {
                self.close(ctx);
                false
            }
        }
    }

    /// Makes room for a message of so many bytes, of which none are here yet.
    fn take_room(&mut self, declared: u64) -> Result<(), Reply> {
        let mut room = self.place.room();
        if !room.could_grow(declared) || !room.grow(ROOM_STEP) {
            return Err(reply::INSUFFICIENT_STORAGE);
        }
        self.room = Some(room);
        self.data_since = Some(Instant::now());
        Ok(())
    }

    /// Uses an answer now, or reads nothing until it is there.
    fn settle<T: 'static>(
        &mut self,
        answer: Answer<T>,
        ctx: &mut Context<Self>,
        use_it: impl FnOnce(&mut Self, T) + 'static,
    ) -> bool {
        match answer {
            Answer::Now(value) => {
                use_it(self, value);
                true
            }
            Answer::Later(value) => {
                // What was answered so far need not wait for this: a pipelining client may want it to go on.
                self.flush(ctx);
                ctx.wait(value.into_actor(self).map(|value, session, ctx| {
                    session.heard_at = Instant::now();
                    use_it(session, value);
                    session.resume(ctx);
                }));
                false
            }
        }
    }

    /// Counts what came of a message as in flight; without room for it the rest is not kept.
    fn mind_data(&mut self) {
        if self.server.phase() != Phase::Data {
            // A message that the protocol itself refused ends without a step.
            (self.room, self.data_since) = (None, None);
            return;
        }
        let held = self.server.buffered() as u64;
        let fits =
            self.room.as_mut().is_none_or(|room| held <= room.bytes() || room.grow(held.next_multiple_of(ROOM_STEP)));
        if !fits {
            self.server.out_of_room();
        }
    }

    fn note_refusals(&mut self) {
        for refusal in self.server.take_refusals() {
            metrics::counter!(names::REFUSED, "reason" => refusal.name()).increment(1);
            let (id, client, reply) = (self.id, self.client, refusal.name());
            if refusal.is_of_message() {
                tracing::info!(session.id = %id, %client, reply, reason = refusal.text(), "message refused");
            } else {
                tracing::debug!(session.id = %id, %client, reply, "refused");
            }
        }
    }

    /// Says 421 and closes.
    fn end(&mut self, farewell: Reply, ctx: &mut Context<Self>) {
        self.server.close(farewell, &mut self.out);
        self.note_refusals();
        self.close(ctx);
    }

    /// Writes what can be written at once; the rest is awaited, and nothing is read before it is gone.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.closing || self.writing || self.out.is_empty() {
            return;
        }
        let written = match self.stream.try_write(&self.out) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return ctx.stop(),
        };
        if written == self.out.len() {
            self.out.clear();
            // An idle session holds no buffer.
            self.out.shrink_to(0);
            return;
        }
        let left = self.out.split_off(written);
        self.out = Vec::new();
        self.writing = true;
        let write = write_all(Rc::clone(&self.stream), left, self.site.write_timeout);
        // What is waited for last is polled first: an answer may come before this write is through.
        ctx.wait(write.into_actor(self).map(|wrote, session, ctx| {
            session.writing = false;
            if wrote.is_err() {
                tracing::debug!(session.id = %session.id, "the client takes no replies");
                ctx.stop();
            } else if session.closing {
                session.say_farewell(ctx);
            } else {
                session.flush(ctx);
            }
        }));
    }

    /// Writes what is left, then closes without cutting off replies that the client has not read yet.
    fn close(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.closing, true) && !self.writing {
            self.say_farewell(ctx);
        }
    }

    fn say_farewell(&mut self, ctx: &mut Context<Self>) {
        let (stream, out) = (Rc::clone(&self.stream), std::mem::take(&mut self.out));
        let limit = self.site.write_timeout;
        let farewell = async move {
            if write_all(Rc::clone(&stream), out, limit).await.is_ok() {
                linger(&stream).await;
            }
        };
        ctx.wait(farewell.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }

    /// Looks at the time limits; runs now and then.
    fn mind_time(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if now.duration_since(self.heard_at) >= self.site.read_timeout {
            return self.end(reply::TIMEOUT, ctx);
        }
        let Some(since) = self.data_since else { return };
        let taken = now.duration_since(since);
        let slow = taken > self.site.read_timeout
            && (self.server.received() as u64) < taken.as_secs().saturating_mul(self.site.min_data_rate);
        if slow || taken >= self.site.data_timeout {
            self.end(reply::TOO_SLOW, ctx);
        }
    }
}

impl Actor for SmtpSession {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        metrics::gauge!(names::CONNECTIONS_ACTIVE).increment(1);
        tracing::debug!(session.id = %self.id, client = %self.client, "session opened");
        self.server.greet(&mut self.out);
        self.resume(ctx);
        ctx.add_stream(Readable(Rc::clone(&self.stream)));
        ctx.run_interval((self.site.read_timeout / 4).max(Duration::from_millis(10)), Self::mind_time);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        tracing::debug!(session.id = %self.id, client = %self.client, "session closed");
    }
}

impl Drop for SmtpSession {
    fn drop(&mut self) {
        metrics::gauge!(names::CONNECTIONS_ACTIVE).decrement(1);
        self.sessions.forget(self.id);
    }
}

impl StreamHandler<io::Result<()>> for SmtpSession {
    fn handle(&mut self, ready: io::Result<()>, ctx: &mut Context<Self>) {
        if self.closing {
            return;
        }
        match ready {
            Ok(()) => self.read(ctx),
            Err(_) => ctx.stop(),
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<Drain> for SmtpSession {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Context<Self>) {
        self.draining = true;
        if self.server.phase() == Phase::Command && !self.closing {
            self.end(reply::SHUTTING_DOWN, ctx);
        }
    }
}

/// The reply that a refusal of the door becomes.
const fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::UnknownMailbox => reply::MAILBOX_UNKNOWN,
        Refusal::UnknownDomain => reply::DOMAIN_UNKNOWN,
        Refusal::MailboxFull => reply::MAILBOX_FULL,
        Refusal::NoSpace => reply::INSUFFICIENT_STORAGE,
        Refusal::TooLarge => reply::MESSAGE_TOO_BIG,
        Refusal::Unavailable => reply::TEMPORARY_FAILURE,
    }
}
