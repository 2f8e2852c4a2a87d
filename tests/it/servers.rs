//! The servers that other tests rely on: they serve, survive a kill with their data, and end with the test process.

use std::time::{Duration, Instant};

use crate::support::servers::{MariaDb, Nginx, Postgres, RabbitMq, Redis, RedisCluster, Running};

/// Whether something accepts connections at the server's address.
fn answers(running: &Running) -> bool {
    std::net::TcpStream::connect_timeout(&running.address, Duration::from_secs(1)).is_ok()
}

#[tokio::test]
async fn a_killed_postgres_has_what_was_committed() {
    let mut postgres = Postgres::start();
    postgres.sql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
    postgres.kill();
    assert!(!answers(&postgres));
    postgres.launch();
    postgres.ready().await;
    assert_eq!(postgres.sql("postgres", "SELECT n FROM t"), "7");
    postgres.stop();
    postgres.launch();
    postgres.wait();
    assert_eq!(postgres.sql("postgres", "SHOW fsync"), "on");
}

#[tokio::test]
async fn a_killed_mariadb_has_what_was_committed() {
    let mut mariadb = MariaDb::start();
    mariadb
        .sql("", "CREATE DATABASE d; CREATE TABLE d.t (n int PRIMARY KEY) ENGINE=InnoDB; INSERT INTO d.t VALUES (7)");
    mariadb.restart().await;
    assert_eq!(mariadb.sql("d", "SELECT n FROM t"), "7");
    mariadb.stop();
    assert!(!answers(&mariadb));
    mariadb.launch();
    mariadb.wait();
    assert_eq!(mariadb.sql("d", "SELECT @@innodb_flush_log_at_trx_commit"), "1");
}

#[tokio::test]
async fn a_paused_server_takes_what_waits_when_it_goes_on() {
    let postgres = Postgres::start();
    postgres.pause();
    let url = postgres.url("postgres");
    let asked = tokio::spawn(async move {
        let db = sea_orm::Database::connect(url).await.unwrap();
        db.close().await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asked.is_finished());
    postgres.resume();
    asked.await.unwrap();
}

#[tokio::test]
async fn redis_alone_and_as_a_cluster() {
    let mut redis = Redis::start();
    assert_eq!(redis.command(["SET", "a", "1"]), "OK");
    redis.restart().await;
    assert_eq!(redis.command(["EXISTS", "a"]), "0");
    let cluster = RedisCluster::start();
    let moved = (0..50).filter(|n| {
        let key = format!("key{n}");
        // The slot of each key is somebody's.
        cluster.nodes.iter().filter(|node| node.try_command(["SET", &key, "1"]).is_ok()).count() == 1
    });
    assert_eq!(moved.count(), 50);
    assert_eq!(cluster.urls().len(), 3);
}

#[tokio::test]
async fn a_killed_rabbitmq_has_its_vhosts() {
    let mut rabbit = RabbitMq::start();
    let url = rabbit.fresh();
    let name = url.rsplit('/').next().unwrap().to_owned();
    rabbit.restart().await;
    assert!(rabbit.control(["list_vhosts"]).lines().any(|line| line == name));
}

#[actix_web::test]
async fn nginx_serves_what_the_test_writes() {
    let [address] = crate::support::process::free_addresses();
    let configuration = |at: &str| {
        format!(
            "events {{}} http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; \
             fastcgi_temp_path {at}/fast; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi; \
             server {{ listen {address}; return 200 hello; }} }}"
        )
    };
    let mut nginx = Nginx::start(address, configuration);
    let mut answer = awc::Client::default().get(format!("http://{address}/")).send().await.unwrap();
    assert_eq!(answer.body().await.unwrap(), "hello");
    nginx.reload();
    nginx.stop();
    assert!(!answers(&nginx));
}

/// Runs as a process of its own by [`a_server_ends_with_a_killed_test_process`].
#[tokio::test]
async fn a_child_that_starts_a_server_and_waits() {
    let Some(report) = std::env::var_os("MAILROOM_TEST_REPORT") else { return };
    let redis = Redis::start();
    std::fs::write(&report, format!("{} {}", redis.address, redis.directory.display())).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_server_ends_with_a_killed_test_process() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::a_child_that_starts_a_server_and_waits"])
        .env("MAILROOM_TEST_REPORT", &report)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let said = loop {
        let said = std::fs::read_to_string(&report).unwrap_or_default();
        if !said.is_empty() {
            break said;
        }
        assert!(Instant::now() < end, "the child does not start its server");
        std::thread::sleep(Duration::from_millis(10));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let (address, place) = said.split_once(' ').unwrap();
    let address = address.parse().unwrap();
    let lives = || {
        std::path::Path::new(place).exists()
            || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    };
    while lives() {
        assert!(Instant::now() < end, "the server goes on, or its directory is there");
        std::thread::sleep(Duration::from_millis(10));
    }
}
