//! A page of a search: what is newer than the index is asked one by one, the rest comes from the index, is joined with
//! the rows of the store, and is asked for what the index leaves open (`Query::unsettled`).
//!
//! A page ends when it is full or when enough was looked at for one request; then `next` says where to go on, and a page may
//! be shorter than asked for, even empty, before the end. So a search is complete whatever the index's lag is, and no request
//! costs more than a bounded part of it.

use std::time::Instant;

use entity::message;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Snapshot, batch, index, metrics as names};
use crate::mail::query::{Candidate, Condition, Fts, Query};
use crate::store::bounds::{self, after};
use crate::store::cold::reader::Patience;
use crate::store::floor::{self, Span};
use crate::store::list::{self, Line, Of, select};
use crate::store::messages::{ListRequest, MessagePage};
use crate::store::{Bodies, Store, StoreError, unavailable};

/// What may be spent on one page: a message whose text is read costs [`TEXT`] and one more for each [`UNIT`] of its bytes.
pub(in crate::store) const WORK: usize = 20_000;
/// One of which only list columns are looked at costs this.
pub(super) const LINE: usize = 1;
const TEXT: usize = 10;
const UNIT: u64 = 4 << 10;
/// Work between two looks at what is left.
const LOT: usize = 2_000;
/// Candidates fetched at once, at first and at most.
pub(super) const FEW: usize = 64;
pub(super) const MANY: usize = 1_024;

/// A page that is being filled.
pub(in crate::store) struct Filling {
    pub page: MessagePage,
    limit: usize,
    pub(super) spent: usize,
    /// What may be spent in all.
    pub(super) most: usize,
}

/// What is newer than an index: above a stamp, or above a place in the order of the list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newer {
    Stamp(i64),
    Order(i64),
}

impl Newer {
    fn than(self, order: i64, stamp: i64) -> bool {
        match self {
            Self::Stamp(least) => stamp > least,
            Self::Order(least) => order > least,
        }
    }
}

/// Whether there is more to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    On,
    Ended,
}

impl Filling {
    pub fn new(page: MessagePage, limit: u32, most: usize) -> Self {
        Self { page, limit: limit as usize, spent: 0, most }
    }

    /// Takes the next line in order, one that belongs to the list or not.
    pub(in crate::store) fn take(&mut self, line: Line, belongs: bool) -> Goes {
        self.take_for(line, belongs, LINE)
    }

    /// Counts lines that were looked at and do not belong to the list, all before the next that is taken.
    pub(in crate::store) fn passed(&mut self, lines: usize) -> Goes {
        self.spent += lines * LINE;
        if self.spent >= self.most { Goes::Ended } else { Goes::On }
    }

    /// The same for a line that cost so much.
    fn take_for(&mut self, line: Line, belongs: bool, cost: usize) -> Goes {
        if self.spent >= self.most || (belongs && self.page.items.len() >= self.limit) {
            self.page.next = Some(bounds::page_from(line.order));
            return Goes::Ended;
        }
        self.spent += cost;
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
        let asking = Asking { store: self, tx, of, request, query, before };
        let search = self.inner.search.as_ref();
        let words = query.fts();
        let index_lag = words.as_ref().and(search).map(super::Search::lag);
        let filling = || Filling::new(MessagePage { index_lag, ..list::empty() }, request.limit, WORK);
        if let Some(search) = search
            && let Some(spelling) = search.spelling().filter(|_| words.is_some())
        {
            let mut filling = filling();
            let found = asking.in_table(spelling, &mut filling).await;
            metrics::histogram!(names::QUERY).record(began.elapsed());
            match found {
                Ok(true) => return Ok(filling.page),
                Ok(false) => {}
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Index(error)) => search.failed(&error),
            }
        }
        if let (Some(search), Some(words)) = (search, words)
            && let Some(snapshot) = search.snapshot().await
        {
            let mut filling = filling();
            let found = asking.indexed(&words, &snapshot, &mut filling).await;
            metrics::histogram!(names::QUERY).record(began.elapsed());
            match found {
                Ok(_) => return Ok(filling.page),
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Index(error)) => search.failed(&error),
            }
        }
        let mut filling = filling();
        asking.read(None, &mut filling).await?;
        Ok(filling.page)
    }

    /// Takes those of `lines` that match `open`, if something is open, in lots of bounded work.
    pub(in crate::store) async fn examine(
        &self,
        lines: Vec<Line>,
        open: Option<&Query>,
        filling: &mut Filling,
    ) -> Result<Goes, StoreError> {
        let reads = open.is_some_and(Query::needs_text);
        let mut lines = lines.into_iter().peekable();
        while lines.peek().is_some() {
            let mut work = 0;
            let lot: Vec<Line> = std::iter::from_fn(|| {
                let line = (work < LOT).then(|| lines.next()).flatten()?;
                work += cost(&line, reads);
                Some(line)
            })
            .collect();
            for (line, matches) in self.matching(lot, open).await? {
                let cost = cost(&line, reads);
                if filling.take_for(line, matches, cost) == Goes::Ended {
                    return Ok(Goes::Ended);
                }
            }
        }
        Ok(Goes::On)
    }

    /// Which of `lines` match. The text of one that cannot be read is empty, as in the index.
    async fn matching(&self, lines: Vec<Line>, open: Option<&Query>) -> Result<Vec<(Line, bool)>, StoreError> {
        let Some(open) = open else { return Ok(lines.into_iter().map(|line| (line, true)).collect()) };
        let query = open.clone();
        let Bodies::Files(dir) = self.inner.bodies.clone() else { return self.matching_in_table(lines, query).await };
        let cold = self.inner.cold.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let patience = Patience::search();
            let ask = |line: Line| {
                let text = if query.needs_text() {
                    batch::text((&dir, &cold), line.at, line.listed.id, patience).unwrap_or_default()
                } else {
                    "".into()
                };
                let matches = query.matches(&Candidate { listed: &line.listed, text: &text });
                (line, matches)
            };
            lines.into_iter().map(ask).collect()
        });
        asked.await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// The same with bodies that lie in the database.
    async fn matching_in_table(&self, lines: Vec<Line>, query: Query) -> Result<Vec<(Line, bool)>, StoreError> {
        let mut asked = Vec::with_capacity(lines.len());
        for line in lines {
            let text = if query.needs_text() { self.text_in_table(line.listed.id).await? } else { "".into() };
            let matches = query.matches(&Candidate { listed: &line.listed, text: &text });
            asked.push((line, matches));
        }
        Ok(asked)
    }
}

/// Why the index could not fill a page.
pub(super) enum Failure {
    Store(StoreError),
    Index(DbErr),
}

impl Failure {
    pub(super) fn store(error: DbErr) -> Self {
        Self::Store(unavailable(error))
    }
}

/// A search in one snapshot of the store.
pub(super) struct Asking<'a> {
    pub store: &'a Store,
    pub tx: &'a DatabaseTransaction,
    pub of: &'a Of<'a>,
    pub request: &'a ListRequest,
    pub query: &'a Query,
    pub before: Option<i64>,
}

impl Asking<'_> {
    /// What is newer than the index, then what the index finds.
    async fn indexed(&self, words: &Fts, snapshot: &Snapshot, filling: &mut Filling) -> Result<Goes, Failure> {
        if self.read(Some(Newer::Stamp(snapshot.position)), filling).await.map_err(Failure::Store)? == Goes::Ended {
            return Ok(Goes::Ended);
        }
        filling.most += WORK;
        self.hits(words, snapshot, filling).await
    }

    /// Asks messages one by one, newest first, those that are `newer` only.
    pub(super) async fn read(&self, newer: Option<Newer>, filling: &mut Filling) -> Result<Goes, StoreError> {
        let floor = floor::floor(self.tx, self.of, self.request, self.before).await.map_err(unavailable)?;
        let mut span = Span { before: self.before, floor: floor.map(|floor| floor.order) };
        let mut wanted = FEW;
        loop {
            let lines = self.store.lines(self.tx, self.of, self.request, span, wanted);
            let mut lines = lines.await.map_err(unavailable)?;
            let last_lot = lines.len() < wanted;
            span.before = lines.last().map(|line| line.order).or(span.before);
            let fetched = lines.len();
            lines.retain(|line| newer.is_none_or(|newer| newer.than(line.order, line.stamp)));
            let reached = lines.len() < fetched;
            if self.store.examine(lines, Some(self.query), filling).await? == Goes::Ended {
                return Ok(Goes::Ended);
            }
            if reached {
                return Ok(Goes::On);
            }
            if last_lot {
                let more = floor.filter(|floor| newer.is_none_or(|newer| newer.than(floor.order, floor.stamp)));
                filling.page.next = more.map(|floor| bounds::page_from(floor.order));
                return Ok(if more.is_some() { Goes::Ended } else { Goes::On });
            }
            wanted = (wanted * 2).min(MANY / 4);
        }
    }

    /// Fills the page with what the index finds.
    async fn hits(&self, words: &Fts, snapshot: &Snapshot, filling: &mut Filling) -> Result<Goes, Failure> {
        let open = self.query.unsettled();
        let (oldest, newest) = self.bounds().await.map_err(Failure::store)?;
        let mut below = newest.min(snapshot.position.saturating_add(1));
        let mut wanted = FEW.max(self.request.limit as usize + 1);
        loop {
            let found = index::find(&snapshot.tx, words, self.of.mailbox_id(), (oldest, below), wanted as u64);
            let found = found.await.map_err(Failure::Index)?;
            let (hits, last_lot) = (found.len(), found.len() < wanted);
            below = found.last().copied().unwrap_or(below);
            let rows =
                select(self.of, self.request, Span::default()).filter(message::Column::Stamp.is_in(found)).all(self.tx);
            let rows = rows.await.map_err(Failure::store)?;
            let mut lines = self.store.living_lines(self.tx, self.of, rows).await.map_err(Failure::store)?;
            lines.retain(|line| tags_hold(self.query, line));
            // Those that the columns sorted out were looked at too.
            filling.spent += hits.saturating_sub(lines.len()) * LINE;
            if self.store.examine(lines, open.as_ref(), filling).await.map_err(Failure::Store)? == Goes::Ended {
                return Ok(Goes::Ended);
            }
            if last_lot {
                return Ok(Goes::On);
            }
            if filling.spent >= filling.most {
                filling.page.next = self.order_below(below).await.map_err(Failure::store)?;
                return Ok(Goes::Ended);
            }
            wanted = (wanted * 2).min(MANY);
        }
    }

    /// The page that begins below the hit at stamp `below`; none when nothing is there. What the columns leave out is
    /// not looked for here: that could take a whole mailbox.
    async fn order_below(&self, below: i64) -> Result<Option<String>, DbErr> {
        use message::Column;
        let (rows, _) = self.of.rows();
        let hit = rows.clone().filter(Column::Stamp.eq(below)).one(self.tx).await?;
        if let Some(row) = hit {
            return Ok(Some(bounds::page_from(self.of.order(&row).saturating_sub(1))));
        }
        // The message is gone, and the index does not know yet.
        let (rows, column) = (rows.filter(Column::Stamp.lt(below)), self.of.rows().1);
        let next = rows.order_by_desc(column).limit(1).one(self.tx).await?;
        Ok(next.map(|row| bounds::page_from(self.of.order(&row))))
    }

    /// The stamps between which the list lies, both left out.
    async fn bounds(&self) -> Result<(i64, i64), DbErr> {
        let since = after(self.request.since);
        let Some(mailbox) = self.of.mailbox_id() else {
            return Ok((since.unwrap_or(0), self.before.unwrap_or(i64::MAX)));
        };
        let oldest = match since {
            Some(since) => self.stamp_at(mailbox, since).await?,
            None => 0,
        };
        let newest = match self.before {
            Some(before) => self.stamp_at(mailbox, before.saturating_sub(1)).await?.saturating_add(1),
            None => i64::MAX,
        };
        Ok((oldest, newest))
    }

    /// The stamp of the nearest message at or below a UID; zero when there is none.
    async fn stamp_at(&self, mailbox: i64, uid: i64) -> Result<i64, DbErr> {
        use message::Column;
        let nearest = message::Entity::find()
            .select_only()
            .column(Column::Stamp)
            .filter(Column::MailboxId.eq(mailbox))
            .filter(Column::Uid.lte(uid))
            .order_by_desc(Column::Uid)
            .limit(1);
        Ok(nearest.into_tuple::<i64>().one(self.tx).await?.unwrap_or(0))
    }
}

fn cost(line: &Line, reads: bool) -> usize {
    if reads { TEXT + usize::try_from(line.listed.size / UNIT).unwrap_or(WORK) } else { LINE }
}

/// Tags are text in their column, which SQL does not look into.
fn tags_hold(query: &Query, line: &Line) -> bool {
    query.filters().iter().all(|filter| match &filter.condition {
        Condition::Tag(tag) => line.listed.tags.contains(tag) != filter.negated,
        _ => true,
    })
}
