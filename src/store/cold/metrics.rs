//! Names of the metrics of object storage.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const MOVED: &str = "cold_moved_total";
pub const MOVED_BYTES: &str = "cold_moved_bytes_total";
pub const OBJECTS: &str = "cold_objects";
pub const BYTES: &str = "cold_bytes";
pub const REMOVED: &str = "cold_objects_removed_total";
pub const REPACKED: &str = "cold_repacked_bytes_total";
pub const READS: &str = "cold_reads_total";
pub const READ: &str = "cold_read_duration_seconds";
pub const UP: &str = "cold_up";
pub const FAILURES: &str = "cold_failures_total";
pub const UNREADABLE: &str = "cold_search_unreadable_total";

/// Tells the recorder what each of them means.
pub fn describe() {
    describe_counter!(MOVED, "Bodies that moved to object storage");
    describe_counter!(MOVED_BYTES, Unit::Bytes, "Bytes of records that moved to object storage");
    describe_gauge!(OBJECTS, "Objects of message bodies");
    describe_gauge!(BYTES, Unit::Bytes, "Bytes of all objects of message bodies");
    describe_counter!(REMOVED, "Objects removed because nothing of them was needed, by reason");
    describe_counter!(REPACKED, Unit::Bytes, "Bytes that were written anew because little of their object was needed");
    describe_counter!(READS, "Bodies read from object storage, by outcome");
    describe_histogram!(READ, Unit::Seconds, "From asking for a body in object storage to having it");
    describe_gauge!(UP, "Whether object storage could be written, read and removed from when it was last tried");
    describe_counter!(FAILURES, "Rounds of moving bodies that ended early");
    describe_counter!(UNREADABLE, "Texts that a search went without, because object storage did not give them in time");
}
