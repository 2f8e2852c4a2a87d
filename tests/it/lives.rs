//! A token opens one life of a mailbox: who follows it hears the end, and nothing of whoever has the address next.

use std::time::Duration;

use awc::http::StatusCode;
use mailroom::inbound::config::AccessMode;
use serde_json::{Value, json};

use crate::events::Events;
use crate::support::socket::Heard;
use crate::support::{Api, Socket, TestServer, message, until};

const ADDRESS: &str = "shared@mailroom.test";

async fn closed_server() -> TestServer {
    TestServer::with(|config| config.mailboxes.access = AccessMode::Token).await
}

/// Makes the mailbox; its token.
async fn make(api: &Api, ttl: Option<&str>) -> String {
    let mut asked = json!({"address": ADDRESS});
    if let Some(ttl) = ttl {
        asked["ttl"] = ttl.into();
    }
    let made = api.post("/v1/mailboxes", asked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    made.json()["token"].as_str().unwrap().to_owned()
}

/// All ways to follow what a token opens.
struct Followers {
    streams: Vec<Events>,
    sockets: Vec<(&'static str, Socket)>,
    waits: Vec<tokio::task::JoinHandle<(StatusCode, String)>>,
}

impl Followers {
    async fn of(server: &TestServer, token: &str) -> Self {
        let (mut streams, mut sockets, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for path in [format!("/v1/mailboxes/{ADDRESS}/events"), "/v1/events".to_owned()] {
            let mut events = Events::open(server, &format!("{path}?token={token}"), &[]).await;
            assert_eq!(events.next().await.1["type"], "subscribed");
            streams.push(events);
        }
        for name in [ADDRESS, "*"] {
            let mut socket = Socket::connect(server.app.http).await;
            socket.subscribe_with(name, token).await;
            sockets.push((name, socket));
        }
        for path in [format!("/v1/mailboxes/{ADDRESS}/messages/wait"), "/v1/messages/wait".to_owned()] {
            let api = server.api().with_token(token);
            waits.push(actix::spawn(async move {
                let answer = api.get(&format!("{path}?timeout=25s")).await;
                (answer.status, answer.text())
            }));
        }
        // A call that has not begun to wait by then finds no mailbox, which is the same answer.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Self { streams, sockets, waits }
    }

    /// Each hears that the mailbox is gone, then its own end, and nothing after that.
    async fn end(self) {
        for mut events in self.streams {
            assert_eq!(events.next().await.1["type"], "mailbox.deleted");
            let rest = events.block().await;
            assert!(rest.is_none(), "{rest:?}");
        }
        for (name, mut socket) in self.sockets {
            assert_eq!(socket.hear().await["type"], "mailbox.deleted", "{name}");
            let error = socket.hear().await;
            assert_eq!((&error["type"], &error["mailbox"]), (&json!("error"), &json!(name)), "{error}");
            assert_eq!(error["problem"]["type"], "urn:mailroom:problem:no-such-mailbox");
            let more = socket.hear_within(Duration::from_millis(300)).await;
            assert!(matches!(more, Heard::Nothing), "{name}: {more:?}");
        }
        for wait in self.waits {
            let (status, text) = wait.await.unwrap();
            assert_eq!(status, StatusCode::NOT_FOUND, "{text}");
        }
    }
}

#[actix_web::test]
async fn followers_end_with_the_life_that_their_token_opens() {
    let server = closed_server().await;
    let api = server.api();
    for round in 0..3 {
        let first = make(&api, None).await;
        server.deliver(ADDRESS, &message("first", "for the first")).await;
        let followers = Followers::of(&server, &first).await;
        let gone = api.with_token(&first).delete(&format!("/v1/mailboxes/{ADDRESS}")).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
        let second = make(&api, None).await;
        server.deliver(ADDRESS, &message("SECRET", "code 482913")).await;
        followers.end().await;
        let own = api.with_token(&second);
        assert_eq!(own.subjects(ADDRESS).await, ["SECRET"], "round {round}");
        own.delete(&format!("/v1/mailboxes/{ADDRESS}")).await;
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_life_that_ends_by_its_time_ends_its_followers() {
    let server = closed_server().await;
    let api = server.api();
    let first = make(&api, Some("1h")).await;
    let followers = Followers::of(&server, &first).await;
    // Soon, but not before everybody follows.
    let soon = api.with_token(&first).patch(&format!("/v1/mailboxes/{ADDRESS}"), json!({"ttl": "1s"})).await;
    assert_eq!(soon.status, StatusCode::OK, "{}", soon.text());
    until("its time is over", || async {
        api.with_token(&first).get(&format!("/v1/mailboxes/{ADDRESS}")).await.status == StatusCode::NOT_FOUND
    })
    .await;
    make(&api, None).await;
    server.deliver(ADDRESS, &message("SECRET", "code 482913")).await;
    followers.end().await;
    server.stop().await;
}

#[actix_web::test]
async fn the_next_owner_hears_of_the_mail_of_the_next_life_only() {
    let server = closed_server().await;
    let api = server.api();
    let first = make(&api, None).await;
    let mut old = Socket::connect(server.app.http).await;
    old.subscribe_with(ADDRESS, &first).await;
    for n in 0..5 {
        server.deliver(ADDRESS, &message(&format!("first {n}"), "x")).await;
    }
    api.with_token(&first).delete(&format!("/v1/mailboxes/{ADDRESS}")).await;
    let second = make(&api, None).await;
    let mut new = Socket::connect(server.app.http).await;
    new.subscribe_with(ADDRESS, &second).await;
    server.deliver(ADDRESS, &message("second", "x")).await;
    let heard = new.hear().await;
    assert_eq!(heard["message"]["subject"], "second", "{heard}");
    for n in 0..5 {
        assert_eq!(old.hear().await["message"]["subject"], format!("first {n}"));
    }
    assert_eq!(old.hear().await["type"], "mailbox.deleted");
    server.stop().await;
}

#[actix_web::test]
async fn with_open_mailboxes_an_address_is_followed_through_its_lives() {
    let server = TestServer::start().await;
    let path = format!("/v1/mailboxes/{ADDRESS}/events");
    let mut events = Events::open(&server, &path, &[]).await;
    events.next().await;
    let next = async |events: &mut Events| -> Value { events.next().await.1 };
    for n in 0..2 {
        server.deliver(ADDRESS, &message(&format!("life {n}"), "x")).await;
        assert_eq!(next(&mut events).await["message"]["subject"], format!("life {n}"));
        server.api().delete(&format!("/v1/mailboxes/{ADDRESS}")).await;
        assert_eq!(next(&mut events).await["type"], "mailbox.deleted");
    }
    server.stop().await;
}
