//! The commands beside `serve`, on a database server.

use std::process::{Command, Output};
use std::sync::Arc;

use mailroom::mail::units::Bytes;
use mailroom::store::{Deletion, Faults, Store};

use crate::store_suite::support::{Engine, Fixture, Heard, config, key, mail};
use crate::support::process::Plan;
use crate::support::servers::MariaDb;
use crate::support::servers::database::{mariadb, postgres};

const SERVERS: [Engine; 2] = [Engine::Postgres, Engine::MariaDb];

fn mailroom(words: &[&str], url: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.args(words).arg("--data").arg(directory.path()).arg("--database").arg(url).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Mail in several mailboxes, some of it deleted again.
async fn some(engine: Engine) -> Fixture {
    let f = Fixture::on(engine).await;
    for n in 0..40 {
        f.put(&["a@x", "b@x"], mail(n).as_bytes()).await.unwrap();
    }
    f.put(&["a@x"], &vec![b'x'; 300_000]).await.unwrap();
    let ids = f.fill("c@x", 10).await;
    f.store.delete_messages(&key("c@x"), Deletion::One(ids[3])).await.unwrap();
    f.store.delete_messages(&key("b@x"), Deletion::All).await.unwrap();
    f
}

#[tokio::test]
async fn migrate_makes_the_tables_once_and_serve_finds_them() {
    for engine in SERVERS {
        let directory = tempfile::tempdir().unwrap();
        let database = engine.database(directory.path());
        for _ in 0..2 {
            let done = mailroom(&["migrate"], &database.url);
            assert!(done.status.success() && said(&done).contains("has this version's schema"), "{}", said(&done));
        }
        let mut config = config(directory.path());
        config.database.url = database.url;
        let store = Store::open(&config, Arc::new(Heard::default()), Faults::default()).await.unwrap();
        store.close().await;
        config.database.url = config.database.url.replace("test", "nothere");
        let failed = mailroom(&["migrate"], &config.database.url);
        assert_eq!(failed.status.code(), Some(69));
        assert_eq!(said(&failed).lines().count(), 1, "{}", said(&failed));
    }
}

#[tokio::test]
async fn check_reads_every_body_and_counts_every_row() {
    for engine in SERVERS {
        let f = some(engine).await;
        let database = f.database();
        let done = mailroom(&["check"], &database.url);
        assert!(done.status.success(), "{}", said(&done));
        assert!(said(&done).contains("50 of 50 messages are whole; 3 mailboxes"), "{}", said(&done));
        let ids = f.list("a@x").await.items;
        let zero = if engine == Engine::Postgres { "'\\x00'::bytea" } else { "X'00'" };
        let id = |n: usize| match engine {
            Engine::Postgres => format!("'{}'", ids[n].id.0),
            _ => format!("X'{}'", ids[n].id.0.simple()),
        };
        for sql in [
            format!("DELETE FROM bodies WHERE id = {}", id(1)),
            format!("UPDATE bodies SET contents = {zero} WHERE id = {}", id(2)),
            format!("UPDATE bodies SET mailboxes = 7 WHERE id = {}", id(3)),
            "UPDATE mailboxes SET unread = unread + 1 WHERE address = 'a@x'".into(),
            "DELETE FROM changes WHERE kind = 2".into(),
            "UPDATE meta SET stamp = stamp + 1".into(),
        ] {
            database.sql(&sql).await;
        }
        let done = mailroom(&["check"], &database.url);
        assert_eq!(done.status.code(), Some(1));
        let said = said(&done);
        for wrong in [
            "its body is missing",
            "its body takes 1 bytes, the list says",
            "its body says that 7 mailboxes have it, and 1 do",
            "it says that it has 42 unread messages and has 41",
            "nothing tells what happened at",
            "commits end at",
        ] {
            assert!(said.contains(wrong), "{wrong}\n{said}");
        }
    }
}

/// As docs/operations.md says it: the dump of one moment is a database that is whole, and begins a new history.
#[tokio::test]
async fn what_the_servers_own_tools_copy_is_whole() {
    for engine in SERVERS {
        let f = some(engine).await;
        let from = f.database();
        let refused = mailroom(&["backup", "/nowhere"], &from.url);
        assert_eq!(refused.status.code(), Some(78));
        let line = said(&refused);
        assert!(line.contains("pg_dump or mariadb-dump") && line.lines().count() == 1, "{line}");

        let before = f.cursor("a@x").await;
        let place = tempfile::tempdir().unwrap();
        let to = engine.database(place.path());
        let (address, script) = match engine {
            Engine::Postgres => (
                postgres().address,
                "pg_dump -Fc -h $0 -p $1 -U mailroom $2 > $4 && pg_restore -h $0 -p $1 -U mailroom -d $3 $4".to_owned(),
            ),
            _ => (mariadb().address, mariadb().copying()),
        };
        let dump = place.path().join("dump");
        let done = Command::new("sh")
            .args(["-ec", &script, &address.ip().to_string(), &address.port().to_string(), &from.name, &to.name])
            .arg(&dump)
            .envs(mariadb().entry())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", said(&done));
        to.sql("UPDATE meta SET restored = true").await;
        let done = mailroom(&["check"], &to.url);
        assert!(said(&done).contains("50 of 50 messages are whole"), "{}", said(&done));
        let mut config = config(place.path());
        config.database.url = to.url;
        let store = Store::open(&config, Arc::new(Heard::default()), Faults::default()).await.unwrap();
        let copied = store.mailbox(&key("a@x")).await.unwrap().unwrap();
        assert_eq!(copied.messages, 41);
        assert_ne!(copied.cursor.lineage, before.lineage);
        store.close().await;
        let done = mailroom(&["check"], &config.database.url);
        assert!(done.status.success() && said(&done).contains("50 of 50 messages are whole"), "{}", said(&done));
    }
}

#[tokio::test]
async fn doctor_asks_the_server_and_says_when_it_is_not_there() {
    for engine in SERVERS {
        let directory = tempfile::tempdir().unwrap();
        let url = engine.database(directory.path()).url;
        let done = mailroom(&["doctor", "--smtp", "0", "--http", "0", "--ops", "0"], &url);
        let report = said(&done);
        for name in ["db version ", "db durability ", "db connections ", "db clock "] {
            assert!(report.lines().any(|line| line.starts_with(&format!("ok    {name}"))), "{name}\n{report}");
        }
        // On a busy machine with the advice to bring them closer together.
        let answers =
            |line: &str| line.get(6..).is_some_and(|line| line.starts_with("database ")) && line.contains("answers in");
        assert!(report.lines().any(|line| answers(line) && !line.starts_with("FAIL")), "{report}");
        assert!(report.contains("it has no tables yet"), "{report}");
        assert_eq!(engine == Engine::MariaDb, report.contains("ok    db packet"), "{report}");

        let [nobody] = crate::support::process::free_addresses();
        let own = if engine == Engine::Postgres { postgres().address } else { mariadb().address };
        let away = url.replace(&own.to_string(), &nobody.to_string());
        let done = mailroom(&["doctor", "--smtp", "0", "--http", "0", "--ops", "0"], &away);
        assert_eq!(done.status.code(), Some(1));
        assert!(said(&done).contains("FAIL  database"), "{}", said(&done));
    }
}

/// `doctor` with the ports of a node, and this database; its lines about them.
fn ports(plan: &Plan, url: &str) -> Vec<String> {
    let [smtp, http, ops] = [plan.smtp, plan.http, plan.ops].map(|address| address.to_string());
    let report = said(&mailroom(&["doctor", "--smtp", &smtp, "--http", &http, "--ops", &ops], url));
    let about = |line: &&str| {
        let name = line.get(6..).and_then(|line| line.split(' ').next());
        name.is_some_and(|name| ["SMTP", "HTTP", "operations"].contains(&name)) && !line.contains("SMTP shown")
    };
    report.lines().filter(about).map(str::to_owned).collect()
}

#[actix::test]
async fn doctor_knows_the_node_that_runs_by_its_database() {
    for engine in SERVERS {
        let directory = tempfile::tempdir().unwrap();
        let url = engine.database(directory.path()).url;
        let plan = Plan::new(directory.path()).set("MAILROOM__DATABASE__URL", &url);
        let node = plan.start().await;
        // As an operator does who looks again after each step.
        let lines = ports(&plan, &url);
        let served = format!("is served by the running mailroom (process {})", node.id());
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("ok    ") && line.contains(&served)), "{lines:?}");
        // Another installation would find them taken.
        let lines = ports(&plan, "postgres://mailroom@127.0.0.1:1/other");
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("FAIL  ")), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("another database")), "{lines:?}");
        node.terminate();
        assert!(ports(&plan, &url).iter().all(|line| line.ends_with(" is free")));
    }
}

#[tokio::test]
async fn a_server_that_could_not_take_the_largest_message_is_refused_at_start() {
    let own = MariaDb::with(["--max-allowed-packet=9M", "--innodb-flush-log-at-trx-commit=2"]);
    own.sql("", "CREATE DATABASE mail CHARACTER SET utf8mb4");
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.database.url = own.url("mail");
    config.largest = Bytes::mib(10);
    let Err(error) = Store::open(&config, Arc::new(Heard::default()), Faults::default()).await else {
        panic!("it was opened")
    };
    let error = error.to_string();
    assert!(error.contains("max_allowed_packet") && error.contains("9MiB") && error.lines().count() == 1, "{error}");
    let done = mailroom(&["serve", "--smtp", "0", "--http", "0", "--ops", "0"], &config.database.url);
    assert_eq!(done.status.code(), Some(78));
    let done = mailroom(&["doctor", "--smtp", "0", "--http", "0", "--ops", "0"], &config.database.url);
    for wrong in ["FAIL  db packet", "FAIL  db durability"] {
        assert!(said(&done).contains(wrong), "{wrong}\n{}", said(&done));
    }
    config.largest = Bytes::mib(5);
    Store::open(&config, Arc::new(Heard::default()), Faults::default()).await.unwrap().close().await;
}

#[test]
fn what_is_left_out_on_database_servers_exists_and_says_why() {
    let list = include_str!("files_only.txt");
    let names = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in names {
        let (name, why) = line.split_once(' ').unwrap_or_else(|| panic!("{line}: why?"));
        assert!(!why.is_empty());
        let (module, test) = name.split_once("::").unwrap_or_else(|| panic!("{name} is no module"));
        let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let text = std::fs::read_to_string(tests.join(format!("{module}.rs")))
            .or_else(|_| std::fs::read_to_string(tests.join(module).join("mod.rs")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(test.is_empty() || text.contains(&format!("fn {test}")), "{name} is not there");
    }
}
