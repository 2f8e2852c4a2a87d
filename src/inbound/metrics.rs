//! Metric names of receiving.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const CONNECTIONS_ACTIVE: &str = "smtp_connections_active";
pub const CONNECTIONS: &str = "smtp_connections_total";
pub const REFUSED: &str = "smtp_refused_total";
pub const RECEIVED: &str = "smtp_messages_received_total";
pub const RECEIVED_BYTES: &str = "smtp_received_bytes_total";
pub const DELIVERY_SECONDS: &str = "smtp_delivery_seconds";
pub const BYTES_IN_FLIGHT: &str = "smtp_bytes_in_flight";
pub const MAILBOXES_ACTIVE: &str = "mailboxes_active";
pub const SUBSCRIBERS_BEHIND: &str = "subscribers_behind_total";
pub const CLOCK_AHEAD: &str = "retention_clock_ahead_seconds";
pub const GAPS: &str = "mailbox_gaps_total";
pub const RECONCILED: &str = "reconcile_passes_total";
pub const FOUND: &str = "reconcile_findings_total";
pub const RECONCILE_SECONDS: &str = "reconcile_duration_seconds";

/// Describes them to the recorder.
pub fn describe() {
    describe_gauge!(CONNECTIONS_ACTIVE, "SMTP sessions that are open");
    describe_counter!(
        CONNECTIONS,
        "SMTP connections by outcome: accepted, over the cap, over the client's cap, over the rate of its network, without the \
         PROXY header asked for"
    );
    describe_counter!(REFUSED, "Recipients and messages refused, by reason");
    describe_counter!(RECEIVED, "Messages received through the final dot, by outcome");
    describe_counter!(RECEIVED_BYTES, Unit::Bytes, "Bytes of messages that were stored, as received");
    describe_histogram!(DELIVERY_SECONDS, Unit::Seconds, "From the final dot to the verdict");
    describe_gauge!(BYTES_IN_FLIGHT, Unit::Bytes, "Bytes of messages that are being received or stored");
    describe_gauge!(MAILBOXES_ACTIVE, "Mailbox actors in memory");
    describe_counter!(SUBSCRIBERS_BEHIND, "Times a subscriber was too slow and was marked behind");
    describe_gauge!(
        CLOCK_AHEAD,
        Unit::Seconds,
        "How far the clock is ahead of the time that passed, or of the database server's clock: above 0 nothing expired is \
         removed, for an hour after a jump, or until the two clocks agree"
    );
    describe_counter!(RECONCILED, "Comparisons with the database of what subscribers were told, by outcome");
    describe_counter!(
        FOUND,
        "Mailboxes (and the stream of all) whose subscribers had missed something, found by comparing"
    );
    describe_histogram!(RECONCILE_SECONDS, Unit::Seconds, "Time of one comparison with the database");
    describe_counter!(GAPS, "Times a mailbox actor read from the store what it had not been told");
}
