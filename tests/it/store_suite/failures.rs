//! What callers hear when the disk, the database or the writer fails: never a false yes, never a lost one.

use mailroom::store::{Config, Fault, Faults, OpenError, Store, StoreError, WriteFailed};
use std::sync::Arc;

use super::support::*;

/// Lets `fault` happen to the second of three messages; returns what its caller heard.
async fn second_of_three(f: &mut Fixture, fault: Fault) -> Result<(), WriteFailed> {
    f.put(&["a@x"], mail(1).as_bytes()).await.unwrap();
    f.faults.arm(fault);
    let second = f.put(&["a@x"], mail(2).as_bytes()).await;
    let third = loop {
        // After a full disk receiving resumes by itself.
        match f.put(&["a@x"], mail(3).as_bytes()).await {
            Err(WriteFailed::NoSpace) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            other => break other.unwrap(),
        }
    };
    assert!(f.store.status().healthy);
    let stored = if second.is_ok() { 3 } else { 2 };
    let uids: Vec<u64> = (1..=stored).rev().collect();
    for round in 0..2 {
        assert_eq!(f.uids("a@x").await, uids, "round {round}");
        assert_eq!(f.raw("a@x", third).await, mail(3).as_bytes());
        if let Ok(id) = second {
            assert_eq!(f.raw("a@x", id).await, mail(2).as_bytes());
        }
        let words: Vec<String> = f.heard.events().iter().map(|event| word(event)).collect();
        assert_eq!(words, (1..=stored).map(|n| format!("{n} received")).collect::<Vec<_>>());
        assert_eq!(f.store.mailbox(&key("a@x")).await.unwrap().unwrap().messages, stored);
        f.restart().await;
    }
    second.map(drop)
}

pub async fn a_panic_before_the_commit_is_a_refusal(engine: Engine) {
    let heard = second_of_three(&mut Fixture::on(engine).await, Fault::PanicBeforeCommit).await;
    assert_eq!(heard, Err(WriteFailed::Failed));
}

pub async fn a_panic_after_the_commit_is_still_a_yes_and_is_announced(engine: Engine) {
    assert_eq!(second_of_three(&mut Fixture::on(engine).await, Fault::PanicAfterCommit).await, Ok(()));
}

pub async fn a_failed_commit_is_a_refusal(engine: Engine) {
    let heard = second_of_three(&mut Fixture::on(engine).await, Fault::Commit).await;
    assert_eq!(heard, Err(WriteFailed::Failed));
}

pub async fn a_commit_whose_answer_was_lost_is_looked_up(engine: Engine) {
    assert_eq!(second_of_three(&mut Fixture::on(engine).await, Fault::CommitUnknown).await, Ok(()));
}

#[tokio::test]
async fn a_failed_sync_is_a_refusal_and_its_segment_is_never_used_again() {
    let mut f = Fixture::new().await;
    assert_eq!(second_of_three(&mut f, Fault::Sync).await, Err(WriteFailed::Failed));
    let files = f.bodies().read_dir().unwrap().count();
    assert_eq!(files, 2);
}

#[tokio::test]
async fn a_full_disk_is_told_and_receiving_resumes() {
    let heard = second_of_three(&mut Fixture::new().await, Fault::NoSpace).await;
    assert_eq!(heard, Err(WriteFailed::NoSpace));
}

#[tokio::test]
async fn below_min_free_mail_is_refused_and_deletion_works() {
    let mut f = Fixture::new().await;
    let ids = f.fill("a@x", 2).await;
    f.config.database.min_free = mailroom::mail::units::Bytes(u64::MAX);
    f.restart().await;
    assert_eq!(f.put(&["a@x"], mail(1).as_bytes()).await, Err(WriteFailed::NoSpace));
    assert!(f.store.status().no_space);
    f.store.delete_messages(&key("a@x"), mailroom::store::Deletion::One(ids[0])).await.unwrap();
    f.tidy(after(0)).await;
    assert_eq!(f.uids("a@x").await, [2]);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_the_others_are_read() {
    let f = Fixture::new().await;
    let ids = f.fill("a@x", 3).await;
    let message = f.store.message(&key("a@x"), ids[1]).await.unwrap().unwrap();
    let mut bytes = std::fs::read(f.segment()).unwrap();
    let last = usize::try_from(message.location.offset + message.location.length).unwrap() - 1;
    bytes[last] ^= 1;
    std::fs::write(f.segment(), &bytes).unwrap();
    let Err(StoreError::Damaged(what)) = f.store.body(&message).await else { panic!("it was read") };
    assert!(what.contains("segment 1 at") && what.contains(&message.location.offset.to_string()), "{what}");
    assert_eq!(f.raw("a@x", ids[2]).await, mail(2).as_bytes());
    std::fs::remove_file(f.segment()).unwrap();
    let Err(StoreError::Damaged(what)) = f.store.body(&message).await else { panic!("it was read") };
    assert!(what.contains("missing"), "{what}");
}

#[tokio::test]
async fn a_missing_segment_does_not_keep_the_store_from_opening() {
    let mut f = Fixture::new().await;
    f.fill("a@x", 3).await;
    f.store.close().await;
    std::fs::remove_file(f.segment()).unwrap();
    f.open().await;
    assert_eq!(f.uids("a@x").await, [3, 2, 1]);
    f.fill("a@x", 1).await;
    assert_eq!(f.uids("a@x").await, [4, 3, 2, 1]);
}

async fn open_error(config: &Config) -> OpenError {
    match Store::open(config, Arc::new(Heard::default()), Faults::default()).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_second_process_is_told_that_the_directory_is_in_use() {
    let mut f = Fixture::new().await;
    let error = open_error(&f.config).await;
    assert!(matches!(error, OpenError::InUse { .. }));
    assert_eq!(error.to_string().lines().count(), 1);
    f.restart().await;
}

#[tokio::test]
async fn a_newer_format_and_a_foreign_database_are_refused_in_one_line() {
    let f = Fixture::new().await;
    f.store.close().await;
    std::fs::write(f.dir.path().join("format"), "2\n").unwrap();
    let error = open_error(&f.config).await.to_string();
    assert!(error.contains("newer") && error.lines().count() == 1, "{error}");
    let mut config = f.config.clone();
    config.database.url = "oracle://localhost/mail".into();
    assert!(matches!(open_error(&config).await, OpenError::Unsupported(_)));
}

pub async fn what_was_refused_does_not_come_back_at_the_next_start(engine: Engine) {
    let files = (engine == Engine::Sqlite).then_some(Fault::Sync);
    for fault in [Fault::PanicBeforeCommit, Fault::Commit].into_iter().chain(files) {
        let mut f = Fixture::on(engine).await;
        f.put(&["a@x"], mail(1).as_bytes()).await.unwrap();
        f.faults.arm(fault);
        f.put(&["a@x"], mail(2).as_bytes()).await.unwrap_err();
        f.restart().await;
        assert_eq!(f.uids("a@x").await, [1], "{fault:?}");
    }
}
