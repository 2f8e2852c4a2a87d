//! What a batch of deliveries will change: who is refused, which row each message becomes, where its body goes. Works on
//! memory alone; each [`Ground`](super::ground::Ground) carries it out.

use std::borrow::Cow;
use std::sync::Arc;

use entity::{change, mailbox, message};

use super::Writer;
use super::ground::Ground;
use super::repeats::Repeats;
use super::rows::Part as Changed;
use crate::mail::address::MailboxKey;
use crate::mail::envelope::Envelope;
use crate::mail::event::Event;
use crate::mail::id::DeliveryId;
use crate::mail::summary::{Codes, Listed, Summary};
use crate::mail::time::Timestamp;
use crate::store::columns::{self, signed, unsigned};
use crate::store::incoming::{Body, Part, Repeat, WriteFailed};
use crate::store::mailboxes::WhenFull;
use crate::store::messages::BodyLocation;
use crate::store::metrics as names;

/// An [`Incoming`](crate::store::Incoming) without its caller.
pub struct Delivery {
    pub id: DeliveryId,
    pub received_at: Timestamp,
    pub envelope: Arc<Envelope>,
    pub body: Body,
    pub summary: Arc<Summary>,
    pub parts: Vec<Part>,
    pub repeat: Repeat,
    /// Its record is on the disk already: it was found at start.
    pub at: Option<BodyLocation>,
}

/// The outcome of planning.
#[derive(Default)]
pub struct Plan {
    pub rows: Vec<message::Model>,
    /// Records to append at the tail.
    pub bodies: Vec<u8>,
    pub deliveries: u64,
    /// Deliveries that no mailbox takes.
    pub refused: Vec<uuid::Uuid>,
    /// Deliveries that fewer mailboxes take than they are for, and how many do.
    pub fewer: Vec<(uuid::Uuid, usize)>,
    /// Mailboxes that drop their oldest messages in the same transaction.
    pub over: Vec<MailboxKey>,
}

pub const UPDATED: i16 = 1;
pub const DELETED: i16 = 2;
pub const EXPIRED: i16 = 3;
pub const MAILBOX_DELETED: i16 = 4;

impl<G: Ground> Writer<G> {
    /// Plans `deliveries` in order; their mailboxes are loaded. `place` says where a body for these parts will lie, and adds
    /// it to those to append if there is something to append.
    pub(super) fn plan(
        &mut self,
        (deliveries, repeats): (&[Delivery], &Repeats),
        mut place: impl FnMut(&Delivery, &[Part], &mut Vec<u8>) -> Option<BodyLocation>,
        now: i64,
    ) -> Plan {
        let rows = deliveries.iter().map(|delivery| delivery.parts.len()).sum();
        let mut plan = Plan { rows: Vec::with_capacity(rows), ..Plan::default() };
        if G::ALONE {
            plan.bodies.reserve(deliveries.iter().map(|delivery| delivery.body.bytes.len() + 1_024).sum());
        }
        for (index, delivery) in deliveries.iter().enumerate() {
            if repeats.is_repeat(index) {
                let verdict = self.recognise(delivery, repeats, now);
                self.in_flight.verdict(index, verdict);
                continue;
            }
            let admitted = self.admit(delivery, now);
            self.in_flight.verdict(index, admitted.as_ref().map(drop).map_err(|refused| *refused));
            let Ok(parts) = admitted else {
                plan.refused.push(delivery.id.0);
                continue;
            };
            if parts.len() < delivery.parts.len() {
                plan.fewer.push((delivery.id.0, parts.len()));
            }
            let Some(at) = place(delivery, &parts, &mut plan.bodies) else { continue };
            plan.deliveries += 1;
            let texts = Texts::of(&delivery.summary);
            for part in parts.iter() {
                self.accept(delivery, (part, &texts), at, now, &mut plan);
            }
        }
        self.in_flight.stored = (plan.deliveries, plan.rows.len() as u64);
        self.in_flight.rows = plan.rows.len() as u64;
        metrics::histogram!(names::BATCH).record(u32::try_from(deliveries.len()).unwrap_or(u32::MAX));
        plan
    }

    /// The parts that can be stored: all of them, or the delivery is refused. Of one that was promised those whose mailbox is
    /// still there.
    fn admit<'a>(&self, delivery: &'a Delivery, now: i64) -> Result<Cow<'a, [Part]>, WriteFailed> {
        if let Repeat::Possible(gone) = &delivery.repeat {
            let (there, lost): (Vec<&Part>, Vec<&Part>) =
                delivery.parts.iter().partition(|part| part.create || self.lives(&part.mailbox, now));
            gone.set(lost.iter().map(|part| part.mailbox.clone()).collect());
            return match (there.is_empty(), lost.is_empty()) {
                (true, _) => Err(WriteFailed::MailboxGone),
                (_, true) => Ok(Cow::Borrowed(&delivery.parts)),
                _ => Ok(there.into_iter().cloned().collect()),
            };
        }
        // What is on the disk already was admitted then; a commit that was lost may have made its mailbox, or room in it.
        let again = delivery.at.is_some();
        for part in &delivery.parts {
            let known = self.mailboxes.get(&part.mailbox);
            match known.filter(|row| !columns::ended(row, now)) {
                None if !part.create && (known.is_some() || !again) => return Err(WriteFailed::MailboxGone),
                row if !again && self.refuses(row, delivery.body.size) => return Err(WriteFailed::MailboxFull),
                _ => {}
            }
        }
        Ok(Cow::Borrowed(&delivery.parts))
    }

    /// What the caller of a delivery hears that was stored before. A mailbox that is no more and never had it was gone then; one
    /// that was deleted with it since is none that the message was lost for.
    fn recognise(&self, delivery: &Delivery, repeats: &Repeats, now: i64) -> Result<(), WriteFailed> {
        let Repeat::Possible(gone) = &delivery.repeat else { return Ok(()) };
        let is_gone = |part: &&Part| {
            let row = self.mailboxes.get(&part.mailbox);
            let had = row.is_some_and(|row| repeats.had(delivery.id, row.id));
            !part.create
                && !had
                && !self.lives(&part.mailbox, now)
                && !repeats.had_until_deleted(delivery.id, &part.mailbox)
        };
        let lost: Vec<MailboxKey> = delivery.parts.iter().filter(is_gone).map(|part| part.mailbox.clone()).collect();
        let all = lost.len() == delivery.parts.len();
        gone.set(lost);
        if all { Err(WriteFailed::MailboxGone) } else { Ok(()) }
    }

    fn lives(&self, key: &MailboxKey, now: i64) -> bool {
        self.mailboxes.get(key).is_some_and(|row| !columns::ended(row, now))
    }

    /// Whether a message does not fit: by the rule of the mailbox, or because not even an empty one could hold it.
    fn refuses(&self, row: Option<&mailbox::Model>, size: u64) -> bool {
        if self.full(1, size, row) {
            return true;
        }
        row.is_some_and(|row| {
            columns::when_full_of(row, &self.defaults) == WhenFull::Refuse
                && self.full(unsigned(row.messages) + 1, unsigned(row.bytes).saturating_add(size), Some(row))
        })
    }

    /// Whether so many messages and bytes are more than the mailbox, or one that is made now, may hold.
    pub(super) fn full(&self, messages: u64, bytes: u64, row: Option<&mailbox::Model>) -> bool {
        let own = |limit: fn(&mailbox::Model) -> Option<i64>| row.and_then(limit).map(unsigned);
        let max_messages = own(|row| row.max_messages).or(self.defaults.max_messages);
        let max_bytes = own(|row| row.max_bytes).or(self.defaults.max_bytes);
        max_messages.is_some_and(|max| messages > max) || max_bytes.is_some_and(|max| bytes > max)
    }

    fn accept(
        &mut self,
        delivery: &Delivery,
        (part, texts): (&Part, &Texts),
        at: BodyLocation,
        now: i64,
        plan: &mut Plan,
    ) {
        let key = &part.mailbox;
        let mut changed = Changed::Counters;
        let mut row = match self.mailboxes.take(key) {
            Some(row) if !columns::ended(&row, now) => row,
            other => {
                if let Some(ended) = other {
                    self.end_mailbox(key, ended);
                }
                changed = Changed::New;
                self.new_row(key, 0, now)
            }
        };
        if row.messages == 0 {
            let end = columns::message_end(&row, delivery.received_at.0, &self.defaults);
            row.due = end.map(columns::round_up);
            changed = changed.max(Changed::Whole);
        }
        row.messages += 1;
        row.unread += 1;
        row.bytes += signed(delivery.body.size);
        let listed = Arc::new(self.listed(delivery, &row, key));
        let text = Some(delivery.summary.text.clone());
        let place = self.event(&mut row, key, text, |_| Event::Received { message: listed });
        plan.rows.push(message_row(delivery, (part, texts), row.id, (place.modseq, place.stamp), at));
        self.ground.born(at);
        let drops = columns::when_full_of(&row, &self.defaults) == WhenFull::DropOldest;
        if drops && self.full(unsigned(row.messages), unsigned(row.bytes), Some(&row)) && !plan.over.contains(key) {
            plan.over.push(key.clone());
        }
        self.mailboxes.put(key.clone(), row, changed);
    }

    /// The list line that subscribers see, for the next place in the mailbox.
    fn listed(&self, delivery: &Delivery, row: &mailbox::Model, key: &MailboxKey) -> Listed {
        let summary = &delivery.summary;
        let uid = row.modseq + 1;
        Listed {
            id: delivery.id,
            uid: unsigned(uid),
            mailbox: key.clone(),
            cursor: columns::cursor(row, self.head.lineage(), uid),
            from: summary.from.clone(),
            to: summary.to.clone(),
            subject: summary.subject.clone(),
            preview: summary.preview.clone(),
            date: summary.date,
            received_at: delivery.received_at,
            expires_at: columns::message_end(row, delivery.received_at.0, &self.defaults).map(Timestamp),
            size: delivery.body.size,
            attachments: summary.attachments,
            is_read: false,
            tags: Vec::new(),
            codes: Codes,
        }
    }

    /// A mailbox that has just been made, empty.
    pub(super) fn new_row(&mut self, key: &MailboxKey, origin: i16, now: i64) -> mailbox::Model {
        mailbox::Model {
            id: G::mailbox_id(self),
            address: Some(key.as_str().to_owned()),
            incarnation: G::incarnation(self, key),
            modseq: 0,
            replay_floor: 0,
            origin,
            created_at: now,
            expires_at: None,
            message_ttl: None,
            max_messages: None,
            max_bytes: None,
            when_full: None,
            token_hash: None,
            messages: 0,
            unread: 0,
            bytes: 0,
            due: None,
        }
    }

    /// Ends a mailbox: its address is free at once, its messages are removed in the background.
    pub(super) fn end_mailbox(&mut self, key: &MailboxKey, mut row: mailbox::Model) {
        self.ground.ended(key, &row);
        let place = self.event(&mut row, key, None, |_| Event::MailboxDeleted {});
        self.in_flight.changes.push(change::Model {
            mailbox_id: row.id,
            modseq: place.modseq,
            stamp: place.stamp,
            kind: MAILBOX_DELETED,
            uid: 0,
            id: None,
            address: Some(key.as_str().to_owned()),
            incarnation: row.incarnation,
        });
        self.mailboxes.detach(key, row);
    }
}

/// Columns that are the same in each mailbox that gets the message.
struct Texts {
    sender: Option<String>,
    recipients: String,
}

impl Texts {
    fn of(summary: &Summary) -> Self {
        Self {
            sender: columns::sender_column(summary.from.as_deref()),
            recipients: columns::recipients_column(&summary.to),
        }
    }
}

fn message_row(
    delivery: &Delivery,
    (part, texts): (&Part, &Texts),
    mailbox_id: i64,
    (uid, stamp): (i64, i64),
    at: BodyLocation,
) -> message::Model {
    let summary = &delivery.summary;
    message::Model {
        mailbox_id,
        uid,
        stamp,
        id: delivery.id.0,
        received_at: delivery.received_at.0,
        size: signed(delivery.body.size),
        segment: at.segment,
        offset: at.offset,
        length: at.length,
        parse: columns::parse_column(summary.parse),
        is_read: false,
        attachments: i32::try_from(summary.attachments).unwrap_or(i32::MAX),
        subject: summary.subject.to_string(),
        sender: texts.sender.clone(),
        recipients: texts.recipients.clone(),
        date: summary.date.map(|date| date.0),
        preview: summary.preview.to_string(),
        tags: None,
        envelope: columns::envelope_column(&delivery.envelope, part),
    }
}
