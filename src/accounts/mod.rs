//! Who may read what. A caller shows a mailbox token (later a session or an API key); [`Access`] says what it opens.
//!
//! Called by `web` and `sockets` for each request or subscription. Map: [`tokens`] makes and hashes tokens,
//! [`part_keys`] opens the attachments of one message to its page, [`origin`] tells a browser's own page from a foreign
//! one.
//!
//! Invariant: a wrong token and an unknown mailbox cannot be told apart from outside.

pub mod origin;
pub mod part_keys;
pub mod tokens;

use crate::mail::address::MailboxKey;
use crate::store::{Scope, Store, StoreError};

/// What a caller may read and change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mailboxes are open: everything.
    Open,
    /// The mailbox that the caller's token opens, and nothing else.
    Mailbox(MailboxKey),
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
            Some(mailbox) => Ok(Self::Mailbox(mailbox)),
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
            Self::Mailbox(own) if own == key => Ok(()),
            Self::Mailbox(_) => Err(Denied::Unknown),
        }
    }

    /// What "all mailboxes" means for this caller.
    #[must_use]
    pub fn everything(&self) -> Scope {
        match self {
            Self::Open => Scope::All,
            Self::Mailbox(key) => Scope::Mailbox(key.clone()),
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
        let access = Access::Mailbox(own.clone());
        assert!(access.check(&own).is_ok());
        assert!(matches!(access.check(&other), Err(Denied::Unknown)));
        assert_eq!(access.everything(), Scope::Mailbox(own));
    }

    #[test]
    fn open_mailboxes_are_everyones() {
        assert!(Access::Open.check(&MailboxKey::from_stored("a@x.test")).is_ok());
        assert_eq!(Access::Open.everything(), Scope::All);
    }
}
