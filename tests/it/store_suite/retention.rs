//! Lifetime and quota: what ends, in what order, and what is left of it.

use std::time::Duration;

use mailroom::mail::time::Timestamp;
use mailroom::store::{Deletion, MailboxPatch, NewMailbox, StoreError, Ttl, WhenFull, WriteFailed};

use super::support::*;

fn new(address: &str) -> NewMailbox {
    NewMailbox {
        key: key(address),
        expires_at: None,
        message_ttl: Ttl::Default,
        max_messages: None,
        max_bytes: None,
        when_full: None,
        token_hash: [u8::try_from(address.len()).unwrap(); 32],
    }
}

pub async fn what_expires_is_a_prefix_and_leaves_one_tombstone(engine: Engine) {
    let f =
        Fixture::on_with(engine, |config| config.defaults.message_ttl = Some(Duration::from_secs(7 * 86_400))).await;
    f.store.create_mailbox(new("a@x")).await.unwrap();
    for n in 0..10 {
        let (mut incoming, answer) = incoming(&["a@x"], mail(n).as_bytes());
        incoming.received_at = after(i64::try_from(n).unwrap() * 3_600 - 6 * DAY);
        f.store.append(incoming).map_err(drop).unwrap();
        answer.await.unwrap().unwrap();
    }
    let cursor = f.cursor("a@x").await;
    f.tidy(after(DAY + 4 * 3_600)).await;
    assert_eq!(f.replay("a@x", cursor, 10).await.unwrap(), ["11 expired 5"]);
    assert_eq!(f.uids("a@x").await, [10, 9, 8, 7, 6]);
    let mailbox = f.store.mailbox(&key("a@x")).await.unwrap().unwrap();
    assert_eq!((mailbox.messages, mailbox.unread), (5, 5));
    assert_eq!(mailbox.bytes, f.list("a@x").await.items.iter().map(|item| item.size).sum::<u64>());
    // Nothing more is due, however often one asks.
    f.tidy(after(DAY + 4 * 3_600)).await;
    assert_eq!(f.cursor("a@x").await.modseq, 11);
}

pub async fn what_has_ended_is_out_of_sight_before_retention_comes(engine: Engine) {
    let f = Fixture::on_with(engine, |config| config.defaults.message_ttl = Some(Duration::from_secs(86_400))).await;
    let (mut old, answer) = incoming(&["a@x"], mail(1).as_bytes());
    old.received_at = after(-2 * DAY);
    let id = old.id;
    f.store.append(old).map_err(drop).unwrap();
    answer.await.unwrap().unwrap();
    f.fill("a@x", 1).await;
    assert_eq!(f.uids("a@x").await, [2]);
    assert!(f.store.message(&key("a@x"), id).await.unwrap().is_none());
    let gone = f.store.delete_messages(&key("a@x"), Deletion::One(id)).await;
    assert!(matches!(gone, Err(StoreError::NotFound)));
}

pub async fn a_mailbox_made_by_mail_goes_when_it_is_empty_and_one_made_by_a_call_stays(engine: Engine) {
    let f = Fixture::on(engine).await;
    f.store.create_mailbox(new("made@x")).await.unwrap();
    for to in ["mail@x", "made@x"] {
        let ids = f.fill(to, 2).await;
        f.store.delete_messages(&key(to), Deletion::One(ids[0])).await.unwrap();
        assert_eq!(f.store.delete_messages(&key(to), Deletion::All).await.unwrap(), 1);
        assert!(f.store.mailbox(&key(to)).await.unwrap().is_some());
    }
    f.tidy(after(120)).await;
    assert!(f.store.mailbox(&key("mail@x")).await.unwrap().is_none());
    assert!(f.store.mailbox(&key("made@x")).await.unwrap().is_some());
    assert_eq!(word(f.heard.events().last().unwrap()), "5 gone");
    assert!(matches!(f.store.create_mailbox(new("made@x")).await, Err(StoreError::Exists)));
}

pub async fn an_ended_mailbox_gives_its_address_to_a_new_life(engine: Engine) {
    let f = Fixture::on(engine).await;
    let first = f.store.create_mailbox(new("a@x")).await.unwrap();
    f.fill("a@x", 3).await;
    let patch = MailboxPatch { expires_at: Some(Some(after(-1))), ..MailboxPatch::default() };
    f.store.alter_mailbox(&key("a@x"), patch).await.unwrap();
    assert!(f.list("a@x").await.items.is_empty());
    f.fill("a@x", 2).await;
    let second = f.store.mailbox(&key("a@x")).await.unwrap().unwrap();
    assert!(second.id > first.id && second.cursor.incarnation > first.cursor.incarnation);
    assert_eq!(f.uids("a@x").await, [2, 1]);
    let words: Vec<String> = f.heard.events().iter().map(|event| word(event)).collect();
    assert_eq!(words, ["1 received", "2 received", "3 received", "4 gone", "1 received", "2 received"]);
    f.tidy(after(120)).await;
    assert_eq!(f.uids("a@x").await, [2, 1]);
}

pub async fn ids_are_never_used_again(engine: Engine) {
    let mut f = Fixture::on(engine).await;
    let mut last = 0;
    for _ in 0..3 {
        f.fill("a@x", 1).await;
        let id = f.store.mailbox(&key("a@x")).await.unwrap().unwrap().id;
        assert!(id > last);
        last = id;
        f.store.delete_mailbox(&key("a@x")).await.unwrap();
        f.tidy(after(120)).await;
        f.restart().await;
    }
}

pub async fn a_full_mailbox_refuses_or_drops_its_oldest(engine: Engine) {
    let f = Fixture::on(engine).await;
    let three = NewMailbox { max_messages: Some(3), ..new("no@x") };
    f.store.create_mailbox(three.clone()).await.unwrap();
    let drops = NewMailbox { key: key("yes@xy"), when_full: Some(WhenFull::DropOldest), token_hash: [9; 32], ..three };
    f.store.create_mailbox(drops).await.unwrap();
    f.fill("no@x", 3).await;
    assert_eq!(f.put(&["no@x"], mail(4).as_bytes()).await, Err(WriteFailed::MailboxFull));
    assert_eq!(f.put(&["yes@xy", "no@x"], mail(4).as_bytes()).await, Err(WriteFailed::MailboxFull));
    assert!(f.list("yes@xy").await.items.is_empty());
    f.fill("yes@xy", 20).await;
    let mailbox = f.store.mailbox(&key("yes@xy")).await.unwrap().unwrap();
    assert_eq!((mailbox.messages, f.uids("yes@xy").await.len()), (3, 3));
    let bytes = MailboxPatch { max_messages: Some(None), max_bytes: Some(Some(200)), ..MailboxPatch::default() };
    f.store.alter_mailbox(&key("yes@xy"), bytes).await.unwrap();
    f.fill("yes@xy", 3).await;
    assert!(f.store.mailbox(&key("yes@xy")).await.unwrap().unwrap().bytes <= 200);
}

pub async fn a_mailbox_that_may_not_be_made_refuses_the_whole_delivery(engine: Engine) {
    let f = Fixture::on(engine).await;
    let (mut refused, answer) = incoming(&["a@x", "b@x"], mail(1).as_bytes());
    refused.parts[1].create = false;
    f.store.append(refused).map_err(drop).unwrap();
    assert_eq!(answer.await.unwrap(), Err(WriteFailed::MailboxGone));
    assert!(f.store.mailbox(&key("a@x")).await.unwrap().is_none());
    assert!(f.heard.events().is_empty());
}

pub async fn another_default_lifetime_holds_for_what_is_there(engine: Engine) {
    let mut f = Fixture::on_with(engine, |config| config.defaults.message_ttl = None).await;
    f.fill("a@x", 3).await;
    assert_eq!(f.list("a@x").await.items[0].expires_at, None);
    f.config.defaults.message_ttl = Some(Duration::from_secs(3_600));
    f.restart().await;
    assert!(f.list("a@x").await.items[0].expires_at.is_some());
    f.tidy(Timestamp(0)).await;
    f.tidy(after(7_200)).await;
    assert!(f.store.mailbox(&key("a@x")).await.unwrap().is_none());
}

pub async fn many_expire_in_steps_and_the_rest_is_untouched(engine: Engine) {
    let f = Fixture::on_with(engine, |config| config.defaults.message_ttl = Some(Duration::from_secs(86_400))).await;
    f.fill("old@x", 1_700).await;
    let patch = MailboxPatch { message_ttl: Some(Ttl::Never), ..MailboxPatch::default() };
    f.fill("kept@x", 50).await;
    f.store.alter_mailbox(&key("kept@x"), patch).await.unwrap();
    let mut steps = 0;
    while f.store.expire(after(2 * DAY)).await.unwrap() {
        steps += 1;
    }
    assert!(steps >= 3, "{steps}");
    assert!(f.store.mailbox(&key("old@x")).await.unwrap().is_none());
    assert_eq!(f.store.mailbox(&key("kept@x")).await.unwrap().unwrap().messages, 50);
}
