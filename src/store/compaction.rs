//! Giving disk space back: dead segment files are removed, mostly dead ones are emptied first.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use entity::{message, segment};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::bodies;
use super::messages::BodyLocation;
use super::writer::requests::{Moving, Request};
use super::writer::statements::chunks;
use super::{Bodies, Store, StoreError, columns, unavailable};
use crate::mail::id::DeliveryId;

/// Bytes copied in one transaction, so that deliveries do not wait long behind it.
const STEP: i64 = 2 << 20;

impl Store {
    /// Gives space back: removes dead segments, empties one that is mostly dead; true when more is left. The files of an
    /// emptied one stay for a minute, for readers that know the old place.
    ///
    /// # Errors
    /// `Unavailable`, or `Damaged` when a segment cannot be read.
    pub async fn compact(&self) -> Result<bool, StoreError> {
        self.compact_step().await
    }

    /// One round of compaction; true when more is left.
    pub(super) async fn compact_step(&self) -> Result<bool, StoreError> {
        let Bodies::Files(dir) = &self.inner.bodies else { return Ok(false) };
        let done = self.ask(Request::DropDead).await?;
        let Some(sparse) = self.sparsest_segment().await? else { return Ok(done > 0) };
        // One that cannot be emptied is not tried again until more of it died.
        self.inner.tried.lock().insert(sparse.number, sparse.live);
        let live = self.live_records(dir, sparse.number).await?;
        let mut step = Vec::new();
        let mut bytes = 0;
        for (at, id) in live {
            let dir = dir.clone();
            let read = tokio::task::spawn_blocking(move || {
                bodies::read(&dir, at, id)?;
                bodies::segment::read(&dir, at).map_err(|_| bodies::ReadError::Missing(at.segment))
            });
            let record = match read.await.map_err(|error| StoreError::Unavailable(error.to_string()))? {
                Ok(record) => record,
                Err(error) => {
                    // It stays where it is, for `check` to name; its segment is not emptied.
                    tracing::error!(%error, "a record could not be moved");
                    continue;
                }
            };
            bytes += at.length;
            step.push(Moving { id, from: at, bytes: record });
            if bytes >= STEP {
                self.ask(|reply| Request::Move(std::mem::take(&mut step), reply)).await?;
                bytes = 0;
            }
        }
        if !step.is_empty() {
            self.ask(|reply| Request::Move(step, reply)).await?;
        }
        Ok(true)
    }

    /// The closed segment of which the least is needed, if that is little enough to rewrite it and there is room for it
    /// twice: what is to give space back must not take the last of it.
    async fn sparsest_segment(&self) -> Result<Option<segment::Model>, StoreError> {
        let below = i64::from(self.inner.compact_below);
        let closed = segment::Entity::find()
            .filter(segment::Column::Closed.eq(true))
            .filter(segment::Column::Live.gt(0))
            .order_by_asc(segment::Column::Number)
            .all(&self.inner.read)
            .await
            .map_err(unavailable)?;
        let free = self.inner.shared.space.free.load(Ordering::Relaxed);
        let tried = self.inner.tried.lock();
        let percent = |row: &segment::Model| row.live.saturating_mul(100) / row.total.max(1);
        Ok(closed
            .into_iter()
            .filter(|row| columns::unsigned(row.live).saturating_mul(2) < free)
            .filter(|row| percent(row) < below && tried.get(&row.number) != Some(&row.live))
            .min_by_key(percent))
    }

    /// The records of a segment that rows point at, in the order of the file. There is no index for this: the file
    /// itself says which deliveries it holds.
    async fn live_records(&self, dir: &Path, number: i64) -> Result<Vec<(BodyLocation, DeliveryId)>, StoreError> {
        let dir = dir.to_owned();
        let ids = tokio::task::spawn_blocking(move || {
            let bytes = bodies::segment::read_from(&dir, number, bodies::segment::HEADER)?;
            Ok(bodies::recover::ids(&bytes))
        });
        let ids: Vec<uuid::Uuid> = match ids.await.map_err(|error| StoreError::Unavailable(error.to_string()))? {
            Ok(ids) => ids,
            Err(error) => {
                let error: std::io::Error = error;
                return Err(StoreError::Damaged(format!("segment {number}: {error}")));
            }
        };
        let mut live = HashMap::new();
        for ids in chunks(&ids) {
            let rows: Vec<(uuid::Uuid, i64, i64)> = message::Entity::find()
                .select_only()
                .columns([message::Column::Id, message::Column::Offset, message::Column::Length])
                .filter(message::Column::Id.is_in(ids.to_vec()))
                .filter(message::Column::Segment.eq(number))
                .into_tuple()
                .all(&self.inner.read)
                .await
                .map_err(unavailable)?;
            for (id, offset, length) in rows {
                live.insert(offset, (BodyLocation { segment: number, offset, length }, DeliveryId(id)));
            }
        }
        let mut live: Vec<_> = live.into_values().collect();
        live.sort_unstable_by_key(|(at, _)| at.offset);
        Ok(live)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mail::address::MailboxKey;
    use crate::mail::envelope::Envelope;
    use crate::mail::event::Announced;
    use crate::mail::summary::Summary;
    use crate::mail::time::Timestamp;
    use crate::store::{Announce, Config, Deletion, Faults, Incoming, Part, Repeat};

    pub struct Deaf;

    impl Announce for Deaf {
        fn announce(&self, _: i64, _: Vec<Arc<Announced>>) {}
    }

    /// A delivery with this id to a@x.
    pub async fn put(store: &Store, number: u128) -> DeliveryId {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let id = DeliveryId(uuid::Uuid::from_u128(number));
        let mailbox = MailboxKey::from_stored("a@x");
        let incoming = Incoming {
            id,
            received_at: Timestamp(crate::clock::now_micros()),
            envelope: Arc::new(Envelope {
                reverse_path: String::new(),
                helo: String::new(),
                client: [192, 0, 2, 1].into(),
                protocol: "ESMTP".into(),
                smtputf8: false,
                eight_bit: false,
            }),
            body: bodies::encode(b"Subject: a\r\n\r\n"),
            summary: Arc::new(Summary::unreadable()),
            parts: vec![Part { mailbox, recipients: vec!["a@x".into()], create: true }],
            repeat: Repeat::Never,
            done: Box::new(|verdict| answer.send(verdict).unwrap()),
        };
        store.append(incoming).map_err(drop).unwrap();
        answered.await.unwrap().unwrap();
        id
    }

    /// A copy of a deleted message beyond the committed end would come back at the next start.
    #[tokio::test]
    async fn what_was_deleted_since_it_was_read_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data: dir.path().to_owned(), ..Config::default() };
        let store = Store::open(&config, Arc::new(Deaf), Faults::default()).await.unwrap();
        let files = dir.path().join("bodies");
        put(&store, 1).await;
        put(&store, 2).await;
        let live = store.live_records(&files, 1).await.unwrap();
        let step: Vec<Moving> = live
            .iter()
            .map(|(at, id)| Moving { id: *id, from: *at, bytes: bodies::segment::read(&files, *at).unwrap() })
            .collect();
        let length = || std::fs::metadata(bodies::segment::path(&files, 1)).unwrap().len();
        let (before, kept) = (length(), live[1].0.length);
        store.delete_messages(&MailboxKey::from_stored("a@x"), Deletion::One(live[0].1)).await.unwrap();
        store.ask(|reply| Request::Move(step, reply)).await.unwrap();
        assert_eq!(length(), before + columns::unsigned(kept));
    }
}
