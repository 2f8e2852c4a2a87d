//! Names of the store's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const DELIVERIES: &str = "store_deliveries_total";
pub const REFUSED: &str = "store_refused_total";
pub const ROWS: &str = "store_rows_total";
pub const BYTES: &str = "store_body_bytes_total";
pub const BATCH: &str = "store_batch_deliveries";
pub const COMMIT: &str = "store_commit_duration_seconds";
pub const QUEUED: &str = "store_queue_depth";
pub const CHANGES: &str = "store_changes_total";
pub const EXPIRED: &str = "store_expired_total";
pub const COMPACTED: &str = "store_compacted_bytes_total";
pub const RECOVERED: &str = "store_recovered_total";
pub const CONFLICTS: &str = "store_conflicts_total";
pub const FAILURES: &str = "store_batch_failures_total";
pub const RESTARTS: &str = "store_writer_restarts_total";
pub const HISTORIES: &str = "store_histories_begun_total";
pub const CLOCK_SKEW: &str = "store_clock_skew_seconds";
pub const FREE: &str = "store_free_bytes";
pub const REPLICA_UP: &str = "store_replica_up";
pub const REPLICA_LAG: &str = "store_replica_lag_events";
pub const READS: &str = "store_replica_reads_total";
pub const LIST_HITS: &str = "store_list_cache_hits_total";
pub const LIST_MISSES: &str = "store_list_cache_misses_total";

/// Tells the recorder what each of them means.
pub fn describe() {
    describe_counter!(DELIVERIES, "Deliveries committed");
    describe_counter!(REFUSED, "Deliveries that were not stored, by reason");
    describe_counter!(ROWS, "Message rows committed");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of bodies written, to segment files or the database");
    describe_histogram!(BATCH, "Deliveries in one commit");
    describe_histogram!(COMMIT, Unit::Seconds, "From the first row of a batch to its commit");
    describe_gauge!(QUEUED, "Deliveries waiting for the writers");
    describe_counter!(CHANGES, "Changes by calls and by retention");
    describe_counter!(EXPIRED, "Messages removed because their time was over or their mailbox full");
    describe_counter!(COMPACTED, Unit::Bytes, "Bytes of live records moved out of mostly dead segment files");
    describe_counter!(RECOVERED, "Deliveries taken in at start from beyond the committed end of a segment file");
    describe_counter!(CONFLICTS, "Transactions that were in the way of another and were tried again");
    describe_counter!(FAILURES, "Batches that were not committed");
    describe_counter!(RESTARTS, "Times a writer came back after a panic");
    describe_counter!(
        HISTORIES,
        "Times the database was found to have lost commits that this node, or another, had seen: a failover to a standby that lacked \
         them, or a restored backup"
    );
    // There from the start, so that the first time shows as an increase.
    metrics::counter!(HISTORIES).absolute(0);
    describe_gauge!(FREE, Unit::Bytes, "Free disk space where the data lies; not on a database server");
    describe_gauge!(
        CLOCK_SKEW,
        Unit::Seconds,
        "How far this clock is ahead of the database server's; above 300 nothing that has expired is removed here"
    );
    describe_gauge!(REPLICA_UP, "Whether the read replica answers");
    describe_gauge!(REPLICA_LAG, "Events that the primary has and the read replica has not, a moment ago");
    describe_counter!(
        READS,
        "Reads that a replica was to answer: `replica` did, `behind` it was and the primary answered"
    );
    describe_counter!(LIST_HITS, "List pages answered without reading the list, by level: process, redis");
    describe_counter!(LIST_MISSES, "List pages read from the database");
}
