//! The schema, one migration a file; one schema for every engine that `store` knows.

use sea_orm_migration::prelude::*;

mod m0001_store;
mod m0002_search;
mod m0003_cold;

/// All migrations in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_store::Migration), Box::new(m0002_search::Migration), Box::new(m0003_cold::Migration)]
    }
}

/// Brings the database to the present schema.
///
/// # Errors
/// What the database says.
pub async fn up(db: &sea_orm::DatabaseConnection) -> Result<(), DbErr> {
    Migrator::up(db, None).await
}
