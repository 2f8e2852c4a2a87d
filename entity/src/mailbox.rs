//! A mailbox: lifetime, quota, counter and totals.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mailboxes")]
pub struct Model {
    /// Given by the writer, never reused.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// `local@domain`; null once the mailbox was deleted and its messages wait for removal.
    pub address: Option<String>,
    /// Which life of this address: above that of every life before. On SQLite it rises over all mailboxes.
    pub incarnation: i64,
    /// The last mod-sequence given (RFC 7162).
    pub modseq: i64,
    /// Mod-sequences up to this one may lack their changes: cursors below it answer `reset`.
    pub replay_floor: i64,
    /// 0 made by mail, 1 made by a call.
    pub origin: i16,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    /// Lifetime of messages in microseconds; 0 is for ever, null the configured default.
    pub message_ttl: Option<i64>,
    pub max_messages: Option<i64>,
    pub max_bytes: Option<i64>,
    /// 0 refuse, 1 drop the oldest, null the configured default.
    pub when_full: Option<i16>,
    /// SHA-256 of the mailbox's token.
    pub token_hash: Option<Vec<u8>>,
    pub messages: i64,
    pub unread: i64,
    pub bytes: i64,
    /// When retention has something to do here, rounded up to a minute; null is never.
    pub due: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
