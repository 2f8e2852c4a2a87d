//! Deliveries that were promised before and may come a second time.

use mailroom::mail::address::MailboxKey;
use mailroom::store::{Gone, Incoming, NewMailbox, Repeat, WhenFull, WriteFailed};
use tokio::sync::oneshot::Receiver;

use super::support::*;
use crate::support::servers::Engine;

type Heard = Receiver<Result<(), WriteFailed>>;

/// The same again, for those who answer to it.
fn again(first: &Incoming) -> (Incoming, Gone, Heard) {
    let (answer, heard) = tokio::sync::oneshot::channel();
    let gone = Gone::default();
    let copy = Incoming {
        id: first.id,
        received_at: first.received_at,
        envelope: first.envelope.clone(),
        body: first.body.clone(),
        summary: first.summary.clone(),
        parts: first.parts.clone(),
        repeat: Repeat::Possible(gone.clone()),
        done: Box::new(move |stored| {
            let _ = answer.send(stored);
        }),
    };
    (copy, gone, heard)
}

async fn store(f: &Fixture, incoming: Incoming, heard: Heard) -> Result<(), WriteFailed> {
    f.store.append(incoming).map_err(drop).unwrap();
    heard.await.unwrap()
}

pub async fn a_repeat_is_a_yes_and_changes_nothing(engine: Engine) {
    let f = Fixture::on(engine).await;
    let (first, _) = incoming(&["a@x", "b@x"], mail(1).as_bytes());
    // Three in one batch, then one by itself.
    let copies = [again(&first), again(&first), again(&first)];
    let mut waiting = Vec::new();
    for (copy, _, heard) in copies {
        f.store.append(copy).map_err(drop).unwrap();
        waiting.push(heard);
    }
    for heard in waiting {
        assert_eq!(heard.await.unwrap(), Ok(()));
    }
    let (copy, gone, heard) = again(&first);
    assert_eq!(store(&f, copy, heard).await, Ok(()));
    assert_eq!(gone.keys(), []);
    for mailbox in ["a@x", "b@x"] {
        assert_eq!(f.uids(mailbox).await, [1]);
        let row = f.store.mailbox(&key(mailbox)).await.unwrap().unwrap();
        assert_eq!((row.messages, row.unread, row.cursor.modseq), (1, 1, 1));
        assert_eq!(f.raw(mailbox, first.id).await, mail(1).as_bytes());
    }
    assert_eq!(f.heard.events().len(), 2, "it was announced once");
    // The last mailbox that loses it takes the body along: it was counted once.
    f.put(&["a@x"], mail(2).as_bytes()).await.unwrap();
    assert_eq!(f.uids("a@x").await, [2, 1]);
}

pub async fn what_was_promised_is_stored_over_quota(engine: Engine) {
    for when_full in [WhenFull::Refuse, WhenFull::DropOldest] {
        let f = Fixture::on_with(engine, |config| {
            config.defaults.max_messages = Some(1);
            config.defaults.max_bytes = Some(20);
            config.defaults.when_full = when_full;
        })
        .await;
        assert_eq!(f.put(&["a@x"], mail(1).as_bytes()).await, Err(WriteFailed::MailboxFull));
        for n in 2..4 {
            let (first, _) = incoming(&["a@x"], mail(n).as_bytes());
            let (copy, _, heard) = again(&first);
            assert_eq!(store(&f, copy, heard).await, Ok(()), "{when_full:?}");
            let uids = f.uids("a@x").await;
            assert!(!uids.is_empty(), "{when_full:?}: the newest is there");
            assert_eq!(uids.len(), if when_full == WhenFull::Refuse { n - 1 } else { 1 });
        }
    }
}

async fn make(f: &Fixture, mailbox: &str) {
    let new = NewMailbox {
        key: key(mailbox),
        expires_at: None,
        message_ttl: mailroom::store::Ttl::Default,
        max_messages: None,
        max_bytes: None,
        when_full: None,
        token_hash: [mailbox.as_bytes()[0]; 32],
    };
    f.store.create_mailbox(new).await.unwrap();
}

pub async fn a_mailbox_that_is_gone_is_left_out_and_named(engine: Engine) {
    let f = Fixture::on(engine).await;
    for mailbox in ["a@x", "b@x", "c@x"] {
        make(&f, mailbox).await;
    }
    let (mut first, _) = incoming(&["a@x", "b@x", "c@x"], mail(1).as_bytes());
    first.parts.iter_mut().for_each(|part| part.create = false);
    f.store.delete_mailbox(&key("b@x")).await.unwrap();
    for round in 0..2 {
        // The second time it is a repeat, and says the same.
        let (copy, gone, heard) = again(&first);
        assert_eq!(store(&f, copy, heard).await, Ok(()), "{round}");
        assert_eq!(gone.keys(), [key("b@x")], "{round}");
        assert_eq!((f.uids("a@x").await, f.uids("c@x").await), (vec![1], vec![1]));
    }
    assert!(f.store.mailbox(&key("b@x")).await.unwrap().is_none());
    // The body goes with the last mailbox that has it, and not before.
    f.store.delete_mailbox(&key("a@x")).await.unwrap();
    f.tidy(after(0)).await;
    assert_eq!(f.raw("c@x", first.id).await, mail(1).as_bytes());

    let (mut lost, _) = incoming(&["b@x"], mail(2).as_bytes());
    lost.parts.iter_mut().for_each(|part| part.create = false);
    let (copy, gone, heard) = again(&lost);
    assert_eq!(store(&f, copy, heard).await, Err(WriteFailed::MailboxGone));
    assert_eq!(gone.keys(), [MailboxKey::from_stored("b@x")]);
}

/// What was deleted by its owner is no dead letter: the yes that was lost is said again.
pub async fn a_mailbox_that_was_deleted_with_the_message_is_not_named(engine: Engine) {
    let f = Fixture::on(engine).await;
    for mailbox in ["a@x", "b@x"] {
        make(&f, mailbox).await;
    }
    let (mut first, _) = incoming(&["a@x", "b@x"], mail(1).as_bytes());
    first.parts.iter_mut().for_each(|part| part.create = false);
    let (copy, _, heard) = again(&first);
    assert_eq!(store(&f, copy, heard).await, Ok(()));
    for deleted in ["a@x", "b@x"] {
        f.store.delete_mailbox(&key(deleted)).await.unwrap();
        let (copy, gone, heard) = again(&first);
        assert_eq!(store(&f, copy, heard).await, Ok(()), "{deleted}");
        assert_eq!(gone.keys(), [], "{deleted}");
    }
    // Another life of the address did not have it, and gets nothing of the old one.
    make(&f, "a@x").await;
    let (copy, gone, heard) = again(&first);
    assert_eq!(store(&f, copy, heard).await, Ok(()));
    assert_eq!((gone.keys(), f.uids("a@x").await), (vec![], vec![]));
}

pub async fn the_database_is_asked_whether_it_takes_what_is_written(engine: Engine) {
    let f = Fixture::on(engine).await;
    assert!(f.store.probe(1 << 20).await.is_ok() && f.store.answers().await);
    f.faults.arm(mailroom::store::Fault::Away);
    assert!(f.store.probe(1).await.is_err());
    assert_eq!(f.put(&["a@x"], mail(1).as_bytes()).await, Err(WriteFailed::Failed));
    f.faults.disarm(mailroom::store::Fault::Away);
    assert!(f.store.probe(1).await.is_ok());
    f.put(&["a@x"], mail(1).as_bytes()).await.unwrap();
    assert_eq!(f.uids("a@x").await, [1]);
}
