//! Space that is given back, long lists, moving bodies under a reader.

use mailroom::mail::units::Bytes;
use mailroom::store::{Deletion, WriteFailed};

use super::support::*;

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..20_000).map(|_| next()).collect()
}

fn disk(f: &Fixture) -> u64 {
    f.bodies().read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// The same wherever bodies lie.
async fn room(f: &Fixture) -> u64 {
    match f.engine {
        Engine::Sqlite => disk(f),
        _ => f.database().sql("SELECT coalesce(sum(length(contents)), 0) FROM bodies").await.parse().unwrap(),
    }
}

#[tokio::test]
async fn compaction_moves_what_lives_and_readers_follow() {
    let f = Fixture::with(|config| config.bodies.segment_size = Bytes::kib(256)).await;
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(f.put(&["a@x", "b@x"], &noise(n)).await.unwrap());
    }
    let before = disk(&f);
    let kept: Vec<usize> = (0..60).step_by(10).collect();
    let mut known = Vec::new();
    for n in &kept {
        known.push(f.store.message(&key("a@x"), ids[*n]).await.unwrap().unwrap());
    }
    for to in ["a@x", "b@x"] {
        for (n, id) in ids.iter().enumerate() {
            if !kept.contains(&n) {
                f.store.delete_messages(&key(to), Deletion::One(*id)).await.unwrap();
            }
        }
    }
    f.tidy(after(0)).await;
    for (n, message) in kept.iter().zip(&known) {
        let id = message.listed.id;
        assert_eq!(f.store.body(message).await.unwrap(), noise(*n as u64), "from the old place");
        assert_eq!(f.raw("a@x", id).await, noise(*n as u64));
        assert_eq!(f.raw("b@x", id).await, noise(*n as u64));
    }
    let moved = f.store.message(&key("a@x"), ids[0]).await.unwrap().unwrap();
    assert_ne!(moved.location, known[0].location);
    // The old files stay for a minute; without them the old place is followed to the new one.
    for number in 1..=known[0].location.segment {
        std::fs::remove_file(f.bodies().join(format!("{number:08}.seg"))).unwrap();
    }
    assert_eq!(f.store.body(&known[0]).await.unwrap(), noise(0));
    assert!(disk(&f) < before);
}

#[tokio::test]
async fn segments_of_deleted_mail_are_removed() {
    let f = Fixture::with(|config| config.bodies.segment_size = Bytes::kib(256)).await;
    for n in 0..60 {
        f.put(&["a@x"], &noise(n)).await.unwrap();
    }
    f.store.delete_mailbox(&key("a@x")).await.unwrap();
    f.tidy(after(60)).await;

    assert_eq!(disk(&f), 0, "also the one that was written to");
}

/// Of 100,000 messages in the engine that is here; a server's own index is not what this is about.
pub async fn a_long_mailbox_is_listed_by_pages(engine: Engine) {
    let count = if engine == Engine::Sqlite { 100_000 } else { 20_000 };
    let f = Fixture::on_with(engine, |config| {
        config.database.queue = 10_000;
        // Nobody searches here, and to index this much takes longer than all else.
        config.search.enabled = false;
    })
    .await;
    f.fill("a@x", count).await;
    let mut request = request("a@x", 1_000);
    let mut seen = 0;
    let mut last = u64::MAX;
    loop {
        let page = f.store.list(&request).await.unwrap();
        for item in &page.items {
            assert!(item.uid < last);
            last = item.uid;
            seen += 1;
        }
        request.page = page.next;
        if request.page.is_none() {
            break;
        }
    }
    assert_eq!((seen, last), (count, 1));
    // The best of three: a machine that is busy with something else is not what this is about.
    let mut took = Vec::new();
    for _ in 0..3 {
        let began = std::time::Instant::now();
        f.uids("a@x").await;
        took.push(began.elapsed());
    }
    assert!(took.iter().any(|took| took.as_secs() < 2), "{took:?}");
    assert_eq!(f.store.delete_messages(&key("a@x"), Deletion::All).await.unwrap(), count as u64);
}

#[tokio::test]
async fn the_database_file_shrinks_when_mail_is_gone() {
    let f = Fixture::with(|config| config.search.enabled = false).await;
    f.fill("kept@x", 100).await;
    f.fill("gone@x", 20_000).await;
    f.store.delete_mailbox(&key("gone@x")).await.unwrap();
    f.tidy(after(60)).await;
    let length = || std::fs::metadata(f.dir.path().join("mailroom.db")).unwrap().len();
    let full = 20_000 * 300;
    let began = std::time::Instant::now();
    // Pages are given back while nothing else is to do, and the file is cut by the next checkpoint.
    while length() > full / 2 {
        assert!(began.elapsed().as_secs() < 60, "still {} bytes", length());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(f.list("kept@x").await.items.len(), 100);
}

pub async fn a_panic_of_a_caller_does_not_end_the_writer(engine: Engine) {
    let f = Fixture::on(engine).await;
    let (mut bad, _) = incoming(&["a@x"], mail(1).as_bytes());
    bad.done = Box::new(|_| panic!("asked to panic"));
    f.store.append(bad).map_err(drop).unwrap();
    f.put(&["a@x"], mail(2).as_bytes()).await.unwrap();
    assert_eq!(f.uids("a@x").await, [2, 1]);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The database is synced by every commit; that a file is gone is not, until its directory is.
#[tokio::test]
async fn a_crash_at_any_step_of_giving_space_back_brings_no_mail_back() {
    let small = |config: &mut mailroom::store::Config| config.bodies.segment_size = Bytes::kib(64);
    let f = Fixture::with(small).await;
    for n in 0..10 {
        f.put(&["a@x"], &noise(n)).await.unwrap();
    }
    f.store.delete_messages(&key("a@x"), Deletion::All).await.unwrap();
    let (mut steps, mut more) = (0, true);
    while more {
        let crashed = tempfile::tempdir().unwrap();
        copy(&f.bodies(), &crashed.path().join("bodies"));
        more = f.store.compact().await.unwrap();
        copy(f.dir.path(), crashed.path());
        let again = Fixture::within(crashed, small).await;
        assert_eq!(again.uids("a@x").await, [0; 0], "after step {steps}");
        again.tidy(after(60)).await;
        assert_eq!(disk(&again), 0);
        steps += 1;
    }
    assert!(steps >= 3, "{steps}");
}

pub async fn what_is_refused_takes_no_space(engine: Engine) {
    let f = Fixture::on_with(engine, |config| config.defaults.max_bytes = Some(50_000)).await;
    f.put(&["a@x"], &noise(1)).await.unwrap();
    let before = room(&f).await;
    for n in 0..5 {
        assert_eq!(f.put(&["a@x"], &[noise(n), noise(n + 9)].concat()).await, Err(WriteFailed::MailboxFull));
    }
    assert_eq!(room(&f).await, before);
}
