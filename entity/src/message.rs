//! A message in a mailbox: the list columns and where its body lies.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "messages")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub mailbox_id: i64,
    /// The mailbox's mod-sequence when it arrived.
    #[sea_orm(primary_key, auto_increment = false)]
    pub uid: i64,
    /// On SQLite the place in the order of all commits, unique. Elsewhere near it: when a node planned the row, in units of
    /// 1/1024 of a microsecond; the exact place is in `commits`.
    pub stamp: i64,
    /// The delivery's UUIDv7.
    pub id: Uuid,
    pub received_at: i64,
    /// Length of the message itself.
    pub size: i64,
    /// Where the record of its body lies: a segment file, or above its negative an object. Elsewhere than on SQLite 0, and
    /// `bodies` knows.
    pub segment: i64,
    pub offset: i64,
    pub length: i64,
    /// How far the MIME parser got: 0 the whole, 1 headers only, 2 nothing.
    pub parse: i16,
    pub is_read: bool,
    pub attachments: i32,
    pub subject: String,
    /// `["name","address"]`; null when there is no From.
    pub sender: Option<String>,
    /// A list of the same.
    pub recipients: String,
    pub date: Option<i64>,
    pub preview: String,
    /// A JSON list of strings; null when there is none.
    pub tags: Option<String>,
    /// The SMTP envelope with the recipients that led here, as compact JSON.
    pub envelope: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
