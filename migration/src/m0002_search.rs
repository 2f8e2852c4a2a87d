//! The full-text index on database servers: a table of words with the engine's own index over them, and the row that says
//! how far it is. On SQLite the index is a file of its own, which `store` makes.
//!
//! Neither is cut into partitions: the mailbox is one of the words, so that a search in one mailbox is narrow all the
//! same, and a search in all of them asks one index instead of sixteen.

use sea_orm_migration::prelude::*;

use super::Statements;

#[derive(DeriveMigrationName)]
pub struct Migration;

const FIRST_STATE: &str = "INSERT INTO search_state VALUES (1, 0, 0, NULL, NULL, 0, 0)";

/// The words are needed when a row is written and hardly ever again: they lie beside the rows, which stay small, and are
/// not compressed, which would cost more than their index. What was gathered of a batch is put into the index after it
/// (`store::search::table`); the limit is above what a batch has.
const POSTGRES: &[&str] = &[
    "CREATE TABLE search_words (
        mailbox_id BIGINT NOT NULL,
        uid BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        whole BOOLEAN NOT NULL,
        words TSVECTOR NOT NULL,
        PRIMARY KEY (mailbox_id, uid)
    ) WITH (toast_tuple_target = 128)",
    "ALTER TABLE search_words ALTER COLUMN words SET STORAGE EXTERNAL",
    // Of a column of words statistics cost much and say nothing that is asked.
    "ALTER TABLE search_words ALTER COLUMN words SET STATISTICS 0",
    "CREATE INDEX search_words_index ON search_words USING gin (words) WITH (gin_pending_list_limit = 32768)",
    "CREATE TABLE search_state (
        id BIGINT PRIMARY KEY,
        version BIGINT NOT NULL,
        position BIGINT NOT NULL,
        walk_mailbox BIGINT,
        walk_uid BIGINT,
        removed BIGINT NOT NULL,
        partial BIGINT NOT NULL
    ) WITH (fillfactor = 10)",
    FIRST_STATE,
];

/// The words are spelled in letters, digits and `_` only.
const MYSQL: &[&str] = &[
    "CREATE TABLE search_words (
        mailbox_id BIGINT NOT NULL,
        uid BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        whole BOOLEAN NOT NULL,
        words MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        PRIMARY KEY (mailbox_id, uid),
        FULLTEXT KEY search_words_index (words)
    ) ENGINE=InnoDB",
    "CREATE TABLE search_state (
        id BIGINT PRIMARY KEY,
        version BIGINT NOT NULL,
        position BIGINT NOT NULL,
        walk_mailbox BIGINT,
        walk_uid BIGINT,
        removed BIGINT NOT NULL,
        partial BIGINT NOT NULL
    ) ENGINE=InnoDB",
    FIRST_STATE,
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Statements { sqlite: &[], postgres: POSTGRES, mysql: MYSQL }.run(manager).await
    }

    /// Nothing is lost: the index can be made again.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() != sea_orm::DbBackend::Sqlite {
            db.execute_unprepared("DROP TABLE search_words").await?;
            db.execute_unprepared("DROP TABLE search_state").await?;
        }
        Ok(())
    }
}
