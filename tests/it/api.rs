//! The REST API over a real port: what each call answers, and what it answers to nonsense and to strangers.

use std::time::{Duration, Instant};

use awc::http::{Method, StatusCode};
use mailroom::inbound::config::AccessMode;
use serde_json::{Value, json};

use crate::support::api::Answer;
use crate::support::{Api, TestServer, message};

const HTML: &str = "From: Ann <ann@sender.test>\r\nTo: bob@example.com\r\nSubject: Your code\r\nMIME-Version: 1.0\r\n\
    Authentication-Results: mx.test; spf=pass\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\n\
    Content-Type: text/html; charset=utf-8\r\n\r\n<p onclick=\"alert(1)\">Your code is <b>482913</b>, or use \
    <a href=\"https://shop.test/verify?x=1\">this link</a><script>alert(2)</script><img src=\"cid:pic@x\">\
    <img src=\"https://spy.test/pixel.gif\"></p>\r\n--b\r\nContent-Type: image/png; name=\"pi\"\"c.png\"\r\n\
    Content-ID: <pic@x>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b\r\n\
    Content-Type: text/html\r\nContent-Disposition: attachment; filename*=UTF-8''..%2F%E4%BD%A0%0d%0aX-Evil%3A.html\r\n\r\n\
    <script>alert(3)</script>\r\n--b--\r\n";

fn problem(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let document = answer.json();
    assert_eq!(document["type"], format!("urn:mailroom:problem:{name}"));
    assert_eq!(document["status"], status);
    assert!(document["title"].is_string());
}

async fn only(api: &Api, mailbox: &str) -> String {
    let list = api.json(&format!("/v1/mailboxes/{mailbox}/messages")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

async fn get_with(api: &Api, path: &str, headers: &[(&str, &str)]) -> Answer {
    api.call(Method::GET, path, headers, None).await
}

#[actix_web::test]
async fn makes_extends_lists_and_deletes_mailboxes() {
    let server = TestServer::start().await;
    let api = server.api();
    let made = api.post("/v1/mailboxes", json!({"ttl": "1h", "max_messages": 5, "message_ttl": "never"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let mailbox = made.json();
    let address = mailbox["address"].as_str().unwrap().to_owned();
    assert!(address.ends_with("@mailroom.test"), "{address}");
    assert!(mailbox["token"].as_str().unwrap().starts_with("mrt_"));
    assert!(mailbox["expires_at"].is_string());
    assert_eq!(mailbox["message_ttl"], "never");
    let path = made.header("location").unwrap().to_owned();
    let shown = api.json(&path).await;
    assert_eq!(shown["address"], address);
    assert!(shown.get("token").is_none());

    problem(&api.post("/v1/mailboxes", json!({"address": address})).await, 409, "mailbox-exists");
    let changed = api.patch(&path, json!({"ttl": "never", "max_messages": null, "when_full": "drop_oldest"})).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text());
    assert_eq!(changed.json()["expires_at"], Value::Null);
    assert_eq!(changed.json()["max_messages"], Value::Null);
    assert_eq!(changed.json()["when_full"], "drop_oldest");

    let list = api.json("/v1/mailboxes?limit=1").await;
    assert_eq!(list["items"][0]["address"], address);
    assert_eq!(list["next_cursor"], Value::Null);
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    problem(&api.delete(&path).await, 404, "no-such-mailbox");
    assert_eq!(api.json("/v1/mailboxes").await["items"], json!([]));
    server.stop().await;
}

#[actix_web::test]
async fn an_address_with_a_slash_and_beyond_ascii_is_one_segment() {
    let server = TestServer::start().await;
    let api = server.api();
    for (address, path) in
        [("a/b@mailroom.test", "a%2Fb%40mailroom.test"), ("你@mailroom.test", "%E4%BD%A0@mailroom.test")]
    {
        let made = api.post("/v1/mailboxes", json!({"address": address})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        assert_eq!(made.json()["address"], address);
        assert_eq!(api.json(&format!("/v1/mailboxes/{path}")).await["address"], address);
        assert_eq!(api.json(made.header("location").unwrap()).await["address"], address);
    }
    problem(&api.get("/v1/mailboxes/%FF@x.test").await, 400, "bad-address");
    problem(&api.get("/v1/mailboxes/nonsense/messages").await, 400, "bad-address");
    server.stop().await;
}

#[actix_web::test]
async fn nonsense_is_answered_with_problems() {
    let server = TestServer::start().await;
    let api = server.api();
    problem(&api.get("/v1/nothing").await, 404, "no-such-path");
    problem(&api.get("/%2e%2e/Cargo.toml").await, 404, "no-such-path");
    let plain = api.get("/v1/ws").await;
    // The client takes such an answer for a tunnel and gives it no body.
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED);
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    let put = api.call(Method::PUT, "/v1/mailboxes", &[], None).await;
    problem(&put, 405, "method-not-allowed");
    assert_eq!(put.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
    problem(&api.post("/v1/mailboxes", json!({"adress": "a@b.test"})).await, 400, "bad-json");
    problem(&api.post("/v1/mailboxes", json!({"ttl": "soon"})).await, 400, "bad-json");
    problem(&api.post("/v1/mailboxes", json!({"ttl": "0s"})).await, 400, "bad-field");
    problem(&api.post("/v1/mailboxes", json!({"address": "a b@c"})).await, 400, "bad-address");
    let large = json!({"address": "x".repeat(100_000)});
    problem(&api.post("/v1/mailboxes", large).await, 413, "too-large");
    let form = [("content-type", "text/plain")];
    problem(&api.call(Method::POST, "/v1/mailboxes", &form, Some(json!({}))).await, 415, "unsupported-media-type");
    for (query, name) in [
        ("limit=0", "bad-parameter"),
        ("limit=501", "bad-parameter"),
        ("limit=x", "bad-parameter"),
        ("unread=maybe", "bad-parameter"),
        ("token=x", "bad-parameter"),
        ("foo=1", "bad-parameter"),
        ("since=xyz", "bad-cursor"),
        ("since=s0-1", "bad-cursor"),
        ("q=before:yesterday", "bad-query"),
    ] {
        problem(&api.get(&format!("/v1/mailboxes/a@b.test/messages?{query}")).await, 400, name);
    }
    server.deliver("a@b.test", &message("one", "text")).await;
    problem(&api.get("/v1/mailboxes/a@b.test/messages?page=%21").await, 400, "bad-page");
    problem(&api.get("/v1/mailboxes/a@b.test/messages/nonsense").await, 404, "no-such-message");
    problem(&api.get("/v1/mailboxes/a@b.test/messages/wait?timeout=6m").await, 400, "bad-parameter");
    server.stop().await;
}

#[actix_web::test]
async fn foreign_hosts_and_origins_are_turned_away() {
    let server = TestServer::with(|config| config.http.allowed_hosts = vec!["mail.example.com".into()]).await;
    let api = server.api();
    let foreign = get_with(&api, "/v1/mailboxes", &[("host", "evil.test:8080")]).await;
    problem(&foreign, 421, "foreign-host");
    let advice = "add \"evil.test\" to [http] allowed_hosts (MAILROOM__HTTP__ALLOWED_HOSTS)";
    assert_eq!(foreign.json()["detail"], advice);
    problem(&get_with(&api, "/", &[("host", "evil.test")]).await, 421, "foreign-host");
    problem(&get_with(&api, "/v1/mailboxes", &[("origin", "http://evil.test")]).await, 403, "foreign-origin");
    problem(&get_with(&api, "/v1/mailboxes", &[("origin", "null")]).await, 403, "foreign-origin");
    let own = format!("http://{}", api.address);
    assert_eq!(get_with(&api, "/v1/mailboxes", &[("origin", &own)]).await.status, StatusCode::OK);
    let known =
        get_with(&api, "/v1/mailboxes", &[("host", "mail.example.com"), ("origin", "https://mail.example.com")]).await;
    assert_eq!(known.status, StatusCode::OK);
    assert_eq!(known.header("access-control-allow-origin"), None);
    assert_eq!(known.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(known.header("x-content-type-options"), Some("nosniff"));
    server.stop().await;
}

#[actix_web::test]
async fn a_message_is_shown_in_full_and_nothing_of_it_runs() {
    let server = TestServer::start().await;
    let api = server.api();
    server.deliver("bob@example.com", HTML).await;
    let id = only(&api, "bob@example.com").await;
    let base = format!("/v1/mailboxes/bob@example.com/messages/{id}");
    let detail = api.json(&base).await;
    assert_eq!(detail["subject"], "Your code");
    assert_eq!(detail["envelope"]["recipients"], json!(["bob@example.com"]));
    assert_eq!(detail["codes"], json!(["482913"]));
    assert_eq!(detail["links"][0]["url"], "https://shop.test/verify?x=1");
    assert_eq!(detail["authentication_results"], json!(["mx.test; spf=pass"]));
    assert_eq!(detail["is_read"], false);
    let shown = detail["html"].as_str().unwrap();
    assert!(!shown.contains("script") && !shown.contains("onclick") && shown.contains("482913"), "{shown}");
    let picture = detail["attachments"][0]["url"].as_str().unwrap();
    assert!(shown.contains(picture), "{shown}");

    let page = api.get(&format!("{base}/html")).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"), "{policy}");
    assert!(policy.contains("sandbox") && !policy.contains("https:"), "{policy}");
    let remote = api.get(&format!("{base}/html?remote=1")).await;
    assert!(remote.header("content-security-policy").unwrap().contains("img-src 'self' data: https: http:"));

    // The page is shown in a sandboxed frame, whose pictures come with an origin that is nobody's.
    for method in [Method::GET, Method::HEAD] {
        let framed = api.call(method, picture, &[("origin", "null")], None).await;
        assert_eq!(framed.status, StatusCode::OK);
        assert_eq!(framed.header("access-control-allow-origin"), None);
    }
    problem(&get_with(&api, picture, &[("origin", "http://evil.test")]).await, 403, "foreign-origin");
    problem(&get_with(&api, picture, &[("origin", "null"), ("host", "evil.test")]).await, 421, "foreign-host");
    problem(&api.call(Method::DELETE, picture, &[("origin", "null")], None).await, 403, "foreign-origin");
    for path in [base.clone(), format!("{base}/raw"), format!("{base}/html"), "/v1/messages".to_owned()] {
        problem(&get_with(&api, &path, &[("origin", "null")]).await, 403, "foreign-origin");
    }

    let picture = api.get(picture).await;
    assert_eq!(picture.body, b"\x89PNG\r\n\x1a\n");
    assert_eq!(picture.header("content-type"), Some("image/png"));
    assert!(picture.header("content-disposition").unwrap().starts_with("inline; filename="));
    let evil = api.get(&format!("{base}/attachments/1")).await;
    assert_eq!(evil.header("content-type"), Some("application/octet-stream"));
    let disposition = evil.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment; filename=") && !disposition.contains('/'), "{disposition}");
    assert_eq!(evil.header("x-evil"), None);
    problem(&api.get(&format!("{base}/attachments/2")).await, 404, "no-such-part");
    problem(&api.get(&format!("{base}/attachments/x")).await, 404, "no-such-part");
    server.stop().await;
}

#[actix_web::test]
async fn the_source_is_sent_whole_in_pieces_or_not_again() {
    let server = TestServer::start().await;
    let api = server.api();
    server.deliver("bob@example.com", &message("one", "text")).await;
    let path = format!("/v1/mailboxes/bob@example.com/messages/{}/raw", only(&api, "bob@example.com").await);
    let whole = api.get(&path).await;
    assert_eq!(whole.header("content-type"), Some("message/rfc822"));
    assert!(whole.text().ends_with("\r\ntext\r\n"), "{}", whole.text());
    let etag = whole.header("etag").unwrap().to_owned();
    let piece = get_with(&api, &path, &[("range", "bytes=-6")]).await;
    assert_eq!((piece.status.as_u16(), piece.text().as_str()), (206, "text\r\n"));
    let length = whole.body.len();
    assert_eq!(piece.header("content-range").unwrap(), format!("bytes {}-{}/{length}", length - 6, length - 1));
    problem(&get_with(&api, &path, &[("range", "bytes=999999-")]).await, 416, "range-not-satisfiable");
    let known = get_with(&api, &path, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    let other = get_with(&api, &path, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!(other.status, StatusCode::OK);
    let head = api.call(Method::HEAD, &path, &[], None).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length").unwrap(), length.to_string());
    let saved = api.get(&format!("{path}?download=1")).await;
    assert_eq!(saved.header("content-disposition"), Some("attachment; filename=\"one.eml\""));
    server.stop().await;
}

#[actix_web::test]
async fn pages_and_filters_give_each_message_once() {
    let server = TestServer::start().await;
    let api = server.api();
    let empty = api.json("/v1/mailboxes/bob@example.com/messages").await;
    assert_eq!(empty["items"], json!([]));
    for n in 0..7 {
        server.deliver("bob@example.com", &message(&format!("number {n}"), "text")).await;
    }
    let mut seen = Vec::new();
    let mut page = String::new();
    loop {
        let list = api.json(&format!("/v1/mailboxes/bob@example.com/messages?limit=3{page}")).await;
        seen.extend(list["items"].as_array().unwrap().iter().map(|item| item["subject"].as_str().unwrap().to_owned()));
        match list["next_cursor"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => break,
        }
    }
    let expected: Vec<_> = (0..7).rev().map(|n| format!("number {n}")).collect();
    assert_eq!(seen, expected);

    let list = api.json("/v1/mailboxes/bob@example.com/messages").await;
    let item = &list["items"][3];
    let path = format!("/v1/mailboxes/bob@example.com/messages/{}", item["id"].as_str().unwrap());
    let changed = api.patch(&path, json!({"is_read": true, "tags": ["b", "a", "b"]})).await;
    assert_eq!(changed.json()["is_read"], true);
    assert_eq!(changed.json()["tags"], json!(["b", "a"]));
    let unread = api.json("/v1/mailboxes/bob@example.com/messages?unread=true").await;
    assert_eq!(unread["items"].as_array().unwrap().len(), 6);
    let found = api.json("/v1/mailboxes/bob@example.com/messages?q=subject:%22number%205%22").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let since =
        format!("/v1/mailboxes/bob@example.com/messages?since={}", list["items"][2]["cursor"].as_str().unwrap());
    assert_eq!(api.json(&since).await["items"].as_array().unwrap().len(), 2);
    assert_eq!(api.json("/v1/messages").await["items"].as_array().unwrap().len(), 7);

    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    problem(&api.delete(&path).await, 404, "no-such-message");
    problem(&api.get(&path).await, 404, "no-such-message");
    assert_eq!(api.delete("/v1/mailboxes/bob@example.com/messages").await.json()["deleted"], 6);
    assert_eq!(api.json("/v1/mailboxes/bob@example.com/messages").await["items"], json!([]));
    server.stop().await;
}

#[actix_web::test]
async fn wait_gives_the_next_matching_message_and_misses_none() {
    let server = TestServer::start().await;
    let api = server.api();
    let path = "/v1/mailboxes/bob@example.com/messages/wait";
    server.deliver("bob@example.com", &message("old", "text")).await;
    let none = api.get(&format!("{path}?timeout=100ms")).await;
    assert_eq!(none.status, StatusCode::NO_CONTENT, "what came before does not count");
    let cursor = api.json("/v1/mailboxes/bob@example.com/messages").await["cursor"].as_str().unwrap().to_owned();
    server.deliver("bob@example.com", &message("between", "text")).await;
    let found = api.json(&format!("{path}?since={cursor}")).await;
    assert_eq!(found["subject"], "between");

    let (waiting, all) = (format!("{path}?q=subject:code"), "/v1/messages/wait?q=482913");
    // Over and over: nobody sees when the calls begin to wait.
    let deliver = async {
        loop {
            server.deliver("bob@example.com", &message("noise", "text")).await;
            server.deliver("bob@example.com", HTML).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answers = async { tokio::join!(api.get(&waiting), api.get(all)) };
    let (found, anywhere) = tokio::select! {
        answers = answers => answers,
        () = deliver => unreachable!(),
    };
    for answer in [found, anywhere] {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.json()["subject"], "Your code");
        assert_eq!(answer.json()["codes"], json!(["482913"]));
    }
    server.stop().await;
}

#[actix_web::test]
async fn codes_are_found_in_lists_and_in_html_behind_a_placeholder() {
    let server = TestServer::start().await;
    let api = server.api();
    let placeholder = "Subject: Welcome\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n\
        Please view this in an HTML client.\r\n--b\r\nContent-Type: text/html\r\n\r\n\
        <p>Your verification code is <b>554321</b></p>\r\n--b--\r\n";
    server.deliver("bob@example.com", placeholder).await;
    server.deliver("bob@example.com", &message("Sign in", "Use 482-913 to log in.")).await;
    let list = api.json("/v1/mailboxes/bob@example.com/messages").await;
    let codes: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["codes"].clone()).collect();
    assert_eq!(codes, [json!(["482913"]), json!([])]);
    for (item, code) in list["items"].as_array().unwrap().iter().zip(["482913", "554321"]) {
        let path = format!("/v1/mailboxes/bob@example.com/messages/{}", item["id"].as_str().unwrap());
        assert_eq!(api.json(&path).await["codes"], json!([code]));
        let changed = api.patch(&path, json!({"is_read": true})).await;
        assert_eq!(changed.json()["codes"], item["codes"]);
    }
    server.stop().await;
}

#[actix_web::test]
async fn all_messages_go_with_one_call() {
    let server = TestServer::start().await;
    let api = server.api();
    assert_eq!(api.delete("/v1/messages").await.json(), json!({"deleted": 0}));
    api.post("/v1/mailboxes", json!({"address": "kept@example.com"})).await;
    for n in 0..7 {
        server.deliver(&format!("box{}@example.com", n % 3), &message("gone", "text")).await;
    }
    server.deliver("kept@example.com", &message("gone", "text")).await;
    let cursor = api.json("/v1/messages").await["cursor"].as_str().unwrap().to_owned();
    problem(&api.delete("/v1/messages?q=x").await, 400, "bad-parameter");
    let deleted = api.delete("/v1/messages").await;
    assert_eq!((deleted.status, deleted.json()), (StatusCode::OK, json!({"deleted": 8})));
    assert_eq!(api.json("/v1/messages").await["items"], json!([]));
    assert_eq!(api.json("/v1/mailboxes/kept@example.com").await["messages"], 0);
    server.deliver("box1@example.com", &message("later", "text")).await;
    let later = api.json(&format!("/v1/messages?since={cursor}")).await;
    assert_eq!(later["items"].as_array().unwrap().len(), 1, "{later}");
    server.stop().await;
}

#[actix_web::test]
async fn a_stop_ends_waiting_calls_at_once() {
    let server = TestServer::start().await;
    let api = server.api();
    let began = Instant::now();
    let wait = api.get("/v1/messages/wait?timeout=5m");
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.stop().await
    };
    let (answer, _dir) = tokio::join!(wait, stop);
    problem(&answer, 503, "unavailable");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[actix_web::test]
async fn a_token_opens_its_mailbox_and_a_wrong_one_looks_like_none() {
    let server = TestServer::with(|config| config.mailboxes.access = AccessMode::Token).await;
    let stranger = server.api();
    let made = |address: &'static str| {
        let api = server.api();
        async move { api.post("/v1/mailboxes", json!({"address": address})).await.json() }
    };
    let (own, other) = (made("own@mailroom.test").await, made("other@mailroom.test").await);
    let (token, other_token) = (own["token"].as_str().unwrap(), other["token"].as_str().unwrap());
    server.deliver("own@mailroom.test", HTML).await;
    server.deliver("other@mailroom.test", &message("secret", "text")).await;

    let needed = stranger.get("/v1/mailboxes/own@mailroom.test/messages").await;
    problem(&needed, 401, "token-needed");
    assert!(needed.header("www-authenticate").unwrap().starts_with("Bearer"));
    let advice = "make a mailbox with POST /v1/mailboxes and send its token as Authorization: Bearer";
    assert_eq!(needed.json()["detail"], advice);
    let api = stranger.with_token(token);
    let wrong = stranger.with_token("mrt_wrong").get("/v1/mailboxes/own@mailroom.test").await;
    let foreign = api.get("/v1/mailboxes/other@mailroom.test").await;
    let unknown = api.get("/v1/mailboxes/nobody@mailroom.test").await;
    for answer in [&wrong, &foreign, &unknown] {
        problem(answer, 404, "no-such-mailbox");
    }
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(foreign.body, unknown.body);
    assert_eq!(api.json("/v1/messages").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.json("/v1/mailboxes").await["items"].as_array().unwrap().len(), 1);
    let id = only(&api, "own@mailroom.test").await;
    let base = format!("/v1/mailboxes/own@mailroom.test/messages/{id}");
    let page = stranger.get(&format!("{base}/html?token={token}")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("/attachments/0?key="), "{}", page.text());
    assert_eq!(stranger.get(&format!("{base}/raw?token={token}")).await.status, StatusCode::OK);
    problem(&stranger.get(&format!("{base}/raw?token={other_token}")).await, 404, "no-such-mailbox");
    problem(&stranger.get(&format!("{base}?token={token}")).await, 401, "token-needed");
    let framed = get_with(&stranger, &format!("{base}/attachments/0?token={token}"), &[("origin", "null")]).await;
    assert_eq!(framed.status, StatusCode::OK);
    problem(&get_with(&stranger, &format!("{base}/attachments/0"), &[("origin", "null")]).await, 401, "token-needed");

    problem(&stranger.delete("/v1/messages").await, 401, "token-needed");
    problem(&stranger.with_token("mrt_wrong").delete("/v1/messages").await, 404, "no-such-mailbox");
    assert_eq!(api.delete("/v1/messages").await.json(), json!({"deleted": 1}));
    let others = stranger.with_token(other_token).json("/v1/messages").await;
    assert_eq!(others["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[actix_web::test]
async fn the_page_the_docs_and_the_document_are_served_under_their_policies() {
    let server = TestServer::start().await;
    let api = server.api();
    let page = api.get("/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let etag = page.header("etag").unwrap().to_owned();
    assert_eq!(get_with(&api, "/", &[("if-none-match", &etag)]).await.status, StatusCode::NOT_MODIFIED);
    let document = api.json("/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert!(document["paths"]["/v1/ws"].is_object());
    let docs = api.get("/docs").await;
    assert!(!docs.text().contains("http"), "nothing from elsewhere");
    for script in docs.text().split("src=\"").skip(1) {
        let path = script.split('"').next().unwrap();
        assert_eq!(api.get(path).await.status, StatusCode::OK, "{path}");
    }
    let server_view = api.json("/v1/server").await;
    assert_eq!(server_view["access"], "open");
    assert_eq!(server_view["smtp"], json!([{"host": "127.0.0.1", "port": server.smtp_address().port()}]));
    let domains = api.json("/v1/domains").await;
    assert_eq!(domains["items"][0], json!({"domain": "mailroom.test", "is_default": true}));
    server.stop().await;
}

#[actix::test]
async fn users_are_told_the_public_address_where_there_is_one() {
    let server = TestServer::with(|config| config.smtp.public_address = "mail.example.com:25".into()).await;
    let view = server.api().json("/v1/server").await;
    assert_eq!(view["smtp"], json!([{"host": "mail.example.com", "port": 25}]));
    server.stop().await;
}
