//! A page of a search from the index in the database, in the snapshot in which the messages are read too.
//!
//! What is newer than the index is asked one by one. In one mailbox that is what lies above the last UID of the index: it is
//! filled in the order of UIDs. Over all mailboxes the order is that of rows' stamps, and the index follows the order of
//! commits, which differ by what was under way together: so everything down to the oldest message that is not indexed is
//! asked one by one. An index that is more than [`MOST_BEHIND`] events behind answers no search over all mailboxes.
//!
//! The index is asked piece by piece ([`super::blocks`]). A piece with more hits than [`MANY`] is asked for again in a smaller
//! size; one with few is followed by a larger one. Every question has a price, so that a page ends whatever it is asked for.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use entity::message;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TransactionTrait,
};

use super::blocks::Axis;
use super::state::{State, VERSION};
use super::words::{self, Hit};
use crate::mail::query::{Asked, Query, Spelling};
use crate::store::bounds::{self, after};
use crate::store::list::Line;
use crate::store::search::page::{Asking, FEW, Failure, Filling, Goes, LINE, MANY, Newer, WORK};
use crate::store::stream::{self, Place};

/// Events that a search over all mailboxes looks up.
const MOST_BEHIND: usize = 10_000;
/// What a question costs of a page's work.
const QUESTION: usize = 100;
/// A page that has asked for so long says where to go on.
const SPAN: Duration = Duration::from_secs(3);

/// What a search is asked in.
struct Scope<'a> {
    /// A part of the transaction that may fail without the rest.
    inner: &'a DatabaseTransaction,
    axis: Axis,
    asked: Asked,
    spelling: Spelling,
    /// What the index leaves open.
    open: Option<Query>,
    /// Some messages had too many words.
    partial: bool,
}

impl Asking<'_> {
    /// False when the index cannot be asked now.
    pub(in crate::store::search) async fn in_table(
        &self,
        spelling: Spelling,
        filling: &mut Filling,
    ) -> Result<bool, Failure> {
        let Some(asked) = self.query.asked(spelling) else { return Ok(false) };
        let inner = self.tx.begin().await.map_err(Failure::store)?;
        let outcome = self.asked_in_table(&inner, spelling, asked, filling).await;
        // It takes back what was set for it, and what failed in it.
        inner.rollback().await.map_err(Failure::store)?;
        outcome
    }

    async fn asked_in_table(
        &self,
        inner: &DatabaseTransaction,
        spelling: Spelling,
        asked: Asked,
        filling: &mut Filling,
    ) -> Result<bool, Failure> {
        let state = State::read(inner).await.map_err(Failure::Index)?;
        let axis = self.of.mailbox_id().map_or(Axis::Stamps, Axis::Uids);
        let Some(newest) = self.newest(inner, state).await.map_err(Failure::Index)? else { return Ok(false) };
        if self.before.is_none_or(|before| before > newest.saturating_add(1))
            && self.read(Some(Newer::Order(newest)), filling).await.map_err(Failure::Store)? == Goes::Ended
        {
            return Ok(true);
        }
        filling.most += WORK;
        words::prepare(inner).await.map_err(Failure::Index)?;
        let open = self.query.unsettled_by(spelling);
        let scope = Scope { inner, axis, asked, spelling, open, partial: state.partial > 0 };
        let end = self.before.unwrap_or(i64::MAX).min(newest.saturating_add(1));
        let start = after(self.request.since).map_or(0, |since| since.saturating_add(1).max(0));
        self.pieces(&scope, (start, end), filling).await?;
        Ok(true)
    }

    /// Up to where the index has everything, in the order of the list; none while it cannot be told.
    async fn newest(&self, inner: &DatabaseTransaction, state: State) -> Result<Option<i64>, DbErr> {
        if state.version != VERSION {
            return Ok(None);
        }
        if let Some(mailbox) = self.of.mailbox_id() {
            // What a walk has not come to is there only as far as the stream brought it.
            let whole = state.walk.is_none_or(|(walked, _)| mailbox < walked);
            return if whole { words::newest(inner, mailbox).await.map(Some) } else { Ok(None) };
        }
        if state.walk.is_some() {
            return Ok(None);
        }
        let (places, all) = stream::after(inner, state.position, MOST_BEHIND).await?;
        if !all {
            return Ok(None);
        }
        if let Some(lowest) = stream::lowest(inner, &places).await? {
            return Ok(Some(lowest.saturating_sub(1)));
        }
        // Everything is in it, and it need not be asked for what is yet to come.
        let last = message::Entity::find().select_only().column(message::Column::Stamp);
        let last = last.order_by_desc(message::Column::Stamp).limit(1).into_tuple::<i64>().one(inner).await?;
        Ok(Some(last.unwrap_or(0)))
    }

    /// Fills the page with what the index finds from `start` until before `end`, from the end on.
    async fn pieces(&self, scope: &Scope<'_>, (start, end): (i64, i64), filling: &mut Filling) -> Result<(), Failure> {
        let began = Instant::now();
        let mut level = self.level(scope, end).await.map_err(Failure::Index)?;
        let mut end = end;
        while end > start {
            let piece = (scope.axis.begin(level, end - 1).max(start), end);
            let sorted = level == 0;
            filling.spent += QUESTION;
            let hits = scope.find(level, piece, sorted).await.map_err(Failure::Index)?;
            let over = hits.len() > MANY;
            if over && !sorted {
                level -= 1;
                continue;
            }
            let found = hits.len();
            // Of a piece that is cut the rest comes next.
            let rest = if over { hits.keys().next().map_or(piece.0, |hit| hit.0) } else { piece.0 };
            if self.lots(scope, hits, filling).await? == Goes::Ended {
                return Ok(());
            }
            end = rest;
            level = match found {
                0 => level + 2,
                few if few < FEW => level + 1,
                _ => level,
            };
            level = level.min(scope.axis.top());
            if end > start && (filling.spent >= filling.most || began.elapsed() > SPAN) {
                filling.page.next = Some(bounds::page_from(end - 1));
                return Ok(());
            }
        }
        Ok(())
    }

    /// The size of block to begin with: one that has about [`MANY`] messages, so that the most frequent word is asked for
    /// once, and a rare one a few times.
    async fn level(&self, scope: &Scope<'_>, end: i64) -> Result<usize, DbErr> {
        if scope.axis != Axis::Stamps {
            return Ok(0);
        }
        let below = message::Entity::find().select_only().column(message::Column::Stamp);
        let below = below.filter(message::Column::Stamp.lt(end)).order_by_desc(message::Column::Stamp);
        let nth = below.offset(MANY as u64).limit(1).into_tuple::<i64>().one(scope.inner).await?;
        Ok(nth.map_or(scope.axis.top(), |stamp| scope.axis.level(end.saturating_sub(stamp))))
    }

    /// Takes hits into the page, newest first.
    async fn lots(&self, scope: &Scope<'_>, hits: BTreeMap<Key, Hit>, filling: &mut Filling) -> Result<Goes, Failure> {
        let mut hits = hits.into_values().rev().peekable();
        let mut wanted = FEW.max(self.request.limit as usize + 1);
        while hits.peek().is_some() {
            let lot: Vec<Hit> = hits.by_ref().take(wanted).collect();
            let last = lot.last().map_or(0, |hit| scope.order(hit));
            let lines = self.lines_of(scope, &lot).await.map_err(Failure::store)?;
            // Those that the columns sorted out were looked at too.
            filling.spent += lot.len().saturating_sub(lines.len()) * LINE;
            for (whole, lines) in lines {
                // Of what was not indexed word by word everything is open.
                let open = if whole { scope.open.as_ref() } else { Some(self.query) };
                if self.store.examine(lines, open, filling).await.map_err(Failure::Store)? == Goes::Ended {
                    return Ok(Goes::Ended);
                }
            }
            if filling.spent >= filling.most {
                filling.page.next = Some(bounds::page_from(last.saturating_sub(1)));
                return Ok(Goes::Ended);
            }
            wanted = (wanted * 2).min(MANY);
        }
        Ok(Goes::On)
    }

    /// The messages that were found and are there and belong to the list by their columns, in its order, in runs of whole ones
    /// and of others.
    async fn lines_of(&self, scope: &Scope<'_>, hits: &[Hit]) -> Result<Vec<(bool, Vec<Line>)>, DbErr> {
        let places: Vec<Place> =
            hits.iter().map(|hit| Place { stamp: hit.stamp, mailbox: hit.mailbox, modseq: hit.uid }).collect();
        let rows = stream::messages(self.tx, &places).await?;
        let mut rows: HashMap<(i64, i64), message::Model> =
            rows.into_iter().map(|row| ((row.mailbox_id, row.uid), row)).collect();
        let whole: HashMap<i64, bool> = hits.iter().map(|hit| (scope.order(hit), hit.whole)).collect();
        let rows = hits.iter().filter_map(|hit| rows.remove(&(hit.mailbox, hit.uid))).collect();
        let lines = self.store.living_lines(self.tx, self.of, rows).await?;
        let mut runs: Vec<(bool, Vec<Line>)> = Vec::new();
        for line in lines {
            let unread = !self.request.unread || !line.listed.is_read;
            if !unread || !self.query.filters_hold(&line.listed) {
                continue;
            }
            let whole = whole.get(&line.order).copied().unwrap_or(false);
            match runs.last_mut() {
                Some((of, lines)) if *of == whole => lines.push(line),
                _ => runs.push((whole, vec![line])),
            }
        }
        Ok(runs)
    }
}

/// Where a hit stands: by the order of the list, then by what tells two apart that have one stamp.
type Key = (i64, i64, i64);

impl Scope<'_> {
    fn order(&self, hit: &Hit) -> i64 {
        if self.axis == Axis::Stamps { hit.stamp } else { hit.uid }
    }

    /// One more than [`MANY`] hits says that there are more; of a `sorted` question it has the newest.
    async fn find(&self, level: usize, piece: (i64, i64), sorted: bool) -> Result<BTreeMap<Key, Hit>, DbErr> {
        let places = self.axis.cover(self.spelling, level, piece);
        let mut found = BTreeMap::new();
        let expressions = [Some(self.asked.within(&places)), self.partial.then(|| self.asked.partial(&places))];
        for expression in expressions.into_iter().flatten() {
            let hits = words::find(self.inner, &expression, self.axis, piece, (MANY + 1, sorted)).await?;
            found.extend(hits.into_iter().map(|hit| ((self.order(&hit), hit.mailbox, hit.uid), hit)));
        }
        while sorted && found.len() > MANY + 1 {
            found.pop_first();
        }
        Ok(found)
    }
}
