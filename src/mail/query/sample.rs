//! A message for tests to search.

use crate::mail::address::MailboxKey;
use crate::mail::cursor::Cursor;
use crate::mail::id::DeliveryId;
use crate::mail::summary::{Listed, Party};
use crate::mail::time::Timestamp;

pub fn listed(subject: &str, from: &str, to: &[&str]) -> Listed {
    let party = |text: &&str| Party { name: Some((*text).to_owned()), address: Some("x@y.z".to_owned()) };
    Listed {
        id: DeliveryId(uuid::Uuid::nil()),
        uid: 1,
        mailbox: MailboxKey::from_stored("box@mailroom.test"),
        cursor: Cursor::default(),
        from: Some(party(&from).into()),
        to: to.iter().map(party).collect(),
        subject: subject.into(),
        preview: "".into(),
        date: None,
        received_at: Timestamp::parse("2026-11-21T12:00:00Z").unwrap(),
        expires_at: None,
        size: 2048,
        attachments: 1,
        is_read: false,
        tags: vec!["Invoice".to_owned()],
        codes: Vec::new(),
    }
}
