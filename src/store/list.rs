//! Lists of messages, newest first: of one mailbox by UID, of all by stamp. A page and its position are read in one
//! transaction, so that subscribing from that position misses nothing.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use entity::{mailbox, message};
use sea_orm::sea_query::Condition as Where;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::sync::SemaphorePermit;

use super::bounds::{self, Before, after};
use super::floor::{self, Span};
use super::messages::{BodyLocation, ListRequest, MessagePage, Scope};
use super::metrics as names;
use super::replay::Position;
use super::replicas::Place;
use super::search::page::{Filling, Goes};
use super::writer::statements::chunks;
use super::{Bodies, Store, StoreError, columns, head, history, unavailable};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::{Cursor, StreamCursor};
use crate::mail::query::{Condition, Query};
use crate::mail::summary::Listed;
use crate::mail::time::Timestamp;

/// How long a search waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// One mailbox (its row) or all of them.
pub(super) enum Of<'a> {
    Mailbox(&'a MailboxKey, Box<mailbox::Model>),
    All,
}

impl Of<'_> {
    pub fn mailbox_id(&self) -> Option<i64> {
        match self {
            Self::Mailbox(_, row) => Some(row.id),
            Self::All => None,
        }
    }

    /// All rows, and the column that orders them.
    pub fn rows(&self) -> (sea_orm::Select<message::Entity>, message::Column) {
        match self {
            Self::Mailbox(_, row) => {
                (message::Entity::find().filter(message::Column::MailboxId.eq(row.id)), message::Column::Uid)
            }
            Self::All => (message::Entity::find(), message::Column::Stamp),
        }
    }

    /// Where a row stands in the order of the list.
    pub fn order(&self, row: &message::Model) -> i64 {
        match self {
            Self::Mailbox(..) => row.uid,
            Self::All => row.stamp,
        }
    }
}

/// A candidate for a page: where it stands in the order, and its row.
pub(super) struct Line {
    pub order: i64,
    pub stamp: i64,
    pub listed: Listed,
    pub at: BodyLocation,
}

impl Store {
    /// A page of messages.
    ///
    /// # Errors
    /// `BadPage`, `Unavailable`; with a search by words `Damaged` never: what cannot be read does not match.
    pub async fn list(&self, request: &ListRequest) -> Result<MessagePage, StoreError> {
        let before = request.page.as_deref().map(Before::parse).transpose()?;
        let _turn = self.turn(request).await?;
        self.somewhere(async |place| self.list_at(place, request, before).await).await
    }

    async fn list_at(
        &self,
        place: &Place,
        request: &ListRequest,
        before: Option<Before>,
    ) -> Result<MessagePage, StoreError> {
        let lineage = self.lineage();
        let tx = self.snapshot(place, &request.scope).await?;
        let (of, position, told) = match &request.scope {
            Scope::Mailbox(key) => match self.mailbox_row(&tx, key).await.map_err(unavailable)? {
                Some(row) => {
                    let cursor = columns::cursor(&row, lineage, row.modseq);
                    (Of::Mailbox(key, Box::new(row)), Position::Mailbox(cursor), 0)
                }
                None => return Ok(empty()),
            },
            Scope::All => {
                let (present, floor) = self.stream_position(&tx).await.map_err(unavailable)?;
                (Of::All, Position::Stream(present), if self.is_shared() { floor } else { 0 })
            }
        };
        let request = bounds::believed(request, position, told);
        let page = self.page(&tx, &of, &request, before).await?;
        tx.commit().await.map_err(unavailable)?;
        let mailbox_end = match &of {
            Of::Mailbox(_, row) => row.expires_at.map(Timestamp),
            Of::All => None,
        };
        let until = page.items.iter().filter_map(|item| item.expires_at).chain(mailbox_end).min();
        Ok(MessagePage { position, until, ..page })
    }

    /// Searches take turns for some of the connections, so that lists without words find one however many search; and one
    /// that gets none for a while is told so, however many wait.
    async fn turn(&self, request: &ListRequest) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        if request.query.as_ref().is_none_or(Query::is_empty) {
            return Ok(None);
        }
        match tokio::time::timeout(TURN, self.inner.searching.acquire()).await {
            Ok(turn) => turn.map(Some).map_err(|error| StoreError::Unavailable(error.to_string())),
            Err(_) => Err(StoreError::Unavailable(format!("too many searches: none ended within {TURN:?}"))),
        }
    }

    /// The first page as the caller serialises it, from memory while it is exact. Requests with a query, a page or a
    /// `since` are read and rendered each time.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_cached(
        &self,
        request: &ListRequest,
        render: impl Fn(&MessagePage) -> Bytes,
    ) -> Result<Bytes, StoreError> {
        if request.page.is_some() || request.since.is_some() || request.query.as_ref().is_some_and(|q| !q.is_empty()) {
            return Ok(render(&self.list(request).await?));
        }
        if self.is_shared() {
            return self.list_exact(request, render).await;
        }
        let now = self.now();
        let mark = match self.inner.shared.cache.get(&request.scope, (request.limit, request.unread), now) {
            Ok(page) => {
                metrics::counter!(names::LIST_HITS, "level" => "process").increment(1);
                return Ok(page);
            }
            Err(mark) => mark,
        };
        metrics::counter!(names::LIST_MISSES).increment(1);
        let page = self.list(request).await?;
        let rendered = render(&page);
        self.inner.shared.cache.keep(&mark, &rendered, page.until);
        Ok(rendered)
    }

    /// Where the stream stands in the snapshot of `tx`, and the stamp up to which it was forgotten.
    async fn stream_position(&self, tx: &DatabaseTransaction) -> Result<(StreamCursor, i64), DbErr> {
        let row = head::row(tx).await?;
        Ok((history::position(&row), row.stream_floor))
    }

    async fn page(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        before: Option<Before>,
    ) -> Result<MessagePage, StoreError> {
        if let (Of::All, Some(Position::Stream(since)), Bodies::Table) = (of, request.since, &self.inner.bodies) {
            let below = before.map_or(Ok(i64::MAX), Before::stamp)?;
            return self.recent(tx, of, request, since, below).await;
        }
        let before = before.map(Before::order).transpose()?;
        let asked = request.query.as_ref().filter(|query| query.fts().is_some() || tagged(query));
        if let Some(query) = asked {
            return self.search(tx, of, request, query, before).await;
        }
        let floor = floor::floor(tx, of, request, before).await.map_err(unavailable)?.map(|floor| floor.order);
        let mut filling = Filling::new(empty(), request.limit, usize::MAX);
        let lines = self.lines(tx, of, request, Span { before, floor }, request.limit as usize + 1);
        for line in lines.await.map_err(unavailable)? {
            if filling.take(line, true) == Goes::Ended {
                return Ok(filling.page);
            }
        }
        filling.page.next = floor.map(bounds::page_from);
        Ok(filling.page)
    }

    /// The next candidates in `span`; fewer than `wanted` means that there are no more.
    pub(super) async fn lines(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        mut span: Span,
        wanted: usize,
    ) -> Result<Vec<Line>, DbErr> {
        let mut lines = Vec::new();
        loop {
            let rows = select(of, request, span).limit(wanted as u64).all(tx).await?;
            let last_lot = rows.len() < wanted;
            span.before = rows.last().map(|row| of.order(row)).or(span.before);
            let living = self.living_lines(tx, of, rows).await?;
            // What has ended is a prefix of a mailbox: below a lot of such there is nothing else.
            let below_end = living.is_empty() && matches!(of, Of::Mailbox(..));
            lines.extend(living);
            if last_lot || below_end || lines.len() >= wanted {
                lines.truncate(wanted);
                return Ok(lines);
            }
        }
    }

    /// Those of `rows` that have not ended, in their order.
    pub(super) async fn living_lines(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        rows: Vec<message::Model>,
    ) -> Result<Vec<Line>, DbErr> {
        let now = self.now().0;
        let defaults = &self.inner.defaults;
        let owners = self.owners(tx, of, &rows).await?;
        let line = |row: message::Model| {
            // Without one the mailbox was deleted and waits for removal.
            let (key, owner) = owners.get(&row.mailbox_id)?;
            if !columns::lives(owner, row.received_at, defaults, now) {
                return None;
            }
            let at = BodyLocation { segment: row.segment, offset: row.offset, length: row.length };
            let (order, stamp) = (of.order(&row), row.stamp);
            let listed = columns::listed(row, owner, key, self.lineage(), defaults);
            Some(Line { order, stamp, listed, at })
        };
        Ok(rows.into_iter().filter_map(line).collect())
    }

    /// The mailboxes of `rows`.
    async fn owners(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        rows: &[message::Model],
    ) -> Result<HashMap<i64, (MailboxKey, mailbox::Model)>, DbErr> {
        match of {
            Of::Mailbox(key, row) => Ok(HashMap::from([(row.id, ((*key).clone(), (**row).clone()))])),
            Of::All => living_by_id(tx, rows.iter().map(|row| row.mailbox_id), self.now()).await,
        }
    }
}

/// The mailboxes of these ids that have an address and have not ended by `now`.
pub(super) async fn living_by_id(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = i64>,
    Timestamp(now): Timestamp,
) -> Result<HashMap<i64, (MailboxKey, mailbox::Model)>, DbErr> {
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let mut living = HashMap::with_capacity(ids.len());
    for ids in chunks(&ids) {
        for row in mailbox::Entity::find().filter(mailbox::Column::Id.is_in(ids.to_vec())).all(tx).await? {
            if !columns::ended(&row, now)
                && let Some(address) = row.address.as_deref()
            {
                living.insert(row.id, (MailboxKey::from_stored(address), row));
            }
        }
    }
    Ok(living)
}

/// Rows of the list in its order, filtered by what columns can tell.
pub(super) fn select(of: &Of<'_>, request: &ListRequest, span: Span) -> sea_orm::Select<message::Entity> {
    use message::Column;
    let (query, column) = of.rows();
    let mut wanted = Where::all();
    if let Some(before) = span.before {
        wanted = wanted.add(column.lt(before));
    }
    if let Some(floor) = span.floor {
        wanted = wanted.add(column.gt(floor));
    }
    if let Some(since) = after(request.since) {
        wanted = wanted.add(column.gt(since));
    }
    if request.unread {
        wanted = wanted.add(Column::IsRead.eq(false));
    }
    for filter in request.query.iter().flat_map(Query::filters) {
        let Some(holds) = condition(&filter.condition) else { continue };
        wanted = wanted.add(if filter.negated { holds.not() } else { holds });
    }
    query.filter(wanted).order_by_desc(column)
}

/// Tags are text in their column: only [`Query::matches`] is exact about them.
fn tagged(query: &Query) -> bool {
    query.filters().iter().any(|filter| matches!(filter.condition, Condition::Tag(_)))
}

/// A condition on list columns, the same as `mail::query` has it; none of them is ever null. Nothing for tags.
pub(super) fn condition(condition: &Condition) -> Option<Where> {
    use message::Column;
    let holds = match condition {
        Condition::HasAttachment => Column::Attachments.gt(0),
        Condition::Unread => Column::IsRead.eq(false),
        Condition::Before(at) => Column::ReceivedAt.lt(at.0),
        Condition::After(at) => Column::ReceivedAt.gte(at.0),
        Condition::Larger(size) => Column::Size.gt(columns::signed(*size)),
        Condition::Smaller(size) => Column::Size.lt(columns::signed(*size)),
        Condition::Tag(_) => return None,
    };
    Some(Where::all().add(holds))
}

/// An empty page, whose position is still to be set.
pub(super) fn empty() -> MessagePage {
    MessagePage {
        items: Vec::new(),
        next: None,
        position: Position::Mailbox(Cursor::default()),
        until: None,
        index_lag: None,
    }
}
