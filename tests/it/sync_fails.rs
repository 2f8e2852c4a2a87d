//! The disk fails to sync the WAL: SQLite calls the commit failed, and yet all of it may lie in the file. Whatever a crash
//! makes of that, what was answered 250 is there, and nothing is there by half.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::message;
use crate::support::process::Plan;

const MAILBOX: &str = "/v1/mailboxes/a@example.com/messages";

/// The server under `strace`, which lets the sync number `failing` of the WAL fail.
fn failing(data: &Path, failing: usize) -> Plan {
    let mut plan = Plan::new(data);
    plan.traced = true;
    let calls = "fsync,fdatasync";
    let inject = format!("inject={calls}:error=EIO:when={failing}");
    let wal = data.join("mailroom.db-wal");
    let options = ["strace", "-f", "-qq", "-e", &format!("trace={calls}"), "-e", &inject, "-P"].map(str::to_owned);
    plan.wrapper = options.into();
    plan.wrapper.extend([wal.to_str().unwrap(), "-o", "/dev/null"].map(str::to_owned));
    plan.wrapper.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
    plan
}

/// Sends until one is refused, kills the server, looks at what the next one finds; whether one was refused.
async fn run(number: usize) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // What is synced to make the database is not to fail.
    assert!(Plan::new(&data).start().await.terminate().success());
    let server = failing(&data, number).start().await;
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let (mut sent, mut refused) = (BTreeMap::new(), false);
    for n in 0..20 {
        let text = message(&format!("number {n}"), &"text ".repeat(20 * n));
        let reply = smtp.send("ann@sender.test", &["a@example.com"], text.as_bytes()).await;
        refused = !reply.starts_with("250");
        assert!(!refused || reply.starts_with("451"), "{reply}");
        sent.insert(format!("number {n}"), (text, refused));
        if refused {
            break;
        }
    }
    server.kill();

    let server = Plan::new(&data).start().await;
    let api = server.api();
    let list = api.json(&format!("{MAILBOX}?limit=100")).await;
    for item in list["items"].as_array().unwrap() {
        let raw = api.get(&format!("{MAILBOX}/{}/raw", item["id"].as_str().unwrap())).await;
        assert_eq!(raw.status, 200, "{item}: {}", raw.text());
        let (text, _) = sent.remove(item["subject"].as_str().unwrap()).expect("each once");
        assert!(raw.body.ends_with(text.as_bytes()), "{item}");
    }
    assert!(sent.values().all(|(_, refused)| *refused), "answered 250 and not there: {:?}", sent.keys());
    assert!(server.terminate().success());
    refused
}

#[actix::test]
async fn nothing_is_there_by_half_after_a_sync_of_the_wal_failed() {
    let mut refused = 0;
    for number in 4..10 {
        refused += usize::from(run(number).await);
    }
    assert!(refused >= 3, "{refused} runs had a message refused: the others failed before or after");
}
