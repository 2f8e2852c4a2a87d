//! The schema, one migration a file; one schema for every engine that `store` knows.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

mod m0001_store;
mod m0002_search;
mod m0003_cold;
mod m0004_secret;

/// All migrations in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_store::Migration),
            Box::new(m0002_search::Migration),
            Box::new(m0003_cold::Migration),
            Box::new(m0004_secret::Migration),
        ]
    }
}

/// What a migration tells each engine. Written out, because partial indexes, clustering keys, partitions and the lengths of
/// columns differ; what was released once is never changed again.
struct Statements {
    sqlite: &'static [&'static str],
    postgres: &'static [&'static str],
    mysql: &'static [&'static str],
}

impl Statements {
    async fn run(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let statements = match db.get_database_backend() {
            DbBackend::Sqlite => self.sqlite,
            DbBackend::Postgres => self.postgres,
            DbBackend::MySql => self.mysql,
            other => return Err(DbErr::Custom(format!("{other:?} is not supported"))),
        };
        for statement in statements {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// Brings the database to the present schema.
///
/// # Errors
/// What the database says.
pub async fn up(db: &sea_orm::DatabaseConnection) -> Result<(), DbErr> {
    Migrator::up(db, None).await
}
