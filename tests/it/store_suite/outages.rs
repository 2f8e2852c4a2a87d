//! A database server that drops connections, stands still, dies and comes back: every answer is true, nothing needs a
//! restart, nobody waits for ever.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use mailroom::mail::cursor::Cursor;
use mailroom::mail::id::DeliveryId;
use mailroom::store::{Fault, Faults, Store, StoreError, WriteFailed};
use parking_lot::Mutex;
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::support::*;
use crate::support::servers::{MariaDb, Postgres, Running};
use crate::support::{PATIENCE, until};

/// A server that no other test uses.
enum Own {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Own {
    fn start(engine: Engine) -> Self {
        match engine {
            Engine::MariaDb => {
                let own = MariaDb::start();
                own.sql("", "CREATE DATABASE mail CHARACTER SET utf8mb4");
                Self::MariaDb(own)
            }
            _ => {
                let own = Postgres::start();
                own.sql("postgres", "CREATE DATABASE mail");
                Self::Postgres(own)
            }
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Postgres(own) => own.url("mail"),
            Self::MariaDb(own) => own.url("mail"),
        }
    }

    fn running(&mut self) -> &mut Running {
        match self {
            Self::Postgres(own) => own,
            Self::MariaDb(own) => own,
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Postgres(own) => own.address,
            Self::MariaDb(own) => own.address,
        }
    }

    fn disconnect(&self) {
        match self {
            Self::Postgres(own) => own.disconnect(),
            Self::MariaDb(own) => own.disconnect(),
        }
    }

    async fn store(&self, directory: &std::path::Path) -> (Store, Arc<Heard>) {
        self.store_with(directory, self.url(), Faults::default()).await
    }

    async fn store_with(&self, directory: &std::path::Path, url: String, faults: Faults) -> (Store, Arc<Heard>) {
        let mut config = config(directory);
        config.database.url = url;
        let heard = Arc::<Heard>::default();
        (Store::open(&config, heard.clone(), faults).await.unwrap(), heard)
    }

    fn sql(&self, text: &str) -> String {
        match self {
            Self::Postgres(own) => own.sql("mail", text),
            Self::MariaDb(own) => own.sql("mail", text),
        }
    }

    /// As somebody who may not write where only reading is allowed, as the user of a service should be.
    fn url_without_privileges(&self) -> String {
        let Self::MariaDb(own) = self else { return self.url() };
        self.sql("CREATE USER plain@'%' IDENTIFIED BY 'plain'; GRANT ALL PRIVILEGES ON mail.* TO plain@'%'");
        format!("mysql://plain:plain@{}/mail", own.address)
    }

    /// Lets nobody write, or everybody again; no connection ends.
    fn may_only_be_read(&self, only: bool) {
        match (self, only) {
            (Self::Postgres(_), true) => drop(self.sql("ALTER SYSTEM SET default_transaction_read_only = on")),
            (Self::Postgres(_), false) => drop(self.sql("ALTER SYSTEM RESET default_transaction_read_only")),
            (Self::MariaDb(_), only) => drop(self.sql(&format!("SET GLOBAL read_only = {}", u8::from(only)))),
        }
        if let Self::Postgres(_) = self {
            self.sql("SELECT pg_reload_conf()");
        }
    }

    /// Whoever puts a mark without events waits from now on until this transaction is over.
    async fn hold_fences(&self) -> DatabaseTransaction {
        self.sql("CREATE TABLE held (id INT PRIMARY KEY, n INT)");
        self.sql("INSERT INTO held VALUES (1, 0)");
        if let Self::MariaDb(_) = self {
            self.sql(
                "CREATE TRIGGER hold BEFORE INSERT ON commits FOR EACH ROW \
                 UPDATE held SET n = n + 1 WHERE id = 1 AND NEW.last IS NULL",
            );
        } else {
            self.sql(
            "CREATE FUNCTION hold() RETURNS trigger AS $$ BEGIN UPDATE held SET n = n + 1 WHERE id = 1; RETURN NEW; END $$ \
             LANGUAGE plpgsql",
        );
            self.sql(
            "CREATE TRIGGER hold BEFORE INSERT ON commits FOR EACH ROW WHEN (NEW.last IS NULL) EXECUTE FUNCTION hold()",
        );
        }
        let other = sea_orm::Database::connect(self.url()).await.unwrap();
        let holding = other.begin().await.unwrap();
        holding.execute_unprepared("UPDATE held SET n = n + 1 WHERE id = 1").await.unwrap();
        holding
    }

    /// The connections that wait for a lock, by their numbers.
    async fn waiting(&self) -> HashSet<String> {
        // InnoDB shows the same again to whoever looks sooner than 0.1 s after the last look.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let text = match self {
            Self::Postgres(_) => "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
            Self::MariaDb(_) => {
                "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            }
        };
        self.sql(text).lines().map(str::to_owned).collect()
    }

    /// The connections of the store, by their numbers.
    fn connections(&self) -> HashSet<String> {
        let text = match self {
            Self::Postgres(_) => "SELECT pid FROM pg_stat_activity WHERE application_name = 'mailroom'",
            Self::MariaDb(_) => "SELECT id FROM information_schema.processlist WHERE user = 'plain'",
        };
        self.sql(text).lines().map(str::to_owned).collect()
    }
}

/// What a lane of a load gets through at least.
const ENOUGH: usize = 10;

/// Delivers one after the other until told to stop; what was answered yes, and what no.
async fn load(
    store: &Store,
    to: &[&str],
    stop: &AtomicBool,
    enough: &AtomicUsize,
) -> (Vec<DeliveryId>, Vec<DeliveryId>) {
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    let mut n = 0;
    while !stop.load(Ordering::SeqCst) {
        n += 1;
        let (incoming, answer) = incoming(to, mail(n).as_bytes());
        let id = incoming.id;
        match store.append(incoming) {
            Err(_) => no.push(id),
            Ok(()) => match answer.await.unwrap() {
                Ok(()) => {
                    yes.push(id);
                    if yes.len() == ENOUGH {
                        enough.fetch_add(1, Ordering::SeqCst);
                    }
                }
                Err(WriteFailed::Failed) => {
                    no.push(id);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(other) => panic!("{other}"),
            },
        }
    }
    (yes, no)
}

/// What was answered yes is there once and was announced once; what was answered no is not there.
async fn is_true(store: &Store, heard: &Heard, to: &str, yes: &[DeliveryId], no: &[DeliveryId]) {
    let mut listed = Vec::new();
    let mut page = request(to, 1_000);
    loop {
        let found = store.list(&page).await.unwrap();
        listed.extend(found.items.iter().map(|item| item.id));
        page.page = found.next;
        if page.page.is_none() {
            break;
        }
    }
    for id in no {
        assert!(!listed.contains(id), "{id} was refused and is there");
    }
    listed.sort_unstable_by_key(|id| id.0);
    let mut wanted = yes.to_vec();
    wanted.sort_unstable_by_key(|id| id.0);
    assert!(listed == wanted, "{} are there, {} were answered yes", listed.len(), wanted.len());
    let told = heard.events().iter().filter(|event| event.mailbox == key(to)).count();
    assert_eq!(told, yes.len());
}

pub async fn killed_connections_lose_nothing_and_repeat_nothing(engine: Engine) {
    let own = Own::start(engine);
    let directory = tempfile::tempdir().unwrap();
    let (store, heard) = own.store(directory.path()).await;
    let (stop, enough) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lanes: Vec<[String; 2]> = (0..8).map(|n| [format!("{n}@x"), format!("all{}@x", n % 3)]).collect();
    let cut = async {
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            own.disconnect();
        }
        until("every lane goes on", async || enough.load(Ordering::SeqCst) == lanes.len()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let work = lanes.iter().map(async |to| load(&store, &[&to[0], &to[1]], &stop, &enough).await);
    let (_, results) = futures_util::join!(cut, futures_util::future::join_all(work));
    for (to, (yes, no)) in lanes.iter().zip(&results) {
        is_true(&store, &heard, &to[0], yes, no).await;
    }
    assert!(store.status().healthy);
}

/// A client that goes away ends what it asked for in the middle, wherever that is.
pub async fn reads_that_are_given_up_leave_no_transaction_behind(engine: Engine) {
    let f = Fixture::on(engine).await;
    f.fill("a@x", 3).await;
    let (wanted, mut given_up) = (request("a@x", 10), 0);
    for n in 0..400 {
        // At each place where it waits, one after the other.
        let (mut left, mut read) = (n % 8, Box::pin(f.store.list(&wanted)));
        let ended = std::future::poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(page) => Poll::Ready(Some(page)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        });
        match ended.await {
            Some(page) => assert_eq!(page.unwrap().items.len(), 3),
            None => given_up += 1,
        }
    }
    assert!(given_up > 40, "{given_up} were given up");
    for _ in 0..200 {
        assert_eq!(f.store.list(&wanted).await.unwrap().items.len(), 3);
    }
    let open = match engine {
        Engine::MariaDb => {
            "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
                            ON p.id = t.trx_mysql_thread_id WHERE p.db = database() AND p.command = 'Sleep'"
        }
        _ => "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'",
    };
    until("nothing is begun", async || f.database().sql(open).await.trim() == "0").await;
    for _ in 0..200 {
        assert_eq!(f.store.list(&wanted).await.unwrap().items.len(), 3);
    }
}

pub async fn a_server_that_stands_still_keeps_no_reader_waiting_for_ever(engine: Engine) {
    let mut own = Own::start(engine);
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = own.store(directory.path()).await;
    let (mail, answer) = incoming(&["a@x"], mail(1).as_bytes());
    assert!(store.append(mail).is_ok());
    answer.await.unwrap().unwrap();
    own.running().pause();
    let began = Instant::now();
    let (address, wanted) = (key("a@x"), request("a@x", 10));
    let (list, mailbox, rows, replay) = tokio::join!(
        store.list(&wanted),
        store.mailbox(&address),
        store.mailboxes(std::slice::from_ref(&address)),
        store.replay(&address, Cursor::default(), 10),
    );
    assert!(matches!(list, Err(StoreError::Unavailable(_))), "{list:?}");
    assert!(matches!(mailbox, Err(StoreError::Unavailable(_))), "{mailbox:?}");
    assert!(matches!(rows, Err(StoreError::Unavailable(_))), "{rows:?}");
    assert!(matches!(replay, Err(StoreError::Unavailable(_))), "{replay:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    own.running().resume();
    let end = Instant::now() + PATIENCE;
    while store.list(&wanted).await.map(|page| page.items.len()).ok() != Some(1) {
        assert!(Instant::now() < end, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    store.close().await;
}

pub async fn a_database_that_is_away_is_said_so_and_comes_back(engine: Engine) {
    let mut own = Own::start(engine);
    let directory = tempfile::tempdir().unwrap();
    let (store, heard) = own.store(directory.path()).await;
    let (stop, enough) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let lanes = ["a@x", "b@x", "c@x", "d@x", "e@x", "f@x"];
    let work: Vec<_> = lanes
        .into_iter()
        .map(|to| {
            let (store, stop, enough) = (store.clone(), stop.clone(), enough.clone());
            tokio::spawn(async move { load(&store, &[to], &stop, &enough).await })
        })
        .collect();
    until("every lane goes on", async || enough.load(Ordering::SeqCst) == lanes.len()).await;
    // Stands still and goes on: whoever waited is answered.
    own.running().pause();
    tokio::time::sleep(Duration::from_secs(2)).await;
    own.running().resume();
    tokio::time::sleep(Duration::from_millis(500)).await;
    own.running().kill();
    // What is asked now is answered soon, and says why.
    for _ in 0..2 {
        let began = Instant::now();
        let (incoming, answer) = incoming(&["late@x"], mail(1).as_bytes());
        if store.append(incoming).is_ok() {
            assert_eq!(answer.await.unwrap(), Err(WriteFailed::Failed));
        }
        let read = store.list(&request("late@x", 10)).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        let read = store.delete_mailbox(&key("late@x")).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    }
    assert!(!store.status().healthy);
    own.running().launch();
    own.running().ready().await;
    // Back by itself.
    let back = Instant::now();
    loop {
        let (incoming, answer) = incoming(&["back@x"], mail(1).as_bytes());
        if store.append(incoming).is_ok() && answer.await.unwrap().is_ok() {
            break;
        }
        assert!(back.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::SeqCst);
    for (to, work) in lanes.iter().zip(work) {
        let (yes, no) = work.await.unwrap();
        is_true(&store, &heard, to, &yes, &no).await;
    }
    assert!(store.status().healthy);
}

async fn put(store: &Store, n: usize) -> Result<(), WriteFailed> {
    let (incoming, answer) = incoming(&["a@x"], mail(n).as_bytes());
    assert!(store.append(incoming).is_ok());
    answer.await.unwrap()
}

/// Whoever holds the lock on the mark of a commit whose outcome is not known: a replica that a commit waits for, a person.
pub async fn a_commit_that_stays_locked_keeps_nobody_waiting_for_ever(engine: Engine) {
    let own = Own::start(engine);
    let (directory, faults) = (tempfile::tempdir().unwrap(), Faults::default());
    let (store, _) = own.store_with(directory.path(), own.url(), faults.clone()).await;
    put(&store, 1).await.unwrap();
    let holding = own.hold_fences().await;
    faults.arm(Fault::CommitUnknown);
    let began = Instant::now();
    let heard = tokio::time::timeout(2 * PATIENCE, put(&store, 2)).await.expect("it is answered some time");
    let took = began.elapsed();
    assert_eq!(heard, Err(WriteFailed::Failed));
    assert!(took > Duration::from_secs(25) && took < Duration::from_secs(50), "{took:?}");
    // The others go on while it is held, and so does what waited.
    put(&store, 3).await.unwrap();
    assert!(store.status().healthy);
    holding.rollback().await.unwrap();
    put(&store, 4).await.unwrap();
    // The one that counted as failed was there after all.
    assert_eq!(store.list(&request("a@x", 10)).await.unwrap().items.len(), 4);
    store.close().await;
}

/// A primary that becomes a replica, or is kept from writes, and ends no connection.
pub async fn a_primary_that_may_only_be_read_counts_as_away_and_is_reached_anew(engine: Engine) {
    let own = Own::start(engine);
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = own.store_with(directory.path(), own.url_without_privileges(), Faults::default()).await;
    let put = async |to: &str| {
        let (incoming, answer) = incoming(&[to], mail(1).as_bytes());
        assert!(store.append(incoming).is_ok());
        answer.await.unwrap()
    };
    // Every writer has written.
    let all: Vec<String> = (0..32).map(|n| format!("{n}@x")).collect();
    for to in &all {
        put(to).await.unwrap();
    }
    assert_eq!(store.list(&request("1@x", 10)).await.unwrap().items.len(), 1);
    let before = own.connections();
    assert!(before.len() >= 5, "{before:?}");
    own.may_only_be_read(true);
    let began = Instant::now();
    until("it is noticed", async || put("late@x").await == Err(WriteFailed::Failed)).await;
    let change = store.delete_mailbox(&key("1@x")).await;
    assert!(matches!(change, Err(StoreError::Unavailable(_))), "{change:?}");
    assert!(!store.status().healthy);
    until("every connection is made anew", async || {
        for to in &all {
            assert_eq!(put(to).await, Err(WriteFailed::Failed));
            assert!(store.list(&request(to, 10)).await.is_ok(), "what is there can be read");
        }
        own.connections().is_disjoint(&before)
    })
    .await;
    assert!(began.elapsed() < PATIENCE, "nobody waited: {:?}", began.elapsed());
    own.may_only_be_read(false);
    until("it is back by itself", async || put("back@x").await.is_ok()).await;
    for to in &all {
        put(to).await.unwrap();
        assert_eq!(store.list(&request(to, 10)).await.unwrap().items.len(), 2);
    }
    assert!(store.status().healthy);
    store.close().await;
}

/// What keeps a commit from happening may be in place without its node having heard so: that is no commit.
pub async fn what_was_fenced_off_unheard_is_not_taken_for_a_commit(engine: Engine) {
    let own = Own::start(engine);
    let (directory, faults) = (tempfile::tempdir().unwrap(), Faults::default());
    let name = Name::new(own.address());
    let url = own.url().replace(&own.address().to_string(), &name.address.to_string());
    let (store, _) = own.store_with(directory.path(), url, faults.clone()).await;
    put(&store, 1).await.unwrap();
    let holding = own.hold_fences().await;
    faults.arm(Fault::Commit);
    let losing = async {
        until("it puts the fence", async || !own.waiting().await.is_empty()).await;
        let first = own.waiting().await;
        // The server goes on with the statement, and finds nobody to tell.
        name.cut();
        until("it puts it again", async || !own.waiting().await.is_subset(&first)).await;
        holding.rollback().await.unwrap();
    };
    let (heard, ()) = tokio::join!(put(&store, 2), losing);
    assert_eq!(heard, Err(WriteFailed::Failed), "it is not there, and was said to be");
    put(&store, 3).await.unwrap();
    // The readers' connections were cut, too.
    until("it can be read", async || store.list(&request("a@x", 10)).await.is_ok()).await;
    assert_eq!(store.list(&request("a@x", 10)).await.unwrap().items.len(), 2);
    store.close().await;
}

/// A name that leads to one server now and to another later. Connections stay where they were made to.
struct Name {
    address: SocketAddr,
    leads_to: Arc<Mutex<SocketAddr>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Name {
    /// On a thread of its own: that of the test may wait for the server.
    fn new(to: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, leads_to) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(to)));
        let connections = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let (leads, made) = (Arc::clone(&leads_to), Arc::clone(&connections));
        let serve = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((mut client, _)) = listener.accept().await {
                let to = *leads.lock();
                let connection = tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    // Either side may end it.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
                made.lock().push(connection.abort_handle());
            }
        };
        std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
        });
        Self { address, leads_to, connections }
    }

    /// Ends every connection in the middle of whatever it is about.
    fn cut(&self) {
        self.connections.lock().drain(..).for_each(|connection| connection.abort());
    }
}

#[tokio::test]
async fn a_name_that_leads_to_another_primary_is_followed_though_no_connection_ends() {
    let old = Own::start(Engine::Postgres);
    let Own::Postgres(primary) = &old else { panic!("it is PostgreSQL") };
    let new = primary.replica();
    let name = Name::new(primary.address);
    let url = old.url().replace(&primary.address.to_string(), &name.address.to_string());
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = old.store_with(directory.path(), url, Faults::default()).await;
    let put = async |to: &str| {
        let (incoming, answer) = incoming(&[to], mail(1).as_bytes());
        assert!(store.append(incoming).is_ok());
        answer.await.unwrap()
    };
    put("a@x").await.unwrap();
    assert_eq!(store.list(&request("a@x", 10)).await.unwrap().items.len(), 1);
    until("the replica has it", async || new.try_sql("mail", "SELECT count(*) FROM messages") == Ok("1".into())).await;
    // It ends no connection, and answers whoever reads.
    old.may_only_be_read(true);
    assert_eq!(new.sql("mail", "SELECT pg_promote()"), "t");
    *name.leads_to.lock() = new.address;
    until("mail goes to the new one", async || put("a@x").await.is_ok()).await;
    assert_eq!(store.list(&request("a@x", 10)).await.unwrap().items.len(), 2, "the old one is not read any more");
    assert_eq!(new.sql("mail", "SELECT count(*) FROM messages"), "2");
    store.close().await;
}
