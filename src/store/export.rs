//! What `mailroom export` reads: a store without its writers, beside a server that may go on, and messages in their order.

use std::sync::Arc;

use entity::message;
use sea_orm::{ColumnTrait, DatabaseConnection, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::cold::Cold;
use super::cold::reader::Reader;
use super::config::Config;
use super::directory::{Directory, OpenError};
use super::lanes::Lanes;
use super::mailboxes::Mailbox;
use super::messages::StoredMessage;
use super::source::Source;
use super::writer::transaction::Head;
use super::{Bodies, Inner, Store, StoreError, columns, connect, head, open, unavailable};

/// Connections: the rows of a page and a body are not read at the same time.
const CONNECTIONS: u32 = 2;

impl Store {
    /// Opens a store to read from it only: takes no lock, migrates nothing, and every change is refused.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn open_to_read(config: &Config) -> Result<Self, OpenError> {
        let cold = Cold::open(&config.cold)?;
        let server = Source::server(&config.database.url).map_err(|why| OpenError::Url(why.to_string()))?;
        let (read, bodies, head) = match &server {
            Some(source) => {
                let failed = |error| OpenError::Server { place: source.to_string(), error };
                let read = source.reading(CONNECTIONS).await.map_err(failed)?;
                let head = present(&read).await.map_err(failed)?;
                (read, Bodies::Table, head)
            }
            None => {
                let directory = Directory::new(config)?;
                let path = directory.database.clone();
                let failed = |error| OpenError::Database { path: path.clone(), error };
                let read = connect::reading(&path, CONNECTIONS).await.map_err(failed)?;
                let head = present(&read).await.map_err(failed)?;
                (read, Bodies::Files(directory.bodies), head)
            }
        };
        let (lanes, inboxes) = Lanes::new(1, 1);
        drop(inboxes);
        let cold = Reader::new(cold, read.clone());
        let inner = Inner {
            defaults: head::defaults(&head.row, config),
            source: server,
            ..Inner::new(config, (read, lanes), open::shared(&head, config), (bodies, cold))
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The next messages of a mailbox in the order of their arrival: those above `after`, at most `limit` rows of them. With
    /// them the UID to go on after; none when there are no more. What has ended is left out.
    ///
    /// # Errors
    /// `Unavailable`; `Damaged` when a row cannot be understood.
    pub async fn oldest(
        &self,
        mailbox: &Mailbox,
        after: u64,
        limit: u64,
    ) -> Result<Option<(Vec<StoredMessage>, u64)>, StoreError> {
        let db = &self.inner.read;
        let Some(owner) = self.mailbox_row(db, &mailbox.key).await.map_err(unavailable)? else { return Ok(None) };
        let rows = message::Entity::find()
            .filter(message::Column::MailboxId.eq(owner.id))
            .filter(message::Column::Uid.gt(columns::signed(after)))
            .order_by_asc(message::Column::Uid)
            .limit(limit)
            .all(db)
            .await
            .map_err(unavailable)?;
        let Some(last) = rows.last().map(|row| columns::unsigned(row.uid)) else { return Ok(None) };
        let now = self.now().0;
        let (lineage, defaults) = (self.lineage(), &self.inner.defaults);
        let living = rows.into_iter().filter(|row| columns::lives(&owner, row.received_at, defaults, now));
        let page = living.map(|row| columns::stored(row, &owner, &mailbox.key, lineage, defaults));
        let page = page.collect::<Result<_, _>>()?;
        Ok(Some((page, last)))
    }
}

async fn present(db: &DatabaseConnection) -> Result<Head, DbErr> {
    let row = head::find(db).await?.ok_or_else(|| DbErr::Custom("there is no store in it yet".into()))?;
    Ok(Head { row, writer: None })
}
