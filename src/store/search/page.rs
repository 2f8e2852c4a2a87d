//! A page of a search: what is newer than the index is asked one by one, the rest comes from the index and is joined with
//! the rows of the store.
//!
//! A page ends when it is full or when enough was looked at for one request; then `next` says where to go on, and a
//! page may be shorter than asked for, even empty, before the end. So a search is complete whatever the index's lag is, and no
//! request costs more than a bounded part of it.

use std::time::Instant;

use entity::message;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Snapshot, batch, index, metrics as names};
use crate::mail::query::{Candidate, Condition, Fts, Query};
use crate::store::list::{Line, Of, after, select};
use crate::store::messages::{ListRequest, MessagePage};
use crate::store::{Store, StoreError, unavailable};

/// Messages whose words are looked at for one page.
const READ: usize = 2_000;
/// Hits of the index whose columns are looked at for one page.
const HITS: usize = 20_000;
/// Candidates fetched at once, at first and at most.
const FEW: usize = 64;
const MANY: usize = 1_024;

/// A page that is being filled.
pub(in crate::store) struct Filling {
    pub page: MessagePage,
    limit: usize,
    looked: usize,
    /// Lines that may be looked at in all.
    most: usize,
}

/// Whether there is more to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    On,
    Ended,
}

impl Filling {
    pub fn new(page: MessagePage, limit: u32, most: usize) -> Self {
        Self { page, limit: limit as usize, looked: 0, most }
    }

    /// Takes the next line in order, one that belongs to the list or not.
    pub(in crate::store) fn take(&mut self, line: Line, belongs: bool) -> Goes {
        if self.looked >= self.most || (belongs && self.page.items.len() >= self.limit) {
            self.page.next = Some(format!("{:x}", line.order.saturating_add(1)));
            return Goes::Ended;
        }
        self.looked += 1;
        if belongs {
            self.page.items.push(line.listed);
        }
        Goes::On
    }
}

impl Store {
    /// A page of a search for words or tags.
    pub(in crate::store) async fn search(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        query: &Query,
        before: Option<i64>,
    ) -> Result<MessagePage, StoreError> {
        let began = Instant::now();
        let search = self.inner.search.as_ref();
        let index_lag = if query.fts().is_some() { search.map(super::Search::lag) } else { None };
        let empty = || MessagePage { index_lag, ..super::super::list::empty() };
        if let (Some(search), Some(asked)) = (search, query.fts())
            && let Some(snapshot) = search.snapshot().await
        {
            let mut filling = Filling::new(empty(), request.limit, READ);
            let newer = Some(snapshot.position);
            if self.read_on(tx, of, request, query, (before, newer), &mut filling).await? == Goes::Ended {
                return Ok(filling.page);
            }
            filling.most += HITS;
            let hits = self.hits(tx, of, request, (query, &asked), (before, &snapshot), &mut filling).await;
            metrics::histogram!(names::QUERY).record(began.elapsed());
            match hits {
                Ok(_) => return Ok(filling.page),
                Err(Hitless::Store(error)) => return Err(unavailable(error)),
                Err(Hitless::Index(error)) => search.failed(&error),
            }
        }
        let mut filling = Filling::new(empty(), request.limit, READ);
        self.read_on(tx, of, request, query, (before, None), &mut filling).await?;
        Ok(filling.page)
    }

    /// Asks messages one by one, newest first, down to the stamp `newer`, which is left out.
    async fn read_on(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        query: &Query,
        (mut before, newer): (Option<i64>, Option<i64>),
        filling: &mut Filling,
    ) -> Result<Goes, StoreError> {
        let mut wanted = FEW;
        loop {
            let mut lines = self.lines(tx, of, request, before, wanted).await.map_err(unavailable)?;
            let last_lot = lines.len() < wanted;
            before = lines.last().map(|line| line.order).or(before);
            let fetched = lines.len();
            lines.retain(|line| newer.is_none_or(|newer| line.stamp > newer));
            let reached = lines.len() < fetched;
            for (line, matches) in self.matching(query, lines).await? {
                if filling.take(line, matches) == Goes::Ended {
                    return Ok(Goes::Ended);
                }
            }
            if last_lot || reached {
                return Ok(Goes::On);
            }
            wanted = (wanted * 2).min(MANY / 4);
        }
    }

    /// Which of `lines` match. The text of one that cannot be read is empty, as in the index.
    async fn matching(&self, query: &Query, lines: Vec<Line>) -> Result<Vec<(Line, bool)>, StoreError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let (dir, query) = (self.inner.bodies.clone(), query.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let ask = |line: Line| {
                let text = if query.needs_text() { batch::text(&dir, line.at).unwrap_or_default() } else { "".into() };
                let matches = query.matches(&Candidate { listed: &line.listed, text: &text });
                (line, matches)
            };
            lines.into_iter().map(ask).collect()
        });
        asked.await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Fills the page with what the index finds.
    async fn hits(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        (query, asked): (&Query, &Fts),
        (before, snapshot): (Option<i64>, &Snapshot),
        filling: &mut Filling,
    ) -> Result<Goes, Hitless> {
        let (oldest, newest) = bounds(tx, of, request, before).await.map_err(Hitless::Store)?;
        let mut below = newest.min(snapshot.position.saturating_add(1));
        let mut wanted = FEW.max(request.limit as usize + 1);
        loop {
            let found = index::find(&snapshot.tx, asked, of.mailbox_id(), (oldest, below), wanted as u64);
            let found = found.await.map_err(Hitless::Index)?;
            let last_lot = found.len() < wanted;
            below = found.last().copied().unwrap_or(below);
            let rows = select(of, request, None).filter(message::Column::Stamp.is_in(found)).all(tx);
            let rows = rows.await.map_err(Hitless::Store)?;
            let seen = wanted.saturating_sub(rows.len());
            for line in self.living_lines(tx, of, rows).await.map_err(Hitless::Store)? {
                let belongs = tags_hold(query, &line);
                if filling.take(line, belongs) == Goes::Ended {
                    return Ok(Goes::Ended);
                }
            }
            if last_lot {
                return Ok(Goes::On);
            }
            // Those that the columns sorted out were looked at too.
            filling.looked += seen;
            wanted = (wanted * 2).min(MANY);
        }
    }
}

/// Why the index could not fill a page.
enum Hitless {
    Store(DbErr),
    Index(DbErr),
}

/// The stamps between which a list lies, both left out.
async fn bounds(
    tx: &DatabaseTransaction,
    of: &Of<'_>,
    request: &ListRequest,
    before: Option<i64>,
) -> Result<(i64, i64), DbErr> {
    use message::Column;
    let since = after(of, request.since);
    let Some(mailbox) = of.mailbox_id() else {
        return Ok((since.unwrap_or(0), before.unwrap_or(i64::MAX)));
    };
    // The nearest message at or below a UID.
    let stamp = async |uid: i64| {
        let nearest = message::Entity::find()
            .select_only()
            .column(Column::Stamp)
            .filter(Column::MailboxId.eq(mailbox))
            .filter(Column::Uid.lte(uid))
            .order_by_desc(Column::Uid)
            .limit(1);
        Ok::<i64, DbErr>(nearest.into_tuple::<i64>().one(tx).await?.unwrap_or(0))
    };
    let oldest = match since {
        Some(since) => stamp(since).await?,
        None => 0,
    };
    let newest = match before {
        Some(before) => stamp(before.saturating_sub(1)).await?.saturating_add(1),
        None => i64::MAX,
    };
    Ok((oldest, newest))
}

/// Tags are text in their column, which SQL does not look into.
fn tags_hold(query: &Query, line: &Line) -> bool {
    query.filters().iter().all(|filter| match &filter.condition {
        Condition::Tag(tag) => line.listed.tags.contains(tag) != filter.negated,
        _ => true,
    })
}
