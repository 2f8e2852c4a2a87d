//! The page that is served from memory is always the one that the database would give.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mailroom::store::{ListRequest, MessagePage, Scope};

use super::support::*;

fn render(page: &MessagePage) -> Bytes {
    let uids: Vec<String> = page.items.iter().map(|item| format!("{}:{}", item.mailbox, item.uid)).collect();
    uids.join(",").into()
}

#[tokio::test]
async fn a_page_is_served_from_memory_until_something_changes() {
    let f = Fixture::new().await;
    let request = request("a@x", 20);
    assert_eq!(f.store.list_cached(&request, render).await.unwrap(), "");
    f.fill("a@x", 1).await;
    assert_eq!(f.store.list_cached(&request, render).await.unwrap(), "a@x:1");
    let again = f.store.list_cached(&request, |_| panic!("it is in memory")).await.unwrap();
    assert_eq!(again, "a@x:1");
}

#[tokio::test]
async fn who_was_answered_sees_the_message_in_the_next_list() {
    let f = Arc::new(Fixture::new().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (store, stop) = (f.store.clone(), stop.clone());
        readers.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            while !stop.load(Ordering::Relaxed) {
                for request in [request("a@x", 20), all(5)] {
                    runtime.block_on(store.list_cached(&request, render)).unwrap();
                }
            }
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
        reader.join().unwrap();
    }
}

fn all(limit: u32) -> ListRequest {
    ListRequest { scope: Scope::All, ..request("a@x", limit) }
}
