//! Bodies in the table of a database server: put before anything else of a transaction, and taken away with the last mailbox that
//! has the message.

use entity::body;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter, TransactionTrait,
};
use uuid::Uuid;

use super::plan::Delivery;
use super::statements::{self, chunks};
use super::transaction::Failure;
use crate::store::columns::signed;
use crate::store::{StoreError, metrics as names, trouble};

/// Bytes of bodies in one statement; a larger one goes alone.
const STATEMENT: usize = 4 << 20;

/// Puts the bodies of `deliveries`, each counted for all its mailboxes.
pub async fn put<'a, C: ConnectionTrait>(db: &C, deliveries: impl Iterator<Item = &'a Delivery>) -> Result<(), DbErr> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for delivery in deliveries {
        let size = delivery.body.bytes.len();
        if bytes + size > STATEMENT {
            statements::insert::<body::Entity, _>(db, std::mem::take(&mut rows)).await?;
            bytes = 0;
        }
        bytes += size;
        metrics::counter!(names::BYTES).increment(size as u64);
        rows.push(body::Model {
            id: delivery.id.0,
            compressed: delivery.body.compressed,
            size: signed(delivery.body.size),
            mailboxes: i32::try_from(delivery.parts.len()).unwrap_or(i32::MAX),
            contents: delivery.body.bytes.clone(),
            object: None,
            object_offset: None,
            object_length: None,
        });
    }
    statements::insert::<body::Entity, _>(db, rows).await
}

/// Writes a body of `size` bytes, such as no engine makes smaller, and takes it back: what else is in the transaction goes on.
pub async fn probe(tx: &DatabaseTransaction, size: usize) -> Result<Result<(), StoreError>, Failure> {
    let mut contents = vec![0; size];
    rand::fill(&mut contents[..]);
    let point = tx.begin().await?;
    let row = body::Model {
        id: Uuid::now_v7(),
        compressed: false,
        size: signed(size as u64),
        mailboxes: 1,
        contents,
        object: None,
        object_offset: None,
        object_length: None,
    };
    let written = statements::insert::<body::Entity, _>(&point, vec![row]).await;
    point.rollback().await?;
    Ok(written.map_err(|error| match trouble::is_full(&error) {
        true => StoreError::NoSpace,
        false => StoreError::Unavailable(error.to_string()),
    }))
}

/// Takes one mailbox from each of these bodies, and those away that no mailbox has any more.
pub async fn release<C: ConnectionTrait>(db: &C, mut gone: Vec<Uuid>) -> Result<(), DbErr> {
    use body::Column;
    while !gone.is_empty() {
        gone.sort_unstable();
        let (mut once, mut again) = (Vec::new(), Vec::new());
        for id in gone {
            if once.last() == Some(&id) { again.push(id) } else { once.push(id) }
        }
        for ids in chunks(&once) {
            let all = || Column::Id.is_in(ids.to_vec());
            body::Entity::update_many()
                .col_expr(Column::Mailboxes, Expr::col(Column::Mailboxes).sub(1))
                .filter(all())
                .exec(db)
                .await?;
            body::Entity::delete_many().filter(all()).filter(Column::Mailboxes.lte(0)).exec(db).await?;
        }
        gone = again;
    }
    Ok(())
}

/// Takes those away that no mailbox took, and counts anew those that fewer took than they are for.
pub async fn correct<C: ConnectionTrait>(db: &C, refused: &[Uuid], fewer: Vec<(Uuid, usize)>) -> Result<(), DbErr> {
    for ids in chunks(refused) {
        body::Entity::delete_many().filter(body::Column::Id.is_in(ids.to_vec())).exec(db).await?;
    }
    for (id, mailboxes) in fewer {
        let mailboxes = i32::try_from(mailboxes).unwrap_or(i32::MAX);
        body::Entity::update_many()
            .col_expr(body::Column::Mailboxes, Expr::value(mailboxes))
            .filter(body::Column::Id.eq(id))
            .exec(db)
            .await?;
    }
    Ok(())
}
