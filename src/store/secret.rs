//! The secret of an installation: 32 random bytes that its nodes share and that outlive them. Made when a database is
//! opened for the first time; what `accounts` signs for a while is signed with it, so that every node opens it.

use entity::secret;
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, IntoActiveModel};

use super::{Store, StoreError};

/// 256 bits.
pub type Secret = [u8; 32];

/// Makes the secret where there is none. One node at a time calls this.
pub async fn ensure<C: ConnectionTrait>(db: &C) -> Result<(), DbErr> {
    if secret::Entity::find_by_id(1).one(db).await?.is_none() {
        let row = secret::Model { id: 1, value: rand::random::<Secret>().to_vec() };
        secret::Entity::insert(row.into_active_model()).exec_without_returning(db).await?;
    }
    Ok(())
}

impl Store {
    /// The secret.
    ///
    /// # Errors
    /// `Unavailable`, also when the row is gone or is not of this length.
    pub async fn secret(&self) -> Result<Secret, StoreError> {
        let row = self.timely(secret::Entity::find_by_id(1).one(&self.inner.read)).await?;
        let value = row.and_then(|row| Secret::try_from(row.value).ok());
        value.ok_or_else(|| StoreError::Unavailable("the table `secrets` has no row 1 of 32 bytes".into()))
    }
}
