//! Who may read what. A caller shows a mailbox token (later a session or an API key); [`Access`] says what it opens.
//!
//! Called by `web` and `sockets` for each request or subscription. Map: [`tokens`] makes and hashes tokens,
//! [`part_keys`] opens the attachments of one message to its page, [`origin`] tells a browser's own page from a foreign
//! one, [`forwarded`] believes trusted proxies about who asks, [`unnamed`] tells of others.
//!
//! Invariant: a wrong token and an unknown mailbox cannot be told apart from outside.

pub mod forwarded;
pub mod metrics;
pub mod origin;
pub mod part_keys;
pub mod tokens;
pub mod unnamed;

use crate::mail::address::MailboxKey;
use crate::store::tokens::Life;
use crate::store::{Scope, Store, StoreError};

/// What a caller may read and change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mailboxes are open: everything.
    Open,
    /// The mailbox that the caller's token opens, while it lives, and nothing else.
    Mailbox(Life),
}

/// Why a caller was turned away.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There was no token, and one is needed.
    #[error("a token is needed")]
    NoToken,
    /// The token opens nothing (or not this mailbox): answered like an unknown mailbox.
    #[error("no such mailbox")]
    Unknown,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Access {
    /// What `token` opens; with open mailboxes a token is neither needed nor looked at.
    ///
    /// # Errors
    /// `NoToken` without one, `Unknown` for one that opens nothing.
    pub async fn of(store: &Store, open: bool, token: Option<&str>) -> Result<Self, Denied> {
        if open {
            return Ok(Self::Open);
        }
        let token = token.ok_or(Denied::NoToken)?;
        match store.mailbox_of_token(&tokens::hash(token)).await? {
            Some(life) => Ok(Self::Mailbox(life)),
            None => Err(Denied::Unknown),
        }
    }

    /// Lets through who may read this mailbox.
    ///
    /// # Errors
    /// `Unknown` when the caller may not.
    pub fn check(&self, key: &MailboxKey) -> Result<(), Denied> {
        match self {
            Self::Open => Ok(()),
            Self::Mailbox(own) if own.mailbox == *key => Ok(()),
            Self::Mailbox(_) => Err(Denied::Unknown),
        }
    }

    /// What "all mailboxes" means for this caller.
    #[must_use]
    pub fn everything(&self) -> Scope {
        match self {
            Self::Open => Scope::All,
            Self::Mailbox(own) => Scope::Mailbox(own.mailbox.clone()),
        }
    }

    /// The only incarnation of a mailbox that this caller may see; none with open mailboxes. Whoever follows holds on
    /// to it, since the mailbox may end and its address be given to someone else.
    #[must_use]
    pub const fn incarnation(&self) -> Option<u64> {
        match self {
            Self::Open => None,
            Self::Mailbox(own) => Some(own.incarnation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_mailbox_only() {
        let own = MailboxKey::from_stored("a@x.test");
        let other = MailboxKey::from_stored("b@x.test");
        let access = Access::Mailbox(Life { mailbox: own.clone(), incarnation: 3 });
        assert!(access.check(&own).is_ok());
        assert!(matches!(access.check(&other), Err(Denied::Unknown)));
        assert_eq!((access.everything(), access.incarnation()), (Scope::Mailbox(own), Some(3)));
    }

    #[test]
    fn open_mailboxes_are_everyones() {
        assert!(Access::Open.check(&MailboxKey::from_stored("a@x.test")).is_ok());
        assert_eq!((Access::Open.everything(), Access::Open.incarnation()), (Scope::All, None));
    }
}
