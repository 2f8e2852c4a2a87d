//! On a database server: messages of all mailboxes that arrived after a position of the stream, newest first. Rows there are
//! stamped when they are planned, so it is the marks of their commits that tell which came later.

use std::collections::HashMap;

use sea_orm::DatabaseTransaction;

use super::bounds;
use super::list::{self, Line, Of};
use super::messages::{ListRequest, MessagePage};
use super::search::page::{Filling, Goes, WORK};
use super::{Store, StoreError, stream, unavailable};
use crate::mail::cursor::StreamCursor;

/// Places looked at together.
const LOT: usize = 256;

impl Store {
    /// The page of what came after `since`, which the marks still tell, below the stamp `below`. Every event on the way
    /// counts as work, so that a page costs the same whatever is left out of it.
    pub(super) async fn recent(
        &self,
        tx: &DatabaseTransaction,
        of: &Of<'_>,
        request: &ListRequest,
        since: StreamCursor,
        mut below: i64,
    ) -> Result<MessagePage, StoreError> {
        let mut filling = Filling::new(list::empty(), request.limit, WORK);
        let query = request.query.as_ref().filter(|query| !query.is_empty());
        loop {
            let places = stream::before(tx, since.stamp, below, LOT).await.map_err(unavailable)?;
            let Some(last) = places.last() else { return Ok(filling.page) };
            below = last.stamp;
            let stamps: HashMap<(i64, i64), i64> =
                places.iter().map(|place| ((place.mailbox, place.modseq), place.stamp)).collect();
            let mut rows = stream::messages(tx, &places).await.map_err(unavailable)?;
            for row in &mut rows {
                row.stamp = stamps.get(&(row.mailbox_id, row.uid)).copied().unwrap_or(row.stamp);
            }
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.stamp));
            let mut lines = self.living_lines(tx, of, rows).await.map_err(unavailable)?;
            lines.retain(|line: &Line| !(request.unread && line.listed.is_read));
            let passed_over = places.len() - lines.len();
            if self.examine(lines, query, &mut filling).await? == Goes::Ended {
                filling.page.next = filling.page.next.map(bounds::in_stream);
                return Ok(filling.page);
            }
            if filling.passed(passed_over) == Goes::Ended {
                filling.page.next = Some(bounds::in_stream(bounds::page_from(below - 1)));
                return Ok(filling.page);
            }
        }
    }
}
