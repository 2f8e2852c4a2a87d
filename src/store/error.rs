//! Why the store could not do what was asked, as its callers tell it apart.

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is busy, away or failing; trying again may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The body lies in object storage, and `[cold] url` names none.
    #[error("the body lies in object storage, and [cold] url names none")]
    Unnamed,
    /// The body lies in object storage, which does not answer.
    #[error("the body lies in object storage: {0}")]
    Away(String),
    /// A record exists but its bytes are not what was written; the text names it.
    #[error("damaged: {0}")]
    Damaged(String),
    /// No such mailbox or message.
    #[error("not found")]
    NotFound,
    /// A mailbox with this address exists.
    #[error("exists")]
    Exists,
    /// The search text cannot be used (its message says why).
    #[error("{0}")]
    BadQuery(String),
    /// The page token is not one of ours.
    #[error("not a page of this list")]
    BadPage,
    /// Free disk space is below `[database] min_free`.
    #[error("the disk is nearly full")]
    NoSpace,
}

pub(super) fn unavailable(error: sea_orm::DbErr) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
