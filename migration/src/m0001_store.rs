//! Mailboxes, messages, changes, segments, meta.
//!
//! On SQLite messages and changes are clustered by `stamp`, which only grows, so that a batch writes to the end of the
//! table however many mailboxes it feeds; `docs/storage.md` has the measurements against clustering by mailbox.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Written out because partial indexes, the clustering key and the lengths differ from engine to engine.
const SQLITE: &[&str] = &[
    "CREATE TABLE mailboxes (
        id INTEGER PRIMARY KEY NOT NULL,
        address TEXT,
        incarnation INTEGER NOT NULL,
        modseq INTEGER NOT NULL,
        replay_floor INTEGER NOT NULL,
        origin INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        message_ttl INTEGER,
        max_messages INTEGER,
        max_bytes INTEGER,
        when_full INTEGER,
        token_hash BLOB,
        messages INTEGER NOT NULL,
        unread INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        due INTEGER
    )",
    "CREATE UNIQUE INDEX mailboxes_address ON mailboxes (address) WHERE address IS NOT NULL",
    "CREATE UNIQUE INDEX mailboxes_token ON mailboxes (token_hash) WHERE token_hash IS NOT NULL",
    "CREATE INDEX mailboxes_due ON mailboxes (due) WHERE due IS NOT NULL",
    "CREATE TABLE messages (
        stamp INTEGER PRIMARY KEY NOT NULL,
        mailbox_id INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        id BLOB NOT NULL,
        received_at INTEGER NOT NULL,
        size INTEGER NOT NULL,
        segment INTEGER NOT NULL,
        \"offset\" INTEGER NOT NULL,
        length INTEGER NOT NULL,
        parse INTEGER NOT NULL,
        is_read INTEGER NOT NULL,
        attachments INTEGER NOT NULL,
        subject TEXT NOT NULL,
        sender TEXT,
        recipients TEXT NOT NULL,
        date INTEGER,
        preview TEXT NOT NULL,
        tags TEXT,
        envelope TEXT NOT NULL
    )",
    "CREATE UNIQUE INDEX messages_uid ON messages (mailbox_id, uid)",
    "CREATE UNIQUE INDEX messages_id ON messages (id, mailbox_id)",
    "CREATE TABLE changes (
        stamp INTEGER PRIMARY KEY NOT NULL,
        mailbox_id INTEGER NOT NULL,
        modseq INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        id BLOB,
        address TEXT,
        incarnation INTEGER NOT NULL
    )",
    "CREATE UNIQUE INDEX changes_modseq ON changes (mailbox_id, modseq)",
    "CREATE TABLE segments (
        number INTEGER PRIMARY KEY NOT NULL,
        created_at INTEGER NOT NULL,
        committed INTEGER NOT NULL,
        live INTEGER NOT NULL,
        total INTEGER NOT NULL,
        closed INTEGER NOT NULL
    )",
    "CREATE TABLE meta (
        id INTEGER PRIMARY KEY NOT NULL,
        lineage INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        stream_floor INTEGER NOT NULL,
        next_mailbox INTEGER NOT NULL,
        message_ttl INTEGER NOT NULL,
        restored INTEGER NOT NULL
    )",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        match db.get_database_backend() {
            sea_orm::DbBackend::Sqlite => {
                for statement in SQLITE {
                    db.execute_unprepared(statement).await?;
                }
                Ok(())
            }
            other => Err(DbErr::Custom(format!("{other:?} is not supported by this version"))),
        }
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Custom("the first migration cannot be undone: it would drop the mail".into()))
    }
}
