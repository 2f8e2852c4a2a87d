//! Mail addresses as SMTP writes them (RFC 5321 §4.1.2, RFC 6531) and the key of the mailbox they lead to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The canonical name of a mailbox, `local@domain` (`design.md` §2): made by [`Address::mailbox_key`] only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct MailboxKey(Arc<str>);

impl MailboxKey {
    /// Takes a key that was stored before; new keys come from an [`Address`].
    #[must_use]
    pub fn from_stored(key: &str) -> Self {
        Self(key.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MailboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
