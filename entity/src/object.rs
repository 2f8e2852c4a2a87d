//! An object of message bodies in object storage.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "objects")]
pub struct Model {
    /// Never given twice.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// Its key below the configured place; never given twice either.
    pub name: String,
    /// The history that made it: only that one removes it.
    pub lineage: i64,
    pub created_at: i64,
    /// Its length; 0 until it was written.
    pub bytes: i64,
    /// Bytes of records that are still needed. On a database server as of the last count.
    pub live: i64,
    /// The same, of all that ever were; 0 as long as nothing points there.
    pub total: i64,
    /// Since when nothing of it is needed.
    pub dead_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
