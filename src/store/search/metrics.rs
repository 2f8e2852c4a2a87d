//! Names of the index's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const INDEXED: &str = "search_indexed_total";
pub const REMOVED: &str = "search_removed_total";
pub const UNREADABLE: &str = "search_unreadable_total";
pub const LAG: &str = "search_index_lag";
pub const BATCH: &str = "search_batch_duration_seconds";
pub const REBUILDS: &str = "search_rebuilds_total";
pub const QUERY: &str = "search_query_duration_seconds";

/// Tells the recorder what each of them means.
pub fn describe() {
    describe_counter!(INDEXED, "Messages put into the search index");
    describe_counter!(REMOVED, "Messages taken out of the search index");
    describe_counter!(UNREADABLE, "Messages indexed without their text, because it could not be read");
    describe_gauge!(LAG, "Committed events that are not in the search index yet");
    describe_histogram!(BATCH, Unit::Seconds, "From reading a batch of events to its commit in the index");
    describe_counter!(REBUILDS, "Times the index was begun anew, by reason");
    describe_histogram!(QUERY, Unit::Seconds, "One page of a search for words");
}
