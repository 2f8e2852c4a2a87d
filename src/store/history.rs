//! Which history of a database server this node believes in, and what it does when the database went back: a standby took
//! over that lacks commits, or a backup was restored.
//!
//! A node remembers how far it saw the stream and the mark of a commit there ([`History`]). Whoever comes first, a commit
//! (whose last statement looks for itself: [`Belief::doubt`], [`Belief::arguments`]) or a look now and then ([`Store::look_back`]), finds that the database
//! lacks it. Then one node begins a new history under the lock of `meta` ([`renew`]): another lineage, and stamps and numbers
//! of mailboxes far above whatever was given. The others find the new lineage in the same ways. Nothing is committed in another
//! history than the one that its node believes in.

use std::sync::atomic::{AtomicU32, Ordering};

use entity::{commit, mailbox, meta, object};
use parking_lot::Mutex;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, TransactionTrait,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::writer::Shared;
use super::{Store, StoreError, columns, head, metrics as names, unavailable};
use crate::mail::cursor::StreamCursor;

/// How far a new history begins above all stamps, and above all numbers of mailboxes, that are known: farther than what can be
/// committed between two looks of a node.
const LEAP: i64 = 1 << 32;

/// What a node believes of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    pub lineage: u32,
    /// The stream had reached this stamp.
    pub stamp: i64,
    /// The highest commit that is known by its mark.
    pub mark: Option<Mark>,
}

/// A commit, by its row in `commits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of one of its events.
    pub stamp: i64,
    pub batch: Uuid,
}

/// Why the database is not as it is believed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another node has begun a new history.
    Another,
    /// It was filled from a backup, as its operator says.
    Restored,
    /// The stream ends below what was seen of it.
    Behind,
    /// A commit is gone that was not forgotten for its age.
    Lost,
}

impl Belief {
    /// That of who knows the row alone.
    pub fn of(row: &meta::Model) -> Self {
        let StreamCursor { lineage, stamp } = position(row);
        Self { lineage, stamp, mark: None }
    }

    /// What is wrong with `row`. `is_there`: whether the mark is.
    fn differs(&self, row: &meta::Model, is_there: bool) -> Option<Why> {
        let forgotten = self.mark.is_none_or(|mark| mark.stamp <= row.stream_floor);
        if row.restored {
            Some(Why::Restored)
        } else if row.stamp < self.stamp {
            // In another history, too: each begins higher than the ones before it, and this one was lost then.
            Some(Why::Behind)
        } else if row.lineage != i64::from(self.lineage) {
            Some(Why::Another)
        } else {
            (!forgotten && !is_there).then_some(Why::Lost)
        }
    }

    /// The same as a condition of MySQL on the row of `meta`, after a transaction has taken its `events` stamps.
    pub fn doubt(&self, events: usize) -> String {
        let Self { lineage, stamp, mark } = self;
        let seen = stamp.saturating_add(columns::signed(events as u64));
        let mut text = format!("lineage <> {lineage} OR restored OR stamp < {seen}");
        if let Some(Mark { stamp, batch }) = mark {
            let batch = uuid(DbBackend::MySql, *batch);
            text += &format!(
                " OR (stream_floor < {stamp} AND NOT EXISTS (SELECT 1 FROM commits known WHERE known.batch = {batch}))"
            );
        }
        text
    }

    /// What the statement that PostgreSQL prepares for this asks for.
    pub fn arguments(&self) -> String {
        let Self { lineage, stamp, mark } = self;
        match mark {
            Some(mark) => format!("{lineage}, {stamp}, {}, {}", mark.stamp, uuid(DbBackend::Postgres, mark.batch)),
            None => format!("{lineage}, {stamp}, 0, NULL"),
        }
    }
}

/// A UUID as an engine reads it.
pub fn uuid(backend: DbBackend, batch: Uuid) -> String {
    match backend {
        DbBackend::Postgres => format!("'{batch}'"),
        _ => format!("X'{}'", batch.simple()),
    }
}

/// See the module. On SQLite, which one process has for itself, it never changes.
#[derive(Debug)]
pub struct History {
    lineage: AtomicU32,
    belief: Mutex<Belief>,
    /// One look with a lock at a time, so that the last one is what is believed.
    looking: tokio::sync::Mutex<()>,
    changed: watch::Sender<u32>,
}

impl History {
    pub fn new(lineage: u32, stamp: i64) -> Self {
        let belief = Mutex::new(Belief { lineage, stamp, mark: None });
        let (lineage, changed) = (AtomicU32::new(lineage), watch::Sender::new(lineage));
        Self { lineage, belief, looking: tokio::sync::Mutex::default(), changed }
    }

    /// What cursors of this history say. To be asked before the database is: then it is never newer than what was read.
    pub fn lineage(&self) -> u32 {
        self.lineage.load(Ordering::Acquire)
    }

    pub fn belief(&self) -> Belief {
        *self.belief.lock()
    }

    /// The stream was seen to reach `at`, by a commit with this mark if that is known.
    pub fn saw(&self, at: StreamCursor, batch: Option<Uuid>) {
        let mut belief = self.belief.lock();
        if at.lineage != belief.lineage {
            return;
        }
        belief.stamp = belief.stamp.max(at.stamp);
        if let Some(batch) = batch.filter(|_| belief.mark.is_none_or(|mark| mark.stamp < at.stamp)) {
            belief.mark = Some(Mark { stamp: at.stamp, batch });
        }
    }

    /// False when that is believed already.
    fn adopt(&self, at: StreamCursor) -> bool {
        let mut belief = self.belief.lock();
        if belief.lineage == at.lineage {
            return false;
        }
        tracing::warn!(
            lineage_before = belief.lineage,
            lineage = at.lineage,
            stamp_before = belief.stamp,
            stamp = at.stamp,
            "the database has a new history: clients are told to reload"
        );
        *belief = Belief { lineage: at.lineage, stamp: at.stamp, mark: None };
        self.lineage.store(at.lineage, Ordering::Release);
        metrics::counter!(names::HISTORIES).increment(1);
        true
    }
}

impl Shared {
    /// The row of `meta` says this. A history that begins later stands higher: what was read before another was believed is no
    /// news.
    pub fn follow(&self, at: StreamCursor) {
        if at.stamp > self.history.belief().stamp {
            self.adopt(at);
        }
    }

    fn adopt(&self, at: StreamCursor) {
        if self.history.adopt(at) {
            self.stamp.store(at.stamp, Ordering::Release);
            self.tokens.clear();
            self.history.changed.send_replace(at.lineage);
        }
    }

    /// Looks again where nobody can change it meanwhile: begins a new history if the database went back, and believes the one
    /// that it has.
    ///
    /// # Errors
    /// What the database says; nothing has changed then.
    pub async fn settle(&self, db: &DatabaseConnection) -> Result<(), DbErr> {
        let _alone = self.history.looking.lock().await;
        let row = renew(db, self.history.belief()).await?;
        self.adopt(position(&row));
        Ok(())
    }
}

/// Where the stream stands.
pub fn position(row: &meta::Model) -> StreamCursor {
    StreamCursor { lineage: u32::try_from(row.lineage).unwrap_or(0), stamp: row.stamp }
}

/// The row of `meta`, and what is wrong with it.
async fn look<C: ConnectionTrait>(
    db: &C,
    belief: Belief,
    row: meta::Model,
) -> Result<(meta::Model, Option<Why>), DbErr> {
    let is_there = match belief.mark {
        Some(mark) => {
            let found = commit::Entity::find_by_id(mark.batch).select_only().column(commit::Column::Batch);
            found.into_tuple::<Uuid>().one(db).await?.is_some()
        }
        None => true,
    };
    let why = belief.differs(&row, is_there);
    Ok((row, why))
}

/// The row of `meta`, after a new history was begun if the database went back behind `belief`.
///
/// # Errors
/// What the database says.
pub async fn renew(db: &DatabaseConnection, belief: Belief) -> Result<meta::Model, DbErr> {
    let tx = db.begin().await?;
    let row = meta::Entity::find_by_id(1).lock_exclusive().one(&tx).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
    let (row, why) = look(&tx, belief, row).await?;
    let Some(why) = why.filter(|why| *why != Why::Another) else {
        tx.commit().await?;
        return Ok(row);
    };
    let highest = mailbox::Entity::find().select_only().column_as(mailbox::Column::Id.max(), "id");
    let highest: Option<Option<i64>> = highest.into_tuple().one(&tx).await?;
    let new = meta::Model {
        lineage: another(row.lineage),
        stamp: row.stamp.max(belief.stamp).saturating_add(LEAP),
        next_mailbox: row.next_mailbox.max(highest.flatten().unwrap_or(0)).saturating_add(LEAP),
        restored: false,
        ..row.clone()
    };
    meta::Entity::update_many()
        .col_expr(meta::Column::Lineage, Expr::value(new.lineage))
        .col_expr(meta::Column::Stamp, Expr::value(new.stamp))
        .col_expr(meta::Column::NextMailbox, Expr::value(new.next_mailbox))
        .col_expr(meta::Column::Restored, Expr::value(new.restored))
        .exec(&tx)
        .await?;
    // The marks lead up to the stamp, whatever it is.
    let mark = commit::Model { batch: Uuid::now_v7(), last: Some(new.stamp), events: Vec::new() };
    commit::Entity::insert(mark.into_active_model()).exec_without_returning(&tx).await?;
    if why != Why::Restored {
        // It is the same store, with what it has in object storage. A copy beside its original is told to be one.
        object::Entity::update_many()
            .col_expr(object::Column::Lineage, Expr::value(new.lineage))
            .filter(object::Column::Lineage.eq(row.lineage))
            .exec(&tx)
            .await?;
    }
    tx.commit().await?;
    tracing::warn!(
        reason = ?why,
        stamp_seen = belief.stamp,
        stamp_found = row.stamp,
        stamp = new.stamp,
        lineage_before = row.lineage,
        lineage = new.lineage,
        "commits that this node saw are lost, or a backup was restored: a new history of the database begins"
    );
    Ok(new)
}

/// A lineage that is not `before`.
pub fn another(before: i64) -> i64 {
    loop {
        let lineage = i64::from(rand::random::<u32>().max(1));
        if lineage != before {
            return lineage;
        }
    }
}

impl Store {
    /// What cursors say of the history that is believed in.
    pub(super) fn lineage(&self) -> u32 {
        self.inner.shared.history.lineage()
    }

    /// Tells when this node begins to believe in another history.
    #[must_use]
    pub fn histories(&self) -> watch::Receiver<u32> {
        self.inner.shared.history.changed.subscribe()
    }

    /// As [`Store::stream_now`], and looks whether the database still has what this node saw of it. If not, a new history
    /// begins.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn look_back(&self) -> Result<StreamCursor, StoreError> {
        if !self.is_shared() {
            return Ok(self.stream_head());
        }
        let (db, shared) = (&self.inner.read, &self.inner.shared);
        let belief = shared.history.belief();
        let looked = async {
            let (row, why) = look(db, belief, head::row(db).await?).await?;
            let newest = commit::Entity::find().filter(commit::Column::Last.is_not_null());
            let newest = newest.order_by_desc(commit::Column::Last).select_only();
            let newest = newest.columns([commit::Column::Batch, commit::Column::Last]).into_tuple::<(Uuid, i64)>();
            Ok((row, why, newest.one(db).await?))
        };
        let (row, why, newest) = self.timely(looked).await?;
        let at = position(&row);
        if why.is_none() {
            shared.history.saw(at, None);
            if let Some((batch, stamp)) = newest {
                shared.history.saw(StreamCursor { stamp, ..at }, Some(batch));
            }
            return Ok(at);
        }
        // Whoever waits for it may give up at any moment; the transaction comes to its end.
        let (db, shared) = (db.clone(), shared.clone());
        let settled = tokio::spawn(async move { shared.settle(&db).await });
        let settled = settled.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        settled.map_err(unavailable)?;
        self.stream_now().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Uuid = Uuid::from_u128(7);

    fn row(stamp: i64) -> meta::Model {
        meta::Model { id: 1, lineage: 5, stamp, stream_floor: 10, next_mailbox: 1, message_ttl: 0, restored: false }
    }

    fn at(lineage: u32, stamp: i64) -> StreamCursor {
        StreamCursor { lineage, stamp }
    }

    #[test]
    fn a_database_that_lacks_what_was_seen_is_another_one() {
        let belief = Belief { lineage: 5, stamp: 90, mark: Some(Mark { stamp: 80, batch: BATCH }) };
        assert_eq!(belief.differs(&row(90), true), None);
        assert_eq!(belief.differs(&row(89), true), Some(Why::Behind));
        assert_eq!(belief.differs(&row(95), false), Some(Why::Lost), "others went on where it ended");
        assert_eq!(belief.differs(&meta::Model { lineage: 6, ..row(95) }, false), Some(Why::Another));
        assert_eq!(
            belief.differs(&meta::Model { lineage: 4, ..row(3) }, false),
            Some(Why::Behind),
            "a history was lost"
        );
        assert_eq!(belief.differs(&meta::Model { restored: true, ..row(90) }, true), Some(Why::Restored));
        assert_eq!(belief.differs(&meta::Model { stream_floor: 79, ..row(90) }, false), Some(Why::Lost));
        assert_eq!(
            belief.differs(&meta::Model { stream_floor: 80, ..row(90) }, false),
            None,
            "marks are kept for a day"
        );
        assert_eq!(Belief { mark: None, ..belief }.differs(&row(90), false), None);
    }

    #[test]
    fn what_is_known_rises_and_is_of_one_history() {
        let history = History::new(5, 10);
        history.saw(at(5, 12), Some(BATCH));
        history.saw(at(5, 11), Some(Uuid::from_u128(8)));
        history.saw(at(6, 99), Some(Uuid::from_u128(9)));
        let mark = Some(Mark { stamp: 12, batch: BATCH });
        assert_eq!(history.belief(), Belief { lineage: 5, stamp: 12, mark });
        history.saw(at(5, 20), None);
        assert_eq!(history.belief(), Belief { lineage: 5, stamp: 20, mark });
        assert!(!history.adopt(at(5, 1)));
        assert!(history.adopt(at(6, 7)));
        assert_eq!((history.lineage(), history.belief()), (6, Belief { lineage: 6, stamp: 7, mark: None }));
    }

    #[test]
    fn a_new_lineage_is_another_one() {
        assert!((0..100).all(|lineage| another(lineage) != lineage && another(lineage) > 0));
    }
}
