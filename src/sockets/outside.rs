//! What this stage asks of the others: who may read what (`accounts`), and the events themselves (`inbound`). One
//! trait, so that tests can play publisher.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use crate::inbound::subscription::{Life, Page, Paged, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId};
use crate::mail::address::{AddressError, MailboxKey};
use crate::mail::event::Announced;

/// What a caller may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Open,
    /// This mailbox while it lives.
    Mailbox(Life),
}

/// Why a caller was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    NoToken,
    Unknown,
    Unavailable,
}

/// Why a handshake is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    Host,
    Origin,
}

/// See the module. Called from the threads that serve HTTP.
pub trait Outside: Send + Sync + 'static {
    /// Whether a handshake comes from this server's own pages, or from no page.
    ///
    /// # Errors
    /// [`Foreign`] when it does not.
    fn check_origin(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), Foreign>;

    /// What a token opens.
    fn access<'a>(&'a self, token: Option<&'a str>) -> LocalBoxFuture<'a, Result<Access, Denied>>;

    /// The mailbox that an address leads to.
    ///
    /// # Errors
    /// When it is not an address.
    fn key(&self, address: &str) -> Result<MailboxKey, AddressError>;

    /// Starts following; `Unknown` for an address that no mail can come to.
    fn subscribe<'a>(
        &'a self,
        scope: &'a Scope,
        subscribe: Subscribe,
    ) -> LocalBoxFuture<'a, Result<Subscribed, SubscribeError>>;

    /// Missed events.
    fn page<'a>(&'a self, scope: &'a Scope, page: Page) -> LocalBoxFuture<'a, Result<Paged, SubscribeError>>;

    /// Stops following.
    fn unsubscribe(&self, scope: &Scope, id: SubscriptionId);

    /// The readable text of an event's message, for filters; empty when the message is gone.
    fn text<'a>(&'a self, event: &'a Announced) -> LocalBoxFuture<'a, Arc<str>>;
}
