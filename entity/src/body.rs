//! The body of a message, on engines other than SQLite, which has files for them.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bodies")]
pub struct Model {
    /// The delivery's UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whether `contents` is a zstd frame.
    pub compressed: bool,
    /// Length of the message itself.
    pub size: i64,
    /// Mailboxes that have the message; the last one that loses it takes the body along.
    pub mailboxes: i32,
    /// Empty once the body lies in an object.
    pub contents: Vec<u8>,
    /// The object that has the body's record, and where in it.
    pub object: Option<i64>,
    pub object_offset: Option<i64>,
    pub object_length: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
