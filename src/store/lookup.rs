//! Reading mailboxes, one message, a body. What has ended is not there, although retention may not have removed it yet.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use entity::{body, mailbox, message};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::bodies::{self, ReadError};
use super::cold::reader;
use super::list::living_by_id;
use super::mailboxes::{Mailbox, MailboxPage};
use super::messages::{BodyLocation, Scope, StoredMessage};
use super::search::batch;
use super::tokens::{Life, TokenHash};
use super::writer::statements::chunks;
use super::{Bodies, Store, StoreError, columns, source, stream, unavailable};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::id::DeliveryId;

/// A body larger than this is read and unpacked on a blocking thread.
const READ_INLINE: i64 = 64 << 10;

impl Store {
    /// Whether the database answers at all; a cheap look that writes nothing.
    pub async fn answers(&self) -> bool {
        self.inner.read.ping().await.is_ok()
    }

    /// Rows of those keys that exist, in any order.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn mailboxes(&self, keys: &[MailboxKey]) -> Result<Vec<Mailbox>, StoreError> {
        let keys: Vec<&str> = keys.iter().map(MailboxKey::as_str).collect();
        let (lineage, mut found) = (self.lineage(), Vec::with_capacity(keys.len()));
        for keys in chunks(&keys) {
            let query = mailbox::Entity::find().filter(mailbox::Column::Address.is_in(keys.to_vec()));
            found.extend(self.timely(query.all(&self.inner.read)).await?);
        }
        Ok(self.living(found, lineage))
    }

    /// Where the mailboxes of those keys stand that have a row, ended or not; always as the primary has it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn places(&self, keys: &[MailboxKey]) -> Result<HashMap<MailboxKey, Cursor>, StoreError> {
        use mailbox::Column;
        let keys: Vec<&str> = keys.iter().map(MailboxKey::as_str).collect();
        let (lineage, mut found) = (self.lineage(), HashMap::with_capacity(keys.len()));
        for keys in chunks(&keys) {
            let query =
                mailbox::Entity::find().select_only().columns([Column::Address, Column::Incarnation, Column::Modseq]);
            let query = query.filter(Column::Address.is_in(keys.to_vec())).into_tuple::<(String, i64, i64)>();
            for (address, incarnation, modseq) in self.timely(query.all(&self.inner.read)).await? {
                let (incarnation, modseq) = (columns::unsigned(incarnation), columns::unsigned(modseq));
                let cursor = Cursor { lineage, incarnation, modseq };
                found.insert(MailboxKey::from_stored(&address), cursor);
            }
        }
        Ok(found)
    }

    /// The mailboxes in which something happened last, the latest first: at most `count`, among the last few thousand events.
    /// None where there is one node alone, whose pages are warm or cheap.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn recently_active(&self, count: usize) -> Result<Vec<MailboxKey>, StoreError> {
        /// Events looked at for each mailbox.
        const DEEP: usize = 4;
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        let tx = source::snapshot(&self.inner.read).await.map_err(unavailable)?;
        let places = stream::before(&tx, 0, i64::MAX, count.saturating_mul(DEEP)).await.map_err(unavailable)?;
        let mut seen = HashSet::new();
        let ids: Vec<i64> =
            places.iter().map(|place| place.mailbox).filter(|id| seen.insert(*id)).take(count).collect();
        let mut living = living_by_id(&tx, ids.iter().copied(), self.now()).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        Ok(ids.iter().filter_map(|id| living.remove(id)).map(|(key, _)| key).collect())
    }

    /// The mailbox of this address; none while nothing was received or made.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn mailbox(&self, key: &MailboxKey) -> Result<Option<Mailbox>, StoreError> {
        let lineage = self.lineage();
        let row = self.timely(self.mailbox_row(&self.inner.read, key)).await?;
        Ok(row.and_then(|row| columns::mailbox(row, lineage)))
    }

    /// The mailbox that the token with this hash opens, and which life of it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn mailbox_of_token(&self, token_hash: &TokenHash) -> Result<Option<Life>, StoreError> {
        let tokens = &self.inner.shared.tokens;
        let mark = match tokens.get(token_hash, self.now()) {
            Ok(life) => return Ok(Some(life)),
            Err(mark) => mark,
        };
        let found = mailbox::Entity::find().filter(mailbox::Column::TokenHash.eq(token_hash.to_vec()));
        let (lineage, found) = (self.lineage(), self.timely(found.all(&self.inner.read)).await?);
        let Some(found) = self.living(found, lineage).pop() else { return Ok(None) };
        let life = Life { mailbox: found.key, incarnation: found.cursor.incarnation };
        tokens.keep(mark, *token_hash, life.clone(), found.expires_at);
        Ok(Some(life))
    }

    /// Ordered by key; `after` is `next` of the page before.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_mailboxes(&self, after: Option<&str>, limit: u32) -> Result<MailboxPage, StoreError> {
        let rows = mailbox::Entity::find()
            .filter(mailbox::Column::Address.gt(after.unwrap_or_default()))
            .order_by_asc(mailbox::Column::Address)
            .limit(u64::from(limit) + 1);
        let (lineage, rows) = (self.lineage(), self.timely(rows.all(&self.inner.read)).await?);
        let more = rows.len() > limit as usize;
        let page: Vec<_> = rows.into_iter().take(limit as usize).collect();
        let next = page.last().filter(|_| more).and_then(|row| row.address.clone());
        Ok(MailboxPage { items: self.living(page, lineage), next })
    }

    fn living(&self, rows: Vec<mailbox::Model>, lineage: u32) -> Vec<Mailbox> {
        let now = self.now().0;
        let rows = rows.into_iter().filter(|row| !columns::ended(row, now));
        rows.filter_map(|row| columns::mailbox(row, lineage)).collect()
    }

    /// The row of a mailbox that has not ended.
    pub(super) async fn mailbox_row<C: ConnectionTrait>(
        &self,
        db: &C,
        key: &MailboxKey,
    ) -> Result<Option<mailbox::Model>, DbErr> {
        let row = mailbox::Entity::find().filter(mailbox::Column::Address.eq(key.as_str())).one(db).await?;
        let now = self.now().0;
        Ok(row.filter(|row| !columns::ended(row, now)))
    }

    /// One message of a mailbox; none when there is no such message or its time is over.
    ///
    /// # Errors
    /// `Unavailable`, or `Damaged` when its row cannot be understood.
    pub async fn message(&self, key: &MailboxKey, id: DeliveryId) -> Result<Option<StoredMessage>, StoreError> {
        let scope = Scope::Mailbox(key.clone());
        self.somewhere(async |place| {
            let lineage = self.lineage();
            let tx = self.snapshot(place, &scope).await?;
            let message = self.message_in((&tx, lineage), key, id).await?;
            tx.commit().await.map_err(unavailable)?;
            Ok(message)
        })
        .await
    }

    async fn message_in(
        &self,
        (tx, lineage): (&DatabaseTransaction, u32),
        key: &MailboxKey,
        id: DeliveryId,
    ) -> Result<Option<StoredMessage>, StoreError> {
        let Some(of) = self.mailbox_row(tx, key).await.map_err(unavailable)? else { return Ok(None) };
        let row = message::Entity::find()
            .filter(message::Column::Id.eq(id.0))
            .filter(message::Column::MailboxId.eq(of.id))
            .one(tx)
            .await
            .map_err(unavailable)?;
        let (now, defaults) = (self.now().0, &self.inner.defaults);
        let row = row.filter(|row| columns::lives(&of, row.received_at, defaults, now));
        row.map(|row| columns::stored(row, &of, key, lineage, defaults)).transpose()
    }

    /// The message byte for byte as stored; follows a body that moved since its row was read (reads the row again, once).
    ///
    /// # Errors
    /// `Damaged` names the segment or the object and the place; `NotFound` when the message went meanwhile; `Unavailable` when
    /// it lies in object storage and that is away.
    pub async fn body(&self, message: &StoredMessage) -> Result<bytes::Bytes, StoreError> {
        let id = message.listed.id;
        let Bodies::Files(dir) = &self.inner.bodies else { return self.body_in_table(id).await };
        let lost = match self.body_at(dir, message.location, id).await {
            Err(lost @ (Lost::Moved(_) | Lost::Object(_))) => lost,
            read => return read.map_err(StoreError::from),
        };
        let again = self.message(&message.listed.mailbox, id).await?.ok_or(StoreError::NotFound)?;
        if again.location == message.location {
            return Err(lost.into());
        }
        Ok(self.body_at(dir, again.location, id).await?)
    }

    async fn body_at(&self, dir: &Path, at: BodyLocation, id: DeliveryId) -> Result<bytes::Bytes, Lost> {
        match reader::object_of(at) {
            None => read_body(dir, at, id).await.map_err(|error| match error {
                ReadError::Missing(_) => Lost::Moved(error.to_string()),
                ReadError::Damaged { .. } => Lost::For(StoreError::Damaged(error.to_string())),
            }),
            Some(number) => {
                self.inner.cold.read(number, (at.offset, at.length), id).await.map_err(|error| match error {
                    StoreError::NotFound | StoreError::Damaged(_) => Lost::Object(error),
                    error => Lost::For(error),
                })
            }
        }
    }

    /// The readable text of a message whose body lies in the database; empty when it cannot be read.
    pub(super) async fn text_in_table(&self, id: DeliveryId) -> Result<Arc<str>, StoreError> {
        let read = match self.body_row(id).await? {
            Some(row) => match (row.object, object_place(&row)) {
                (Some(number), place) => self.inner.cold.soon(number, place, id).await,
                (None, _) => unpacked(row, id).await,
            },
            None => Err(StoreError::NotFound),
        };
        let raw = match read {
            Ok(raw) => raw,
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(_) => return Ok(Arc::default()),
        };
        let read = tokio::task::spawn_blocking(move || batch::text_of(&raw).unwrap_or_default()).await;
        read.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// The body of a message on a database server; `NotFound` when the message went meanwhile.
    async fn body_in_table(&self, id: DeliveryId) -> Result<bytes::Bytes, StoreError> {
        let row = self.body_row(id).await?.ok_or(StoreError::NotFound)?;
        match row.object {
            Some(number) => self.body_in_object(number, &row, id).await,
            None => unpacked(row, id).await,
        }
    }

    async fn body_row(&self, id: DeliveryId) -> Result<Option<body::Model>, StoreError> {
        // A body never changes: one that a replica has is the right one.
        for place in self.inner.replicas.places(self.lineage()) {
            let found = body::Entity::find_by_id(id.0).one(self.connections(&place)).await.map_err(unavailable);
            if place.failed(&found) {
                continue;
            }
            let row = found?;
            if row.is_some() {
                return Ok(row);
            }
        }
        Ok(None)
    }

    /// The body in object storage; it may have moved to another object since `row` was read, or a replica may lag.
    async fn body_in_object(&self, number: i64, row: &body::Model, id: DeliveryId) -> Result<bytes::Bytes, StoreError> {
        let cold = &self.inner.cold;
        match cold.read(number, object_place(row), id).await {
            Err(StoreError::NotFound | StoreError::Damaged(_)) => {}
            read => return read,
        }
        let again = body::Entity::find_by_id(id.0).one(&self.inner.read).await.map_err(unavailable)?;
        let again = again.ok_or(StoreError::NotFound)?;
        match again.object {
            Some(number) => cold.read(number, object_place(&again), id).await.map_err(|error| match error {
                StoreError::NotFound => StoreError::Damaged(format!("the object of message {id} is not known")),
                error => error,
            }),
            None => Err(StoreError::Damaged(format!("the body of message {id} is in two places"))),
        }
    }
}

/// Where in its object a body's record lies.
fn object_place(row: &body::Model) -> (i64, i64) {
    (row.object_offset.unwrap_or(0), row.object_length.unwrap_or(0))
}

/// The message in a row of the table.
async fn unpacked(row: body::Model, id: DeliveryId) -> Result<bytes::Bytes, StoreError> {
    let large = row.size > READ_INLINE;
    let unpack = move || bodies::unpack(row.compressed, columns::unsigned(row.size), row.contents);
    let raw = match large {
        true => tokio::task::spawn_blocking(unpack).await.map_err(|error| StoreError::Damaged(error.to_string()))?,
        false => unpack(),
    };
    raw.map(Into::into).map_err(|what| StoreError::Damaged(format!("the body of message {id}: {what}")))
}

/// Why a body is not where its row said.
enum Lost {
    /// The file is not there: the body may have moved.
    Moved(String),
    /// The same of an object.
    Object(StoreError),
    /// Looking again does not help.
    For(StoreError),
}

impl From<Lost> for StoreError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Moved(what) => Self::Damaged(what),
            Lost::Object(Self::NotFound) => Self::Damaged("the database does not know its object".into()),
            Lost::Object(error) | Lost::For(error) => error,
        }
    }
}

async fn read_body(dir: &Path, at: BodyLocation, id: DeliveryId) -> Result<bytes::Bytes, ReadError> {
    if at.length <= READ_INLINE {
        return bodies::read(dir, at, id).map(Into::into);
    }
    let dir = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || bodies::read(&dir, at, id)).await;
    let failed = |error: tokio::task::JoinError| ReadError::Damaged {
        segment: at.segment,
        offset: at.offset,
        what: error.to_string(),
    };
    read.map_err(failed)?.map(Into::into)
}
