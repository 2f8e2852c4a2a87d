//! A database server: bodies in a table, the order of commits in another.

use entity::{body, message};
use sea_orm::sea_query::{Condition, ExprTrait};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};

use super::objects::Look;
use super::{Check, Finding};
use crate::mail::id::DeliveryId;
use crate::store::bodies;
use crate::store::columns::unsigned;
use crate::store::messages::BodyLocation;

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

#[derive(Clone, Debug, FromQueryResult)]
struct Needed {
    object: i64,
    bytes: i64,
}

/// What was seen of the body of a message.
enum Looked {
    Whole,
    Skipped,
    Wrong(String),
}

impl Looked {
    fn at(raw: Result<Vec<u8>, String>, row: &message::Model) -> Self {
        match raw {
            Ok(raw) if i64::try_from(raw.len()) == Ok(row.size) => Self::Whole,
            Ok(raw) => Self::Wrong(format!("the body has {} bytes, the list says {}", raw.len(), row.size)),
            Err(why) => Self::Wrong(why),
        }
    }
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
                    Looked::Whole => self.summary.whole += 1,
                    Looked::Skipped => self.summary.skipped += 1,
                    Looked::Wrong(why) => {
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

    /// What is to be said of the body of a row.
    async fn row_in_table(&mut self, row: &message::Model) -> Result<Looked, DbErr> {
        let Some(body) = body::Entity::find_by_id(row.id).one(&self.tx).await? else {
            return Ok(Looked::Wrong("its body is missing".into()));
        };
        if let Some(number) = body.object {
            return Ok(self.body_in_object(number, &body, row).await);
        }
        self.summary.bytes += body.contents.len() as u64;
        if i64::try_from(body.contents.len()) != Ok(row.length) {
            return Ok(Looked::Wrong(format!(
                "its body takes {} bytes, the list says {}",
                body.contents.len(),
                row.length
            )));
        }
        if body.size != row.size {
            return Ok(Looked::Wrong(format!("the body has {} bytes, the list says {}", body.size, row.size)));
        }
        Ok(Looked::at(bodies::unpack(body.compressed, unsigned(body.size), body.contents), row))
    }

    /// The same of a body that moved to object storage.
    async fn body_in_object(&mut self, number: i64, body: &body::Model, row: &message::Model) -> Looked {
        let (offset, length) = (body.object_offset.unwrap_or(0), body.object_length.unwrap_or(0));
        let bytes = match self.objects.look(number, BodyLocation { segment: -number, offset, length }).await {
            Look::Bytes(bytes) => bytes,
            Look::Wrong(why) => return Looked::Wrong(why),
            Look::Skipped => return Looked::Skipped,
        };
        self.summary.bytes += bytes.len() as u64;
        Looked::at(bodies::message_of(&bytes, DeliveryId(row.id)), row)
    }

    /// How much of each object bodies need.
    pub(super) async fn bodies_in_objects(&mut self) -> Result<(), DbErr> {
        let sql = format!(
            "SELECT object, CAST(sum(object_length) AS {}) AS bytes FROM bodies WHERE object IS NOT NULL GROUP BY object",
            self.whole()
        );
        for Needed { object, bytes } in Needed::find_by_statement(self.statement(sql)).all(&self.tx).await? {
            if let Some(why) = self.objects.used(object, bytes) {
                self.found(&Finding::damage(why));
            }
        }
        Ok(())
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
