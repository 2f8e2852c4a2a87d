//! A file of message bodies.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "segments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub created_at: i64,
    /// Bytes of the file that belong to committed rows; what lies beyond was not answered.
    pub committed: i64,
    /// Bytes of records by the rows that point at them: a record of three mailboxes counts three times.
    pub live: i64,
    /// The same, of all rows that ever did.
    pub total: i64,
    /// Never appended to again.
    pub closed: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
