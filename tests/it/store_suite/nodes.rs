//! Two nodes on one database: what they do at once is in one order, dense, and told by each of its own commits alone.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use mailroom::mail::cursor::StreamCursor;
use mailroom::mail::event::{Announced, Event};
use mailroom::mail::id::DeliveryId;
use mailroom::store::{
    Announce, Deletion, Faults, ListRequest, MailboxPatch, MessagePatch, NewMailbox, Position, Replay, Scope, Store,
    StoreError, Ttl, WriteFailed,
};

use super::support::*;

/// What one node announced.
#[derive(Default)]
struct Told(Mutex<Vec<Arc<Announced>>>);

impl Announce for Told {
    fn announce(&self, after: i64, events: Vec<Arc<Announced>>) {
        for (stamp, event) in (after + 1..).zip(&events) {
            assert_eq!(event.stream.stamp, stamp);
        }
        self.0.lock().unwrap().extend(events);
    }
}

struct Nodes {
    /// Its own node is closed: it stands for the database.
    f: Fixture,
    nodes: [(Store, Arc<Told>); 2],
    start: StreamCursor,
}

impl Nodes {
    async fn on(engine: Engine) -> Self {
        let f = Fixture::on_with(engine, |config| config.defaults.message_ttl = Some(7 * 24 * HOUR)).await;
        let start = f.store.stream_head();
        f.store.close().await;
        let node = async || {
            let told = Arc::<Told>::default();
            (Store::open(&f.config, told.clone(), Faults::default()).await.unwrap(), told)
        };
        let nodes = [node().await, node().await];
        Self { f, nodes, start }
    }

    /// What both announced, by stamp, each stamp once and none left out.
    fn all(&self) -> Vec<Arc<Announced>> {
        let mut all: Vec<_> = self.nodes.iter().flat_map(|(_, told)| told.0.lock().unwrap().clone()).collect();
        all.sort_unstable_by_key(|event| event.stream.stamp);
        for (stamp, event) in (self.start.stamp + 1..).zip(&all) {
            assert_eq!(event.stream.stamp, stamp, "stamps are dense over both nodes");
        }
        let mut counters: BTreeMap<_, u64> = BTreeMap::new();
        for event in &all {
            let life = (event.mailbox.as_str().to_owned(), event.cursor.incarnation);
            let last = counters.entry(life).or_default();
            *last += 1;
            assert_eq!(event.cursor.modseq, *last, "the counter of {} is dense", event.mailbox);
        }
        all
    }

    /// The stream from every `step`th position on tells everything after it but messages that are gone.
    async fn replays(&self, all: &[Arc<Announced>], step: usize) {
        let gone = all.iter().filter_map(|event| match &event.event {
            Event::Deleted { uid, .. } => Some((event.mailbox.clone(), *uid)),
            _ => None,
        });
        let gone: HashSet<_> = gone.collect();
        let lasts = |event: &&Arc<Announced>| match &event.event {
            Event::Received { message } | Event::Updated { message } => {
                !gone.contains(&(event.mailbox.clone(), message.uid))
            }
            _ => true,
        };
        let place = |event: &Arc<Announced>| (event.stream.stamp, event.mailbox.clone(), event.cursor.modseq);
        for (n, since) in std::iter::once(self.start).chain(all.iter().map(|event| event.stream)).enumerate() {
            if n % step != 0 {
                continue;
            }
            let wanted: Vec<_> =
                all.iter().filter(|event| event.stream.stamp > since.stamp).filter(lasts).map(place).collect();
            let (mut at, mut found) = (since, Vec::new());
            loop {
                match self.nodes[n % 2].0.replay_all(at, 97).await.unwrap() {
                    Replay::Page { events, at: Position::Stream(next), head } => {
                        found.extend(events.iter().map(place));
                        at = next;
                        if head {
                            break;
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(found, wanted, "from {}", since.stamp);
        }
    }

    /// Totals of mailboxes and of bodies are what the rows add up to.
    async fn adds_up(&self) {
        let database = self.f.database();
        let wrong = "SELECT count(*) FROM mailboxes b WHERE address IS NOT NULL AND (messages, unread, bytes) <> \
                     (SELECT count(*), count(CASE WHEN is_read THEN NULL ELSE 1 END), coalesce(sum(size), 0) \
                     FROM messages m WHERE m.mailbox_id = b.id)";
        assert_eq!(database.sql(wrong).await, "0", "totals of mailboxes");
        let wrong =
            "SELECT count(*) FROM bodies b WHERE mailboxes <> (SELECT count(*) FROM messages m WHERE m.id = b.id)";
        assert_eq!(database.sql(wrong).await, "0", "mailboxes of bodies");
        let wrong = "SELECT count(*) FROM messages m WHERE NOT EXISTS (SELECT 1 FROM bodies b WHERE b.id = m.id)";
        assert_eq!(database.sql(wrong).await, "0", "messages without a body");
    }

    /// The ids of a list of all messages after `since`, in pages of `limit`.
    async fn after(&self, since: StreamCursor, limit: u32, unread: bool) -> Vec<DeliveryId> {
        let since = Some(Position::Stream(since));
        let mut asked = ListRequest { scope: Scope::All, since, unread, ..request("a@x", limit) };
        let mut found = Vec::new();
        loop {
            let page = self.nodes[found.len() % 2].0.list(&asked).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            found.extend(page.items.iter().map(|item| item.id));
            let Some(next) = page.next else { return found };
            asked.page = Some(next);
        }
    }

    async fn put(&self, node: usize, to: &[&str], n: usize) -> Result<DeliveryId, WriteFailed> {
        let (incoming, answer) = incoming(to, mail(n).as_bytes());
        let id = incoming.id;
        self.nodes[node].0.append(incoming).map_err(drop).unwrap();
        answer.await.unwrap().map(|()| id)
    }
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);
const BOXES: [&str; 4] = ["a@x", "b@x", "c@x", "d@x"];

/// Deliveries to several mailboxes in either order, changes and deletions.
pub async fn two_nodes_write_to_the_same_mailboxes_at_once(engine: Engine) {
    let nodes = Nodes::on(engine).await;
    let work =
        (0..2).flat_map(|node| (0..6).map(move |lane| (node, lane))).map(async |(node, lane): (usize, usize)| {
            for n in 0..25 {
                let mut to = [BOXES[(lane + n) % 4], BOXES[(lane + n + 1 + node) % 4], BOXES[(3 * lane + n + 3) % 4]];
                if node == 1 {
                    to.reverse();
                }
                let count = 1 + (lane + n) % 3;
                let to: Vec<&str> = to[..count].iter().copied().collect::<HashSet<_>>().into_iter().collect();
                let id = nodes.put(node, &to, n).await.unwrap();
                let other = &nodes.nodes[1 - node].0;
                match n % 4 {
                    0 => {
                        let read = MessagePatch { is_read: Some(true), ..MessagePatch::default() };
                        assert!(other.update_message(&key(to[0]), id, read).await.unwrap().is_read);
                    }
                    1 => assert_eq!(other.delete_messages(&key(to[0]), Deletion::One(id)).await.unwrap(), 1),
                    _ => {}
                }
            }
        });
    futures_util::future::join_all(work).await;
    let all = nodes.all();
    nodes.replays(&all, 37).await;
    nodes.adds_up().await;
    for (store, _) in &nodes.nodes {
        assert_eq!(store.list(&request("a@x", 1_000)).await.unwrap().items.len(), nodes.uids("a@x").await.len());
    }
}

impl Nodes {
    async fn uids(&self, to: &str) -> Vec<u64> {
        let page = self.nodes[0].0.list(&request(to, 1_000)).await.unwrap();
        page.items.iter().map(|item| item.uid).collect()
    }
}

pub async fn two_nodes_expire_at_once_and_each_message_goes_once(engine: Engine) {
    let nodes = Nodes::on(engine).await;
    let fill = (0..1_500).map(|n| nodes.put(n % 2, &BOXES[n % 3..][..2], n));
    for stored in futures_util::future::join_all(fill).await {
        stored.unwrap();
    }
    let kept = MailboxPatch { message_ttl: Some(Ttl::Never), ..MailboxPatch::default() };
    nodes.nodes[0].0.alter_mailbox(&key("d@x"), kept).await.unwrap();
    let kept = nodes.uids("d@x").await.len();
    assert_eq!(kept, 500);
    let pass = nodes.nodes.iter().map(async |(store, _)| while store.expire(after(8 * DAY)).await.unwrap() {});
    futures_util::future::join_all(pass).await;
    // One pass may have come before the other had ended a mailbox.
    while nodes.nodes[0].0.expire(after(8 * DAY)).await.unwrap() {}
    nodes.adds_up().await;
    assert_eq!(nodes.f.database().sql("SELECT count(*) FROM messages").await, "500");
    assert_eq!(nodes.f.database().sql("SELECT count(*) FROM bodies").await, "500");
    nodes.all();
}

pub async fn a_message_that_both_delete_goes_once(engine: Engine) {
    let nodes = Nodes::on(engine).await;
    for n in 0..30 {
        let id = nodes.put(n % 2, &["a@x", "b@x"], n).await.unwrap();
        let read = MessagePatch { is_read: Some(true), tags: Some(vec!["t".into()]) };
        let (a, b, patched) = futures_util::join!(
            nodes.nodes[0].0.delete_messages(&AT_A, Deletion::One(id)),
            nodes.nodes[1].0.delete_messages(&AT_A, Deletion::One(id)),
            nodes.nodes[1].0.update_message(&AT_A, id, read),
        );
        assert!(
            matches!((&a, &b), (Ok(1), Err(StoreError::NotFound)) | (Err(StoreError::NotFound), Ok(1))),
            "{a:?} {b:?}"
        );
        assert!(matches!(patched, Ok(_) | Err(StoreError::NotFound)), "{patched:?}");
    }
    assert_eq!(nodes.uids("a@x").await, [0; 0]);
    assert_eq!(nodes.uids("b@x").await.len(), 30);
    nodes.adds_up().await;
    nodes.all();
}

static AT_A: std::sync::LazyLock<mailroom::mail::address::MailboxKey> = std::sync::LazyLock::new(|| key("a@x"));

/// The quota is looked at under the lock of the mailbox: however many nodes deliver, it is not overshot.
pub async fn a_quota_is_exact_however_many_nodes_deliver(engine: Engine) {
    let nodes = Nodes::on(engine).await;
    let new = NewMailbox {
        key: key("a@x"),
        expires_at: None,
        message_ttl: Ttl::Default,
        max_messages: Some(20),
        max_bytes: None,
        when_full: None,
        token_hash: [1; 32],
    };
    let (one, other) =
        futures_util::join!(nodes.nodes[0].0.create_mailbox(new.clone()), nodes.nodes[1].0.create_mailbox(new));
    assert!(matches!((&one, &other), (Ok(_), Err(StoreError::Exists)) | (Err(StoreError::Exists), Ok(_))));
    let work = (0..60).map(|n| nodes.put(n % 2, &["a@x"], n));
    let heard = futures_util::future::join_all(work).await;
    assert_eq!(heard.iter().filter(|heard| heard.is_ok()).count(), 20);
    assert!(heard.iter().all(|heard| matches!(heard, Ok(_) | Err(WriteFailed::MailboxFull))), "{heard:?}");
    nodes.adds_up().await;
    nodes.all();
}

/// Two deliveries make the same mailbox at the same moment: it is made once, and both are in it.
pub async fn a_mailbox_that_both_make_by_mail_is_one(engine: Engine) {
    let nodes = Nodes::on(engine).await;
    for n in 0..25 {
        let name = format!("new{n}@x");
        let (there, back) = ([name.as_str(), "all@x"], ["all@x", name.as_str()]);
        let (a, b) = futures_util::join!(nodes.put(0, &there, n), nodes.put(1, &back, n));
        a.unwrap();
        b.unwrap();
        assert_eq!(nodes.uids(&name).await, [2, 1]);
    }
    assert_eq!(nodes.uids("all@x").await.len(), 50);
    nodes.all();
}

/// What came after a position of the stream: exact in pages of any size while the marks tell it, everything when they do not.
pub async fn a_list_after_a_position_of_the_stream_leaves_out_nothing(engine: Engine) {
    let nodes = Nodes::on(engine).await;
    let mut read = HashSet::new();
    for n in 0..40 {
        let id = nodes.put(n % 2, &[BOXES[n % 4]], n).await.unwrap();
        if n % 3 == 0 {
            let patch = MessagePatch { is_read: Some(true), tags: None };
            nodes.nodes[0].0.update_message(&key(BOXES[n % 4]), id, patch).await.unwrap();
            read.insert(id);
        }
    }
    let all = nodes.all();
    let arrivals: Vec<(i64, DeliveryId)> = all
        .iter()
        .rev()
        .filter_map(|event| match &event.event {
            Event::Received { message } => Some((event.stream.stamp, message.id)),
            _ => None,
        })
        .collect();
    for event in all.iter().step_by(7) {
        let after: Vec<DeliveryId> =
            arrivals.iter().filter(|(stamp, _)| *stamp > event.stream.stamp).map(|(_, id)| *id).collect();
        let unread: Vec<DeliveryId> = after.iter().filter(|id| !read.contains(id)).copied().collect();
        assert_eq!(nodes.after(event.stream, 3, false).await, after);
        assert_eq!(nodes.after(event.stream, 3, true).await, unread);
    }

    let middle = all[all.len() / 2].stream;
    let request = ListRequest { scope: Scope::All, since: Some(Position::Stream(middle)), ..request("a@x", 3) };
    let page = nodes.nodes[0].0.list(&request).await.unwrap().next;
    let database = nodes.f.database();
    database.sql(&format!("UPDATE meta SET stream_floor = {}", middle.stamp + 1)).await;
    let everything: Vec<DeliveryId> = nodes.after(StreamCursor::default(), 500, false).await;
    assert_eq!(everything.len(), 40);
    assert_eq!(nodes.after(middle, 7, false).await, everything, "it is not known what came after it");
    let foreign = StreamCursor { lineage: middle.lineage.wrapping_add(1), ..middle };
    assert_eq!(nodes.after(foreign, 7, false).await, everything);
    let further = nodes.nodes[0].0.list(&ListRequest { page, ..request }).await;
    assert!(matches!(further, Err(StoreError::BadPage)), "{further:?}");
}

/// Stamps in rows come from the clocks of nodes: they need not rise with the counter of a mailbox.
pub async fn what_nodes_of_other_clocks_changed_is_forgotten_up_to_the_last_that_goes(engine: Engine) {
    let f = Fixture::on_with(engine, |config| config.defaults.message_ttl = None).await;
    let ids = f.fill("a@x", 4).await;
    let mut cursors = Vec::new();
    for id in &ids[..3] {
        cursors.push(f.cursor("a@x").await);
        f.store.delete_messages(&key("a@x"), Deletion::One(*id)).await.unwrap();
    }
    assert_eq!(f.replay("a@x", cursors[2], 10).await.unwrap(), ["7 deleted 3"]);
    f.database().sql("UPDATE changes SET stamp = 1 WHERE modseq = 7").await;
    f.tidy(after(2 * DAY)).await;
    for (n, cursor) in cursors.iter().enumerate() {
        assert_eq!(f.replay("a@x", *cursor, 10).await, None, "a removal is missed after change {n}");
    }
    let present = f.cursor("a@x").await;
    assert_eq!(f.replay("a@x", present, 10).await, Some(vec![]));
}

pub async fn exactly_the_changes_that_were_found_old_are_forgotten(engine: Engine) {
    const STEP: usize = 500;
    let f = Fixture::on_with(engine, |config| config.defaults.message_ttl = None).await;
    for (to, count) in [("a@x", STEP - 1), ("b@x", 3)] {
        let ids = f.fill(to, count + 1).await;
        let to = key(to);
        let gone = ids[..count].iter().map(|id| f.store.delete_messages(&to, Deletion::One(*id)));
        assert!(futures_util::future::join_all(gone).await.into_iter().all(|gone| gone.unwrap() == 1));
    }
    let database = f.database();
    // No order among them tells which of them a step finds.
    database.sql("UPDATE changes SET stamp = 7").await;
    assert!(f.store.expire(after(2 * DAY)).await.unwrap(), "there is more to do");
    assert_eq!(database.sql("SELECT count(*) FROM changes").await, "2");
    let above = "SELECT count(*) FROM mailboxes b WHERE replay_floor + (SELECT count(*) FROM changes c WHERE \
                 c.mailbox_id = b.id AND c.modseq > b.replay_floor) < modseq";
    assert_eq!(database.sql(above).await, "0", "a change above the floor is gone");
    f.tidy(after(2 * DAY)).await;
    assert_eq!(database.sql("SELECT count(*) FROM changes").await, "0");
}
