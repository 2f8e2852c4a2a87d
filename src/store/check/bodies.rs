//! Every message has its body: whole, of this delivery, for this mailbox.

use std::collections::HashMap;

use entity::{mailbox, message};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::objects::Look;
use super::{Check, Finding};
use crate::store::bodies::{self, record::Record};
use crate::store::cold::reader::object_of;
use crate::store::messages::BodyLocation;
use crate::store::writer::statements::chunks;

/// Rows read at once.
const ROWS: u64 = 500;

/// The last record that was read: a message of several mailboxes is read once.
type Last = Option<(BodyLocation, Result<Option<Read>, String>)>;

/// What is compared of a record.
#[derive(Clone, Debug)]
struct Read {
    id: uuid::Uuid,
    size: u64,
    mailboxes: Vec<String>,
}

impl Check<'_> {
    /// All messages in the order of their arrival.
    pub(super) async fn messages(&mut self) -> Result<(), DbErr> {
        let mut after = i64::MIN;
        let mut last: Last = None;
        let mut done = 0;
        loop {
            let rows = message::Entity::find()
                .filter(message::Column::Stamp.gt(after))
                .order_by_asc(message::Column::Stamp)
                .limit(ROWS)
                .all(&self.tx)
                .await?;
            let Some(end) = rows.last() else { return Ok(()) };
            after = end.stamp;
            let addresses = self.addresses(&rows).await?;
            for row in &rows {
                self.message(row, addresses.get(&row.mailbox_id).map(String::as_str), &mut last).await?;
                done += 1;
            }
            self.watch.progress(done, self.summary.messages);
        }
    }

    async fn message(&mut self, row: &message::Model, address: Option<&str>, last: &mut Last) -> Result<(), DbErr> {
        let mut why = self.place(row);
        if why.is_none() {
            why = self.body(row, address, last).await;
        }
        let Some(why) = why else { return Ok(()) };
        // Since the snapshot it may have been deleted, or moved and its old file removed.
        let now = message::Entity::find_by_id((row.mailbox_id, row.uid)).one(&self.db).await?;
        let why = match now {
            None => {
                self.summary.gone += 1;
                return Ok(());
            }
            Some(now) if (now.segment, now.offset) != (row.segment, row.offset) => {
                self.objects.learn(&self.db, &now).await?;
                self.body(&now, address, &mut None).await
            }
            Some(_) => Some(why),
        };
        if let Some(why) = why {
            self.found(&Finding {
                mailbox: Some(address.map_or_else(|| format!("#{} (deleted)", row.mailbox_id), str::to_owned)),
                uid: Some(row.uid),
                id: Some(row.id),
                segment: (row.segment > 0).then_some(row.segment),
                offset: Some(row.offset),
                ..Finding::damage(why)
            });
        }
        Ok(())
    }

    /// Whether the row points at a committed part of a segment; counts it there.
    fn place(&mut self, row: &message::Model) -> Option<String> {
        let at = BodyLocation { segment: row.segment, offset: row.offset, length: row.length };
        if let Some(number) = object_of(at) {
            return self.objects.place(number, at);
        }
        let Some(used) = self.segments.get_mut(&row.segment) else {
            return Some("the database does not know its segment".into());
        };
        used.live += row.length;
        let beyond = row.offset.saturating_add(row.length) > used.row.committed;
        beyond.then(|| format!("it lies beyond the segment's committed end, {}", used.row.committed))
    }

    /// What is wrong with the record of a row; counts it when nothing is.
    async fn body(&mut self, row: &message::Model, address: Option<&str>, last: &mut Last) -> Option<String> {
        let at = BodyLocation { segment: row.segment, offset: row.offset, length: row.length };
        let read = match last.take().filter(|(known, _)| *known == at) {
            Some((_, read)) => read,
            None => self.read(at).await,
        };
        *last = Some((at, read.clone()));
        let wrong = match read {
            Ok(Some(read)) => compare(&read, row, address),
            Ok(None) => {
                self.summary.skipped += 1;
                return None;
            }
            Err(why) => Some(why),
        };
        self.summary.whole += u64::from(wrong.is_none());
        wrong
    }

    /// The record at a place; none when it is not looked at.
    async fn read(&mut self, at: BodyLocation) -> Result<Option<Read>, String> {
        let record = match object_of(at) {
            Some(number) => match self.objects.look(number, at).await {
                Look::Skipped => return Ok(None),
                Look::Wrong(why) => return Err(why),
                Look::Bytes(bytes) => Record::parse(&bytes).map_err(|error| error.to_string())?,
            },
            None => bodies::read_record(&self.directory.bodies, at).map_err(|error| match error {
                bodies::ReadError::Missing(_) => "the segment file is missing".to_owned(),
                bodies::ReadError::Damaged { what, .. } => what,
            })?,
        };
        self.summary.bytes += u64::try_from(at.length).unwrap_or(0);
        let Record { head, parts, body, .. } = record;
        // Also what the checksum cannot tell: that it unpacks to as many bytes as it says.
        bodies::unpack(head.compressed, head.size, body)?;
        let mailboxes = parts.into_iter().map(|part| part.mailbox.as_str().to_owned()).collect();
        Ok(Some(Read { id: head.id.0, size: head.size, mailboxes }))
    }

    /// Addresses of the mailboxes of `rows` that have one.
    pub(super) async fn addresses(&self, rows: &[message::Model]) -> Result<HashMap<i64, String>, DbErr> {
        let mut ids: Vec<i64> = rows.iter().map(|row| row.mailbox_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut addresses = HashMap::with_capacity(ids.len());
        for ids in chunks(&ids) {
            let found: Vec<(i64, Option<String>)> = mailbox::Entity::find()
                .select_only()
                .columns([mailbox::Column::Id, mailbox::Column::Address])
                .filter(mailbox::Column::Id.is_in(ids.to_vec()))
                .into_tuple()
                .all(&self.tx)
                .await?;
            addresses.extend(found.into_iter().filter_map(|(id, address)| Some((id, address?))));
        }
        Ok(addresses)
    }
}

fn compare(read: &Read, row: &message::Model, address: Option<&str>) -> Option<String> {
    if read.id != row.id {
        return Some(format!("its place holds another message, {}", read.id));
    }
    if i64::try_from(read.size) != Ok(row.size) {
        return Some(format!("the body has {} bytes, the list says {}", read.size, row.size));
    }
    let meant = address.is_none_or(|address| read.mailboxes.iter().any(|mailbox| mailbox == address));
    (!meant).then(|| format!("its body was delivered to {} only", read.mailboxes.join(", ")))
}
