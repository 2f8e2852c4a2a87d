//! The secret that all nodes of an installation share.

use sea_orm_migration::prelude::*;

use crate::Statements;

#[derive(DeriveMigrationName)]
pub struct Migration;

const SQLITE: &[&str] = &["CREATE TABLE secrets (
        id INTEGER PRIMARY KEY NOT NULL,
        value BLOB NOT NULL
    )"];

const POSTGRES: &[&str] = &["CREATE TABLE secrets (
        id BIGINT PRIMARY KEY,
        value BYTEA NOT NULL
    )"];

const MYSQL: &[&str] = &["CREATE TABLE secrets (
        id BIGINT PRIMARY KEY,
        value VARBINARY(64) NOT NULL
    ) ENGINE=InnoDB"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Statements { sqlite: SQLITE, postgres: POSTGRES, mysql: MYSQL }.run(manager).await
    }

    /// What was signed with it opens nothing any more; that is all.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE secrets").await.map(drop)
    }
}
