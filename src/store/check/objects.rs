//! Bodies in object storage: an object is read once for all messages in it, since they were packed in their order.

use std::collections::HashMap;

use bytes::Bytes;
use entity::{message, object};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait};

use super::{Check, Finding};
use crate::store::cold::Cold;
use crate::store::messages::BodyLocation;
use crate::store::trouble;

/// The objects as the database has them, and what the rows use of each.
pub struct Objects {
    rows: HashMap<i64, (object::Model, i64)>,
    /// Whoever removes a body says so in the row of its object: on SQLite. On a database server a round counts now and then, and
    /// until then an object says too much, never too little.
    exact: bool,
    /// None when they are not looked at, or there is no storage.
    cold: Option<Cold>,
    /// Nobody asked for that.
    is_unnamed: bool,
    last: Option<(i64, Result<Bytes, String>)>,
}

/// What was found of a place in an object.
pub enum Look {
    Bytes(Bytes),
    Skipped,
    Wrong(String),
}

impl Objects {
    pub async fn load<C: ConnectionTrait>(db: &C, cold: Option<Cold>, skipped: bool) -> Result<Self, DbErr> {
        let rows = match object::Entity::find().all(db).await {
            Ok(rows) => rows,
            // A database of before there were objects.
            Err(error) if trouble::is_no_such_table(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let rows = rows.into_iter().map(|row| (row.number, (row, 0))).collect();
        let exact = db.get_database_backend() == DbBackend::Sqlite;
        let is_unnamed = cold.is_none() && !skipped;
        Ok(Self { rows, exact, cold, is_unnamed, last: None })
    }

    /// What is wrong with a place in object `number`; counts it there.
    pub fn place(&mut self, number: i64, at: BodyLocation) -> Option<String> {
        let Some((row, live)) = self.rows.get_mut(&number) else {
            return Some("the database does not know its object".into());
        };
        *live += at.length;
        let beyond = at.offset.saturating_add(at.length) > row.bytes;
        beyond.then(|| format!("it lies beyond the end of object {}, {}", row.name, row.bytes))
    }

    /// So many bytes of object `number` are needed, as whoever counts once for each body has it.
    pub fn used(&mut self, number: i64, bytes: i64) -> Option<String> {
        match self.rows.get_mut(&number) {
            Some((_, live)) => {
                *live = bytes;
                None
            }
            None => Some(format!("bodies lie in object {number}, which the database does not know")),
        }
    }

    /// A message may have moved to an object that was made, or written, since the snapshot.
    pub async fn learn(&mut self, db: &DatabaseConnection, row: &message::Model) -> Result<(), DbErr> {
        let number = -row.segment;
        if number > 0
            && self.rows.get(&number).is_none_or(|(known, _)| known.bytes == 0)
            && let Some(found) = object::Entity::find_by_id(number).one(db).await?
        {
            // What it says of itself is of another moment than the snapshot.
            self.rows.insert(number, (object::Model { live: 0, ..found }, 0));
        }
        Ok(())
    }

    /// The bytes at a place of object `number`.
    pub async fn look(&mut self, number: i64, at: BodyLocation) -> Look {
        let Some(cold) = &self.cold else { return Look::Skipped };
        let known = self.last.take().filter(|(last, _)| *last == number);
        let (_, object) = match known {
            Some(known) => self.last.insert(known),
            None => {
                let read = self.read(cold, number).await;
                self.last.insert((number, read))
            }
        };
        match object {
            Err(why) => Look::Wrong(why.clone()),
            Ok(object) => {
                let from = usize::try_from(at.offset).unwrap_or(usize::MAX);
                let end = usize::try_from(at.length).ok().and_then(|length| from.checked_add(length));
                match end.filter(|end| from <= *end && *end <= object.len()) {
                    Some(end) => Look::Bytes(object.slice(from..end)),
                    None => Look::Wrong("its object ends before the record does".into()),
                }
            }
        }
    }

    async fn read(&self, cold: &Cold, number: i64) -> Result<Bytes, String> {
        let (row, _) = self.rows.get(&number).ok_or("the database does not know its object")?;
        let bytes = u64::try_from(row.bytes).unwrap_or(0);
        cold.whole(&row.name, bytes).await.map_err(|error| error.to_string())
    }
}

impl Check<'_> {
    /// What objects say that is needed of them, once all messages were looked at.
    pub(super) fn objects(&mut self) {
        let mut rows: Vec<(object::Model, i64)> = self.objects.rows.values().cloned().collect();
        rows.sort_unstable_by_key(|(row, _)| row.number);
        self.summary.objects = rows.len() as u64;
        if self.objects.is_unnamed && self.summary.skipped > 0 {
            let why = format!(
                "{} messages, whose bodies lie in object storage: [cold] url names none, and nobody can read them until it \
                 does",
                self.summary.skipped
            );
            self.found(&Finding::unread(why));
        }
        for (row, is) in rows {
            if row.live < is || (self.objects.exact && row.live != is) {
                let why = format!("object {} says that {} bytes of it are needed, and {is} are", row.name, row.live);
                self.found(&Finding::damage(why));
            }
        }
    }
}
