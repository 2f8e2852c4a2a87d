//! What is wrong around a node is told in words that say what to mend: by `doctor`, by `/health`, by a start that fails.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::free_addresses;
use crate::support::servers::database::{postgres, rabbitmq};
use crate::support::servers::{Engine, Redis};
use crate::support::{Api, PATIENCE, TestServer, until};
use crate::tls::{assert_says, doctor};

#[actix::test]
async fn a_replica_that_is_none_is_told_from_one_that_is_away() {
    let directories = [(), (), ()].map(|()| tempfile::tempdir().unwrap());
    let [url, other, empty] = directories.each_ref().map(|directory| Engine::Postgres.database(directory.path()).url);
    let on = async |url: &str, replicas: &[&str]| {
        TestServer::with(|config| {
            config.database.url = url.to_owned();
            config.database.replicas = replicas.iter().map(|url| (*url).to_owned()).collect();
        })
        .await
    };
    on(&other, &[]).await.stop().await;
    let [dead] = free_addresses();
    let away = format!("postgres://mail:s3cret@{dead}/mail");
    let server = on(&url, &[&url, &away, &empty]).await;
    until("both are told of", async || {
        let health = Api::new(server.app.ops).json("/health").await;
        let replicas = &health["parts"]["replicas"];
        let trouble = replicas["trouble"].as_str().unwrap_or_default();
        assert!(!trouble.contains("s3cret"), "{trouble}");
        (replicas["up"].as_u64(), replicas["of"].as_u64()) == (Some(1), Some(3))
            && health["status"] == "degraded"
            && trouble.contains("Connection refused")
            && trouble.contains("no tables of ours")
    })
    .await;
    let said = |replica: &str| {
        let replicas = format!("[{replica:?}]");
        let found = doctor("db replica", &[("DATABASE__URL", &url), ("DATABASE__REPLICAS", &replicas)]);
        assert!(!found.contains("s3cret"), "{found}");
        found
    };
    assert!(said(&url).contains("it has everything"), "{}", said(&url));
    assert_says(&said(&away), "Connection refused", "[database] replicas");
    assert_says(&said(&empty), "no tables of ours", "name a replica");
    let foreign = said(&other);
    assert!(foreign.starts_with("FAIL"), "{foreign}");
    assert_says(&foreign, "another store", "take it out of");
    server.stop().await;
}

#[test]
fn a_database_that_does_not_let_us_in_is_told_with_the_cause() {
    let [dead] = free_addresses();
    for url in [format!("postgres://mail:s3cret@{dead}/mail"), format!("mysql://mail:s3cret@{dead}/mail")] {
        let began = Instant::now();
        let found = doctor("database", &[("DATABASE__URL", &url)]);
        assert_says(&found, "Connection refused", "see that it runs");
        assert!(!found.contains("timed out") && !found.contains("s3cret"), "{found}");
        // A server that is not there says so at once.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
    let nowhere = postgres().url("there_is_no_such");
    let found = doctor("database", &[("DATABASE__URL", &nowhere)]);
    assert!(found.contains("\"there_is_no_such\" does not exist") && !found.contains("at line"), "{found}");
    let refused = serve(&[("DATABASE__URL", &format!("postgres://mail@{dead}/mail"))]);
    assert!(complaint(&refused).contains("Connection refused"), "{}", complaint(&refused));
    assert_eq!(refused.status.code(), Some(69));
}

/// Runs a server that does not start; one that does is killed.
fn serve(settings: &[(&str, &str)]) -> Output {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.args(["serve", "--smtp", "0", "--http", "0", "--ops", "0", "--data"]).arg(data.path());
    command.env("MAILROOM__DATABASE__MIN_FREE", "1B");
    command.envs(settings.iter().map(|(name, value)| (format!("MAILROOM__{name}"), *value)));
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while server.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            server.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    server.wait_with_output().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[actix::test]
async fn a_start_that_the_broker_ends_is_one_line_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, database) = (rabbitmq().fresh(), Engine::Postgres.database(dir.path()).url);
    let server = TestServer::with(|config| {
        config.broker.url.clone_from(&broker);
        config.broker.queues = 2;
    })
    .await;
    until("its queues are there", async || server.app.broker.as_ref().unwrap().status().trouble.is_none()).await;
    server.stop().await;
    let settings = [("BROKER__URL", &*broker), ("BROKER__QUEUES", "3"), ("DATABASE__URL", &*database)];
    let settings = settings.map(|(name, value)| (name, value.to_owned()));
    let refused =
        tokio::task::spawn_blocking(move || serve(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))));
    let refused = refused.await.unwrap();
    let said = complaint(&refused);
    assert!(!refused.status.success() && said.contains("mailroom: [broker]"), "{said}");
    assert!(!said.contains("panic") && !said.contains("lapin"), "{said}");
}

#[test]
fn a_broker_that_lets_nobody_in_is_told_with_what_to_do() {
    let rabbit = rabbitmq();
    let user = format!("lonely{}", std::process::id());
    rabbit.control(["add_user", &user, "s3cret"]);
    let place = rabbit.url("%2f");
    let place = place.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
    let said = |login: &str| doctor("broker", &[("BROKER__URL", &format!("amqp://{login}@{place}"))]);
    let forbidden = said(&format!("{user}:s3cret"));
    rabbit.control(["delete_user", &user]);
    assert_says(&forbidden, &format!("amqp://{place} cannot be used"), &format!("set_permissions -p / {user} '.*'"));
    assert!(!forbidden.contains("s3cret"), "{forbidden}");
    assert_says(&said("nobody:s3cret"), "Login was refused", "see user and password");
}

#[test]
fn a_redis_that_lets_nobody_in_is_told_with_what_to_do() {
    let redis = Redis::start();
    redis.command(["CONFIG", "SET", "requirepass", "s3cret"]);
    let said = |login: &str| doctor("redis", &[("REDIS__URL", &format!("redis://{login}{}", redis.address))]);
    assert_says(&said(""), "NOAUTH", "it wants a password");
    assert_says(&said(":wrong@"), "does not answer", "user and password in [redis] url");
    assert!(said(":s3cret@").starts_with("ok"), "{}", said(":s3cret@"));
    let [dead] = free_addresses();
    assert_says(&doctor("redis", &[("REDIS__URL", &format!("redis://{dead}"))]), "does not answer", "see that it runs");
    let file = doctor("redis", &[("REDIS__URL", "rediss://127.0.0.1:1"), ("REDIS__CA_FILE", "/nowhere/ca.pem")]);
    assert_says(&file, "ca_file /nowhere/ca.pem: No such file", "mend that setting");
}
