//! How far down one page of a narrowed list looks. A list that leaves out messages by their columns would otherwise read a
//! whole mailbox, or all of them, in search of one that matches; with a floor it costs a bounded part of that, and `next`
//! says where to go on, as with a search.
//!
//! A plain list has none: its rows are its page.

use entity::message;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, QueryFilter, QueryOrder, QuerySelect};

use super::bounds::after;
use super::list::{Of, condition};
use super::messages::ListRequest;
use super::search::page::WORK;

/// The first message that this page does not look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub order: i64,
    pub stamp: i64,
}

/// What a page looks at: between the two, both left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub before: Option<i64>,
    pub floor: Option<i64>,
}

/// The floor of a page below `before`; none where the list is plain, or ends before there is one.
pub(super) async fn floor(
    tx: &DatabaseTransaction,
    of: &Of<'_>,
    request: &ListRequest,
    before: Option<i64>,
) -> Result<Option<Floor>, DbErr> {
    use message::Column;
    if !is_narrowed(request) {
        return Ok(None);
    }
    let (rows, column) = of.rows();
    let mut rows = rows.select_only().columns([column, Column::Stamp]).order_by_desc(column);
    if let Some(before) = before {
        rows = rows.filter(column.lt(before));
    }
    if let Some(since) = after(request.since) {
        rows = rows.filter(column.gt(since));
    }
    let row: Option<(i64, i64)> = rows.offset(WORK as u64).limit(1).into_tuple().one(tx).await?;
    Ok(row.map(|(order, stamp)| Floor { order, stamp }))
}

/// Whether rows are left out by their columns.
fn is_narrowed(request: &ListRequest) -> bool {
    let filters = request.query.iter().flat_map(|query| query.filters());
    request.unread || filters.into_iter().any(|filter| condition(&filter.condition).is_some())
}
