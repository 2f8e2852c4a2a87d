//! A database that lost its last commits, and segment files that end in the middle of a record.

use std::path::Path;

use super::support::*;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// A store with messages 1 to 3 whose database knows only the first; the ids of all.
async fn behind() -> (Fixture, Vec<mailroom::mail::id::DeliveryId>) {
    let mut f = Fixture::new().await;
    let mut ids = vec![f.put(&["a@x"], mail(1).as_bytes()).await.unwrap()];
    f.store.close().await;
    let old = f.dir.path().join("old");
    copy(f.dir.path(), &old);
    f.open().await;
    ids.push(f.put(&["a@x", "b@x"], mail(2).as_bytes()).await.unwrap());
    ids.push(f.put(&["a@x"], mail(3).as_bytes()).await.unwrap());
    f.store.close().await;
    copy(&old, f.dir.path());
    (f, ids)
}

#[tokio::test]
async fn records_beyond_the_committed_end_are_taken_in() {
    let (mut f, ids) = behind().await;
    for _ in 0..2 {
        f.open().await;
        assert_eq!(f.uids("a@x").await, [3, 2, 1]);
        assert_eq!(f.uids("b@x").await, [1]);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(f.raw("a@x", *id).await, mail(n + 1).as_bytes());
        }
        assert_eq!(&*f.list("a@x").await.items[0].subject, "number 3");
        let stored = f.store.message(&key("b@x"), ids[1]).await.unwrap().unwrap();
        assert_eq!(stored.recipients, ["B@X"]);
        f.store.close().await;
    }
    f.open().await;
    f.fill("a@x", 1).await;
    assert_eq!(f.uids("a@x").await, [4, 3, 2, 1]);
}

#[tokio::test]
async fn a_torn_record_at_the_end_is_cut_off() {
    let (mut f, ids) = behind().await;
    let whole = std::fs::read(f.segment()).unwrap();
    let saved = f.dir.path().join("saved");
    copy(f.dir.path(), &saved);
    f.open().await;
    let last = f.store.message(&key("a@x"), ids[2]).await.unwrap().unwrap().location;
    f.store.close().await;
    let start = usize::try_from(last.offset).unwrap();
    // The scan itself is tried at every byte beside its code.
    for end in (start..whole.len()).step_by(41).chain([whole.len() - 1]) {
        copy(&saved, f.dir.path());
        std::fs::write(f.segment(), &whole[..end]).unwrap();
        f.open().await;
        assert_eq!(f.uids("a@x").await, [2, 1], "cut at {end}");
        assert_eq!(std::fs::metadata(f.segment()).unwrap().len(), start as u64);
        let id = f.put(&["a@x"], mail(9).as_bytes()).await.unwrap();
        assert_eq!(f.raw("a@x", id).await, mail(9).as_bytes());
        f.store.close().await;
    }
}

#[tokio::test]
async fn a_segment_that_the_database_never_heard_of_is_taken_in() {
    let mut f = Fixture::with(|config| config.bodies.segment_size = mailroom::mail::units::Bytes(1)).await;
    f.fill("a@x", 1).await;
    f.store.close().await;
    let old = f.dir.path().join("old");
    copy(f.dir.path(), &old);
    f.open().await;
    let id = f.put(&["a@x"], mail(2).as_bytes()).await.unwrap();
    f.store.close().await;
    copy(&old, f.dir.path());
    f.open().await;
    assert_eq!(f.raw("a@x", id).await, mail(2).as_bytes());
    assert_eq!(f.uids("a@x").await, [2, 1]);
}

#[tokio::test]
async fn a_record_whose_delivery_has_rows_is_not_taken_in_again() {
    let mut f = Fixture::new().await;
    let ids = f.fill("a@x", 3).await;
    f.store.close().await;
    let url = format!("sqlite:{}", f.config.data.join("mailroom.db").display());
    let db = sea_orm::Database::connect(url).await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&db, "UPDATE segments SET committed = 32").await.unwrap();
    db.close().await.unwrap();
    f.open().await;
    assert_eq!(f.uids("a@x").await, [3, 2, 1]);
    f.fill("a@x", 1).await;
    f.restart().await;
    assert_eq!(f.uids("a@x").await, [4, 3, 2, 1]);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(f.raw("a@x", *id).await, mail(n).as_bytes());
    }
}
