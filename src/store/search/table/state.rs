//! How far the index is: the one row of `search_state`.
//!
//! Its lock is the lease of who works on the index: it goes with the transaction, and the server ends the transaction of a
//! node that stands still (`store::source`), so nobody is waited for long and nobody works on without it.

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};

/// To be raised when the tokens of `mail::query`, their spelling or the blocks change: the index is made again.
pub const VERSION: i64 = 1;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The layout of what was indexed last; 0 before anything was.
    pub version: i64,
    /// Events of the stream up to this stamp are in it.
    pub position: i64,
    /// The last message that a walk over all of them took in, while there is one.
    pub walk: Option<(i64, i64)>,
    /// Rows removed since the index was last tidied up.
    pub removed: i64,
    /// Messages that were ever found to have too many words.
    pub partial: i64,
}

/// Where the store stands beside it.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The last stamp given.
    pub stamp: i64,
    /// The stream can be followed from here on.
    pub floor: i64,
}

const COLUMNS: &str = "version, position, walk_mailbox, walk_uid, removed, partial";

impl State {
    /// The row as it is in the snapshot of `db`.
    ///
    /// # Errors
    /// What the database says.
    pub async fn read<C: ConnectionTrait>(db: &C) -> Result<Self, DbErr> {
        let row = one(db, format!("SELECT {COLUMNS} FROM search_state WHERE id = 1")).await?;
        Self::of(&row.ok_or_else(|| DbErr::RecordNotFound("search_state".into()))?)
    }

    /// The row, locked until the transaction ends; none when another has it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn lock<C: ConnectionTrait>(db: &C) -> Result<Option<Self>, DbErr> {
        let text = format!("SELECT {COLUMNS} FROM search_state WHERE id = 1 FOR UPDATE SKIP LOCKED");
        one(db, text).await?.as_ref().map(Self::of).transpose()
    }

    /// Both in one moment.
    ///
    /// # Errors
    /// What the database says.
    pub async fn beside<C: ConnectionTrait>(db: &C) -> Result<(Self, Head), DbErr> {
        let text = format!(
            "SELECT {COLUMNS}, m.stamp AS stamp, m.stream_floor AS stream_floor \
             FROM search_state s JOIN meta m ON m.id = s.id WHERE s.id = 1"
        );
        let text = text.replace("SELECT version", "SELECT s.version");
        let row = one(db, text).await?.ok_or_else(|| DbErr::RecordNotFound("search_state".into()))?;
        let head = Head { stamp: row.try_get("", "stamp")?, floor: row.try_get("", "stream_floor")? };
        Ok((Self::of(&row)?, head))
    }

    /// Writes the row.
    ///
    /// # Errors
    /// What the database says.
    pub async fn write<C: ConnectionTrait>(&self, db: &C) -> Result<(), DbErr> {
        let number = |walk: Option<i64>| walk.map_or_else(|| "NULL".to_owned(), |number| number.to_string());
        let text = format!(
            "UPDATE search_state SET version = {}, position = {}, walk_mailbox = {}, walk_uid = {}, removed = {}, \
             partial = {} WHERE id = 1",
            self.version,
            self.position,
            number(self.walk.map(|walk| walk.0)),
            number(self.walk.map(|walk| walk.1)),
            self.removed,
            self.partial
        );
        db.execute_unprepared(&text).await.map(drop)
    }

    /// Events that are not in the index, of a stream that stands at `head`; of an index that is still made all that is
    /// not walked over counts as one more.
    pub fn lag(&self, head: Head) -> i64 {
        let behind = head.stamp.saturating_sub(self.position).max(0);
        if self.version == VERSION && self.walk.is_none() { behind } else { behind.saturating_add(1) }
    }

    /// Whether the stream can be followed from the position.
    pub fn fits(&self, head: Head) -> bool {
        self.version == VERSION && self.position >= head.floor && self.position <= head.stamp
    }

    fn of(row: &QueryResult) -> Result<Self, DbErr> {
        let walk: (Option<i64>, Option<i64>) = (row.try_get("", "walk_mailbox")?, row.try_get("", "walk_uid")?);
        Ok(Self {
            version: row.try_get("", "version")?,
            position: row.try_get("", "position")?,
            walk: walk.0.zip(walk.1),
            removed: row.try_get("", "removed")?,
            partial: row.try_get("", "partial")?,
        })
    }
}

async fn one<C: ConnectionTrait>(db: &C, text: String) -> Result<Option<QueryResult>, DbErr> {
    db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_too_far_behind_or_ahead_is_made_again() {
        let state = State { version: VERSION, position: 50, walk: None, removed: 0, partial: 0 };
        let head = Head { stamp: 60, floor: 50 };
        assert!(state.fits(head));
        assert_eq!(state.lag(head), 10);
        assert_eq!(State { walk: Some((1, 1)), ..state }.lag(head), 11);
        for other in
            [State { position: 49, ..state }, State { position: 61, ..state }, State { version: VERSION - 1, ..state }]
        {
            assert!(!other.fits(head), "{other:?}");
        }
    }
}
