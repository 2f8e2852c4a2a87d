//! A committed transaction, on engines other than SQLite: its place in the order of all of them, and its events. Kept for
//! a day.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "commits")]
pub struct Model {
    /// A UUIDv7 that the writer chose: tells whether a commit of unknown outcome happened.
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch: Uuid,
    /// Stamp of the last event; those before it have the numbers before it. Null without events.
    pub last: Option<i64>,
    /// `mailbox_id` and `modseq` of each event, eight bytes each, big-endian.
    pub events: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
