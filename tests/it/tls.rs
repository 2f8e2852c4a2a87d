//! TLS to the servers that nodes share: with an authority of one's own they are used as without, and what is wrong with a
//! certificate is said by `doctor` in a line.

use std::process::Command;
use std::time::Instant;

use mailroom::cluster::redis::{RedisConfig, Servers};
use mailroom::config::Config;

use crate::nodes::{NEVER, Nodes, SOON, deliver, hears, names};
use crate::support::certificates::{Authority, HERE, Signed};
use crate::support::servers::{Engine, MariaDb, Postgres, RabbitMq, Redis, RedisCluster, S3};
use crate::support::{Api, PATIENCE, Socket, TestServer, message, until};

/// The lines of `doctor` about one thing, with advice, each pair in one.
pub fn doctor(name: &str, settings: &[(&str, &str)]) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.args(["doctor", "--smtp", "0", "--http", "0", "--ops", "0", "--data"]).arg(data.path());
    command.env_clear().envs(settings.iter().map(|(name, value)| (format!("MAILROOM__{name}"), *value)));
    let said =
        String::from_utf8(command.output().unwrap().stdout).unwrap().replace("\n                     -> ", " -> ");
    let about = |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with(name));
    let found: Vec<_> = said.lines().filter(about).collect();
    assert!(!found.is_empty(), "{name}: {said}");
    found.join("\n")
}

/// `doctor` says this of each, and what to do.
pub fn assert_says(found: &str, what: &str, advice: &str) {
    assert!(found.contains(what) && found.contains(" -> ") && found.contains(advice), "{what}, {advice}: {found}");
}

/// It is used; a warning that it is slow may be there on a machine that is.
fn assert_well(found: &str, what: &str) {
    assert!(!found.starts_with("FAIL") && found.contains(what), "{found}");
}

fn trust(config: &mut RedisConfig, authority: &Authority, own: &Signed) {
    config.ca_file = authority.file();
    (config.cert_file, config.key_file) = (own.certificate.clone(), own.key.clone());
    config.reconcile = NEVER;
}

#[actix::test]
async fn events_limits_and_pages_go_over_redis_with_tls() {
    let authority = Authority::new();
    let own = authority.sign(HERE);
    let redis = Redis::with_tls(&authority, &own, []);
    let url = redis.url();
    assert!(url.starts_with("rediss://"));
    let nodes = Nodes::start(Engine::Postgres, |config| {
        config.redis.url = Servers::one(url.clone());
        trust(&mut config.redis, &authority, &own);
    })
    .await;
    let mut socket = Socket::connect(nodes.two.app.http).await;
    socket.subscribe("ann@mailroom.test").await;
    let mail = names("over TLS", 0..5);
    deliver(&nodes.one, "ann@mailroom.test", &mail).await;
    hears(&mut socket, &mail, SOON).await;
    until("a page is in Redis", async || {
        // Each page of its own, since one that is in the process does not go there again.
        deliver(&nodes.one, "ann@mailroom.test", &names("one more", 0..1)).await;
        nodes.one.api().json("/v1/mailboxes/ann@mailroom.test/messages").await;
        redis.command(["--scan", "--pattern", "*page*"]).contains("page")
    })
    .await;
    nodes.stop().await;
}

#[actix::test]
async fn events_go_over_a_redis_cluster_with_tls() {
    let authority = Authority::new();
    let own = authority.sign(HERE);
    let cluster = RedisCluster::with_tls(&authority, &own);
    // One of them is told, and tells of the others, whose certificates are looked at, too.
    let first = vec![cluster.url()];
    let nodes = Nodes::start(Engine::Postgres, |config| {
        config.redis.url = Servers::cluster(first.clone());
        trust(&mut config.redis, &authority, &own);
    })
    .await;
    let mut socket = Socket::connect(nodes.two.app.http).await;
    socket.subscribe("*").await;
    let mut took = Vec::new();
    for n in 0..12 {
        let name = [format!("over TLS {n}")];
        deliver(&nodes.one, &format!("box{n}@mailroom.test"), &name).await;
        let began = Instant::now();
        // A first connection that took too long costs its message the bus: it comes from the database.
        hears(&mut socket, &name, PATIENCE).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    assert!(took[6] < SOON, "over the bus, and not from the database: {took:?}");
    nodes.stop().await;
}

/// Whom nobody here trusts serves nothing, and mail does not wait for it.
#[actix::test]
async fn a_redis_of_another_authority_counts_as_away() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign(HERE);
    let redis = Redis::with_tls(&authority, &own, []);
    let server = TestServer::with(|config| {
        config.redis.url = Servers::one(redis.url());
        trust(&mut config.redis, &other, &own);
    })
    .await;
    let ops = Api::new(server.app.ops);
    until("health says why", async || {
        let part = ops.json("/health").await["parts"]["redis"].to_string();
        part.contains("\"ok\":false") && part.contains("UnknownIssuer")
    })
    .await;
    server.deliver("ann@mailroom.test", &message("without Redis", "text")).await;
    assert_eq!(server.api().subjects("ann@mailroom.test").await, ["without Redis"]);
    server.stop().await;
}

#[test]
fn doctor_says_what_is_wrong_with_a_certificate() {
    let (authority, other) = (Authority::named("/CN=ours"), Authority::new());
    let own = authority.sign(HERE);
    let files = |ca: &str, shown: bool| {
        let all = [("CA_FILE", ca), ("CERT_FILE", &own.certificate), ("KEY_FILE", &own.key)];
        Vec::from_iter(all.into_iter().take(if shown { 3 } else { 1 }).map(|(name, value)| (name, value.to_owned())))
    };
    let say = |url: &str, ca: &str, shown: bool| {
        let files: Vec<_> =
            files(ca, shown).into_iter().map(|(name, value)| (format!("REDIS__{name}"), value)).collect();
        let mut settings: Vec<_> = files.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        settings.push(("REDIS__URL", url));
        doctor("redis", &settings)
    };
    let ca = authority.file();
    let well = Redis::with_tls(&authority, &own, []);
    let found = say(&well.url(), &ca, true);
    assert!(found.starts_with("ok") && found.contains("version"), "{found}");
    let stranger = say(&well.url(), &other.file(), true);
    assert_says(&stranger, "not signed by an authority that is believed here", "in [redis] ca_file");
    assert!(stranger.starts_with("warn"), "{stranger}");
    let renewed = Authority::named("/CN=ours");
    assert_says(&say(&well.url(), &renewed.file(), true), "not signed by an authority", "in [redis] ca_file");
    assert_says(&say(&well.url(), &ca, false), "it asks for a certificate", "in [redis] cert_file and key_file");
    let missing = say(&well.url(), "/nowhere/ca.pem", false);
    assert!(missing.contains("ca_file /nowhere/ca.pem: No such file"), "{missing}");

    let serves = |shown: &Signed, url: fn(String) -> String| {
        let redis = Redis::with_tls(&authority, shown, ["--tls-auth-clients", "no"]);
        say(&url(redis.url()), &ca, false)
    };
    let same = |url: String| url;
    assert_says(&serves(&authority.sign("DNS:localhost"), same), "for another name", "subjectAltName");
    let named = serves(&authority.sign("DNS:localhost"), |url| url.replace("127.0.0.1", "localhost"));
    assert!(named.starts_with("ok"), "{named}");
    let old = authority.sign_until(HERE, "20200201000000Z");
    assert_says(&serves(&old, same), "has expired", "a new certificate");
    assert_says(&serves(&authority.itself(), same), "that of an authority", "CA:FALSE");
    let plain = Redis::start();
    let found = say(&plain.url().replace("redis:", "rediss:"), &ca, false);
    assert_says(&found, "does not speak TLS", "without");
}

#[test]
fn a_file_that_does_not_serve_is_one_line_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (section, url) in [("REDIS", "rediss://127.0.0.1:1"), ("BROKER", "amqps://127.0.0.1:1"), ("COLD", "s3://mail")]
    {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
        command.args(["serve", "--smtp", "0", "--http", "0", "--ops", "0", "--data"]).arg(data.path()).env_clear();
        command.env(format!("MAILROOM__{section}__URL"), url).env(format!("MAILROOM__{section}__CA_FILE"), &empty);
        command.env("MAILROOM__COLD__ENDPOINT", "https://127.0.0.1:1");
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let line = said.lines().find(|line| line.contains("empty.pem")).unwrap_or_else(|| panic!("{section}: {said}"));
        assert!(!done.status.success());
        assert!(line.contains(&format!("[{}]", section.to_lowercase())), "{line}");
        assert!(line.contains("ca_file") && line.contains("there is no certificate in it"), "{line}");
    }
}

#[actix::test]
async fn mail_goes_through_a_broker_with_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign(HERE);
    let rabbit = RabbitMq::with_tls(&authority, &own);
    let url =
        rabbit.url("%2f").replace("amqp://", "amqps://").replace(&rabbit.address.to_string(), &rabbit.tls.to_string());
    let server = TestServer::with(|config| {
        config.broker.url.clone_from(&url);
        config.broker.ca_file = authority.file();
        (config.broker.cert_file, config.broker.key_file) = (own.certificate.clone(), own.key.clone());
    })
    .await;
    let status = || server.app.broker.as_ref().unwrap().status();
    until("the broker takes mail", async || status().trouble.is_none()).await;
    server.deliver("ann@mailroom.test", &message("over TLS", "text")).await;
    until("it is stored", async || server.api().subjects("ann@mailroom.test").await == ["over TLS"]).await;
    let peers = rabbit.control(["list_connections", "ssl", "peer_cert_subject"]);
    assert!(peers.contains("true\tCN=test") && !peers.contains("false"), "{peers}");
    server.stop().await;

    let say = |ca: &str, shown: bool| {
        let mut settings = vec![("BROKER__URL", url.as_str()), ("BROKER__CA_FILE", ca)];
        if shown {
            settings.extend([("BROKER__CERT_FILE", own.certificate.as_str()), ("BROKER__KEY_FILE", &own.key)]);
        }
        doctor("broker", &settings)
    };
    let well = say(&authority.file(), true);
    assert!(well.starts_with("ok") && well.contains("amqps://127.0.0.1"), "{well}");
    let stranger = say(&other.file(), true);
    assert_says(&stranger, "not signed by an authority that is believed here", "in [broker] ca_file");
    assert!(stranger.starts_with("FAIL") && !stranger.contains("guest"), "{stranger}");
    assert_says(&say(&authority.file(), false), "it asks for a certificate", "in [broker] cert_file and key_file");
}

async fn on_database(url: &str) {
    let url = url.to_owned();
    let server = TestServer::with(|config: &mut Config| {
        config.database.url.clone_from(&url);
        config.database.replicas = vec![url];
    })
    .await;
    server.deliver("ann@mailroom.test", &message("over TLS", "text")).await;
    assert_eq!(server.api().subjects("ann@mailroom.test").await, ["over TLS"]);
    server.stop().await;
}

#[actix::test]
async fn postgres_is_used_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let postgres = Postgres::with_tls(&authority.sign("DNS:localhost"));
    postgres.sql("postgres", "CREATE DATABASE mail");
    let url = |host: &str, mode: &str, ca: &str| {
        let url = postgres.url("mail").replace("127.0.0.1", host);
        format!("{url}?sslmode={mode}&sslrootcert={ca}")
    };
    let ca = authority.file();
    on_database(&url("localhost", "verify-full", &ca)).await;
    let seen = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                WHERE application_name = 'mailroom'";
    let again = TestServer::with(|config| config.database.url = url("localhost", "verify-full", &ca)).await;
    let connections = postgres.sql("postgres", seen);
    assert!(connections.ends_with("|t") && !connections.starts_with('0'), "{connections}");
    again.stop().await;

    let say = |url: String| doctor("database", &[("DATABASE__URL", &url)]);
    assert_well(&say(url("localhost", "verify-full", &ca)), "");
    // The name is not looked at.
    assert_well(&say(url("127.0.0.1", "verify-ca", &ca)), "");
    assert_says(&say(url("127.0.0.1", "verify-full", &ca)), "for another name", "subjectAltName");
    assert_says(&say(url("localhost", "verify-full", &other.file())), "not signed by an authority", "sslrootcert=");
    let plain = Postgres::start();
    let url = format!("{}?sslmode=verify-full&sslrootcert={ca}", plain.url("postgres"));
    assert_says(&say(url), "does not speak TLS", "without");
}

#[actix::test]
async fn mariadb_is_used_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mariadb = MariaDb::with_tls(&authority.sign("DNS:localhost"));
    mariadb.sql("", "CREATE DATABASE mail CHARACTER SET utf8mb4");
    let url = |host: &str, mode: &str, ca: &str| {
        let url = mariadb.url("mail").replace("127.0.0.1", host);
        format!("{url}?ssl-mode={mode}&ssl-ca={ca}")
    };
    let ca = authority.file();
    on_database(&url("localhost", "VERIFY_IDENTITY", &ca)).await;
    let own = TestServer::with(|config| config.database.url = url("localhost", "VERIFY_IDENTITY", &ca)).await;
    let connections = "SELECT count(*) FROM information_schema.processlist WHERE user = 'mailroom'";
    assert!(mariadb.sql("", connections).parse::<u32>().unwrap() > 5);
    // The client of the tests takes TLS where it is offered, too.
    let shaken = || -> u32 {
        let said = mariadb.sql("", "SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'");
        said.split('\t').nth(1).unwrap().parse().unwrap()
    };
    assert!(shaken() > 10, "{}", shaken());
    own.stop().await;

    let say = |url: String| doctor("database", &[("DATABASE__URL", &url)]);
    assert_well(&say(url("localhost", "VERIFY_IDENTITY", &ca)), "");
    assert_says(&say(url("127.0.0.1", "VERIFY_IDENTITY", &ca)), "for another name", "subjectAltName");
    assert_says(&say(url("localhost", "VERIFY_CA", &other.file())), "not signed by an authority", "ssl-ca=");
}

#[test]
fn doctor_tries_object_storage_also_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let s3 = S3::with_tls(&authority, &authority.sign("DNS:localhost"));
    let say = |url: &str, endpoint: &str, ca: &str| {
        let mut settings = vec![("COLD__URL", url), ("COLD__ACCESS_KEY_ID", "test"), ("COLD__TIMEOUT", "2s")];
        settings.extend([("COLD__SECRET_ACCESS_KEY", "s3cret"), ("COLD__ENDPOINT", endpoint), ("COLD__CA_FILE", ca)]);
        let said = doctor("object storage", &settings);
        assert!(!said.contains("s3cret"), "{said}");
        said
    };
    let ca = authority.file();
    let well = say("s3://mail/old", &s3.endpoint, &ca);
    assert_well(&well, "written, read and removed");
    let missing = say("s3://nowhere/old", &s3.endpoint, &ca);
    assert!(missing.starts_with("FAIL") && missing.contains("bucket or directory is there"), "{missing}");
    assert_says(&say("s3://mail", &s3.endpoint, &other.file()), "not signed by an authority", "in [cold] ca_file");
    let [nobody] = crate::support::process::free_addresses();
    let away = say("s3://mail", &format!("http://{nobody}"), "");
    assert!(away.starts_with("FAIL") && away.contains("cannot be used"), "{away}");

    let directory = tempfile::tempdir().unwrap();
    let url = |path: &str| format!("file://{}{path}", directory.path().display());
    let own = doctor("object storage", &[("COLD__URL", &url(""))]);
    assert_well(&own, "written, read and removed");
    let later = doctor("object storage", &[("COLD__URL", &url("/later"))]);
    assert!(later.starts_with("ok") && later.contains("serve makes it"), "{later}");
    assert!(!directory.path().join("later").exists());
}
