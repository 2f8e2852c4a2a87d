//! Messages that are larger than what the broker takes.

use std::process::Output;

use mailroom::app::{App, Extras};
use mailroom::mail::units::Bytes;

use super::away::metric;
use super::*;

/// A broker of its own that takes `bytes` at most on channels opened from now on.
fn limit(rabbit: &RabbitMq, bytes: usize) {
    rabbit.control(["eval", &format!("application:set_env(rabbit, max_message_size, {bytes}).")]);
}

#[actix::test]
async fn a_message_that_is_too_large_for_the_broker_is_refused_alone_and_for_good() {
    let mut rabbit = RabbitMq::start();
    let server = server(&rabbit.url("%2f"), |_| {}).await;
    // The broker comes back with another limit than the one that was looked at.
    limit(&rabbit, 300_000);
    rabbit.control(["close_all_connections", "--global", "maintenance"]);
    until("it is noticed, and over", async || {
        send(server.smtp_address(), &["first@example.com"], "first").await.starts_with("250 ")
    })
    .await;
    let large = message("large", &noise(500_000));
    let senders = Senders::start(6, &[server.smtp_address()]);
    senders.more(50).await;
    for round in 0..5 {
        let mut smtp = SmtpClient::connect(server.smtp_address()).await;
        smtp.hello().await;
        let reply = smtp.send("ann@sender.test", &["big@example.com"], large.as_bytes()).await;
        assert!(reply.starts_with("552 5.3.4 "), "{round}: {reply}");
        smtp.quit().await;
        senders.more(20).await;
    }
    let log = senders.stop().await;
    assert_eq!(log.refused.get(), 0, "nobody else heard of it");
    log.is_stored(&server.api()).await;
    assert_eq!(metric(server.app.ops, "broker_refused_total{reason=\"too_large\"}").await, 5);
    assert!(all_subjects(&server.api(), "big@example.com").await.is_empty());
    server.stop().await;
    rabbit.stop();
}

#[actix::test]
async fn a_broker_that_takes_less_than_may_come_is_found_at_the_start() {
    let mut rabbit = RabbitMq::start();
    let url = rabbit.url("%2f");
    limit(&rabbit, 4 << 20);
    let doctor = super::through::doctor(&url).await;
    assert!(doctor.contains("FAIL  broker") && doctor.contains("larger than configured max size 4194304"), "{doctor}");
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.runtime.data = data.path().to_owned();
    config.broker.url = url.clone();
    config.smtp.listen = vec!["smtp://127.0.0.1:0".into()];
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.ops.listen = "127.0.0.1:0".parse().unwrap();
    let start = async |config: Config| {
        let recorder = mailroom::telemetry::Recorder::detached().unwrap();
        App::start(config, Extras { recorder: Some(recorder), ..Extras::default() }).await
    };
    let refused = start(config.clone()).await.err().expect("it does not start");
    assert!(format!("{refused:#}").contains("[broker] max_message_size = 16MiB"), "{refused:#}");
    let data = tempfile::tempdir().unwrap();
    config.runtime.data = data.path().to_owned();
    config.broker.max_message_size = Bytes::mib(4);
    config.smtp.max_message_size = Bytes::mib(1);
    start(config).await.unwrap().stop().await;
    rabbit.stop();

    // Without a broker to ask: the settings alone do not go together.
    let output = check(&url).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("broker.max_message_size"), "{said}");
}

async fn check(url: &str) -> Output {
    let mut command = super::dead::program(url);
    command.env("MAILROOM__SMTP__MAX_MESSAGE_SIZE", "20MiB").args(["config", "check"]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}
