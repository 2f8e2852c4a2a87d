//! Bodies in object storage: which objects there are, and on a database server where in them a body lies.
//!
//! Only adds what may be absent, so that nodes of the version before go on beside it. A body that moved keeps its row with
//! empty contents that are marked as compressed: who does not know objects fails to unpack it and shows nothing wrong.

use sea_orm_migration::prelude::*;

use super::Statements;

#[derive(DeriveMigrationName)]
pub struct Migration;

const PLACE: &str =
    "ALTER TABLE bodies ADD COLUMN object BIGINT, ADD COLUMN object_offset BIGINT, ADD COLUMN object_length BIGINT";

const SQLITE: &[&str] = &["CREATE TABLE objects (
        number INTEGER PRIMARY KEY NOT NULL,
        name TEXT NOT NULL,
        lineage INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        live INTEGER NOT NULL,
        total INTEGER NOT NULL,
        dead_at INTEGER
    )"];

const POSTGRES: &[&str] = &[
    r#"CREATE TABLE objects (
        number BIGINT PRIMARY KEY,
        name TEXT COLLATE "C" NOT NULL,
        lineage BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        live BIGINT NOT NULL,
        total BIGINT NOT NULL,
        dead_at BIGINT
    )"#,
    PLACE,
    "CREATE INDEX bodies_object ON bodies (object, object_length) WHERE object IS NOT NULL",
];

const MYSQL: &[&str] = &[
    "CREATE TABLE objects (
        number BIGINT PRIMARY KEY,
        name VARCHAR(200) NOT NULL,
        lineage BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        live BIGINT NOT NULL,
        total BIGINT NOT NULL,
        dead_at BIGINT
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    PLACE,
    "CREATE INDEX bodies_object ON bodies (object, object_length)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Statements { sqlite: SQLITE, postgres: POSTGRES, mysql: MYSQL }.run(manager).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Custom("objects may hold mail: this migration cannot be undone".into()))
    }
}
