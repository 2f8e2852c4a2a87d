//! What happened to a mailbox besides arrivals; kept for a day so that readers can catch up.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "changes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub mailbox_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub modseq: i64,
    /// As that of a message.
    pub stamp: i64,
    /// 1 updated, 2 deleted, 3 expired through `uid`, 4 the mailbox was deleted.
    pub kind: i16,
    pub uid: i64,
    /// The message, for kinds 1 and 2.
    pub id: Option<Uuid>,
    /// `local@domain` and incarnation of a deleted mailbox, whose row no longer tells them.
    pub address: Option<String>,
    pub incarnation: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
