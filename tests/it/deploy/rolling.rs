//! All servers are restarted one after the other behind nginx, under load: nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use awc::http::{Method, StatusCode};
use serde_json::json;

use super::nginx::Nginx;
use crate::support::process::Plan;
use crate::support::{Api, SmtpClient, message, until};

/// Makes mailboxes, each once: a call that must not be repeated by anybody.
async fn make(nginx: SocketAddr, name: usize, stop: Arc<AtomicBool>, made: Arc<AtomicUsize>) -> Vec<String> {
    let api = Api::new(nginx).kept();
    let (mut failed, mut n) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        n += 1;
        let body = json!({"local_part": format!("made{name}x{n}")});
        match api.try_call(Method::POST, "/v1/mailboxes", &[], Some(body)).await {
            Ok(answer) if answer.status == StatusCode::CREATED => {}
            Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => failed.push(error),
        }
        made.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    failed
}

/// Sends mail, a session for each message; a 421 is a request to come again, which a sender does.
async fn send(nginx: SocketAddr, stop: Arc<AtomicBool>, sent: Arc<AtomicUsize>) -> usize {
    let mut unsent = 0;
    while !stop.load(Ordering::SeqCst) {
        let taken = match SmtpClient::try_connect(nginx).await {
            Some(mut client) => client.try_send("bob@example.com", &message("sent", "x")).await,
            None => false,
        };
        if taken {
            sent.fetch_add(1, Ordering::SeqCst);
        } else {
            unsent += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    unsent
}

#[actix::test]
async fn a_rolling_restart_behind_nginx_is_noticed_by_nobody() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // With the drain of the defaults, which nginx's own times fit.
    let plans = directories.each_ref().map(|data| {
        Plan::new(data.path())
            .set("MAILROOM__RUNTIME__DRAIN", "5s")
            .set("MAILROOM__HTTP__TRUSTED_PROXIES", "127.0.0.1")
            .set("MAILROOM__SMTP__PROXY_PROTOCOL_FROM", "127.0.0.1")
    });
    let mut nodes = Vec::new();
    for plan in &plans {
        nodes.push(plan.start().await);
    }
    let nginx = Nginx::start(&plans.each_ref().map(|plan| plan.http), &plans.each_ref().map(|plan| plan.smtp)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (made, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let makers: Vec<_> =
        (0..4).map(|n| actix::spawn(make(nginx.http, n, Arc::clone(&stop), Arc::clone(&made)))).collect();
    let sender = actix::spawn(send(nginx.smtp, Arc::clone(&stop), Arc::clone(&sent)));
    for plan in &plans {
        let before = (made.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
        until("both kinds of call are made", async || {
            made.load(Ordering::SeqCst) > before.0 + 20 && sent.load(Ordering::SeqCst) > before.1 + 20
        })
        .await;
        let node = nodes.remove(0);
        let ended = tokio::task::spawn_blocking(move || node.terminate()).await.unwrap();
        assert!(ended.success(), "{ended}");
        nodes.push(plan.start().await);
        // nginx leaves a node alone for 5 s after it was refused there.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for maker in makers {
        let failed = maker.await.unwrap();
        assert!(failed.is_empty(), "{} calls failed: {}", failed.len(), failed[0]);
    }
    // At most one session each time that ended while it had not begun its message.
    let unsent = sender.await.unwrap();
    assert!(unsent <= plans.len(), "{unsent} messages were not taken at once");
}
