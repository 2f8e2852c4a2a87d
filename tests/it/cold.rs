//! Old bodies in object storage: they move, are read back, and nothing is lost whatever ends in the middle.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use mailroom::mail::id::DeliveryId;
use mailroom::mail::units::{Bytes, Limit, Period};
use mailroom::store::check::Severity;
use mailroom::store::cold::pass::{Archived, Which};
use mailroom::store::{Config, Deletion, Fault, Store, StoreError};

use crate::check::look;
use crate::store_suite::support::{Fixture, after, key, mail, request};
use crate::support::servers::{Database, Engine, S3, everywhere};

/// Settings for objects in `directory`, of a few messages each.
fn to(directory: &Path) -> impl Fn(&mut Config) {
    let url = format!("file://{}", directory.display());
    move |config| {
        config.cold.url.clone_from(&url);
        config.cold.object_size = Bytes::kib(2);
        config.cold.keep = Period::secs(0);
        config.bodies.segment_size = Bytes::kib(4);
    }
}

async fn archive(store: &Store) -> Archived {
    store.archive(after(1), Which::All, &mut |_| {}).await.unwrap().unwrap()
}

/// All files of a directory and those below it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

async fn all_there(fixture: &Fixture, ids: &[DeliveryId]) {
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(fixture.raw("a@x.test", *id).await, mail(n).as_bytes(), "message {n}");
    }
}

everywhere! {
    old_bodies_move_and_are_read_as_before
    only_what_is_old_moves_and_full_objects_alone
    what_ends_in_the_middle_loses_nothing_and_is_cleaned_up
    objects_that_are_not_needed_go
}

/// A check says nothing.
async fn sound(fixture: &Fixture) {
    assert_eq!(look(&fixture.config).await.1, []);
}

async fn old_bodies_move_and_are_read_as_before(engine: Engine) {
    let cold = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::on_with(engine, to(cold.path())).await;
    let ids = fixture.fill("a@x.test", 60).await;
    let both = fixture.put(&["a@x.test", "b@x.test"], b"Subject: both\r\n\r\nx\r\n").await.unwrap();
    let done = archive(&fixture.store).await;
    assert_eq!(done.records, 61);
    assert!(done.objects > 3, "{done:?}");
    assert_eq!(files(cold.path()).len() as u64, done.objects);
    // What is in the segment files is not needed any more.
    fixture.tidy(after(0)).await;
    fixture.restart().await;
    if engine == Engine::Sqlite {
        for file in files(&fixture.bodies()) {
            std::fs::remove_file(file).unwrap();
        }
    } else {
        assert_eq!(fixture.database().sql("SELECT SUM(OCTET_LENGTH(contents)) FROM bodies").await.trim(), "0");
    }
    all_there(&fixture, &ids).await;
    assert_eq!(fixture.raw("b@x.test", both).await, b"Subject: both\r\n\r\nx\r\n");
    assert_eq!(archive(&fixture.store).await, Archived::default(), "nothing is left to move");
}

async fn only_what_is_old_moves_and_full_objects_alone(engine: Engine) {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::on_with(engine, |config| {
        to(cold.path())(config);
        config.cold.object_size = Bytes::kib(8);
    })
    .await;
    fixture.fill("a@x.test", 3).await;
    let young = fixture.store.archive(after(-60), Which::All, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!(young, Archived::default());
    let few = fixture.store.archive(after(1), Which::Full, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!(few, Archived::default(), "three do not fill an object and wait for more");
    fixture.fill("a@x.test", 100).await;
    let many = fixture.store.archive(after(1), Which::Full, &mut |_| {}).await.unwrap().unwrap();
    assert!(many.records > 30, "{many:?}");
}

#[tokio::test]
async fn it_happens_by_itself() {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::with(|config| {
        to(cold.path())(config);
        config.cold.after = Limit(Some(Period::secs(1)));
        config.cold.every = Period::secs(1);
    })
    .await;
    fixture.store.start_rounds();
    let ids = fixture.fill("a@x.test", 5).await;
    crate::support::until("the bodies to move", async || !files(cold.path()).is_empty()).await;
    all_there(&fixture, &ids).await;
}

async fn what_ends_in_the_middle_loses_nothing_and_is_cleaned_up(engine: Engine) {
    for fault in [Fault::ColdBegun, Fault::ColdWritten, Fault::ColdMoved, Fault::Commit, Fault::CommitUnknown] {
        let cold = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::on_with(engine, |config| {
            to(cold.path())(config);
            config.cold.object_size = Bytes::mib(1);
        })
        .await;
        let ids = fixture.fill("a@x.test", 450).await;
        fixture.faults.arm(fault);
        let ended = fixture.store.archive(after(1), Which::All, &mut |_| {}).await;
        assert!(ended.is_err() || fault == Fault::CommitUnknown, "{fault:?}: {ended:?}");
        all_there(&fixture, &ids).await;
        fixture.restart().await;
        all_there(&fixture, &ids).await;
        sound(&fixture).await;
        archive(&fixture.store).await;
        all_there(&fixture, &ids).await;
        archive(&fixture.store).await;
        sound(&fixture).await;
        let left = if fault == Fault::ColdMoved { 2 } else { 1 };
        assert_eq!(files(cold.path()).len(), left, "{fault:?} leaves no orphan");
    }
}

async fn objects_that_are_not_needed_go(engine: Engine) {
    let cold = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::on_with(engine, to(cold.path())).await;
    let ids = fixture.fill("a@x.test", 60).await;
    fixture.fill("gone@x.test", 60).await;
    let made = archive(&fixture.store).await.objects;
    // Four of five go, scattered over all objects: the rest is packed anew.
    for id in ids.iter().enumerate().filter(|(n, _)| n % 5 != 0).map(|(_, id)| *id) {
        fixture.store.delete_messages(&key("a@x.test"), Deletion::One(id)).await.unwrap();
    }
    fixture.store.delete_messages(&key("gone@x.test"), Deletion::All).await.unwrap();
    sound(&fixture).await;
    fixture.faults.arm(Fault::ColdRemoved);
    assert!(fixture.store.archive(after(1), Which::All, &mut |_| {}).await.is_err());
    fixture.restart().await;
    archive(&fixture.store).await;
    archive(&fixture.store).await;
    let left = files(cold.path()).len() as u64;
    assert!(left < made / 2, "{left} of {made}");
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| n % 5 == 0) {
        assert_eq!(fixture.raw("a@x.test", *id).await, mail(n).as_bytes());
    }
    sound(&fixture).await;
    // What says that less of it is needed would be removed too soon.
    fixture.store.close().await;
    fixture.database().sql("UPDATE objects SET live = live - 1").await;
    let found = look(&fixture.config).await.1;
    assert!(!found.is_empty() && found.iter().all(|found| found.to_string().contains("of it are needed")), "{found:?}");
    fixture.database().sql("UPDATE objects SET live = live + 1").await;
    fixture.open().await;
    fixture.store.delete_messages(&key("a@x.test"), Deletion::All).await.unwrap();
    archive(&fixture.store).await;
    archive(&fixture.store).await;
    assert_eq!(files(cold.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_is_not_needed_is_kept_for_backups() {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::with(|config| {
        to(cold.path())(config);
        config.cold.keep = Period::hours(24);
    })
    .await;
    fixture.fill("a@x.test", 20).await;
    let made = archive(&fixture.store).await.objects;
    fixture.store.delete_messages(&key("a@x.test"), Deletion::All).await.unwrap();
    archive(&fixture.store).await;
    archive(&fixture.store).await;
    assert_eq!(files(cold.path()).len() as u64, made);
}

#[tokio::test]
async fn storage_that_is_away_hides_single_bodies_only() {
    let cold = tempfile::tempdir().unwrap();
    let place = cold.path().join("objects");
    let mut fixture = Fixture::with(to(&place)).await;
    let ids = fixture.fill("a@x.test", 20).await;
    archive(&fixture.store).await;
    let hot = fixture.put(&["a@x.test"], mail(20).as_bytes()).await.unwrap();
    fixture.store.close().await;
    fixture.config.cold.url = String::new();
    fixture.open().await;
    let message = fixture.store.message(&key("a@x.test"), ids[0]).await.unwrap().unwrap();
    let read = fixture.store.body(&message).await;
    assert!(matches!(read, Err(StoreError::Unnamed)), "{read:?}");
    assert!(fixture.store.cold_trouble().flatten().is_some_and(|why| why.contains("[cold] url")));
    assert_eq!(fixture.raw("a@x.test", hot).await, mail(20).as_bytes());
    assert_eq!(fixture.uids("a@x.test").await.len(), 21);
    fixture.store.close().await;
    // What cannot be looked at is no damage, and one line.
    let (summary, found) = look(&fixture.config).await;
    assert_eq!((summary.whole, summary.skipped, summary.damaged), (1, 20, 0));
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding.severity, Severity::Unread);
    assert!(finding.why.starts_with("20 messages") && finding.why.contains("[cold] url"), "{finding}");
    // An object that is gone for good is damage, and is named.
    to(&place)(&mut fixture.config);
    fixture.open().await;
    assert_eq!(fixture.store.cold_trouble(), Some(None));
    let object = files(&place).remove(0);
    std::fs::remove_file(&object).unwrap();
    let message = fixture.store.message(&key("a@x.test"), ids[0]).await.unwrap().unwrap();
    let Err(StoreError::Damaged(why)) = fixture.store.body(&message).await else { panic!("not damaged") };
    assert!(why.contains(object.file_name().unwrap().to_str().unwrap()), "{why}");
}

#[tokio::test]
async fn a_damaged_object_is_noticed() {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::with(to(cold.path())).await;
    let ids = fixture.fill("a@x.test", 3).await;
    archive(&fixture.store).await;
    let file = std::fs::File::options().write(true).open(files(cold.path()).remove(0)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"#", 32 + 150).unwrap();
    let message = fixture.store.message(&key("a@x.test"), ids[0]).await.unwrap().unwrap();
    assert!(matches!(fixture.store.body(&message).await, Err(StoreError::Damaged(_))));
    all_but_first(&fixture, &ids).await;
    let (summary, found) = look(&fixture.config).await;
    assert_eq!(summary.whole, 2);
    let of_message = found.iter().filter(|finding| finding.id == Some(ids[0].0)).count();
    assert_eq!((of_message, summary.objects), (1, 1), "{found:?}");
}

async fn all_but_first(fixture: &Fixture, ids: &[DeliveryId]) {
    for (n, id) in ids.iter().enumerate().skip(1) {
        assert_eq!(fixture.raw("a@x.test", *id).await, mail(n).as_bytes());
    }
}

#[tokio::test]
async fn words_in_moved_bodies_are_found_though_the_index_is_made_anew() {
    let cold = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::with(to(cold.path())).await;
    fixture.fill("a@x.test", 20).await;
    fixture.put(&["a@x.test"], b"Subject: s\r\n\r\nthe heliotrope blooms\r\n").await.unwrap();
    archive(&fixture.store).await;
    fixture.store.close().await;
    std::fs::remove_file(fixture.dir.path().join("search.db")).unwrap();
    fixture.open().await;
    let query = mailroom::mail::query::Query::parse("heliotrope").unwrap();
    let mut request = request("a@x.test", 10);
    request.query = Some(query);
    // Before and after the index has it.
    for _ in 0..2 {
        assert_eq!(fixture.store.list(&request).await.unwrap().items.len(), 1);
        let wait = Duration::from_secs(10);
        let indexed = async {
            while fixture.store.status().index_lag > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        tokio::time::timeout(wait, indexed).await.unwrap();
    }
}

fn in_bucket(s3: &S3) -> impl Fn(&mut Config) + use<> {
    let endpoint = s3.endpoint.clone();
    move |config| {
        config.cold.url = "s3://mail/some/where".into();
        config.cold.endpoint.clone_from(&endpoint);
        config.cold.access_key_id = "test".into();
        config.cold.secret_access_key = serde_json::from_str("\"secret\"").unwrap();
        config.cold.object_size = Bytes::kib(64);
        config.cold.keep = Period::secs(0);
        config.cold.timeout = Period::secs(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_holds_objects_large_ones_too_and_may_be_away() {
    let s3 = tokio::task::spawn_blocking(S3::start).await.unwrap();
    let fixture = Fixture::with(in_bucket(&s3)).await;
    fixture.store.probe_cold().await.unwrap();
    let mut ids = fixture.fill("a@x.test", 300).await;
    let done = archive(&fixture.store).await;
    assert_eq!((done.records, done.objects > 1), (300, true), "{done:?}");
    // In parts: an object as large as its only record.
    let large: Vec<u8> = noise(21 << 20);
    let id = fixture.put(&["b@x.test"], &large).await.unwrap();
    assert_eq!(archive(&fixture.store).await.records, 1);
    assert!(fixture.raw("b@x.test", id).await == large);
    all_there(&fixture, &ids).await;
    assert_eq!(look(&fixture.config).await.1, []);

    let hot = fixture.put(&["a@x.test"], mail(300).as_bytes()).await.unwrap();
    s3.pause();
    let message = fixture.store.message(&key("a@x.test"), ids[0]).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    let read = fixture.store.body(&message).await;
    assert!(matches!(read, Err(StoreError::Away(_))), "{read:?}");
    assert!(fixture.store.cold_trouble().flatten().is_some_and(|why| why.contains("did not answer")));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(fixture.store.archive(after(1), Which::All, &mut |_| {}).await.is_err());
    assert_eq!(fixture.uids("a@x.test").await.len(), 301);
    assert_eq!(fixture.raw("a@x.test", hot).await, mail(300).as_bytes());
    s3.resume();
    ids.push(hot);
    all_there(&fixture, &ids).await;
    assert_eq!(archive(&fixture.store).await.records, 1);
    all_there(&fixture, &ids).await;
    fixture.store.delete_messages(&key("a@x.test"), Deletion::All).await.unwrap();
    fixture.store.delete_messages(&key("b@x.test"), Deletion::All).await.unwrap();
    archive(&fixture.store).await;
    let (summary, found) = look(&fixture.config).await;
    assert_eq!((summary.objects, found), (0, Vec::new()));
}

/// Does not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut raw = b"Subject: noise\r\n\r\n".to_vec();
    raw.extend((0..length).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    }));
    raw
}

/// Two nodes of one database: one at a time is at it, and each reads what the other moved.
async fn nodes(engine: Engine) {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::on_with(engine, to(cold.path())).await;
    let other = Store::open(&fixture.config, fixture.heard.clone(), fixture.faults.clone()).await.unwrap();
    let ids = fixture.fill("a@x.test", 300).await;
    let mut moved = 0;
    // Whoever finds the other at it tries again.
    for _ in 0..50 {
        let (mut nothing, mut neither, mut told) = (|_| {}, |_| {}, 0);
        let one = fixture.store.archive(after(1), Which::All, &mut nothing);
        let two = other.archive(after(1), Which::All, &mut neither);
        for done in [tokio::join!(one, two)].into_iter().flat_map(|(one, two)| [one, two]) {
            if let Some(done) = done.unwrap() {
                moved += done.records;
                told += 1;
            }
        }
        assert!(told > 0);
        if moved == 300 {
            break;
        }
    }
    assert_eq!(moved, 300);
    for (n, id) in ids.iter().enumerate() {
        let message = other.message(&key("a@x.test"), *id).await.unwrap().unwrap();
        assert_eq!(other.body(&message).await.unwrap(), mail(n).as_bytes());
    }
    other.close().await;
}

/// Ends the connection that holds the lock of rounds.
fn lose_the_lock(database: &Database) {
    let sql = |text: &str| database.sql(text).now_or_never().unwrap();
    if database.engine == Engine::Postgres {
        sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7233452 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())");
    } else {
        let holder = sql("SELECT IS_USED_LOCK(CONCAT('mailroom-cold-', LEFT(SHA2(DATABASE(), 256), 40)))");
        sql(&format!("KILL {}", holder.trim()));
    }
}

/// Whose lock is gone does not begin another object.
async fn ends_without_its_lock(engine: Engine) {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::on_with(engine, to(cold.path())).await;
    let ids = fixture.fill("a@x.test", 100).await;
    let database = fixture.database();
    let mut objects = 0;
    let mut told = |done: Archived| {
        objects = done.objects;
        if done.objects == 1 {
            lose_the_lock(&database);
        }
    };
    let ended = fixture.store.archive(after(1), Which::All, &mut told).await;
    let Err(StoreError::Unavailable(why)) = ended else { panic!("{ended:?} after {objects} objects") };
    assert_eq!(objects, 1, "{why}");
    all_there(&fixture, &ids).await;
    assert!(archive(&fixture.store).await.objects > 1, "the next round takes the lock anew");
    all_there(&fixture, &ids).await;
}

#[tokio::test]
async fn a_round_on_postgres_ends_without_its_lock() {
    ends_without_its_lock(Engine::Postgres).await;
}

#[tokio::test]
async fn a_round_on_mariadb_ends_without_its_lock() {
    ends_without_its_lock(Engine::MariaDb).await;
}

/// A node has written an object and points the row there, just as another node, without a lock, has found that nothing does.
async fn found_unused_too_early(engine: Engine) {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::on_with(engine, to(cold.path())).await;
    let ids = fixture.fill("a@x.test", 1).await;
    fixture.faults.arm(Fault::ColdWritten);
    assert!(fixture.store.archive(after(1), Which::All, &mut |_| {}).await.is_err());
    let object = files(cold.path()).remove(0);
    let bytes = object.metadata().unwrap().len();
    // The header is in front of the only record.
    let (offset, length) = (32, bytes - 32);
    let wait = if engine == Engine::Postgres { "SELECT pg_sleep(2)" } else { "SELECT SLEEP(2)" };
    let point = format!(
        "BEGIN; UPDATE objects SET bytes = {bytes}, live = {length}, total = {length}; \
         UPDATE bodies SET object = (SELECT number FROM objects), object_offset = {offset}, object_length = {length}, \
         compressed = TRUE, contents = ''; {wait}; COMMIT"
    );
    let database = fixture.database();
    let one = std::thread::spawn(move || database.sql(&point).now_or_never().unwrap());
    let unlocked = "SELECT number FROM objects FOR UPDATE SKIP LOCKED";
    crate::support::until("the row to be locked", async || fixture.database().sql(unlocked).await.trim().is_empty())
        .await;
    archive(&fixture.store).await;
    one.join().unwrap();
    assert!(object.exists());
    all_there(&fixture, &ids).await;
    archive(&fixture.store).await;
    all_there(&fixture, &ids).await;
}

#[tokio::test]
async fn an_object_on_postgres_that_was_found_unused_too_early_stays() {
    found_unused_too_early(Engine::Postgres).await;
}

#[tokio::test]
async fn an_object_on_mariadb_that_was_found_unused_too_early_stays() {
    found_unused_too_early(Engine::MariaDb).await;
}

#[tokio::test]
async fn two_nodes_on_postgres_do_not_move_the_same() {
    nodes(Engine::Postgres).await;
}

#[tokio::test]
async fn two_nodes_on_mariadb_do_not_move_the_same() {
    nodes(Engine::MariaDb).await;
}
