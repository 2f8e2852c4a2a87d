//! The way through, and a broker that does not take what it is given.

use std::time::Duration;

use mailroom::app::{App, Extras};
use mailroom::mail::units::{Bytes, Count, Limit, Period};
use mailroom::store::Fault;
use rustix::process::Signal;

use super::*;

#[actix::test]
async fn mail_goes_through_the_broker_in_order() {
    let url = shared().fresh();
    let server = server(&url, |_| {}).await;
    let mut sent = Vec::new();
    for n in 0..30 {
        let subject = format!("number {n}");
        assert!(send(server.smtp_address(), &["a@example.com", "b@example.com"], &subject).await.starts_with("250 "));
        sent.push(subject);
    }
    has(&server.api(), "a@example.com", &sent).await;
    has(&server.api(), "b@example.com", &sent).await;
    let large = message("large", &"0123456789abcdefghijklmnopqrstuvwxyz".repeat(20_000));
    let noise: String =
        (0..500_000u32).map(|n| char::from(b'!' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 90)).collect();
    server.deliver("c@example.com", &large).await;
    server
        .deliver(
            "c@example.com",
            &message(
                "noise",
                &noise
                    .as_bytes()
                    .chunks(900)
                    .map(|line| String::from_utf8_lossy(line).replace('.', "-"))
                    .collect::<Vec<_>>()
                    .join("\r\n"),
            ),
        )
        .await;
    until("large messages are there", async || all_subjects(&server.api(), "c@example.com").await.len() == 2).await;
    let queues = Queues::of(&url).await;
    until("nothing is left", async || queues.waiting().await == 0).await;
    assert_eq!(queues.dead().await, 0);
    server.stop().await;
}

/// RCPT looks at what is stored; what waits then is not known.
#[actix::test]
async fn what_was_confirmed_is_stored_even_over_quota_and_the_next_is_refused() {
    let server = server(&shared().fresh(), |config| {
        config.mailboxes.max_messages = Limit::of(Count(2));
        config.mailboxes.max_bytes = Limit::of(Bytes::kib(100));
    })
    .await;
    let mut ready = Vec::new();
    for _ in 0..6 {
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<a@example.com>"] {
            assert!(smtp.command(command).await.starts_with("250 "));
        }
        ready.push(smtp);
    }
    server.faults.arm(Fault::Away);
    for smtp in &mut ready {
        assert!(smtp.command("DATA").await.starts_with("354 "));
        assert!(smtp.data(message("together", "text").as_bytes()).await.starts_with("250 "));
    }
    server.faults.disarm(Fault::Away);
    has(&server.api(), "a@example.com", &["together"; 6].map(str::to_owned)).await;
    // One is full, as RCPT knows; the other is empty and too small, as is known at the dot.
    for to in ["a@example.com", "b@example.com"] {
        let large = message("large", &"0123456789\r\n".repeat(15_000));
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        let reply = smtp.send("ann@sender.test", &[to], large.as_bytes()).await;
        assert!(reply.starts_with("452 4.2.2"), "{to}: {reply}");
    }
    server.stop().await;
}

/// A rollout with a wrong password stops at its first node.
#[actix::test]
async fn a_node_that_the_broker_does_not_let_in_is_not_ready() {
    let rabbit = shared();
    let url = rabbit.fresh();
    let vhost = url.rsplit('/').next().unwrap().to_owned();
    rabbit.control(["add_user", &vhost, "right"]);
    let wrong = url.replace("guest:guest", &format!("{vhost}:wrong"));
    let server = TestServer::with(|config| config.broker.url = wrong).await;
    let ops = Api::new(server.app.ops);
    let refused = async |reason: &str| {
        let answer = ops.get("/health/ready").await;
        answer.status == 503 && answer.text().contains(reason)
    };
    until("the password is wrong", async || refused("does not let this node in").await).await;
    assert!(send(server.smtp_address(), &["a@example.com"], "no").await.starts_with("451 "));
    rabbit.control(["change_password", &vhost, "wrong"]);
    until("it may not use the vhost", async || refused("access to vhost").await).await;
    rabbit.control(["set_permissions", "-p", &vhost, &vhost, "", "", ""]);
    until("it may make no queues", async || refused("queue 'mailroom").await).await;
    rabbit.control(["set_permissions", "-p", &vhost, &vhost, ".*", ".*", ".*"]);
    until("it is let in", async || ops.get("/health/ready").await.status == 200).await;
    assert!(send(server.smtp_address(), &["a@example.com"], "yes").await.starts_with("250 "));
    // From now on it is away when it refuses: nodes that were well are read meanwhile.
    rabbit.control(["clear_permissions", "-p", &vhost, &vhost]);
    rabbit.control(["close_all_connections", "-p", &vhost, "the test"]);
    until("it is away", async || status(&server).trouble.is_some()).await;
    assert_eq!(ops.get("/health/ready").await.status, 200);
    server.stop().await;
}

#[actix::test]
async fn without_a_broker_mail_is_refused_until_it_is_back() {
    let mut rabbit = RabbitMq::start();
    let url = rabbit.url("%2f");
    // As long as a busy machine may need for a message that is not held up.
    let server = server(&url, |config| config.broker.confirm_timeout = Period::secs(3)).await;
    until("mail is taken", async || {
        send(server.smtp_address(), &["a@example.com"], "before").await.starts_with("250 ")
    })
    .await;
    until("it is stored", async || !all_subjects(&server.api(), "a@example.com").await.is_empty()).await;

    // It has the message, perhaps, and does not say so.
    rabbit.pause();
    let reply = send(server.smtp_address(), &["paused@example.com"], "paused").await;
    assert!(reply.starts_with("451 "), "{reply}");
    rabbit.resume();
    until("mail is taken again", async || {
        send(server.smtp_address(), &["b@example.com"], "resumed").await.starts_with("250 ")
    })
    .await;
    assert!(all_subjects(&server.api(), "paused@example.com").await.len() <= 1);

    rabbit.kill();
    let reply = send(server.smtp_address(), &["a@example.com"], "killed").await;
    assert!(reply.starts_with("451 "), "{reply}");
    until("it is known", async || status(&server).trouble.is_some()).await;
    rabbit.launch();
    rabbit.ready().await;
    until("mail is taken again", async || {
        send(server.smtp_address(), &["c@example.com"], "after").await.starts_with("250 ")
    })
    .await;
    until("it is stored", async || !all_subjects(&server.api(), "c@example.com").await.is_empty()).await;
    // What was refused while it was killed never came to it.
    assert!(!all_subjects(&server.api(), "a@example.com").await.contains(&"killed".to_owned()));
    server.stop().await;
}

#[actix::test]
async fn a_broker_that_is_short_of_memory_takes_nothing() {
    let mut rabbit = RabbitMq::start();
    let url = rabbit.url("%2f");
    let server = server(&url, |_| {}).await;
    rabbit.control(["set_vm_memory_high_watermark", "absolute", "1MB"]);
    // The first message after an alarm tells the broker that this connection sends.
    until("mail is refused", async || {
        send(server.smtp_address(), &["a@example.com"], "short").await.starts_with("451 ")
            && status(&server).trouble.is_some_and(|trouble| trouble.contains("memory"))
    })
    .await;
    let doctor = doctor(&url).await;
    assert!(doctor.contains("FAIL  broker") && doctor.contains("takes no messages"), "{doctor}");
    rabbit.control(["set_vm_memory_high_watermark", "0.8"]);
    until("mail is taken again", async || {
        send(server.smtp_address(), &["b@example.com"], "enough").await.starts_with("250 ")
    })
    .await;
    has(&server.api(), "b@example.com", &["enough".into()]).await;
    server.stop().await;
    rabbit.signal(Signal::CONT);
    rabbit.stop();
}

#[actix::test]
async fn the_number_of_queues_is_fixed_by_the_first() {
    let url = shared().fresh();
    let first = server(&url, |config| config.broker.queues = 4).await;
    let mut config = first.config.clone();
    config.runtime.data = first.data.path().join("other");
    config.broker.queues = 8;
    let recorder = mailroom::telemetry::Recorder::detached().unwrap();
    let extras = Extras { recorder: Some(recorder), ..Extras::default() };
    let refused = App::start(config, extras).await.err().expect("it does not start");
    assert!(
        format!("{refused:#}").contains("queues = 8, but the queues of \"mailroom\" were made for 4"),
        "{refused:#}"
    );
    first.stop().await;
    let doctor = doctor(&url).await;
    assert!(doctor.contains("FAIL  broker") && doctor.contains("were made for 4"), "{doctor}");
}

/// What a queue is was said when it was made: an upgrade finds it with mail in it.
#[actix::test]
async fn queues_with_another_limit_of_an_earlier_version_serve_as_they_are() {
    let url = shared().fresh();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    for (queue, mut arguments) in Names::new(&BrokerConfig::default()).declarations() {
        if arguments.contains_key("x-delivery-limit") {
            arguments.insert("x-delivery-limit".into(), 20.into());
        }
        assert_eq!(topology::declare_one(&connection, &queue, arguments).await.unwrap(), None);
    }
    let server = server(&url, |_| {}).await;
    let sent: Vec<String> = (0..5).map(|n| format!("number {n}")).collect();
    for subject in &sent {
        assert!(send(server.smtp_address(), &["a@example.com"], subject).await.starts_with("250 "));
    }
    has(&server.api(), "a@example.com", &sent).await;
    let found = doctor(&url).await;
    assert!(found.contains("warn  broker") && found.contains("comes back 20 times"), "{found}");
    server.stop().await;
    // Everything else must be as it should, also where the limit differs, too.
    let names = Names::new(&BrokerConfig { prefix: "other".into(), ..BrokerConfig::default() });
    for (queue, arguments) in names.declarations() {
        for (argument, value) in [("x-dead-letter-routing-key", Some("elsewhere")), ("x-single-active-consumer", None)]
        {
            let mut differs = arguments.clone();
            if !differs.contains_key(argument) {
                continue;
            }
            differs.insert("x-delivery-limit".into(), 20.into());
            let value = value.map_or(lapin::types::AMQPValue::Boolean(false), |text| {
                lapin::types::AMQPValue::LongString(text.into())
            });
            differs.insert(argument.into(), value);
            let queue = format!("{queue}.{argument}");
            assert_eq!(topology::declare_one(&connection, &queue, differs).await.unwrap(), None);
            let refused = topology::declare_one(&connection, &queue, arguments.clone()).await.unwrap_err();
            assert!(refused.to_string().contains(argument), "{refused}");
        }
    }
    connection.close(200, "done".into()).await.unwrap();
}

#[actix::test]
async fn doctor_looks_at_the_broker_and_makes_nothing() {
    let url = shared().fresh();
    let before = doctor(&url).await;
    assert!(before.contains("ok    broker") && before.contains("serve makes 19 queues"), "{before}");
    let vhost = url.rsplit_once('/').unwrap().1;
    assert_eq!(shared().control(["list_queues", "-p", vhost, "name", "--no-table-headers"]), "");
    server(&url, |_| {}).await.stop().await;
    let after = doctor(&url).await;
    assert!(after.contains("ok    broker") && after.contains("takes messages; 0 wait"), "{after}");
    let away = doctor("amqp://guest:secret@127.0.0.1:1/x").await;
    assert!(away.contains("FAIL  broker") && !away.contains("secret"), "{away}");
}

/// Every right of its own is tried: queues are made, published to, taken from and looked at.
#[actix::test]
async fn the_rights_that_the_documentation_gives_are_enough() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deployment.md")).unwrap();
    let line = text.lines().find(|line| line.contains("rabbitmqctl set_permissions -p / mailroom ")).unwrap();
    let rights: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
    let [configure, write, read] = rights[..] else { panic!("{line}") };
    let url = shared().fresh();
    let vhost = url.rsplit_once('/').unwrap().1.to_owned();
    shared().control(["add_user", "narrow", "secret"]);
    shared().control(["set_permissions", "-p", &vhost, "narrow", configure, write, read]);
    let url = url.replace("guest:guest@", "narrow:secret@");
    let server = server(&url, |_| {}).await;
    assert!(send(server.smtp_address(), &["a@example.com"], "through").await.starts_with("250 "));
    has(&server.api(), "a@example.com", &["through".into()]).await;
    let report = doctor(&url).await;
    assert!(report.contains("ok    broker"), "{report}");
    let listed = super::dead::dead(&url, &["list"]).await;
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    server.stop().await;
    // Without them nothing works, so that the test would notice one that is missing.
    shared().control(["set_permissions", "-p", &vhost, "narrow", configure, "^nothing$", read]);
    let report = doctor(&url).await;
    assert!(report.contains("FAIL  broker"), "{report}");
}

pub async fn doctor(url: &str) -> String {
    let mut command = super::dead::program(url);
    let data = tempfile::tempdir().unwrap();
    command.args(["doctor", "--data"]).arg(data.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[actix::test]
async fn a_stop_finishes_what_was_taken() {
    let url = shared().fresh();
    let server = server(&url, |_| {}).await;
    let senders = Senders::start(4, &[server.smtp_address()]);
    senders.more(50).await;
    let log = senders.stop().await;
    let began = std::time::Instant::now();
    let data = server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let server = TestServer::on(data, |config| config.broker.url = url.clone()).await;
    log.is_stored(&server.api()).await;
    server.stop().await;
}
