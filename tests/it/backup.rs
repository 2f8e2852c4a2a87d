//! `mailroom backup` while mail flows, and a server on the copy.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mailroom::mail::units::Bytes;
use mailroom::store::{Deletion, Faults, ListRequest, Position, Replay, Scope, Store};

use crate::check::look;
use crate::store_suite::support::{Fixture, Heard, config, key, mail};
use crate::support::{SmtpClient, TestServer, message};

fn backup(from: &Path, to: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.arg("backup").arg(to).arg("--data").arg(from).args(more).output().unwrap()
}

fn everything() -> ListRequest {
    ListRequest { scope: Scope::All, limit: 1_000, page: None, unread: false, since: None, query: None }
}

/// Every message of a store: mailbox and uid, and its bytes.
async fn contents(store: &Store) -> BTreeMap<(String, u64), Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut page = None;
    loop {
        let list = store.list(&ListRequest { page, ..everything() }).await.unwrap();
        for item in list.items {
            let message = store.message(&item.mailbox, item.id).await.unwrap().unwrap();
            let raw = store.body(&message).await.unwrap().to_vec();
            contents.insert((item.mailbox.as_str().to_owned(), item.uid), raw);
        }
        page = list.next;
        if page.is_none() {
            return contents;
        }
    }
}

#[actix::test]
async fn what_was_answered_before_is_in_the_copy_whole() {
    let server = TestServer::with(|config| config.bodies.segment_size = Bytes::kib(16)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut senders = Vec::new();
    for sender in 0..4 {
        let (stop, answered, address) = (stop.clone(), answered.clone(), server.smtp_address());
        senders.push(actix::spawn(async move {
            let mut smtp = SmtpClient::connect(address).await;
            smtp.hello().await;
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let raw = message(&format!("{sender}/{sent}"), &"text ".repeat(sent % 300));
                let reply =
                    smtp.send("a@b.test", &[&format!("box{sender}@x.test"), "all@x.test"], raw.as_bytes()).await;
                assert!(reply.starts_with("250"), "{reply}");
                sent += 1;
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let place = tempfile::tempdir().unwrap();
    for round in 0..3 {
        while answered.load(Ordering::SeqCst) < 200 * (round + 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = contents(&server.app.store).await;
        let (from, to) = (server.data.path().to_owned(), place.path().join(format!("copy{round}")));
        let (old, target) = (server.app.store.stream_head(), to.clone());
        let output = tokio::task::spawn_blocking(move || backup(&from, &target, &[])).await.unwrap();
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{said}{failed}");
        assert!(said.contains("nothing is damaged"), "{said}");

        let (summary, found) = look(&config(&to)).await;
        assert_eq!(found, []);
        let restored = Store::open(&config(&to), Arc::new(Heard::default()), Faults::default()).await.unwrap();
        let copy = contents(&restored).await;
        assert_eq!(copy.len() as u64, summary.messages);
        for (place, raw) in &before {
            assert_eq!(copy.get(place), Some(raw), "{place:?}");
        }
        // Another history: no cursor of the old one goes on here.
        assert!(matches!(restored.replay_all(old, 10).await.unwrap(), Replay::Reset { .. }));
        let of_box = server.app.store.mailbox(&key("all@x.test")).await.unwrap().unwrap().cursor;
        assert!(matches!(restored.replay(&key("all@x.test"), of_box, 10).await.unwrap(), Replay::Reset { .. }));
        restored.close().await;
    }
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    // What the copies share with it was not touched.
    let (summary, found) = look(&config(server.data.path())).await;
    assert_eq!((found, summary.whole), (Vec::new(), answered.load(Ordering::SeqCst) as u64 * 2));
}

#[tokio::test]
async fn segments_that_go_meanwhile_do_not_break_it() {
    let fixture = Fixture::with(|config| config.bodies.segment_size = Bytes::kib(1)).await;
    let kept = fixture.put(&["kept@x.test"], mail(0).as_bytes()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (store, stopped) = (fixture.store.clone(), stop.clone());
    let place = tempfile::tempdir().unwrap();
    let copies = {
        let (from, place) = (fixture.dir.path().to_owned(), place.path().to_owned());
        tokio::task::spawn_blocking(move || {
            let copies: Vec<_> = (0..10).map(|n| backup(&from, &place.join(n.to_string()), &[])).collect();
            stopped.store(true, Ordering::Relaxed);
            copies
        })
    };
    let mut removed = 0;
    while !stop.load(Ordering::Relaxed) {
        fixture.fill("gone@x.test", 30).await;
        store.delete_messages(&key("gone@x.test"), Deletion::All).await.unwrap();
        while store.compact().await.unwrap() {}
        removed += 30;
    }
    for (n, output) in copies.await.unwrap().into_iter().enumerate() {
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "copy {n} with {removed} removed: {said}{failed}");
        let copy = config(&place.path().join(n.to_string()));
        let restored = Store::open(&copy, Arc::new(Heard::default()), Faults::default()).await.unwrap();
        let message = restored.message(&key("kept@x.test"), kept).await.unwrap().unwrap();
        assert_eq!(restored.body(&message).await.unwrap(), mail(0).as_bytes());
        restored.close().await;
    }
}

#[tokio::test]
async fn a_copy_and_its_original_go_their_own_ways() {
    let fixture = Fixture::new().await;
    fixture.fill("a@x.test", 5).await;
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("a").join("b");
    assert!(backup(fixture.dir.path(), &to, &["--no-verify"]).status.success());
    assert!(!to.join("search.db").exists() && !to.join("mailroom.db-wal").exists());
    let restored = Store::open(&config(&to), Arc::new(Heard::default()), Faults::default()).await.unwrap();
    let lineage = |store: &Store| store.stream_head().lineage;
    let first = lineage(&restored);
    assert_ne!(first, lineage(&fixture.store));
    fixture.fill("a@x.test", 3).await;
    let list = restored.list(&everything()).await.unwrap();
    assert_eq!(list.items.len(), 5);
    let Position::Stream(at) = list.position else { panic!("all mail has a stream") };
    restored.delete_messages(&key("a@x.test"), Deletion::All).await.unwrap();
    // What happens there now can be followed there.
    assert!(matches!(restored.replay_all(at, 10).await.unwrap(), Replay::Page { events, .. } if events.len() == 1));
    restored.close().await;
    drop(restored);
    assert_eq!(contents(&fixture.store).await.len(), 8);
    let again = Store::open(&config(&to), Arc::new(Heard::default()), Faults::default()).await.unwrap();
    assert_eq!(lineage(&again), first, "only the first start begins a history");
    assert_eq!(look(&config(&to)).await.1, []);
    assert_eq!(look(&fixture.config).await.1, []);
}

#[tokio::test]
async fn a_directory_with_something_in_it_is_refused() {
    let fixture = Fixture::new().await;
    fixture.fill("a@x.test", 1).await;
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("note"), "mine").unwrap();
    let output = backup(fixture.dir.path(), place.path(), &[]);
    assert_eq!(output.status.code(), Some(73));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    let target = place.path().join("copy");
    let nothing = backup(&place.path().join("nowhere"), &target, &[]);
    assert!(nothing.status.code().unwrap() > 1 && !target.exists());
}

#[tokio::test]
async fn nobody_else_may_look_into_what_it_and_the_store_make() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let (data, copy) = (place.path().join("new/data"), place.path().join("copies/one"));
    let config = config(&data);
    let store = Store::open(&config, Arc::new(Heard::default()), Faults::default()).await.unwrap();
    let output = backup(&data, &copy, &[]);
    assert!(output.status.success(), "{output:?}");
    for directory in [&data, &copy] {
        let mode = directory.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{directory:?} has {mode:o}");
    }
    drop(store);
}

#[tokio::test]
async fn a_copy_of_something_damaged_says_so() {
    let fixture = Fixture::with(|config| config.bodies.segment_size = Bytes(1)).await;
    fixture.fill("a@x.test", 1).await;
    fixture.put(&["a@x.test"], mail(7).as_bytes()).await.unwrap();
    let file = std::fs::File::options().write(true).open(fixture.bodies().join("00000001.seg")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"#", 150).unwrap();
    let place = tempfile::tempdir().unwrap();
    let output = backup(fixture.dir.path(), &place.path().join("copy"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 of 2 messages are whole"));
    // A segment that is gone is not passed over in silence.
    std::fs::remove_file(fixture.bodies().join("00000001.seg")).unwrap();
    let target = place.path().join("other");
    let output = backup(fixture.dir.path(), &target, &[]);
    assert!(output.status.code().unwrap() > 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("segment 1 is missing"), "{output:?}");
    assert!(!target.exists());
}
