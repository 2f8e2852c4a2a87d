//! What a database error means: whether trying again may help, whether space is wanting, whether a table is.

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

/// Deadlock and lock wait timeout of MySQL, and a commit that its group replication found in conflict with another member's.
const MYSQL_CONFLICTS: [u16; 3] = [1213, 1205, 3101];
/// serialization_failure, deadlock_detected, lock_not_available of PostgreSQL.
const POSTGRES_CONFLICTS: [&str; 3] = ["40001", "40P01", "55P03"];
/// Those of them that only say that a lock was not given in time.
const LATE: (u16, &str) = (1205, "55P03");
/// --read-only and --super-read-only, a server in read-only mode (as that of Aurora after a failover), transactions that may
/// not write.
const MYSQL_READ_ONLY: [u16; 3] = [1290, 1836, 1792];
/// read_only_sql_transaction.
const POSTGRES_READ_ONLY: &str = "25006";
/// Table full, disk full, out of space.
const MYSQL_FULL: [u16; 3] = [1114, 1021, 1041];
const MYSQL_NO_TABLE: u16 = 1146;
/// undefined_table.
const POSTGRES_NO_TABLE: &str = "42P01";
/// disk_full.
const POSTGRES_FULL: &str = "53100";

/// Another transaction was in the way: the same one may succeed when it is tried again. Two that make the same mailbox at
/// the same time are that, too, and two that store the same delivery: the next try finds it there.
pub fn is_conflict(error: &DbErr) -> bool {
    if let Some(SqlErr::UniqueConstraintViolation(text)) = error.sql_err() {
        return ["mailboxes_address", "bodies_pkey", "PRIMARY"].iter().any(|key| text.contains(key));
    }
    let Some(error) = server(error) else { return false };
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => MYSQL_CONFLICTS.contains(&error.number()),
        None => error.code().is_some_and(|code| POSTGRES_CONFLICTS.contains(&&*code)),
    }
}

/// A lock that another session holds was not given in time.
pub fn is_locked(error: &DbErr) -> bool {
    let Some(error) = server(error) else { return false };
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => error.number() == LATE.0,
        None => error.code().is_some_and(|code| code == LATE.1),
    }
}

/// The server does not take what is written any more: it was the primary, and another is that now or will be. Nothing of the
/// transaction was committed.
pub fn is_read_only(error: &DbErr) -> bool {
    let Some(error) = server(error) else { return false };
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => MYSQL_READ_ONLY.contains(&error.number()),
        None => error.code().is_some_and(|code| code == POSTGRES_READ_ONLY),
    }
}

/// The disk of the database is full.
pub fn is_full(error: &DbErr) -> bool {
    let Some(server) = server(error) else { return false };
    match server.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => MYSQL_FULL.contains(&error.number()),
        None => server.code().is_some_and(|code| code == POSTGRES_FULL) || server.message().contains("disk is full"),
    }
}

/// A table is not there: a database of before it was made, which who only reads does not migrate.
pub fn is_no_such_table(error: &DbErr) -> bool {
    let Some(server) = server(error) else { return error.to_string().contains("no such table") };
    match server.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => error.number() == MYSQL_NO_TABLE,
        None => {
            server.code().is_some_and(|code| code == POSTGRES_NO_TABLE) || server.message().contains("no such table")
        }
    }
}

fn server(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else { return None };
    match inner {
        RuntimeErr::SqlxError(error) => error.as_database_error(),
        RuntimeErr::Internal(_) => None,
    }
}
