//! Metric names of the broker.

use metrics::{describe_counter, describe_gauge};

pub const PUBLISHED: &str = "broker_published_total";
pub const CONFIRMED: &str = "broker_confirmed_total";
pub const REFUSED: &str = "broker_refused_total";
pub const CONSUMED: &str = "broker_consumed_total";
pub const ACKED: &str = "broker_acked_total";
pub const REQUEUED: &str = "broker_requeued_total";
pub const DEAD: &str = "broker_dead_lettered_total";
pub const DEPTH: &str = "broker_queue_depth";
pub const UNCONFIRMED: &str = "broker_unconfirmed_bytes";
pub const CONNECTED: &str = "broker_connected";
pub const AWAY: &str = "broker_database_away";

/// Describes them to the recorder.
pub fn describe() {
    describe_counter!(PUBLISHED, "Messages given to the broker");
    describe_counter!(CONFIRMED, "Messages that the broker said it has");
    describe_counter!(
        REFUSED,
        "Messages that were not, by reason: away, blocked, full, returned, nack, timeout, lost, too_large"
    );
    describe_counter!(CONSUMED, "Messages taken from the broker");
    describe_counter!(ACKED, "Messages that are in the database and were removed from the broker");
    describe_counter!(
        REQUEUED,
        "Messages handed back to the broker, by reason: failed (by themselves), away (the database is)"
    );
    describe_counter!(DEAD, "Messages put to the dead letters by this node, by reason: gone, newer, malformed, failed");
    describe_gauge!(DEPTH, "Messages waiting in the broker, by queue: mail, large, dead");
    describe_gauge!(UNCONFIRMED, "Bytes of messages that wait for the broker's answer");
    describe_gauge!(CONNECTED, "Whether the broker takes messages (1)");
    describe_gauge!(AWAY, "Whether taking from the broker rests because the database is away or full (1)");
}
