//! What a client asks its [`Session`] for: to subscribe, to leave. Each subscribe is answered by `subscribed` or an
//! error; a second one by the same name replaces the first when it succeeds.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};

use super::asking::{self, Asked, Opened};
use super::follow::Subscription;
use super::frame::{self, Kind, Name, Wanted};
use super::session::{Ctx, Session};
use crate::inbound::subscription::{BehindFlag, SubscriptionId};
use crate::mail::query::Query;

impl Session {
    pub(super) fn subscribe(&mut self, wanted: Wanted, ctx: &mut Ctx) {
        let Wanted { mailbox, token, since, q } = wanted;
        let name = match self.name(&mailbox) {
            Ok(name) => name,
            Err(detail) => return self.refuse(Kind::BadAddress, Some(&detail), Some(&mailbox), ctx),
        };
        let filter = match q.as_deref().map(Query::parse).transpose() {
            Ok(filter) => filter.filter(|query| !query.is_empty()),
            Err(error) => return self.refuse(Kind::BadQuery, Some(&error.to_string()), Some(&mailbox), ctx),
        };
        let replaces = self.subscriptions.iter().any(|subscription| subscription.name == name);
        if !replaces && self.subscriptions.len() >= self.shared.config.max_subscriptions {
            return self.refuse(Kind::TooManySubscriptions, None, Some(&mailbox), ctx);
        }
        let flag = BehindFlag::counted_in(self.shared.metrics.behind.clone());
        let subscription = Subscription::new(SubscriptionId::next(), name, filter, flag);
        let asked = Asked {
            id: subscription.id,
            name: subscription.name.clone(),
            to: ctx.address().recipient(),
            flag: subscription.flag.clone(),
            token: token.or_else(|| self.token.as_deref().map(str::to_owned)),
            since,
        };
        let id = subscription.id;
        if self.subscriptions.is_empty() {
            // Most clients have one: no room for more until there are.
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
        self.shared.metrics.subscriptions.increment(1.0);
        self.link.begin();
        let answer = asking::open(Arc::clone(&self.shared), asked).into_actor(self);
        ctx.spawn(answer.map(move |answer, actor, ctx| actor.opened(id, &mailbox, answer, ctx)));
    }

    fn opened(
        &mut self,
        id: SubscriptionId,
        mailbox: &str,
        answer: Result<Opened, (Kind, Option<String>)>,
        ctx: &mut Ctx,
    ) {
        self.link.done();
        let Some(index) = self.index(id) else {
            // Unsubscribed meanwhile.
            if let Ok(opened) = answer {
                self.shared.outside.unsubscribe(&opened.followed.scope, id);
            }
            return;
        };
        let opened = match answer {
            Ok(opened) => opened,
            Err((kind, detail)) => {
                self.remove(index);
                return self.refuse(kind, detail.as_deref(), Some(mailbox), ctx);
            }
        };
        let Some(subscription) = self.subscriptions.get_mut(index) else { return };
        let reset = subscription.opened(opened.followed, opened.since, opened.answer);
        let (name, at) = (subscription.name.clone(), subscription.position());
        if !self.replace_older(id, &name) {
            return;
        }
        self.text(&frame::subscribed(name.as_str(), &at), ctx);
        if reset {
            self.text(&frame::reset(name.as_str(), &at), ctx);
        }
        self.advance(id, ctx);
    }

    /// Of several by one name the newest stays; false when that is another, and this one is gone.
    fn replace_older(&mut self, id: SubscriptionId, name: &Name) -> bool {
        let same = |other: &Subscription| other.name == *name && !other.is_opening();
        if self.subscriptions.iter().any(|other| same(other) && other.id > id) {
            if let Some(index) = self.index(id) {
                self.remove(index);
            }
            return false;
        }
        while let Some(index) = self.subscriptions.iter().position(|other| same(other) && other.id < id) {
            self.remove(index);
        }
        true
    }

    pub(super) fn unsubscribe(&mut self, mailbox: &str, ctx: &mut Ctx) {
        match self.name(mailbox) {
            Ok(name) => {
                while let Some(index) = self.subscriptions.iter().position(|other| other.name == name) {
                    self.remove(index);
                }
            }
            Err(detail) => self.refuse(Kind::BadAddress, Some(&detail), Some(mailbox), ctx),
        }
    }

    fn name(&self, mailbox: &str) -> Result<Name, String> {
        if mailbox == "*" {
            return Ok(Name::All);
        }
        self.shared.outside.key(mailbox).map(Name::Mailbox).map_err(|error| error.to_string())
    }
}
