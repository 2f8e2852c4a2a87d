//! The schema, one migration a file; one schema for every engine that `store` knows.
//!
//! Several versions work on the same tables during an upgrade, and an older one comes back when a newer is given up. So a
//! migration only adds what may be absent: tables, indexes, columns that are nullable or have a default. What is not used any
//! more is taken away by a later version, in a migration whose name says what a program must know at least to go on without
//! it: `m0009_needs_m0007_…`. A program that knows less than that refuses the tables; it goes on beside all others. Nodes receive
//! while a migration runs: what takes long and keeps others out of a table with mail in it does not belong here.

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QueryOrder};
use sea_orm_migration::prelude::*;
use sea_orm_migration::seaql_migrations;

mod m0001_store;
mod m0002_search;
mod m0003_cold;
mod m0004_secret;
mod newer;

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

    /// Those that were applied and that this version has; it goes on beside the newer ones.
    ///
    /// # Errors
    /// What the database says, and tables that this version must leave alone.
    async fn get_migration_models<C: ConnectionTrait>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr> {
        Self::install(db).await?;
        let (own, others) = applied(db).await?;
        newer::may_go_on(&names(), &others).map_err(DbErr::Custom)?;
        Ok(own)
    }
}

/// Of all migrations of this version, in order.
fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

/// What was applied: that of this version, and the names of the rest.
async fn applied<C: ConnectionTrait>(db: &C) -> Result<(Vec<seaql_migrations::Model>, Vec<String>), DbErr> {
    let all = seaql_migrations::Entity::find().order_by_asc(seaql_migrations::Column::Version).all(db).await?;
    let known = names();
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|model| known.contains(&model.version));
    Ok((own, others.into_iter().map(|model| model.version).collect()))
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

/// Brings the database to the schema of this version. Gives the names of migrations of newer versions that are there already.
///
/// # Errors
/// What the database says, or that a newer version took away what this one needs.
pub async fn up(db: &sea_orm::DatabaseConnection) -> Result<Vec<String>, DbErr> {
    Migrator::up(db, None).await?;
    applied(db).await.map(|(_, newer)| newer)
}
