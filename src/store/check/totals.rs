//! What mailboxes and segments say of their messages, against the messages themselves.

use std::collections::HashMap;

use entity::mailbox;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, QueryFilter};
use sea_orm::{QueryOrder, QuerySelect, Statement, Value};

use super::{Check, Finding};
use crate::store::columns;
use crate::store::writer::plan::{DELETED, EXPIRED};

/// Mailboxes looked at together.
const MAILBOXES: u64 = 500;

/// What the rows of one mailbox add up to.
#[derive(Clone, Debug, FromQueryResult)]
struct Sum {
    mailbox_id: i64,
    messages: i64,
    unread: i64,
    bytes: i64,
    last_uid: i64,
    /// When its first message arrived.
    first_at: i64,
}

/// The type of a whole number.
fn whole(backend: DbBackend) -> &'static str {
    if backend == DbBackend::MySql { "SIGNED" } else { "BIGINT" }
}

/// What the messages of mailboxes add up to. Engines widen sums to types of their own.
fn sums(backend: DbBackend, first: i64, last: i64) -> String {
    let whole = whole(backend);
    format!(
        "SELECT mailbox_id, count(*) AS messages, CAST(sum(CASE WHEN is_read THEN 0 ELSE 1 END) AS {whole}) AS unread, \
         CAST(sum(size) AS {whole}) AS bytes, max(uid) AS last_uid, (SELECT received_at FROM messages AS oldest \
         WHERE oldest.mailbox_id = messages.mailbox_id ORDER BY oldest.uid LIMIT 1) AS first_at \
         FROM messages WHERE mailbox_id BETWEEN {first} AND {last} GROUP BY mailbox_id"
    )
}

/// Values between two that are accounted for: by a message, by a change, as the UID of what was deleted, by the floor
/// below which changes are forgotten, or by the counter's next.
fn gaps(first: i64, last: i64) -> String {
    let range = format!("BETWEEN {first} AND {last}");
    format!(
        "SELECT mailbox_id, previous, value FROM (\
         SELECT mailbox_id, value, lag(value) OVER (PARTITION BY mailbox_id ORDER BY value) AS previous FROM (\
         SELECT id AS mailbox_id, replay_floor AS value FROM mailboxes WHERE id {range} \
         UNION ALL SELECT id, modseq + 1 FROM mailboxes WHERE id {range} \
         UNION ALL SELECT mailbox_id, uid FROM messages WHERE mailbox_id {range} \
         UNION ALL SELECT mailbox_id, modseq FROM changes WHERE mailbox_id {range} \
         UNION ALL SELECT mailbox_id, uid FROM changes WHERE kind = {DELETED} AND mailbox_id {range}) AS marks) AS steps \
         WHERE value > previous + 1"
    )
}

#[derive(Clone, Debug, FromQueryResult)]
struct Gap {
    mailbox_id: i64,
    previous: i64,
    value: i64,
}

#[derive(Clone, Debug, FromQueryResult)]
struct Highest {
    mailbox_id: i64,
    highest: i64,
}

impl Check<'_> {
    /// Counters, totals and times of every mailbox.
    pub(super) async fn mailboxes(&mut self) -> Result<(), DbErr> {
        let mut after = i64::MIN;
        while let Some(rows) = self.page(after).await? {
            let (first, last) = ends(&rows);
            let sums = Sum::find_by_statement(self.statement(sums(self.backend(), first, last))).all(&self.tx).await?;
            let sums: HashMap<i64, Sum> = sums.into_iter().map(|sum| (sum.mailbox_id, sum)).collect();
            for row in &rows {
                self.summary.mailboxes += 1;
                for why in self.wrong_with(row, sums.get(&row.id)) {
                    self.found(&Finding::damage(why).of_mailbox(name(row)));
                }
            }
            after = last;
        }
        Ok(())
    }

    fn wrong_with(&self, row: &mailbox::Model, sum: Option<&Sum>) -> Vec<String> {
        let mut wrong = Vec::new();
        let last_uid = sum.map_or(0, |sum| sum.last_uid);
        if row.modseq < last_uid {
            wrong.push(format!("its counter is {}, below its highest uid {last_uid}", row.modseq));
        }
        if row.id >= self.meta.next_mailbox {
            wrong.push(format!("its number {} was not given yet", row.id));
        }
        if row.address.is_none() {
            // Its messages are being removed, uncounted; retention must only come by.
            if row.due.is_none() {
                wrong.push("it was deleted and nothing will remove its messages".into());
            }
            return wrong;
        }
        let totals = [
            ("messages", row.messages, sum.map_or(0, |sum| sum.messages)),
            ("unread messages", row.unread, sum.map_or(0, |sum| sum.unread)),
            ("bytes", row.bytes, sum.map_or(0, |sum| sum.bytes)),
        ];
        for (what, said, is) in totals.into_iter().filter(|(_, said, is)| said != is) {
            wrong.push(format!("it says that it has {said} {what} and has {is}"));
        }
        let needed = match sum {
            Some(sum) => columns::message_end(row, sum.first_at, &self.defaults),
            None if row.origin == 0 => Some(i64::MAX - 60_000_000),
            None => row.expires_at,
        };
        // Earlier is harmless: retention looks and reckons anew.
        if let Some(needed) = needed
            && row.due.is_none_or(|due| due > columns::round_up(needed))
        {
            wrong.push("retention comes too late for it or never".into());
        }
        wrong
    }

    /// The values of every mailbox's counter lead from one event to the next without a gap.
    pub(super) async fn changes(&mut self) -> Result<(), DbErr> {
        let mut after = i64::MIN;
        while let Some(rows) = self.page(after).await? {
            let (first, last) = ends(&rows);
            let gaps = Gap::find_by_statement(self.statement(gaps(first, last))).all(&self.tx).await?;
            let sql = format!(
                "SELECT mailbox_id, max(uid) AS highest FROM changes WHERE kind = {EXPIRED} \
                 AND mailbox_id BETWEEN {first} AND {last} GROUP BY mailbox_id"
            );
            let expired = Highest::find_by_statement(self.statement(sql)).all(&self.tx).await?;
            let expired: HashMap<i64, i64> = expired.into_iter().map(|row| (row.mailbox_id, row.highest)).collect();
            for gap in gaps {
                let Some(row) = rows.iter().find(|row| row.id == gap.mailbox_id && row.address.is_some()) else {
                    continue;
                };
                let known = row.replay_floor.max(expired.get(&row.id).copied().unwrap_or(0));
                let from = gap.previous.max(known) + 1;
                if from < gap.value {
                    let why = format!("nothing tells what happened at {from} to {} of its counter", gap.value - 1);
                    self.found(&Finding::damage(why).of_mailbox(name(row)));
                }
            }
            after = last;
        }
        Ok(())
    }

    /// Messages whose mailbox is not there.
    pub(super) async fn unowned(&mut self) -> Result<(), DbErr> {
        let sql = "SELECT mailbox_id, count(*) AS highest FROM messages \
                   WHERE mailbox_id NOT IN (SELECT id FROM mailboxes) GROUP BY mailbox_id";
        for row in Highest::find_by_statement(self.statement(sql)).all(&self.tx).await? {
            let why = format!("it has {} messages and no row", row.highest);
            self.found(&Finding::damage(why).of_mailbox(format!("#{}", row.mailbox_id)));
        }
        Ok(())
    }

    /// What segments say that is needed of them, once all messages were looked at.
    pub(super) async fn segments(&mut self) -> Result<(), DbErr> {
        let mut used: Vec<_> = self.segments.values().cloned().collect();
        used.sort_unstable_by_key(|used| used.row.number);
        let open = used.iter().filter(|used| !used.row.closed).count();
        if open > 1 {
            self.found(&Finding::damage(format!("{open} segments are open, and there is one to append to")));
        }
        for used in used {
            let (said, is) = (used.row.live, used.live);
            if said != is {
                let why = format!("it says that {said} bytes of it are needed, and {is} are");
                self.found(&Finding::damage(why).of_segment(used.row.number));
            }
            if used.row.total < is {
                let why = format!("it says that it ever held {} bytes, and {is} are needed", used.row.total);
                self.found(&Finding::damage(why).of_segment(used.row.number));
            }
        }
        Ok(())
    }

    /// What SQLite says of its file, and what the stamps say.
    pub(super) async fn database(&mut self) -> Result<(), DbErr> {
        let rows = self.tx.query_all_raw(statement("PRAGMA integrity_check", [])).await?;
        for row in rows {
            let said: String = row.try_get_by_index(0)?;
            if said != "ok" {
                self.found(&Finding::damage(format!("database: {said}")));
            }
        }
        let sql =
            "SELECT max((SELECT coalesce(max(stamp), 0) FROM messages), (SELECT coalesce(max(stamp), 0) FROM changes))";
        let row = self.tx.query_one_raw(statement(sql, [])).await?;
        let last = row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0))?;
        if last > self.meta.stamp {
            let why = format!("the last stamp given is {}, and {last} is in use", self.meta.stamp);
            self.found(&Finding::damage(why));
        }
        Ok(())
    }

    pub(super) fn statement(&self, sql: impl Into<String>) -> Statement {
        Statement::from_string(self.backend(), sql)
    }

    pub(super) fn whole(&self) -> &'static str {
        whole(self.backend())
    }

    fn backend(&self) -> DbBackend {
        self.tx.get_database_backend()
    }

    async fn page(&self, after: i64) -> Result<Option<Vec<mailbox::Model>>, DbErr> {
        let rows = mailbox::Entity::find()
            .filter(mailbox::Column::Id.gt(after))
            .order_by_asc(mailbox::Column::Id)
            .limit(MAILBOXES)
            .all(&self.tx)
            .await?;
        Ok((!rows.is_empty()).then_some(rows))
    }
}

fn ends(rows: &[mailbox::Model]) -> (i64, i64) {
    (rows.first().map_or(0, |row| row.id), rows.last().map_or(0, |row| row.id))
}

fn name(row: &mailbox::Model) -> String {
    row.address.clone().unwrap_or_else(|| format!("#{} (deleted)", row.id))
}

pub(super) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}
