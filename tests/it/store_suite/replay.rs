//! Following a mailbox: what is replayed, and when a cursor can no longer be continued.

use mailroom::mail::cursor::{Cursor, StreamCursor};
use mailroom::mail::event::Event;
use mailroom::store::{Deletion, ListRequest, MessagePatch, Position, Replay, Scope};

use super::support::*;

pub async fn arrivals_and_changes_are_merged_in_commit_order(engine: Engine) {
    let f = Fixture::on(engine).await;
    let ids = f.fill("a@x", 3).await;
    let read = MessagePatch { is_read: Some(true), ..MessagePatch::default() };
    f.store.update_message(&key("a@x"), ids[2], read.clone()).await.unwrap();
    f.store.update_message(&key("a@x"), ids[2], read).await.unwrap();
    f.store.delete_messages(&key("a@x"), Deletion::One(ids[0])).await.unwrap();
    f.fill("a@x", 1).await;
    let all = f.replay("a@x", Cursor::default(), 100).await.unwrap();
    assert_eq!(all, ["2 received", "3 received", "4 updated 3", "5 deleted 1", "6 received"]);
    for limit in 1..=5 {
        assert_eq!(f.replay("a@x", Cursor::default(), limit).await.unwrap(), all);
    }
    let heard: Vec<String> = f.heard.events().iter().map(|event| word(event)).collect();
    assert_eq!(heard, ["1 received", "2 received", "3 received", "4 updated 3", "5 deleted 1", "6 received"]);
}

pub async fn a_cursor_of_another_life_or_ahead_of_the_counter_is_reset(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    f.fill("a@x", 3).await;
    let cursor = f.cursor("a@x").await;
    assert_eq!(f.replay("a@x", cursor, 10).await, Some(vec![]));
    assert_eq!(f.replay("a@x", Cursor { modseq: 4, ..cursor }, 10).await, None);
    assert_eq!(f.replay("a@x", Cursor { incarnation: cursor.incarnation + 1, ..cursor }, 10).await, None);
    assert_eq!(f.replay("a@x", Cursor { lineage: cursor.lineage ^ 1, ..cursor }, 10).await, None);
    f.store.delete_mailbox(&key("a@x")).await.unwrap();
    assert_eq!(f.replay("a@x", cursor, 10).await, None);
    assert_eq!(f.replay("a@x", Cursor::default(), 10).await, Some(vec![]));
    f.restart().await;
    f.fill("a@x", 3).await;
    assert_eq!(f.replay("a@x", cursor, 10).await, None);
    assert!(f.cursor("a@x").await.incarnation > cursor.incarnation);
}

pub async fn a_list_believes_the_positions_that_can_be_continued_alone(engine: Engine) {
    let f = Fixture::on(engine).await;
    f.fill("a@x", 4).await;
    let at = Cursor { modseq: 3, ..f.cursor("a@x").await };
    let head = f.store.stream_head();
    f.fill("a@x", 1).await;
    let after = async |scope: Scope, since: Position| {
        let request = ListRequest { scope, since: Some(since), ..request("a@x", 100) };
        f.store.list(&request).await.unwrap().items.iter().map(|item| item.uid).collect::<Vec<u64>>()
    };
    let all = [5, 4, 3, 2, 1];
    let of_mailbox = async |since: Cursor| after(Scope::Mailbox(key("a@x")), Position::Mailbox(since)).await;
    assert_eq!(of_mailbox(at).await, [5, 4]);
    assert_eq!(of_mailbox(Cursor { incarnation: at.incarnation + 1, ..at }).await, all);
    assert_eq!(of_mailbox(Cursor { lineage: at.lineage.wrapping_add(1), ..at }).await, all);
    assert_eq!(of_mailbox(Cursor { modseq: 6, ..at }).await, all);
    let of_all = async |since: StreamCursor| after(Scope::All, Position::Stream(since)).await;
    assert_eq!(of_all(head).await, [5]);
    assert_eq!(of_all(StreamCursor { lineage: head.lineage.wrapping_add(1), ..head }).await, all);
    assert_eq!(of_all(StreamCursor { stamp: f.store.stream_head().stamp + 1, ..head }).await, all);
}

pub async fn forgotten_changes_reset_older_cursors_but_not_the_empty_view(engine: Engine) {
    let f = Fixture::on_with(engine, |config| config.defaults.message_ttl = None).await;
    let ids = f.fill("a@x", 4).await;
    let before = f.cursor("a@x").await;
    f.store.delete_messages(&key("a@x"), Deletion::One(ids[1])).await.unwrap();
    let present = f.cursor("a@x").await;
    assert_eq!(f.replay("a@x", before, 10).await.unwrap(), ["5 deleted 2"]);
    f.tidy(after(2 * DAY)).await;
    assert_eq!(f.replay("a@x", before, 10).await, None);
    assert_eq!(f.replay("a@x", present, 10).await, Some(vec![]));
    assert_eq!(f.replay("a@x", Cursor::default(), 10).await.unwrap(), ["1 received", "3 received", "4 received"]);
    // In pages it could not be continued after the first.
    assert_eq!(f.replay("a@x", Cursor::default(), 2).await, None);
    let old = StreamCursor { lineage: before.lineage, stamp: 1 };
    assert!(matches!(f.store.replay_all(old, 10).await.unwrap(), Replay::Reset { at: Position::Stream(_) }));
}

pub async fn the_stream_tells_that_a_mailbox_is_gone(engine: Engine) {
    let f = Fixture::on(engine).await;
    f.fill("a@x", 2).await;
    f.fill("b@x", 1).await;
    let since = f.store.stream_head();
    f.store.delete_mailbox(&key("a@x")).await.unwrap();
    let page = |replay| match replay {
        Replay::Page { events, head: true, .. } => events,
        other => panic!("{other:?}"),
    };
    let events = page(f.store.replay_all(since, 10).await.unwrap());
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].mailbox, key("a@x"));
    assert!(matches!(events[0].event, Event::MailboxDeleted {}));
    assert_eq!(events[0].cursor, f.heard.events().last().unwrap().cursor);
    // Its messages are not told of any more; the row goes, and still the stream knows.
    f.tidy(after(60)).await;
    let events = page(f.store.replay_all(StreamCursor::default(), 10).await.unwrap());
    let keys: Vec<&str> = events.iter().map(|event| event.mailbox.as_str()).collect();
    assert_eq!(keys, ["b@x", "a@x"]);
}

pub async fn a_restored_backup_has_a_new_lineage(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    f.fill("a@x", 2).await;
    let (cursor, head) = (f.cursor("a@x").await, f.store.stream_head());
    f.restart().await;
    assert_eq!(f.cursor("a@x").await, cursor);
    f.store.close().await;
    f.database().sql("UPDATE meta SET restored = true").await;
    f.open().await;
    let fresh = f.cursor("a@x").await;
    assert_ne!(fresh.lineage, cursor.lineage);
    assert_eq!(f.replay("a@x", cursor, 10).await, None);
    assert!(matches!(f.store.replay_all(head, 10).await.unwrap(), Replay::Reset { .. }));
    f.restart().await;
    assert_eq!(f.cursor("a@x").await, fresh);
}
