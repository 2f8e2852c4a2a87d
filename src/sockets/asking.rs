//! The questions a session has for others, as futures: who may follow what, what was missed, what a message says.

use std::sync::Arc;

use actix::Recipient;

use super::Shared;
use super::follow::Fetched;
use super::frame::{Kind, Name};
use super::outside::{Access, Denied};
use crate::inbound::subscription::{
    BehindFlag, Followed, Page, Position, Push, Scope, Subscribe, SubscribeError, Subscribed, SubscriptionId,
};
use crate::mail::cursor::{Cursor, NotACursor, StreamCursor};
use crate::mail::event::Announced;

/// A subscription that a client asked for.
pub struct Asked {
    pub id: SubscriptionId,
    pub name: Name,
    pub to: Recipient<Push>,
    pub flag: BehindFlag,
    pub token: Option<String>,
    pub since: Option<String>,
}

/// Takes back what is being opened when nobody waits for it any more: the socket went, or the answer took too long, and
/// the publisher may take it in all the same.
struct Opening<'a> {
    shared: &'a Shared,
    scope: &'a Scope,
    id: SubscriptionId,
    /// None once it is open.
    flag: Option<BehindFlag>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(flag) = &self.flag {
            flag.end();
            self.shared.outside.unsubscribe(self.scope, self.id);
        }
    }
}

/// It may, and follows.
pub struct Opened {
    pub followed: Followed,
    pub since: Option<Position>,
    pub answer: Subscribed,
}

/// What a session asks a publisher for.
pub enum Question {
    Page(Page),
    Subscribe(Subscribe),
}

/// Opens a subscription, if the caller may read it.
///
/// # Errors
/// What to tell the client: a wrong token looks like an unknown mailbox.
pub async fn open(shared: Arc<Shared>, asked: Asked) -> Result<Opened, (Kind, Option<String>)> {
    let access = shared.outside.access(asked.token.as_deref()).await.map_err(|denied| match denied {
        Denied::NoToken => (Kind::TokenNeeded, None),
        Denied::Unknown => (Kind::NoSuchMailbox, None),
        Denied::Unavailable => (Kind::Unavailable, None),
    })?;
    let followed: Followed = match (asked.name, access) {
        (Name::All, Access::Open) => Scope::All.into(),
        (Name::Mailbox(key), Access::Open) => Scope::Mailbox(key).into(),
        (Name::Mailbox(key), Access::Mailbox(own)) if key != own.mailbox => return Err((Kind::NoSuchMailbox, None)),
        (_, Access::Mailbox(own)) => own.into(),
    };
    let scope = &followed.scope;
    let since = asked.since.as_deref().map(|text| position(scope, text)).transpose();
    let since = since.map_err(|error| (Kind::BadCursor, Some(error.to_string())))?;
    let mut opening = Opening { shared: &shared, scope, id: asked.id, flag: Some(asked.flag.clone()) };
    let subscribe =
        Subscribe { id: asked.id, to: asked.to, behind: asked.flag, since, incarnation: followed.incarnation };
    let answer = shared.outside.subscribe(scope, subscribe).await.map_err(|error| match error {
        SubscribeError::Unknown => (Kind::NoSuchMailbox, None),
        SubscribeError::Unavailable | SubscribeError::Lost => (Kind::Unavailable, None),
    })?;
    opening.flag = None;
    drop(opening);
    Ok(Opened { followed, since, answer })
}

fn position(scope: &Scope, text: &str) -> Result<Position, NotACursor> {
    match scope {
        Scope::All => text.parse::<StreamCursor>().map(Position::Stream),
        Scope::Mailbox(_) => text.parse::<Cursor>().map(Position::Mailbox),
    }
}

/// Asks the publisher of `scope`.
pub async fn fetch(shared: Arc<Shared>, scope: Scope, question: Question) -> Result<Fetched, SubscribeError> {
    match question {
        Question::Page(page) => shared.outside.page(&scope, page).await.map(Fetched::Page),
        Question::Subscribe(subscribe) => shared.outside.subscribe(&scope, subscribe).await.map(Fetched::Resubscribed),
    }
}

/// The readable text of an event's message.
pub async fn text(shared: Arc<Shared>, event: Arc<Announced>) -> Arc<str> {
    shared.outside.text(&event).await
}
