//! The one row of `meta`: read, and made or brought up to date when a store is opened.

use entity::{commit, mailbox, meta};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder,
};

use super::config::{Config, Defaults};
use super::history::{self, Belief};
use super::writer::transaction::Head;
use super::{columns, schema, secret};

/// The row; none in a database that no store was opened in.
pub async fn find<C: ConnectionTrait>(db: &C) -> Result<Option<meta::Model>, DbErr> {
    meta::Entity::find_by_id(1).one(db).await
}

/// The row of an open store.
///
/// # Errors
/// `RecordNotFound` where there is none.
pub async fn row<C: ConnectionTrait>(db: &C) -> Result<meta::Model, DbErr> {
    find(db).await?.ok_or_else(|| DbErr::RecordNotFound("meta".into()))
}

/// What holds for mailboxes, with the lifetime that the `due` times were reckoned with, whatever the settings are now.
pub fn defaults(row: &meta::Model, config: &Config) -> Defaults {
    let ttl = columns::unsigned(row.message_ttl);
    let message_ttl = (ttl > 0).then(|| std::time::Duration::from_micros(ttl));
    Defaults { message_ttl, ..config.defaults }
}

/// When something was committed last, in microseconds; zero if that is not known. Stamps tell on SQLite alone.
pub async fn last_commit(db: &DatabaseConnection, row: &meta::Model) -> Result<i64, DbErr> {
    if db.get_database_backend() == DbBackend::Sqlite {
        return Ok(row.stamp);
    }
    let newest = commit::Entity::find().order_by_desc(commit::Column::Batch).one(db).await?;
    let time = newest.and_then(|mark| mark.batch.get_timestamp()).map(|time| time.to_unix());
    let micros = |(seconds, nanos): (u64, u32)| i64::try_from(seconds * 1_000_000 + u64::from(nanos / 1_000)).ok();
    Ok(time.and_then(micros).unwrap_or(0))
}

/// Migrates and reads the head. A new database, and one restored from a backup, takes a new lineage.
pub async fn prepare(db: &DatabaseConnection, config: &Config) -> Result<Head, DbErr> {
    let newer = schema::prepare(db).await?;
    if !newer.is_empty() {
        tracing::info!(?newer, "a newer version has prepared the database; this one goes on beside it");
    }
    secret::ensure(db).await?;
    let now = crate::clock::now_micros();
    let ttl = config.defaults.message_ttl.map_or(0, columns::micros);
    let found = find(db).await?;
    let row = match found.clone() {
        Some(row) if !row.restored => row,
        Some(row) if db.get_database_backend() == DbBackend::Sqlite => {
            let row = meta::Model { lineage: history::another(row.lineage), restored: false, ..row };
            meta::Entity::update_many()
                .col_expr(meta::Column::Lineage, Expr::value(row.lineage))
                .col_expr(meta::Column::Restored, Expr::value(row.restored))
                .exec(db)
                .await?;
            row
        }
        // Other nodes may be at it.
        Some(row) => history::renew(db, Belief::of(&row)).await?,
        None => meta::Model {
            id: 1,
            lineage: history::another(0),
            stamp: now,
            stream_floor: 0,
            next_mailbox: 1,
            message_ttl: ttl,
            restored: false,
        },
    };
    if row.message_ttl != ttl {
        // Another default moves the ends of these; retention looks at each of them and reckons anew.
        mailbox::Entity::update_many()
            .col_expr(mailbox::Column::Due, Expr::value(0))
            .filter(mailbox::Column::MessageTtl.is_null())
            .filter(mailbox::Column::Messages.gt(0))
            .exec(db)
            .await?;
    }
    let row = meta::Model { message_ttl: ttl, ..row };
    match found {
        // Only this: another node may be giving stamps, or beginning a new history.
        Some(_) => {
            let change = meta::Entity::update_many();
            change.col_expr(meta::Column::MessageTtl, Expr::value(row.message_ttl)).exec(db).await?;
        }
        None => drop(meta::Entity::insert(row.clone().into_active_model()).exec_without_returning(db).await?),
    }
    Ok(Head { row, writer: None })
}
