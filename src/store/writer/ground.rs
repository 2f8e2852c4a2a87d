//! What the writer stands on: SQLite with files beside it ([`super::files`]), or a database server ([`super::server`]).
//!
//! The writer plans and carries out what changes; its ground says where bodies lie, how a transaction ends, and how to find
//! out whether one did.

use std::time::Duration;

use entity::mailbox;
use sea_orm::{DatabaseTransaction, DbErr};

use super::Writer;
use super::plan::Delivery;
use super::removal::Old;
use super::requests::Request;
use super::transaction::{Failure, InFlight};
use crate::mail::address::MailboxKey;
use crate::store::messages::BodyLocation;

/// See the module. Futures run on the writer's own thread.
pub trait Ground: Sized + 'static {
    /// Whether what was read or written of a mailbox stays true after the transaction: nobody else writes.
    const ALONE: bool;

    /// How long a transaction may take; none where it waits for nothing but the disk.
    const LIMIT: Option<Duration>;

    /// Stores `deliveries` in one transaction; what each caller is to hear is left in `in_flight`.
    fn store(writer: &mut Writer<Self>, deliveries: &[Delivery]) -> impl Future<Output = Result<(), Failure>>;

    /// Opens a transaction for `changes` by calls.
    fn open(
        writer: &mut Writer<Self>,
        changes: &[Request],
    ) -> impl Future<Output = Result<DatabaseTransaction, Failure>>;

    /// Carries out a request that is about bodies.
    fn apply(
        writer: &mut Writer<Self>,
        tx: &DatabaseTransaction,
        request: &Request,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// Writes what the transaction changed on this ground, and commits.
    fn commit(writer: &mut Writer<Self>, tx: DatabaseTransaction) -> impl Future<Output = Result<(), Failure>>;

    /// After a failure or a panic: whether the transaction under way was committed all the same. The writer is as good as
    /// new afterwards, and nothing that was not committed is left.
    fn committed(writer: &mut Writer<Self>, failure: Option<&Failure>) -> impl Future<Output = bool>;

    /// Whether the same transaction may succeed when it is tried again.
    fn repeats(failure: &Failure) -> bool;

    /// A commit is settled and will be told of; the stamp of the stream after it.
    fn settled(writer: &mut Writer<Self>, done: &mut InFlight) -> i64;

    /// A row points at the body at `at`.
    fn born(&mut self, at: BodyLocation);

    /// A row that did is gone.
    fn died(&mut self, old: &Old);

    /// Whether mail is to be refused for want of space.
    fn is_short(writer: &mut Writer<Self>) -> bool;

    /// Between two transactions; `idle` when nothing came for a while.
    fn tend(writer: &mut Writer<Self>, idle: bool) -> impl Future<Output = ()>;

    /// Nothing waits for the writer.
    fn rests(writer: &mut Writer<Self>);

    /// How long nothing may come before the writer is idle.
    fn patience(&self) -> Duration;

    /// At the end.
    fn finish(writer: &mut Writer<Self>) -> impl Future<Output = ()>;

    /// Which life of its address a new mailbox is: more than any before it had.
    fn incarnation(writer: &mut Writer<Self>, key: &MailboxKey) -> i64;

    /// A life of this address has ended in this transaction, and an event says so.
    fn ended(&mut self, key: &MailboxKey, row: &mailbox::Model);

    /// A number for a new mailbox.
    fn mailbox_id(writer: &mut Writer<Self>) -> i64;

    /// Changes up to the stamp `through` were removed (0: none were): the stream can be followed from there on only. True
    /// when there is more to forget.
    fn forget(
        writer: &mut Writer<Self>,
        tx: &DatabaseTransaction,
        through: i64,
        now: i64,
    ) -> impl Future<Output = Result<bool, DbErr>>;
}
