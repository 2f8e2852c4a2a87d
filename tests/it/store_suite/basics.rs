//! Putting in, listing, reading, following.

use mailroom::mail::cursor::{Cursor, StreamCursor};
use mailroom::store::{Position, Replay, Scope};

use super::support::*;

pub async fn what_was_put_in_is_listed_and_reads_back_byte_for_byte(engine: Engine) {
    let f = Fixture::on(engine).await;
    let raw = mail(1);
    let id = f.put(&["a@x"], raw.as_bytes()).await.unwrap();
    let page = f.list("a@x").await;
    assert_eq!(page.items.len(), 1);
    assert_eq!(&*page.items[0].subject, "number 1");
    assert_eq!(page.items[0].id, id);
    assert_eq!(page.items[0].size, raw.len() as u64);
    assert_eq!(f.raw("a@x", id).await, raw.as_bytes());
    let stored = f.store.message(&key("a@x"), id).await.unwrap().unwrap();
    assert_eq!(stored.recipients, ["A@X"]);
    assert_eq!(stored.envelope.helo, "client.example.org");
    assert_eq!(f.store.mailbox(&key("a@x")).await.unwrap().unwrap().unread, 1);
}

pub async fn several_mailboxes_share_one_body_and_one_commit(engine: Engine) {
    let f = Fixture::on(engine).await;
    let id = f.put(&["a@x", "b@x", "c@x"], mail(1).as_bytes()).await.unwrap();
    let mut places = Vec::new();
    for to in ["a@x", "b@x", "c@x"] {
        let stored = f.store.message(&key(to), id).await.unwrap().unwrap();
        assert_eq!(stored.recipients, [to.to_uppercase()]);
        places.push(stored.location);
    }
    assert!(places.windows(2).all(|pair| pair[0] == pair[1]));
    let stamps: Vec<i64> = f.heard.events().iter().map(|event| event.stream.stamp).collect();
    assert_eq!(stamps.len(), 3);
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]));
}

pub async fn counters_are_dense_and_events_come_in_commit_order(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    for n in 0..20 {
        f.fill(if n % 2 == 0 { "a@x" } else { "b@x" }, 7).await;
    }
    f.restart().await;
    f.fill("a@x", 5).await;
    let events = f.heard.events();
    assert!(events.windows(2).all(|pair| pair[0].stream.stamp < pair[1].stream.stamp));
    for (to, count) in [("a@x", 75), ("b@x", 70)] {
        let seqs: Vec<u64> = events.iter().filter(|e| e.mailbox == key(to)).map(|e| e.cursor.modseq).collect();
        assert_eq!(seqs, (1..=count).collect::<Vec<u64>>());
    }
    assert_eq!(
        f.store.stream_head().stamp,
        match f.store.replay_all(StreamCursor::default(), 1_000).await.unwrap() {
            Replay::Page { at: Position::Stream(at), head: true, events } => {
                assert_eq!(events.len(), 145);
                at.stamp
            }
            other => panic!("{other:?}"),
        }
    );
}

pub async fn a_store_knows_when_something_was_committed_before_it_was_opened(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    // A mark has milliseconds.
    let before = mailroom::clock::now_micros() / 1_000 * 1_000;
    f.fill("a@x", 3).await;
    let after = mailroom::clock::now_micros();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    f.restart().await;
    let last = f.store.last_commit();
    assert!((before..=after).contains(&last), "{before} to {after}: {last}");
}

pub async fn an_address_without_a_row_is_empty_at_cursor_zero(engine: Engine) {
    let f = Fixture::on(engine).await;
    let page = f.list("nobody@x").await;
    assert!(page.items.is_empty());
    assert_eq!(page.position, Position::Mailbox(Cursor::default()));
    assert_eq!(f.replay("nobody@x", Cursor::default(), 10).await, Some(vec![]));
    f.fill("nobody@x", 2).await;
    let all = f.replay("nobody@x", Cursor::default(), 1).await;
    assert_eq!(all.unwrap(), ["1 received", "2 received"]);
}

pub async fn a_list_of_all_spans_mailboxes_newest_first(engine: Engine) {
    let f = Fixture::on(engine).await;
    f.fill("a@x", 3).await;
    f.fill("b@x", 3).await;
    let mut all = request("a@x", 4);
    all.scope = Scope::All;
    let page = f.store.list(&all).await.unwrap();
    let keys: Vec<&str> = page.items.iter().map(|item| item.mailbox.as_str()).collect();
    assert_eq!(keys, ["b@x", "b@x", "b@x", "a@x"]);
    all.page = page.next;
    let rest = f.store.list(&all).await.unwrap();
    assert_eq!(rest.items.iter().map(|item| item.uid).collect::<Vec<_>>(), [2, 1]);
    assert!(rest.next.is_none());
}
