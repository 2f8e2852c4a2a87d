//! The mark that a transaction leaves in `commits` on a database server, by which its outcome is found out.
//!
//! A commit whose outcome is not known is looked up by its mark, and where that is not there a fence is put in its place:
//! then a commit that is still on its way finds it and fails. While another session holds the lock on it (one of a node that
//! stands still, until the server ends that; one whose commit waits for a replica that is away) nothing can be said; then it
//! counts as failed after [`UNDECIDED`].

use std::time::{Duration, Instant};

use entity::commit;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoActiveModel, SqlErr, TransactionTrait};
use uuid::Uuid;

use super::Writer;
use super::server::Server;
use crate::store::trouble;

const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long to wait for the lock on a mark in all: longer than the server lets a transaction stand still.
const UNDECIDED: Duration = Duration::from_secs(29);
/// One look at it: how long the server may wait for the lock (as MySQL does for any), and how long it may say nothing at all.
const LOCKED: Duration = Duration::from_secs(15);
const SILENT: Duration = Duration::from_secs(25);
/// In place of the events of a fence, which no transaction has: those of one are in sixteens.
const FENCE: &[u8] = &[0];

impl Writer<Server> {
    /// Whether the transaction with this mark was committed. Asks until the database tells.
    pub(super) async fn find_out(&mut self, batch: Uuid) -> bool {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(10));
        loop {
            match tokio::time::timeout(SILENT, self.look_up(batch)).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(error)) if trouble::is_locked(&error) && began.elapsed() >= UNDECIDED => {
                    tracing::error!(
                        %batch,
                        "a commit of unknown outcome is locked by another session of the database: it counts as failed, and \
                         what its senders send again may be there twice"
                    );
                    self.connect_anew();
                    return false;
                }
                Ok(Err(error)) => {
                    if trouble::is_read_only(&error) {
                        self.source.forsake();
                    }
                    tracing::error!(%error, "the database does not tell whether a commit happened");
                }
                Err(_) => {
                    tracing::error!(
                        "the database does not answer whether a commit happened and is asked on a new connection"
                    );
                    self.connect_anew();
                }
            }
            if self.closing() {
                self.dead = true;
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Leaves the connections there are to themselves, whatever they still wait for. The next are made when they are asked
    /// for.
    pub(super) fn connect_anew(&mut self) {
        let Some(new) = self.source.writing_lazily() else { return };
        let old = std::mem::replace(&mut self.db, new);
        // It may never come to an end.
        tokio::spawn(async move { old.close().await });
    }

    /// Whether the transaction with this mark was committed. Otherwise it never will be.
    ///
    /// # Errors
    /// When the database is away, or another session holds the lock on the mark for [`LOCKED`].
    async fn look_up(&mut self, batch: Uuid) -> Result<bool, DbErr> {
        match self.fence(batch).await {
            Ok(()) => Ok(false),
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                let mark = commit::Entity::find_by_id(batch).one(&self.db).await?;
                let mark = mark.ok_or_else(|| DbErr::RecordNotFound(format!("the mark {batch}")))?;
                self.ground.last(mark.last);
                // A fence of which it was not heard that it was put.
                Ok(mark.events != FENCE)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts the fence.
    async fn fence(&self, batch: Uuid) -> Result<(), DbErr> {
        let fence = commit::Model { batch, last: None, events: FENCE.to_vec() };
        let fence = commit::Entity::insert(fence.into_active_model());
        if self.db.get_database_backend() == DbBackend::MySql {
            return fence.exec_without_returning(&self.db).await.map(drop);
        }
        let tx = self.db.begin().await?;
        tx.execute_unprepared(&format!("SET LOCAL lock_timeout = {}", LOCKED.as_millis())).await?;
        fence.exec_without_returning(&tx).await?;
        tx.commit().await
    }
}
