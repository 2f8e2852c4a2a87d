//! A database server: bodies in a table, the order of commits in another.

use entity::{body, message};
use sea_orm::sea_query::{Condition, ExprTrait};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};

use super::{Check, Finding};
use crate::store::bodies;
use crate::store::columns::unsigned;

/// Rows read at once.
const ROWS: u64 = 500;
/// Bodies told of that the count of mailboxes is wrong.
const TOLD: u64 = 1_000;

#[derive(Clone, Debug, FromQueryResult)]
struct Held {
    id: uuid::Uuid,
    mailboxes: i64,
    held: i64,
}

impl Check<'_> {
    /// All messages, mailbox by mailbox, each with its body of the same moment.
    pub(super) async fn messages_in_tables(&mut self) -> Result<(), DbErr> {
        use message::Column;
        let (mut after, mut done) = ((i64::MIN, i64::MIN), 0);
        loop {
            let (mailbox, uid) = after;
            let later = Condition::any()
                .add(Column::MailboxId.gt(mailbox))
                .add(Column::MailboxId.eq(mailbox).and(Column::Uid.gt(uid)));
            let rows = message::Entity::find()
                .filter(Column::MailboxId.gte(mailbox))
                .filter(later)
                .order_by_asc(Column::MailboxId)
                .order_by_asc(Column::Uid)
                .limit(ROWS)
                .all(&self.tx)
                .await?;
            let Some(end) = rows.last() else { return Ok(()) };
            after = (end.mailbox_id, end.uid);
            let addresses = self.addresses(&rows).await?;
            for row in &rows {
                done += 1;
                match self.row_in_table(row).await? {
                    None => self.summary.whole += 1,
                    Some(why) => {
                        let address = addresses.get(&row.mailbox_id).cloned();
                        self.found(&Finding {
                            mailbox: Some(address.unwrap_or_else(|| format!("#{} (deleted)", row.mailbox_id))),
                            uid: Some(row.uid),
                            id: Some(row.id),
                            ..Finding::damage(why)
                        });
                    }
                }
            }
            self.watch.progress(done, self.summary.messages);
        }
    }

    /// What is wrong with the body of a row.
    async fn row_in_table(&mut self, row: &message::Model) -> Result<Option<String>, DbErr> {
        let Some(body) = body::Entity::find_by_id(row.id).one(&self.tx).await? else {
            return Ok(Some("its body is missing".into()));
        };
        self.summary.bytes += body.contents.len() as u64;
        if i64::try_from(body.contents.len()) != Ok(row.length) {
            return Ok(Some(format!("its body takes {} bytes, the list says {}", body.contents.len(), row.length)));
        }
        if body.size != row.size {
            return Ok(Some(format!("the body has {} bytes, the list says {}", body.size, row.size)));
        }
        Ok(match bodies::unpack(body.compressed, unsigned(body.size), body.contents) {
            Ok(raw) if i64::try_from(raw.len()) == Ok(row.size) => None,
            Ok(raw) => Some(format!("the body has {} bytes, the list says {}", raw.len(), row.size)),
            Err(why) => Some(why),
        })
    }

    /// Bodies go with the last mailbox that had them: they know how many have them.
    pub(super) async fn bodies_in_table(&mut self) -> Result<(), DbErr> {
        let sql = format!(
            "SELECT id, mailboxes, held FROM (SELECT b.id AS id, CAST(b.mailboxes AS {0}) AS mailboxes, \
             (SELECT count(*) FROM messages AS m WHERE m.id = b.id) AS held FROM bodies AS b) AS counted \
             WHERE mailboxes <> held LIMIT {TOLD}",
            self.whole()
        );
        for Held { id, mailboxes, held } in Held::find_by_statement(self.statement(sql)).all(&self.tx).await? {
            let why = match held {
                0 => "its body takes space and no mailbox has the message".to_owned(),
                _ => format!("its body says that {mailboxes} mailboxes have it, and {held} do"),
            };
            self.found(&Finding { id: Some(id), ..Finding::damage(why) });
        }
        Ok(())
    }

    /// The marks of commits lead up to the last stamp that was given.
    pub(super) async fn commits(&mut self) -> Result<(), DbErr> {
        let sql = "SELECT coalesce(max(last), 0) AS last FROM commits";
        let row = sea_orm::ConnectionTrait::query_one_raw(&self.tx, self.statement(sql)).await?;
        let last = row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0))?;
        if last > self.meta.stamp || (last < self.meta.stamp && last > 0) {
            let why = format!("the last stamp given is {}, and commits end at {last}", self.meta.stamp);
            self.found(&Finding::damage(why));
        }
        Ok(())
    }
}
