//! A database server: reachable, new enough, durable, with room for every node, by the same clock.

use std::time::Duration;

use super::Check;
use crate::config::Config;
use crate::mail::units::Bytes;
use crate::store::clocks::TOLERANCE;
use crate::store::engine::replica::{self, Found};
use crate::store::engine::{self, Engine, Kind};
use crate::tls::Trouble;

/// A round trip beyond this is felt: a delivery waits for some eight of them.
const FAR: Duration = Duration::from_millis(5);
/// Beyond this lifetimes and cursors of several nodes differ noticeably, in microseconds.
const SKEW: i64 = 1_000_000;

/// All of them; none where the database is SQLite's.
pub fn checks(config: &Config) -> Option<Vec<Check>> {
    let place = engine::name(&config.store())?;
    match engine::ask(&config.store()) {
        Ok(None) => None,
        Ok(Some(engine)) => {
            let replicas = replica::ask(&config.store());
            Some(judge(&place, &engine).into_iter().chain(replicas.iter().map(of_replica)).collect())
        }
        Err(error) => Some(vec![unreachable(&error.to_string())]),
    }
}

fn unreachable(error: &str) -> Check {
    match Trouble::find(error) {
        Some(trouble) => Check::fail(
            "database",
            format!("{error}: {}", trouble.text()),
            trouble.advice("[database] url (sslrootcert= or ssl-ca=)", "[database] url (sslcert= and sslkey=)"),
        ),
        None => Check::fail(
            "database",
            error,
            "see that it runs, that [database] url is right, and that the user may enter: docs/operations.md",
        ),
    }
}

fn judge(place: &str, engine: &Engine) -> Vec<Check> {
    let mut checks = vec![reachable(place, engine), version(engine), durable(engine), connections(engine)];
    checks.extend(packet(engine));
    checks.push(skew(engine));
    checks
}

/// Without it the primary is read. One that is another store is passed over as long as it is seen to be.
fn of_replica((place, found): &(String, Found)) -> Check {
    const NAME: &str = "db replica";
    let said = format!("{place}: {found}");
    match found {
        Found::Away(why) => match Trouble::find(why) {
            Some(trouble) => Check::warn(
                NAME,
                format!("{said}: {}", trouble.text()),
                trouble.advice(
                    "[database] replicas (sslrootcert= or ssl-ca=)",
                    "[database] replicas (sslcert= and sslkey=)",
                ),
            ),
            None => Check::warn(
                NAME,
                said,
                "the primary is read in its place: see that it runs, that its URL in [database] replicas is right, and that \
                 the user may enter",
            ),
        },
        Found::Empty => Check::warn(NAME, said, "name a replica of [database] url, and the database in it"),
        Found::Foreign => {
            Check::fail(NAME, said, "take it out of [database] replicas, or make it a replica of url anew")
        }
        Found::Alone | Found::Behind(_) => Check::ok(NAME, said),
    }
}

fn reachable(place: &str, engine: &Engine) -> Check {
    let state = if engine.migrated { "" } else { "; it has no tables yet: serve makes them" };
    let found = format!("{place} answers in {:.2} ms{state}", engine.round_trip.as_secs_f64() * 1_000.0);
    if engine.round_trip > FAR {
        return Check::warn("database", found, "every delivery waits for several answers: bring them closer together");
    }
    Check::ok("database", found)
}

fn version(engine: &Engine) -> Check {
    let (name, least) = match engine.kind {
        Kind::Postgres => ("PostgreSQL", (15, 0)),
        Kind::MariaDb => ("MariaDB", (10, 6)),
        Kind::MySql => ("MySQL", (8, 0)),
    };
    let found = format!("{name} {}", engine.version);
    if engine.number < least {
        let advice = format!("{name} {}.{} is the oldest that is tried: upgrade the server", least.0, least.1);
        return Check::fail("db version", found, advice);
    }
    Check::ok("db version", found)
}

/// What was answered 250 must outlive a power cut of the database server, too.
fn durable(engine: &Engine) -> Check {
    let sound = |(name, value): &&(&'static str, String)| match *name {
        "innodb_flush_log_at_trx_commit" | "sync_binlog" => value == "1",
        "synchronous_commit" => value != "off",
        _ => matches!(value.to_ascii_lowercase().as_str(), "on" | "1" | "true"),
    };
    let shown = |all: Vec<&(&'static str, String)>| {
        all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    };
    let wrong: Vec<_> = engine.durable.iter().filter(|setting| !sound(setting)).collect();
    if wrong.is_empty() {
        return Check::ok("db durability", shown(engine.durable.iter().collect()));
    }
    let advice = "a crash of the database server would lose mail that was answered 250: set them to on (1)";
    Check::fail("db durability", shown(wrong), advice)
}

fn connections(engine: &Engine) -> Check {
    let Engine { max_connections, connected, needed, .. } = *engine;
    let nodes = max_connections / needed.max(1);
    let found = format!(
        "max_connections={max_connections}, {connected} in use; a node makes {needed}: room for {nodes} nodes at most"
    );
    let advice = "raise max_connections in the server, or lower [database] read_connections".to_owned();
    // Ten for those who look after it.
    let need = needed.saturating_add(10);
    Check::floor("db connections", max_connections, need, need.saturating_add(2 * needed), found, advice)
}

fn packet(engine: &Engine) -> Option<Check> {
    let packet = engine.packet?;
    let found = format!("max_allowed_packet={}", Bytes(packet));
    let advice = format!(
        "[smtp] max_message_size needs {}: raise max_allowed_packet in the server, or serve does not start",
        Bytes(engine.packet_needed)
    );
    Some(Check::floor("db packet", packet, engine.packet_needed, engine.packet_needed, found, advice))
}

fn skew(engine: &Engine) -> Check {
    let off = engine.skew.saturating_abs().saturating_sub(i64::try_from(engine.round_trip.as_micros()).unwrap_or(0));
    let millis = engine.skew / 1_000;
    let found = match millis {
        0 => "the database's clock is this machine's".to_owned(),
        _ if engine.skew > 0 => format!("the database's clock is {millis} ms ahead of this machine's"),
        _ => format!("the database's clock is {} ms behind this machine's", -millis),
    };
    if engine.skew < -TOLERANCE {
        let advice =
            "this node removes nothing that has expired, and lists mail with a wrong time: set this machine's clock";
        return Check::fail("db clock", found, advice);
    }
    if off > SKEW {
        return Check::warn("db clock", found, "run a time service on both: nodes that disagree expire mail at odds");
    }
    Check::ok("db clock", found)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn engine() -> Engine {
        Engine {
            kind: Kind::MariaDb,
            version: "10.11.19-MariaDB".into(),
            number: (10, 11),
            durable: vec![("innodb_flush_log_at_trx_commit", "1".into()), ("innodb_doublewrite", "1".into())],
            max_connections: 151,
            connected: 3,
            needed: 8,
            packet: Some(16 << 20),
            packet_needed: 10 << 20,
            skew: 1_000,
            round_trip: Duration::from_micros(300),
            migrated: true,
        }
    }

    /// The names of what is not well.
    fn unwell(change: impl FnOnce(&mut Engine)) -> Vec<(&'static str, Level)> {
        let mut engine = engine();
        change(&mut engine);
        let checks = judge("mysql://mail@db/mail", &engine);
        checks.iter().filter(|check| check.level != Level::Ok).map(|check| (check.name, check.level)).collect()
    }

    #[test]
    fn a_server_with_room_is_well() {
        assert_eq!(unwell(|_| {}), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        assert_eq!(unwell(|engine| engine.number = (10, 5)), [("db version", Level::Fail)]);
        assert_eq!(unwell(|engine| engine.durable[0].1 = "2".into()), [("db durability", Level::Fail)]);
        assert_eq!(unwell(|engine| engine.durable = vec![("fsync", "off".into())]), [("db durability", Level::Fail)]);
        assert_eq!(unwell(|engine| engine.max_connections = 15), [("db connections", Level::Fail)]);
        assert_eq!(unwell(|engine| engine.max_connections = 30), [("db connections", Level::Warn)]);
        assert_eq!(unwell(|engine| engine.packet = Some(1 << 20)), [("db packet", Level::Fail)]);
        assert_eq!(unwell(|engine| engine.skew = -2_000_000), [("db clock", Level::Warn)]);
        assert_eq!(unwell(|engine| engine.skew = -301_000_000), [("db clock", Level::Fail)]);
        assert_eq!(unwell(|engine| engine.skew = 3_600_000_000), [("db clock", Level::Warn)]);
        assert_eq!(unwell(|engine| engine.round_trip = Duration::from_millis(20)), [("database", Level::Warn)]);
    }

    #[test]
    fn a_replica_that_is_none_is_told_from_one_that_is_away() {
        let check = |found| of_replica(&("postgres://mail@replica/mail".into(), found));
        assert_eq!(check(Found::Behind(3)).level, Level::Ok);
        assert_eq!(check(Found::Empty).level, Level::Warn);
        assert_eq!(check(Found::Foreign).level, Level::Fail);
        let away = check(Found::Away("Connection refused".into()));
        assert_eq!((away.level, away.found.contains("refused")), (Level::Warn, true));
        let stranger = check(Found::Away("invalid peer certificate: UnknownIssuer".into()));
        assert!(stranger.advice.contains("sslrootcert="), "{stranger:?}");
    }

    #[test]
    fn synchronous_commit_may_wait_for_replicas_too() {
        for (value, level) in
            [("on", Level::Ok), ("remote_apply", Level::Ok), ("local", Level::Ok), ("off", Level::Fail)]
        {
            let mut engine = engine();
            engine.durable = vec![("synchronous_commit", value.into())];
            assert_eq!(durable(&engine).level, level, "{value}");
        }
    }
}
