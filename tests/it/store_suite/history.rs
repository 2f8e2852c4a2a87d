//! A database that went back behind what its nodes saw of it, as a standby is that took over and lacks commits: a new history
//! begins, in which nothing is given twice, and nobody needs to be started again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mailroom::mail::cursor::{Cursor, StreamCursor};
use mailroom::mail::event::Announced;
use mailroom::store::{
    Announce, Config, Faults, ListRequest, NewMailbox, Position, Replay, Scope, Store, StoreError, Ttl,
};

use super::support::*;
use crate::support::servers::Database;

/// Everything that has a place in the order of commits, and what that is an order of.
const TABLES: [&str; 8] =
    ["meta", "commits", "mailboxes", "messages", "changes", "bodies", "search_state", "search_words"];

#[derive(Default)]
struct Told(Mutex<Vec<Arc<Announced>>>);

impl Announce for Told {
    fn announce(&self, _: i64, events: Vec<Arc<Announced>>) {
        self.0.lock().unwrap().extend(events);
    }
}

struct Node {
    store: Store,
    told: Arc<Told>,
}

impl Node {
    async fn open(config: &Config) -> Self {
        let told = Arc::<Told>::default();
        Self { store: Store::open(config, told.clone(), Faults::default()).await.unwrap(), told }
    }

    async fn put(&self, to: &[&str], n: usize) {
        let (incoming, answer) = incoming(to, mail(n).as_bytes());
        self.store.append(incoming).map_err(drop).unwrap();
        answer.await.unwrap().unwrap();
    }

    async fn list(&self, to: &str) -> (Vec<String>, Cursor) {
        let page = self.store.list(&request(to, 100)).await.unwrap();
        let Position::Mailbox(at) = page.position else { panic!("a mailbox has a cursor of its own") };
        (page.items.iter().map(|item| item.subject.to_string()).collect(), at)
    }

    /// As clients get it, from whatever cache.
    async fn page(&self, scope: Scope) -> String {
        let request = ListRequest { scope, ..request("a@x", 20) };
        let page = self.store.list_cached(&request, |page| {
            let subjects: Vec<&str> = page.items.iter().map(|item| &*item.subject).collect();
            subjects.join(", ").into()
        });
        String::from_utf8(page.await.unwrap().to_vec()).unwrap()
    }

    async fn is_reset(&self, since: Cursor) -> bool {
        matches!(self.store.replay(&key("a@x"), since, 10).await.unwrap(), Replay::Reset { .. })
    }

    async fn is_reset_in_all(&self, since: StreamCursor) -> bool {
        matches!(self.store.replay_all(since, 10).await.unwrap(), Replay::Reset { .. })
    }
}

struct Fixed {
    f: Fixture,
    nodes: [Node; 2],
}

impl Fixed {
    async fn on(engine: Engine) -> Self {
        let f = Fixture::on(engine).await;
        f.store.close().await;
        let nodes = [Node::open(&f.config).await, Node::open(&f.config).await];
        Self { f, nodes }
    }

    fn database(&self) -> Database {
        self.f.database()
    }

    async fn sql(&self, text: &str) -> String {
        self.database().sql(text).await
    }

    /// What a standby would have that hears nothing from here on.
    async fn keep(&self) {
        self.is_indexed().await;
        for table in TABLES {
            let text =
                format!("CREATE TABLE old_{table} (LIKE {table}); INSERT INTO old_{table} SELECT * FROM {table}");
            self.sql(&text).await;
        }
    }

    /// It takes over.
    async fn go_back(&self) {
        let mut text = String::new();
        for table in TABLES {
            text += &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM old_{table}; ");
        }
        self.sql(&format!("BEGIN; {text} COMMIT")).await;
    }

    /// The count of a store is of what it committed itself; the row of the index is of all.
    async fn is_indexed(&self) {
        let behind = "SELECT count(*) FROM search_state s JOIN meta m ON m.id = s.id \
                      WHERE s.position < m.stamp OR s.walk_uid IS NOT NULL";
        let end = Instant::now() + Duration::from_secs(60);
        while self.sql(behind).await != "0" {
            assert!(Instant::now() < end, "{}", self.sql("SELECT * FROM search_state").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn lineage(&self) -> u32 {
        self.sql("SELECT lineage FROM meta").await.parse().unwrap()
    }

    /// Nothing that the nodes told after `from` has a place that was told before.
    fn nothing_twice(&self) {
        let all = self.nodes.iter().flat_map(|node| node.told.0.lock().unwrap().clone());
        let (mut places, mut stamps) = (HashSet::new(), HashSet::new());
        for event in all {
            assert!(stamps.insert(event.stream.stamp), "the stamp {} twice", event.stream.stamp);
            assert!(
                places.insert((event.mailbox.clone(), event.cursor)),
                "{} at {} twice",
                event.mailbox,
                event.cursor
            );
        }
    }
}

/// The one that lost commits notices with its next one; the other, which lost none, follows.
pub async fn a_commit_finds_that_the_database_went_back(engine: Engine) {
    let n = Fixed::on(engine).await;
    let [one, two] = &n.nodes;
    one.put(&["a@x"], 0).await;
    two.put(&["a@x", "b@x"], 1).await;
    n.keep().await;
    one.put(&["a@x", "lost@x"], 2).await;
    let ((_, at), stream) = (one.list("a@x").await, one.store.stream_now().await.unwrap());
    assert_eq!(one.page(Scope::Mailbox(key("a@x"))).await, "number 2, number 1, number 0");
    assert_eq!(one.page(Scope::All).await, "number 2, number 2, number 1, number 1, number 0");
    let mut turns = one.store.histories();
    n.go_back().await;

    one.put(&["a@x", "new@x"], 3).await;
    assert!(turns.has_changed().unwrap(), "this node knows");
    let lineage = *turns.borrow_and_update();
    assert_eq!((lineage, lineage == at.lineage), (n.lineage().await, false));
    for node in [one, two] {
        node.store.look_back().await.unwrap();
        assert_eq!(node.store.stream_head().lineage, lineage);
        assert_eq!(node.list("a@x").await.0, ["number 3", "number 1", "number 0"]);
        assert_eq!(node.page(Scope::Mailbox(key("a@x"))).await, "number 3, number 1, number 0");
        assert_eq!(node.page(Scope::All).await, "number 3, number 3, number 1, number 1, number 0");
        assert!(node.is_reset(at).await && node.is_reset_in_all(stream).await, "clients start over");
        assert!(node.list("lost@x").await.0.is_empty());
    }
    // Both go on, and nobody begins yet another one.
    let (since, all) = (one.list("a@x").await.1, one.store.stream_now().await.unwrap());
    two.put(&["a@x", "b@x"], 4).await;
    one.put(&["a@x"], 5).await;
    assert_eq!(n.lineage().await, lineage);
    let events = |replay| match replay {
        Replay::Page { events, head: true, .. } => events.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(events(two.store.replay(&key("a@x"), since, 10).await.unwrap()), 2);
    assert_eq!(events(two.store.replay_all(all, 10).await.unwrap()), 3);
    n.nothing_twice();
    for node in &n.nodes {
        node.store.close().await;
    }
}

/// Who commits nothing looks now and then, and finds it although others went on from where the database ended.
pub async fn a_look_finds_what_is_lost_although_others_went_on(engine: Engine) {
    let n = Fixed::on(engine).await;
    let [one, two] = &n.nodes;
    one.put(&["a@x"], 0).await;
    for node in &n.nodes {
        node.store.look_back().await.unwrap();
    }
    n.keep().await;
    one.put(&["a@x"], 1).await;
    let at = one.list("a@x").await.1;
    n.go_back().await;
    // This one saw nothing of what is lost, and gives its place again.
    for number in 2..4 {
        two.put(&["a@x"], number).await;
    }
    assert_eq!(n.lineage().await, at.lineage);
    one.store.look_back().await.unwrap();
    let lineage = n.lineage().await;
    assert_ne!(lineage, at.lineage);
    assert!(one.is_reset(at).await);
    assert_eq!(
        one.list("a@x").await,
        (vec!["number 3".into(), "number 2".into(), "number 0".into()], Cursor { lineage, ..one.list("a@x").await.1 })
    );
    // The other one hears of it from the database.
    two.put(&["a@x"], 4).await;
    assert_eq!(two.store.stream_head().lineage, lineage);
    assert_eq!(two.list("a@x").await.0[0], "number 4");
    for node in &n.nodes {
        assert_eq!(node.store.look_back().await.unwrap().lineage, lineage, "that was all");
        node.store.close().await;
    }
}

/// A mailbox of the new history is none of the lost one: not by its number, nor by its incarnation, nor by its token.
pub async fn numbers_and_lives_are_not_given_twice(engine: Engine) {
    let n = Fixed::on(engine).await;
    let [one, two] = &n.nodes;
    let new = |name: &str, token: u8| NewMailbox {
        key: key(name),
        expires_at: None,
        message_ttl: Ttl::Default,
        max_messages: None,
        max_bytes: None,
        when_full: None,
        token_hash: [token; 32],
    };
    for (node, name) in [(one, "one@x"), (two, "two@x")] {
        node.store.create_mailbox(new(name, name.as_bytes()[0])).await.unwrap();
    }
    n.keep().await;
    one.put(&["a@x"], 0).await;
    let lost = [
        one.store.create_mailbox(new("again@x", 1)).await.unwrap(),
        two.store.create_mailbox(new("again2@x", 2)).await.unwrap(),
    ];
    assert_eq!(one.store.mailbox_of_token(&[1; 32]).await.unwrap().unwrap().mailbox, key("again@x"));
    n.go_back().await;
    one.store.look_back().await.unwrap();
    assert_eq!(one.store.mailbox_of_token(&[1; 32]).await.unwrap(), None);
    // A transaction without an event finds it, too.
    let made = [
        two.store.create_mailbox(new("again@x", 3)).await.unwrap(),
        one.store.create_mailbox(new("again2@x", 4)).await.unwrap(),
    ];
    assert_eq!(two.store.stream_head().lineage, n.lineage().await);
    let numbers: HashSet<i64> = lost.iter().chain(&made).map(|mailbox| mailbox.id).collect();
    assert_eq!(numbers.len(), 4);
    for made in &made {
        assert!(lost.iter().all(|lost| lost.cursor.incarnation < made.cursor.incarnation));
    }
    assert!(matches!(one.store.create_mailbox(new("two@x", 5)).await, Err(StoreError::Exists)));
    for node in &n.nodes {
        node.store.close().await;
    }
}

/// An operator says that a backup was restored, while nodes run on it. What they have in object storage is another store's then.
pub async fn a_backup_that_is_restored_under_running_nodes_begins_a_new_history(engine: Engine) {
    let n = Fixed::on(engine).await;
    let [one, two] = &n.nodes;
    one.put(&["a@x"], 0).await;
    let (before, at) = (n.lineage().await, one.list("a@x").await.1);
    n.sql("UPDATE meta SET restored = true").await;
    let both = futures_util::future::join(one.put(&["a@x"], 1), two.put(&["a@x"], 2));
    both.await;
    let lineage = n.lineage().await;
    assert_ne!(lineage, before);
    assert!(two.is_reset(at).await);
    assert_eq!(n.sql("SELECT count(*) FROM meta WHERE restored").await, "0");
    for node in &n.nodes {
        assert_eq!(node.store.look_back().await.unwrap().lineage, lineage);
        assert_eq!(node.list("a@x").await.0.len(), 3);
    }
    n.nothing_twice();
    for node in &n.nodes {
        node.store.close().await;
    }
}

/// Marks that were forgotten for their age are not missed, and who was away that long believes what there is.
pub async fn marks_that_were_forgotten_are_not_lost(engine: Engine) {
    let n = Fixed::on(engine).await;
    let [one, two] = &n.nodes;
    one.put(&["a@x"], 0).await;
    two.put(&["a@x"], 1).await;
    let before = n.lineage().await;
    while two.store.expire(after(2 * DAY)).await.unwrap() {}
    assert_eq!(n.sql("SELECT count(*) FROM commits WHERE last IS NOT NULL").await, "0");
    one.store.look_back().await.unwrap();
    one.put(&["a@x"], 2).await;
    assert_eq!(n.lineage().await, before);
    for node in &n.nodes {
        node.store.close().await;
    }
}

/// The index of all mailboxes goes on over the leap of the stamps.
pub async fn searches_find_what_comes_in_a_new_history(engine: Engine) {
    let n = Fixed::on(engine).await;
    let [one, two] = &n.nodes;
    one.put(&["a@x"], 0).await;
    n.keep().await;
    one.put(&["a@x"], 1).await;
    n.go_back().await;
    one.put(&["a@x"], 2).await;
    n.is_indexed().await;
    let query = mailroom::mail::query::Query::parse("number").unwrap();
    let found = two.store.list(&ListRequest { query: Some(query), ..request("a@x", 10) }).await.unwrap();
    let found: Vec<&str> = found.items.iter().map(|item| &*item.subject).collect();
    assert_eq!(found, ["number 2", "number 0"]);
    for node in &n.nodes {
        let end = Instant::now() + Duration::from_secs(60);
        while node.store.status().index_lag > 0 {
            assert!(Instant::now() < end, "{:?}", node.store.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        node.store.close().await;
    }
}
