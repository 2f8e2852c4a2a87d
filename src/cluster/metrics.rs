//! Names of what nodes tell each other, and of limits.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const UP: &str = "redis_up";
pub const FAILURES: &str = "redis_failures_total";
pub const PUBLISHED: &str = "bus_events_published_total";
pub const RECEIVED: &str = "bus_events_received_total";
pub const DROPPED: &str = "bus_events_dropped_total";
pub const HINTS: &str = "bus_hints_total";
pub const SKIPPED: &str = "bus_messages_skipped_total";
pub const SUBSCRIPTIONS: &str = "bus_channels_subscribed";
pub const RECONNECTS: &str = "bus_reconnects_total";
pub const PUBLISH_SECONDS: &str = "bus_publish_duration_seconds";
pub const PAGES: &str = "redis_pages_total";
pub const REFUSED: &str = "limit_refusals_total";
pub const ASKED: &str = "limit_shares_asked_total";

/// Tells the recorder what each of them means.
pub fn describe() {
    describe_gauge!(UP, "1 while Redis answers, 0 while it is away");
    describe_counter!(FAILURES, "Requests to Redis that failed or took too long");
    describe_counter!(PUBLISHED, "Events published to other nodes");
    describe_counter!(RECEIVED, "Events received from other nodes");
    describe_counter!(DROPPED, "Events that were not published, by reason; the others find them in the database");
    describe_counter!(HINTS, "Events published as a hint alone, because they were too large for the bus");
    describe_counter!(SKIPPED, "Messages of the bus that were not used, by reason");
    describe_gauge!(SUBSCRIPTIONS, "Channels of the bus that Redis confirmed");
    describe_counter!(RECONNECTS, "Times the subscriber connection was lost");
    describe_histogram!(PUBLISH_SECONDS, Unit::Seconds, "Time to publish what was queued");
    describe_counter!(PAGES, "Pages of lists in Redis, by outcome: hit, miss, kept, dropped");
    describe_counter!(
        REFUSED,
        "Requests, connections, messages and new mailboxes over the limit of a client network, by kind"
    );
    describe_counter!(ASKED, "Shares of a limit that were asked of Redis");
}
