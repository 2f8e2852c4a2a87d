//! The page that is served from memory is always the one that the database would give.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mailroom::store::{ListRequest, MessagePage, Scope};

use super::support::*;

const READERS: usize = 3;
const PAUSE: Duration = Duration::from_millis(2);

fn render(page: &MessagePage) -> Bytes {
    let uids: Vec<String> = page.items.iter().map(|item| format!("{}:{}", item.mailbox, item.uid)).collect();
    uids.join(",").into()
}

pub async fn a_page_is_served_from_memory_until_something_changes(engine: Engine) {
    let f = Fixture::on(engine).await;
    let request = request("a@x", 20);
    assert_eq!(f.store.list_cached(&request, render).await.unwrap(), "");
    f.fill("a@x", 1).await;
    assert_eq!(f.store.list_cached(&request, render).await.unwrap(), "a@x:1");
    let again = f.store.list_cached(&request, |_| panic!("it is in memory")).await.unwrap();
    assert_eq!(again, "a@x:1");
}

pub async fn who_was_answered_sees_the_message_in_the_next_list(engine: Engine) {
    let f = Arc::new(Fixture::on(engine).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..READERS {
        let (store, stop, done) = (f.store.clone(), stop.clone(), done.clone());
        readers.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // A connection that was made here serves the others only as long as this goes on.
            runtime.block_on(async {
                while !stop.load(Ordering::Relaxed) {
                    for request in [request("a@x", 20), all(5)] {
                        store.list_cached(&request, render).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
                done.fetch_add(1, Ordering::SeqCst);
                while done.load(Ordering::SeqCst) < READERS {
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }));
    }
    for n in 1..=300 {
        f.put(&["a@x"], mail(n).as_bytes()).await.unwrap();
        let newest = format!("a@x:{n}");
        for request in [request("a@x", 20), all(5)] {
            let page = f.store.list_cached(&request, render).await.unwrap();
            let first = page.split(|byte| *byte == b',').next().unwrap();
            assert_eq!(first, newest.as_bytes(), "{page:?}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        while !reader.is_finished() {
            tokio::time::sleep(PAUSE).await;
        }
        reader.join().unwrap();
    }
}

fn all(limit: u32) -> ListRequest {
    ListRequest { scope: Scope::All, ..request("a@x", limit) }
}
