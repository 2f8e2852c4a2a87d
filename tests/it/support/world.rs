//! Plays inbound and accounts for the WebSocket endpoint: mailboxes in memory, told by the real publisher.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::{App, HttpResponse, web};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use mailroom::inbound::publisher::Publisher;
use mailroom::inbound::subscription::{
    Life, Page, Paged, Position, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId,
};
use mailroom::mail::address::{AddressError, MailboxKey, Plus};
use mailroom::mail::cursor::{Cursor, StreamCursor};
use mailroom::mail::event::{Announced, Event};
use mailroom::mail::id::DeliveryId;
use mailroom::mail::summary::{Codes, Listed};
use mailroom::mail::time::Timestamp;
use mailroom::sockets::outside::{Access, Denied, Foreign};
use mailroom::sockets::{Config, Http, Outside, Sockets, http_service};
use parking_lot::Mutex;

/// Subscribing here makes the actor panic.
pub const PANIC: &str = "panic@x.test";

#[derive(Default)]
struct Stream {
    publisher: Publisher,
    log: Vec<Arc<Announced>>,
}

#[derive(Default)]
struct Mailboxes {
    boxes: HashMap<MailboxKey, (u64, Stream)>,
    all: Stream,
    stamp: i64,
}

/// See the module.
#[derive(Default)]
pub struct World {
    state: Mutex<Mailboxes>,
    /// Pages that were asked for.
    pub pages: AtomicUsize,
    /// Texts that were asked for.
    pub texts: AtomicUsize,
    /// Tokens are needed: the token of a mailbox is its key.
    pub closed: AtomicBool,
    /// Publishers and store answer `Unavailable`.
    pub down: AtomicBool,
}

pub fn key(address: &str) -> MailboxKey {
    MailboxKey::parse(address, Plus::Same).unwrap()
}

fn listed(mailbox: &MailboxKey, uid: u64, subject: &str) -> Arc<Listed> {
    Arc::new(Listed {
        id: DeliveryId::new(Timestamp(uid.cast_signed())),
        uid,
        mailbox: mailbox.clone(),
        cursor: Cursor::default(),
        from: None,
        to: [].into(),
        subject: subject.into(),
        preview: "".into(),
        date: None,
        received_at: Timestamp(0),
        expires_at: None,
        size: 1,
        attachments: 0,
        is_read: false,
        tags: Vec::new(),
        codes: Codes,
    })
}

impl World {
    /// A message comes in; `text` is what filters see, when it is announced with the event.
    pub fn receive(&self, mailbox: &str, subject: &str, text: Option<&str>) -> Cursor {
        self.announce(mailbox, text, |key, modseq| Event::Received { message: listed(key, modseq, subject) })
    }

    pub fn announce(&self, mailbox: &str, text: Option<&str>, event: impl Fn(&MailboxKey, u64) -> Event) -> Cursor {
        let mut state = self.state.lock();
        let key = key(mailbox);
        state.stamp += 1;
        let stream = StreamCursor { lineage: 1, stamp: state.stamp };
        let (incarnation, own) = state.boxes.entry(key.clone()).or_insert_with(|| (1, Stream::default()));
        let modseq = own.log.last().map_or(1, |event| event.cursor.modseq + 1);
        let cursor = Cursor { lineage: 1, incarnation: *incarnation, modseq };
        let event = Arc::new(Announced::new(key.clone(), cursor, stream, event(&key, modseq), text.map(Into::into)));
        own.log.push(Arc::clone(&event));
        own.publisher.publish(modseq, &event);
        let place = state.stamp.unsigned_abs();
        state.all.log.push(Arc::clone(&event));
        state.all.publisher.publish(place, &event);
        cursor
    }

    /// The mailbox lives again: what was is gone, its subscribers are told to reload.
    pub fn reborn(&self, mailbox: &str) -> Cursor {
        let mut state = self.state.lock();
        let (incarnation, own) = state.boxes.entry(key(mailbox)).or_default();
        *incarnation += 1;
        own.log.clear();
        let at = Cursor { lineage: 1, incarnation: *incarnation, modseq: 0 };
        own.publisher.reset(0, Position::Mailbox(at));
        at
    }

    /// The mailbox's actor dies; the next one knows no subscriber.
    pub fn kill(&self, mailbox: &str) {
        if let Some((_, own)) = self.state.lock().boxes.get_mut(&key(mailbox)) {
            own.publisher = Publisher::default();
        }
    }

    pub fn subscribers(&self, mailbox: &str) -> usize {
        self.state.lock().boxes.get(&key(mailbox)).map_or(0, |(_, own)| own.publisher.len())
    }
}

fn at(scope: &Scope, incarnation: u64, log: &[Arc<Announced>]) -> Position {
    match (scope, log.last()) {
        (Scope::All, Some(event)) => Position::Stream(event.stream),
        (Scope::All, None) => Position::Stream(StreamCursor::default()),
        (Scope::Mailbox(_), Some(event)) => Position::Mailbox(event.cursor),
        (Scope::Mailbox(_), None) if incarnation > 1 => {
            Position::Mailbox(Cursor { lineage: 1, incarnation, modseq: 0 })
        }
        (Scope::Mailbox(_), None) => Position::Mailbox(Cursor::default()),
    }
}

fn place(position: Position) -> u64 {
    match position {
        Position::Mailbox(cursor) => cursor.modseq,
        Position::Stream(cursor) => cursor.stamp.unsigned_abs(),
    }
}

impl World {
    fn with<T>(&self, scope: &Scope, act: impl FnOnce(u64, &mut Stream) -> T) -> T {
        let mut state = self.state.lock();
        match scope {
            Scope::All => act(1, &mut state.all),
            Scope::Mailbox(key) => {
                let (incarnation, own) = state.boxes.entry(key.clone()).or_insert_with(|| (1, Stream::default()));
                act(*incarnation, own)
            }
        }
    }

    fn subscribe_now(&self, scope: &Scope, subscribe: Subscribe) -> Result<Subscribed, SubscribeError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(SubscribeError::Unavailable);
        }
        match scope {
            Scope::Mailbox(key) if key.as_str() == PANIC => panic!("asked to"),
            Scope::Mailbox(key) if key.as_str().starts_with("nobody@") => return Err(SubscribeError::Unknown),
            _ => {}
        }
        self.with(scope, |incarnation, stream| {
            if subscribe.incarnation.is_some_and(|own| own != incarnation) {
                return Err(SubscribeError::Unknown);
            }
            let at = at(scope, incarnation, &stream.log);
            let live = subscribe.since.is_none_or(|since| since == at);
            stream.publisher.add(subscribe, place(at), live, None);
            Ok(Subscribed { at, live, reset: false })
        })
    }

    fn page_now(&self, scope: &Scope, page: &Page) -> Result<Paged, SubscribeError> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(SubscribeError::Unavailable);
        }
        self.with(scope, |incarnation, stream| {
            let turn = stream.publisher.hold_back(page.id).ok_or(SubscribeError::Lost)?;
            let head = at(scope, incarnation, &stream.log);
            let foreign = |since: Cursor| since.incarnation != incarnation && since.incarnation != 0;
            if matches!(page.since, Position::Mailbox(since) if foreign(since)) {
                assert!(stream.publisher.join(page.id, turn, place(head)));
                return Ok(Paged { events: Vec::new(), at: head, live: true, reset: true });
            }
            let all: Vec<_> = stream
                .log
                .iter()
                .filter(|event| match scope {
                    Scope::All => event.stream.stamp.unsigned_abs() > place(page.since),
                    Scope::Mailbox(_) => event.cursor.modseq > place(page.since),
                })
                .cloned()
                .collect();
            let live = all.len() <= page.limit as usize;
            let events: Vec<_> = all.into_iter().take(page.limit as usize).collect();
            let at = if live { head } else { self::at(scope, incarnation, &events) };
            if live {
                assert!(stream.publisher.join(page.id, turn, place(head)));
            }
            Ok(Paged { events, at, live, reset: false })
        })
    }
}

impl Outside for World {
    fn check_origin(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), Foreign> {
        if host.is_none_or(|host| host.starts_with("evil")) {
            return Err(Foreign::Host);
        }
        if origin.is_some_and(|origin| origin.contains("evil")) { Err(Foreign::Origin) } else { Ok(()) }
    }

    fn access<'a>(&'a self, token: Option<&'a str>) -> LocalBoxFuture<'a, Result<Access, Denied>> {
        let access = match token {
            _ if !self.closed.load(Ordering::SeqCst) => Ok(Access::Open),
            None => Err(Denied::NoToken),
            Some("wrong") => Err(Denied::Unknown),
            Some(token) => {
                let incarnation = self.with(&Scope::Mailbox(key(token)), |incarnation, _| incarnation);
                Ok(Access::Mailbox(Life { mailbox: key(token), incarnation }))
            }
        };
        std::future::ready(access).boxed_local()
    }

    fn key(&self, address: &str) -> Result<MailboxKey, AddressError> {
        MailboxKey::parse(address, Plus::Same)
    }

    fn subscribe<'a>(
        &'a self,
        scope: &'a Scope,
        subscribe: Subscribe,
    ) -> LocalBoxFuture<'a, Result<Subscribed, SubscribeError>> {
        async move {
            // As a message to another actor would: answered in a later turn.
            tokio::task::yield_now().await;
            let answer = self.subscribe_now(scope, subscribe);
            tokio::task::yield_now().await;
            answer
        }
        .boxed_local()
    }

    fn page<'a>(&'a self, scope: &'a Scope, page: Page) -> LocalBoxFuture<'a, Result<Paged, SubscribeError>> {
        async move {
            tokio::task::yield_now().await;
            let answer = self.page_now(scope, &page);
            tokio::task::yield_now().await;
            answer
        }
        .boxed_local()
    }

    fn unsubscribe(&self, scope: &Scope, id: SubscriptionId) {
        self.with(scope, |_, stream| stream.publisher.remove(id));
    }

    fn text<'a>(&'a self, event: &'a Announced) -> LocalBoxFuture<'a, Arc<str>> {
        self.texts.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            match &event.event {
                Event::Received { message } => Arc::from(format!("stored text of {}", message.subject)),
                _ => Arc::from(""),
            }
        }
        .boxed_local()
    }
}

/// The endpoint beside a small App, on a port of its own; stops when dropped.
pub struct Server {
    pub addr: SocketAddr,
    pub world: Arc<World>,
    pub sockets: Sockets,
    handle: actix_server::ServerHandle,
}

impl Server {
    pub fn start(config: Config) -> Self {
        let world = Arc::new(World::default());
        let sockets = Sockets::new(config, Arc::<World>::clone(&world));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, started) = std::sync::mpsc::sync_channel(1);
        let theirs = sockets.clone();
        std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let builder = actix_server::Server::build().workers(2).disable_signals().shutdown_timeout(1);
                let http = Http {
                    keep_alive: Duration::from_secs(5),
                    request_timeout: Duration::from_secs(5),
                    ..Http::default()
                };
                let hello = || async { HttpResponse::Ok().body("hello") };
                let server = builder
                    .listen("http", listener, move || {
                        http_service(App::new().route("/hello", web::get().to(hello)), theirs.clone(), http.clone())
                    })
                    .unwrap()
                    .run();
                told.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        let handle = started.recv().unwrap();
        Self { addr, world, sockets, handle }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}
