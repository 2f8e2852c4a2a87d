//! Lists of messages, newest first: of one mailbox by UID, of all by stamp. A page and its position are read in one
//! transaction, so that subscribing from that position misses nothing.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use entity::{mailbox, message, meta};
use sea_orm::sea_query::Condition as Where;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TransactionTrait,
};

use super::bodies;
use super::messages::{BodyLocation, ListRequest, MessagePage, Scope};
use super::metrics as names;
use super::replay::Position;
use super::writer::statements::chunks;
use super::{Store, StoreError, columns, unavailable};
use crate::mail::address::MailboxKey;
use crate::mail::cursor::{Cursor, StreamCursor};
use crate::mail::query::{Candidate, Condition, Query};
use crate::mail::summary::Listed;

/// Rows looked at for one page of a search that columns alone do not answer; the page then ends early and says where to go on.
const SCANNED: usize = 2_000;

/// One mailbox (its row) or all of them.
enum Of<'a> {
    Mailbox(&'a MailboxKey, Box<mailbox::Model>),
    All,
}

/// A candidate for a page: where it stands in the order, and its row.
struct Line {
    order: i64,
    listed: Listed,
    at: BodyLocation,
}

impl Store {
    /// A page of messages.
    ///
    /// # Errors
    /// `BadPage`, `Unavailable`; with a search by words `Damaged` never: what cannot be read does not match.
    pub async fn list(&self, request: &ListRequest) -> Result<MessagePage, StoreError> {
        let before = request.page.as_deref().map(parse_page).transpose()?;
        let tx = self.inner.read.begin().await.map_err(unavailable)?;
        let (of, position) = match &request.scope {
            Scope::Mailbox(key) => match self.mailbox_row(&tx, key).await.map_err(unavailable)? {
                Some(row) => {
                    let cursor = columns::cursor(&row, self.inner.shared.lineage, row.modseq);
                    (Of::Mailbox(key, Box::new(row)), Position::Mailbox(cursor))
                }
                None => return Ok(empty(Position::Mailbox(Cursor::default()))),
            },
            Scope::All => (Of::All, Position::Stream(self.stream_position(&tx).await.map_err(unavailable)?)),
        };
        let page = self.page(&tx, &of, request, before).await?;
        tx.commit().await.map_err(unavailable)?;
        Ok(MessagePage { position, ..page })
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
        let mark = match self.inner.shared.cache.get(&request.scope, (request.limit, request.unread)) {
            Ok(page) => {
                metrics::counter!(names::LIST_HITS).increment(1);
                return Ok(page);
            }
            Err(mark) => mark,
        };
        metrics::counter!(names::LIST_MISSES).increment(1);
        let began = Instant::now();
        let page = render(&self.list(request).await?);
        self.inner.shared.cache.keep(&mark, &page, began);
        Ok(page)
    }

    /// Where the stream stands in the snapshot of `tx`.
    pub(super) async fn stream_position(&self, tx: &DatabaseTransaction) -> Result<StreamCursor, DbErr> {
        let row = meta::Entity::find_by_id(1).one(tx).await?.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
        Ok(StreamCursor { lineage: self.inner.shared.lineage, stamp: row.stamp })
    }

    async fn page(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        before: Option<i64>,
    ) -> Result<MessagePage, StoreError> {
        let limit = request.limit as usize;
        let asked = request.query.as_ref().filter(|query| query.fts().is_some() || tagged(query));
        let mut page = empty(Position::Mailbox(Cursor::default()));
        let (mut before, mut scanned) = (before, 0);
        loop {
            let wanted = if asked.is_some() { 256 } else { limit + 1 };
            let lines = self.lines(tx, of, request, before, wanted).await.map_err(unavailable)?;
            let last_lot = lines.len() < wanted;
            for line in lines {
                before = Some(line.order);
                if page.items.len() == limit || scanned == SCANNED {
                    page.next = Some(format!("{:x}", line.order.saturating_add(1)));
                    return Ok(page);
                }
                if let Some(query) = asked {
                    scanned += 1;
                    if !self.matches(query, &line).await {
                        continue;
                    }
                }
                page.items.push(line.listed);
            }
            if last_lot {
                return Ok(page);
            }
        }
    }

    /// The next candidates below `before`; fewer than `wanted` means that there are no more.
    async fn lines(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        before: Option<i64>,
        wanted: usize,
    ) -> Result<Vec<Line>, DbErr> {
        let now = crate::clock::now_micros();
        let mut lines = Vec::new();
        let mut before = before;
        loop {
            let rows = select(of, request, before, wanted).all(tx).await?;
            let last_lot = rows.len() < wanted;
            before = rows.last().map(|row| order(of, row)).or(before);
            let owners = self.owners(tx, of, &rows).await?;
            let known = lines.len();
            for row in rows {
                // The mailbox was deleted and waits for removal.
                let Some((key, owner)) = owners.get(&row.mailbox_id) else { continue };
                let ended =
                    columns::message_end(owner, row.received_at, &self.inner.defaults).is_some_and(|end| end <= now);
                if ended {
                    continue;
                }
                let at = BodyLocation { segment: row.segment, offset: row.offset, length: row.length };
                let order = order(of, &row);
                let listed = columns::listed(row, owner, key, self.inner.shared.lineage, &self.inner.defaults);
                lines.push(Line { order, listed, at });
            }
            // What has ended is a prefix of a mailbox: below a lot of such there is nothing else.
            let below_end = lines.len() == known && matches!(of, Of::Mailbox(..));
            if last_lot || below_end || lines.len() >= wanted {
                lines.truncate(wanted);
                return Ok(lines);
            }
        }
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
            Of::All => living_by_id(tx, rows.iter().map(|row| row.mailbox_id)).await,
        }
    }

    /// Words without an index: each message is asked. A body that cannot be read has no text.
    async fn matches(&self, query: &Query, line: &Line) -> bool {
        let text = if query.needs_text() { self.text(line.at).await } else { String::new() };
        query.matches(&Candidate { listed: &line.listed, text: &text })
    }

    /// The readable text of the message at `at`; empty when it cannot be read.
    pub(super) async fn text(&self, at: BodyLocation) -> String {
        let dir = self.inner.bodies.clone();
        let read = tokio::task::spawn_blocking(move || {
            let raw = bodies::read(&dir, at).ok()?;
            Some(crate::mail::summary::summarize(&raw).text.to_string())
        });
        read.await.ok().flatten().unwrap_or_default()
    }
}

/// The mailboxes of these ids that have an address and have not ended.
pub(super) async fn living_by_id(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = i64>,
) -> Result<HashMap<i64, (MailboxKey, mailbox::Model)>, DbErr> {
    let now = crate::clock::now_micros();
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

fn order(of: &Of<'_>, row: &message::Model) -> i64 {
    match of {
        Of::Mailbox(..) => row.uid,
        Of::All => row.stamp,
    }
}

/// Rows of the list in its order, filtered by what columns can tell.
fn select(of: &Of<'_>, request: &ListRequest, before: Option<i64>, limit: usize) -> sea_orm::Select<message::Entity> {
    use message::Column;
    let (query, column) = match of {
        Of::Mailbox(_, row) => (message::Entity::find().filter(Column::MailboxId.eq(row.id)), Column::Uid),
        Of::All => (message::Entity::find(), Column::Stamp),
    };
    let mut wanted = Where::all();
    if let Some(before) = before {
        wanted = wanted.add(column.lt(before));
    }
    if let Some(since) = after(of, request.since) {
        wanted = wanted.add(column.gt(since));
    }
    if request.unread {
        wanted = wanted.add(Column::IsRead.eq(false));
    }
    for filter in request.query.iter().flat_map(Query::filters) {
        let Some(holds) = condition(&filter.condition) else { continue };
        wanted = wanted.add(if filter.negated { holds.not() } else { holds });
    }
    query.filter(wanted).order_by_desc(column).limit(limit as u64)
}

/// The part of `since` that orders this list. One of another life of the mailbox, or of another kind, bounds nothing.
fn after(of: &Of<'_>, since: Option<Position>) -> Option<i64> {
    match (of, since?) {
        (Of::Mailbox(_, row), Position::Mailbox(cursor)) => {
            (cursor.incarnation == columns::unsigned(row.incarnation)).then(|| columns::signed(cursor.modseq))
        }
        (Of::All, Position::Stream(cursor)) => Some(cursor.stamp),
        _ => None,
    }
}

/// Tags are text in their column: only [`Query::matches`] is exact about them.
fn tagged(query: &Query) -> bool {
    query.filters().iter().any(|filter| matches!(filter.condition, Condition::Tag(_)))
}

/// A condition on list columns, the same as `mail::query` has it; none of them is ever null. Nothing for tags.
fn condition(condition: &Condition) -> Option<Where> {
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

fn parse_page(page: &str) -> Result<i64, StoreError> {
    i64::from_str_radix(page, 16).ok().filter(|before| *before > 0).ok_or(StoreError::BadPage)
}

fn empty(position: Position) -> MessagePage {
    MessagePage { items: Vec::new(), next: None, position, index_lag: None }
}
