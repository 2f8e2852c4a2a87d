//! What a database error means: whether trying again may help, whether space is wanting, whether a table is.

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

/// Deadlock and lock wait timeout of MySQL, and a commit that its group replication found in conflict with another member's.
const MYSQL_CONFLICTS: [u16; 3] = [1213, 1205, 3101];
/// serialization_failure, deadlock_detected, lock_not_available of PostgreSQL.
const POSTGRES_CONFLICTS: [&str; 3] = ["40001", "40P01", "55P03"];
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
