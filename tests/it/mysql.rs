//! What is MySQL's and MariaDB's own: names of locks, rights, passwords, connections that rest. On MariaDB, or on the MySQL that
//! `MAILROOM_TEST_MYSQLD` names.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mailroom::mail::query::Query;

use crate::search::indexed;
use crate::store_suite::support::{Engine, Fixture, key, mail};
use crate::support::servers::database::mariadb;
use crate::support::servers::{MariaDb, mysqld};
use crate::support::until;

async fn mailroom(words: &[&str], url: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.args(words).arg("--data").arg(directory.path()).arg("--database").arg(url);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `url` for another user.
fn by(url: &str, user: &str, password: &str) -> String {
    let (_, place) = url.rsplit_once('@').unwrap();
    format!("mysql://{user}:{password}@{place}")
}

#[test]
fn the_server_that_was_named_is_the_one_that_runs() {
    let settings = mariadb().sql("", "SELECT @@version, @@log_bin, @@sql_mode");
    assert_eq!(settings.contains("MariaDB"), mysqld().is_none(), "{settings}");
    if mysqld().is_some() {
        let settings = mariadb().sql(
            "",
            "SELECT @@log_bin, @@gtid_mode, @@sql_require_primary_key, @@collation_server, @@max_allowed_packet; \
             SELECT plugin FROM mysql.user WHERE user = 'mailroom'",
        );
        assert_eq!(settings, "1\tON\t1\tutf8mb4_0900_ai_ci\t67108864\ncaching_sha2_password");
    }
}

/// Names of locks are one set for all databases of the server, and have 64 letters at most.
#[tokio::test]
async fn databases_of_one_server_do_not_wait_for_each_other() {
    let own = MariaDb::start();
    let long = "d".repeat(64);
    let names = ["d1", &long];
    for name in names {
        own.sql("", &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
    }
    let lock = |name: &str| format!("CONCAT('mailroom-open-', LEFT(SHA2('{name}', 256), 40))");
    let free = |name: &str| own.sql("", &format!("SELECT IS_FREE_LOCK({})", lock(name)));
    let db = sea_orm::Database::connect(sea_orm::ConnectOptions::new(own.url("d1")).max_connections(1).to_owned());
    let db = db.await.unwrap();
    let hold = |text: String| {
        let db = db.clone();
        async move { sea_orm::ConnectionTrait::execute_unprepared(&db, &text).await.unwrap() }
    };
    hold(format!("SELECT GET_LOCK({}, 0)", lock("d1"))).await;
    assert_eq!((free("d1").as_str(), free(&long).as_str()), ("0", "1"));

    let first = {
        let url = own.url("d1");
        tokio::spawn(async move { mailroom(&["migrate"], &url).await })
    };
    let began = Instant::now();
    let other = mailroom(&["migrate"], &own.url(&long)).await;
    assert!(other.status.success() && began.elapsed() < Duration::from_secs(30), "{}", said(&other));
    assert!(!first.is_finished(), "it did not wait for who was at its database");
    assert_eq!(own.sql("d1", "SHOW TABLES"), "");
    hold(format!("SELECT RELEASE_LOCK({})", lock("d1"))).await;
    let first = first.await.unwrap();
    assert!(first.status.success(), "{}", said(&first));
    assert_eq!(free("d1"), "1");
}

/// The user of docs/operations.md: it has rights in its database and nowhere else.
#[tokio::test]
async fn a_user_of_one_database_alone_can_do_everything() {
    let directory = tempfile::tempdir().unwrap();
    let database = Engine::MariaDb.database(directory.path());
    mariadb().sql(
        "",
        &format!("CREATE USER modest@'%' IDENTIFIED BY 'se@cret'; GRANT ALL ON {}.* TO modest@'%'", database.name),
    );
    let url = by(&database.url, "modest", "se%40cret");
    let f = Fixture::with(|config| config.database.url.clone_from(&url)).await;
    let ids = f.fill("a@x", 20).await;
    assert_eq!(f.uids("a@x").await.len(), 20);
    assert!(f.raw("a@x", ids[7]).await.starts_with(b"From: Alice"));
    indexed(&f.store).await;
    for command in ["migrate", "check", "doctor"] {
        let done = mailroom(&[command], &url).await;
        let text = said(&done);
        assert!(!text.contains("cret"), "{text}");
        match command {
            "doctor" => {
                let line = text.lines().find(|line| line.starts_with("ok    db connections")).unwrap_or_default();
                // Those of everybody, of whom it may not see one.
                let used = line.split_once(" in use").and_then(|(line, _)| line.rsplit_once(", ")).unwrap().1;
                assert!(used.parse::<u32>().unwrap() > 5, "{text}");
            }
            _ => assert!(done.status.success(), "{text}"),
        }
    }
    f.store.close().await;
}

/// MySQL encrypts a password with a key of its own where there is no TLS; a key that nobody vouches for is not used.
#[tokio::test]
async fn a_password_goes_over_tls_or_the_operator_hears_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let database = Engine::MariaDb.database(directory.path());
    mariadb().sql("", "CREATE USER careful@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO careful@'%'");
    let url = by(&database.url, "careful", "secret");
    let done = mailroom(&["migrate"], &format!("{url}?ssl-mode=DISABLED")).await;
    if mysqld().is_none() {
        // What MariaDB asks for says nothing of the password.
        assert!(done.status.success(), "{}", said(&done));
        return;
    }
    assert_eq!(done.status.code(), Some(69));
    let line = said(&done);
    assert!(line.contains("over TLS only: leave ssl-mode=DISABLED out") && line.lines().count() == 1, "{line}");
    let done = mailroom(&["migrate"], &url).await;
    assert!(done.status.success(), "{}", said(&done));
}

/// A writer's connection that rests is given back after some seconds, and MySQL ends one after ten: who comes then waits for a new
/// one and for nothing else.
#[tokio::test]
async fn a_delivery_after_a_long_pause_is_like_any_other() {
    let f = Fixture::on(Engine::MariaDb).await;
    f.put(&["a@x"], mail(1).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(16)).await;
    let began = Instant::now();
    for n in 2..8 {
        f.put(&["a@x", "b@x"], mail(n).as_bytes()).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(f.uids("a@x").await.len(), 7);
    f.store.close().await;
}

/// FULLTEXT keeps the words of rows that are gone until the table is written anew.
#[tokio::test]
async fn an_index_whose_rows_went_is_tidied_up() {
    let f = Fixture::on_with(Engine::MariaDb, |config| config.search.enabled = true).await;
    f.fill("a@x", 30).await;
    indexed(&f.store).await;
    f.database().sql("UPDATE search_state SET removed = 1000000").await;
    f.put(&["a@x"], mail(31).as_bytes()).await.unwrap();
    until("it is tidied up", || async { f.database().sql("SELECT removed FROM search_state").await.trim() == "0" })
        .await;
    indexed(&f.store).await;
    assert_eq!(f.database().sql("SELECT count(*) FROM search_words").await.trim(), "31");
    assert_eq!(f.store.mailbox(&key("a@x")).await.unwrap().unwrap().messages, 31);
    f.store.close().await;
}

/// Who asks and goes away leaves a connection in the middle of a statement: it must come back whole, or be given up.
#[tokio::test]
async fn readers_that_go_away_in_the_middle_take_no_connection_with_them() {
    for engine in [Engine::MariaDb, Engine::Postgres] {
        readers_that_go_away(engine).await;
    }
}

async fn readers_that_go_away(engine: Engine) {
    let f = Fixture::on_with(engine, |config| config.search.enabled = true).await;
    f.fill("a@x", 50).await;
    let asking = |n: u64| {
        let f = &f;
        async move {
            let mut request = crate::store_suite::support::request("a@x", 1 + u32::try_from(n % 40).unwrap());
            request.query = n.is_multiple_of(3).then(|| Query::parse(&format!("number{n} OR text")).unwrap());
            let _ = tokio::time::timeout(Duration::from_micros(37 * (n % 101)), f.store.list(&request)).await;
        }
    };
    for lot in 0..60 {
        futures_util::future::join_all((0..8).map(|n| asking(lot * 8 + n))).await;
    }
    // As many as there are connections, at once.
    let began = Instant::now();
    let all = futures_util::future::join_all((0..8).map(|_| f.list("a@x"))).await;
    assert!(all.iter().all(|page| page.items.len() == 50));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    f.store.close().await;
}
