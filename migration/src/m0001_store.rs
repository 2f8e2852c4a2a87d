//! Mailboxes, messages, changes, bodies, meta.
//!
//! On SQLite messages and changes are clustered by `stamp`, which only grows, so that a batch writes to the end of the
//! table however many mailboxes it feeds; `docs/storage.md` has the measurements against clustering by mailbox. Bodies lie
//! in segment files.
//!
//! On PostgreSQL and MySQL messages and changes are cut into 16 partitions by mailbox, bodies have a table of their own,
//! and `commits` has the order in which transactions of all nodes were committed.

use sea_orm_migration::prelude::*;

use super::Statements;

#[derive(DeriveMigrationName)]
pub struct Migration;

const ADDRESS: &str = "CREATE UNIQUE INDEX mailboxes_address ON mailboxes (address) WHERE address IS NOT NULL";
const TOKEN: &str = "CREATE UNIQUE INDEX mailboxes_token ON mailboxes (token_hash) WHERE token_hash IS NOT NULL";
const DUE: &str = "CREATE INDEX mailboxes_due ON mailboxes (due) WHERE due IS NOT NULL";

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
    ADDRESS,
    TOKEN,
    DUE,
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

/// `COLLATE "C"`: addresses are compared by their bytes, as in every index of this program. Counters are updated by every
/// batch: the room left in a page keeps such an update beside its row and out of the indexes.
const POSTGRES: &[&str] = &[
    r#"CREATE TABLE mailboxes (
        id BIGINT PRIMARY KEY,
        address TEXT COLLATE "C",
        incarnation BIGINT NOT NULL,
        modseq BIGINT NOT NULL,
        replay_floor BIGINT NOT NULL,
        origin SMALLINT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT,
        message_ttl BIGINT,
        max_messages BIGINT,
        max_bytes BIGINT,
        when_full SMALLINT,
        token_hash BYTEA,
        messages BIGINT NOT NULL,
        unread BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        due BIGINT
    ) WITH (fillfactor = 60)"#,
    ADDRESS,
    TOKEN,
    DUE,
    r#"CREATE TABLE messages (
        mailbox_id BIGINT NOT NULL,
        uid BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        id UUID NOT NULL,
        received_at BIGINT NOT NULL,
        size BIGINT NOT NULL,
        segment BIGINT NOT NULL,
        "offset" BIGINT NOT NULL,
        length BIGINT NOT NULL,
        parse SMALLINT NOT NULL,
        is_read BOOLEAN NOT NULL,
        attachments INTEGER NOT NULL,
        subject TEXT NOT NULL,
        sender TEXT,
        recipients TEXT NOT NULL,
        date BIGINT,
        preview TEXT NOT NULL,
        tags TEXT,
        envelope TEXT NOT NULL,
        PRIMARY KEY (mailbox_id, uid)
    ) PARTITION BY HASH (mailbox_id)"#,
    "CREATE UNIQUE INDEX messages_id ON messages (id, mailbox_id)",
    "CREATE INDEX messages_stamp ON messages (stamp)",
    "CREATE TABLE changes (
        mailbox_id BIGINT NOT NULL,
        modseq BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        kind SMALLINT NOT NULL,
        uid BIGINT NOT NULL,
        id UUID,
        address TEXT,
        incarnation BIGINT NOT NULL,
        PRIMARY KEY (mailbox_id, modseq)
    ) PARTITION BY HASH (mailbox_id)",
    "CREATE INDEX changes_stamp ON changes (stamp)",
    "CREATE TABLE bodies (
        id UUID PRIMARY KEY,
        compressed BOOLEAN NOT NULL,
        size BIGINT NOT NULL,
        mailboxes INTEGER NOT NULL,
        contents BYTEA NOT NULL
    )",
    // What is compressed already is not to be compressed again.
    "ALTER TABLE bodies ALTER COLUMN contents SET STORAGE EXTERNAL",
    "CREATE TABLE commits (
        batch UUID PRIMARY KEY,
        last BIGINT,
        events BYTEA NOT NULL
    )",
    "CREATE UNIQUE INDEX commits_last ON commits (last) WHERE last IS NOT NULL",
    "CREATE TABLE meta (
        id BIGINT PRIMARY KEY,
        lineage BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        stream_floor BIGINT NOT NULL,
        next_mailbox BIGINT NOT NULL,
        message_ttl BIGINT NOT NULL,
        restored BOOLEAN NOT NULL
    ) WITH (fillfactor = 10)",
];

/// Unique indexes of MySQL hold any number of nulls. Text is compared by its bytes.
const MYSQL: &[&str] = &[
    "CREATE TABLE mailboxes (
        id BIGINT PRIMARY KEY,
        address VARCHAR(450),
        incarnation BIGINT NOT NULL,
        modseq BIGINT NOT NULL,
        replay_floor BIGINT NOT NULL,
        origin SMALLINT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT,
        message_ttl BIGINT,
        max_messages BIGINT,
        max_bytes BIGINT,
        when_full SMALLINT,
        token_hash VARBINARY(32),
        messages BIGINT NOT NULL,
        unread BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        due BIGINT,
        UNIQUE KEY mailboxes_address (address),
        UNIQUE KEY mailboxes_token (token_hash),
        KEY mailboxes_due (due)
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE messages (
        mailbox_id BIGINT NOT NULL,
        uid BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        id BINARY(16) NOT NULL,
        received_at BIGINT NOT NULL,
        size BIGINT NOT NULL,
        segment BIGINT NOT NULL,
        `offset` BIGINT NOT NULL,
        length BIGINT NOT NULL,
        parse SMALLINT NOT NULL,
        is_read BOOLEAN NOT NULL,
        attachments INTEGER NOT NULL,
        subject MEDIUMTEXT NOT NULL,
        sender MEDIUMTEXT,
        recipients LONGTEXT NOT NULL,
        date BIGINT,
        preview TEXT NOT NULL,
        tags MEDIUMTEXT,
        envelope MEDIUMTEXT NOT NULL,
        PRIMARY KEY (mailbox_id, uid),
        UNIQUE KEY messages_id (id, mailbox_id),
        KEY messages_stamp (stamp)
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PARTITION BY HASH (mailbox_id) PARTITIONS 16",
    "CREATE TABLE changes (
        mailbox_id BIGINT NOT NULL,
        modseq BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        kind SMALLINT NOT NULL,
        uid BIGINT NOT NULL,
        id BINARY(16),
        address VARCHAR(450),
        incarnation BIGINT NOT NULL,
        PRIMARY KEY (mailbox_id, modseq),
        KEY changes_stamp (stamp)
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PARTITION BY HASH (mailbox_id) PARTITIONS 16",
    "CREATE TABLE bodies (
        id BINARY(16) PRIMARY KEY,
        compressed BOOLEAN NOT NULL,
        size BIGINT NOT NULL,
        mailboxes INTEGER NOT NULL,
        contents LONGBLOB NOT NULL
    ) ENGINE=InnoDB",
    "CREATE TABLE commits (
        batch BINARY(16) PRIMARY KEY,
        last BIGINT,
        events LONGBLOB NOT NULL,
        UNIQUE KEY commits_last (last)
    ) ENGINE=InnoDB",
    "CREATE TABLE meta (
        id BIGINT PRIMARY KEY,
        lineage BIGINT NOT NULL,
        stamp BIGINT NOT NULL,
        stream_floor BIGINT NOT NULL,
        next_mailbox BIGINT NOT NULL,
        message_ttl BIGINT NOT NULL,
        restored BOOLEAN NOT NULL
    ) ENGINE=InnoDB",
];

/// Partitions of messages and of changes.
const PARTITIONS: u32 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Statements { sqlite: SQLITE, postgres: POSTGRES, mysql: MYSQL }.run(manager).await?;
        let db = manager.get_connection();
        if db.get_database_backend() == sea_orm::DbBackend::Postgres {
            for (table, n) in
                ["messages", "changes"].into_iter().flat_map(|table| (0..PARTITIONS).map(move |n| (table, n)))
            {
                let partition = format!(
                    "CREATE TABLE {table}_{n} PARTITION OF {table} FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {n})"
                );
                db.execute_unprepared(&partition).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Custom("the first migration cannot be undone: it would drop the mail".into()))
    }
}
