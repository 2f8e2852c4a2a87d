//! The one row that says where the whole store stands.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// Which history this is: a restored backup gets a new one, and a server that lost commits.
    pub lineage: i64,
    /// The last stamp given. On SQLite near the time in microseconds and written by every transaction: tells whether a commit
    /// of unknown outcome happened. Elsewhere one more for each event within a history, and `commits` tells that.
    pub stamp: i64,
    /// Stamps up to this one may lack their changes: stream cursors below it answer `reset`.
    pub stream_floor: i64,
    pub next_mailbox: i64,
    /// `[mailboxes] message_ttl` that the `due` times were computed with; 0 is for ever.
    pub message_ttl: i64,
    /// Set in a copy made by `backup`, or by who restored a dump: the first node that finds it begins a new history.
    pub restored: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
