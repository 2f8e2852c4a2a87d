//! What is noted of one message between its last byte and its verdict: its id, its trace headers, its log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::metrics as names;
use crate::clock;
use crate::handoff::{Deliver, Refusal};
use crate::mail::envelope::Envelope;
use crate::mail::id::{DeliveryId, SessionId};
use crate::mail::time::Timestamp;
use crate::mail::trace::{Received, write_return_path};
use crate::smtp::server::Message;

/// One message on its way through a session.
pub struct Receipt {
    session: SessionId,
    client: IpAddr,
    host_name: Arc<str>,
    began: Instant,
    now: Timestamp,
}

impl Receipt {
    /// Begins when the last byte has come.
    #[must_use]
    pub fn begin(session: SessionId, client: IpAddr, host_name: &Arc<str>) -> Self {
        let now = Timestamp(clock::now_micros());
        Self { session, client, host_name: Arc::clone(host_name), began: Instant::now(), now }
    }

    /// The message as the door takes it: with an id and with the trace headers before its first byte (RFC 5321 §4.4).
    #[must_use]
    pub fn deliver(&self, message: Message) -> (DeliveryId, Deliver) {
        let id = DeliveryId::new(self.now);
        let protocol = message.protocol();
        let mut head = Vec::with_capacity(512);
        write_return_path(&mut head, &message.reverse_path);
        let (text, only) = (id.to_string(), only_recipient(&message));
        let received = Received {
            helo: &message.helo,
            client: None,
            ip: self.client,
            by: &self.host_name,
            protocol,
            id: &text,
            recipient: only.as_deref(),
            date: self.now,
        };
        received.write(&mut head);
        let mut data = message.data;
        data.splice(0..0, head);
        let envelope = Envelope {
            reverse_path: message.reverse_path,
            helo: message.helo,
            client: self.client,
            protocol: protocol.to_owned(),
            smtputf8: message.smtputf8,
            eight_bit: message.eight_bit,
        };
        let deliver = Deliver { id, received_at: self.now, envelope, recipients: message.recipients, data };
        tracing::debug!(
            session.id = %self.session, message.id = %id, bytes = deliver.data.len(),
            recipients = deliver.recipients.len(), "received"
        );
        (id, deliver)
    }

    /// The verdict is there.
    pub fn close(&self, id: DeliveryId, bytes: usize, verdict: Result<(), Refusal>) {
        let outcome = verdict.err().map_or("stored", Refusal::label);
        let took = self.began.elapsed();
        metrics::counter!(names::RECEIVED, "outcome" => outcome).increment(1);
        metrics::histogram!(names::DELIVERY_SECONDS).record(took.as_secs_f64());
        let duration_ms = took.as_secs_f64() * 1e3;
        if verdict.is_ok() {
            metrics::counter!(names::RECEIVED_BYTES).increment(bytes as u64);
            tracing::info!(
                session.id = %self.session, message.id = %id, client = %self.client, bytes, duration_ms, "stored"
            );
        } else {
            tracing::warn!(
                session.id = %self.session, message.id = %id, client = %self.client, bytes, duration_ms, outcome,
                "not stored"
            );
        }
    }
}

fn only_recipient(message: &Message) -> Option<String> {
    match message.recipients.as_slice() {
        [only] => Some(only.to_string()),
        _ => None,
    }
}

/// The text of the final 250.
#[must_use]
pub fn stored_text(id: DeliveryId) -> String {
    format!("Stored as {id}")
}
