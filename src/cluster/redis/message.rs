//! Messages of the bus as they travel: version 1 of the format, which `tests/bus/v1.bin` holds on to.
//!
//! A field may be added, never changed or used anew: older nodes pass over what they do not know. What they would get wrong
//! needs another version, which they skip and count, and read from the database.

/// The version that is written.
pub const VERSION: u32 = 1;

/// What happened to some mailboxes of one shard, in the order of the node that committed it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Who sent it.
    #[prost(fixed64, tag = "2")]
    pub node: u64,
    /// Which history of the database it is of.
    #[prost(fixed32, tag = "3")]
    pub lineage: u32,
    #[prost(message, repeated, tag = "4")]
    pub events: Vec<Event>,
    /// The sender could not publish some messages of this shard: what they said is in the database.
    #[prost(bool, tag = "5")]
    pub lost: bool,
    /// The stamp of one of the events, and the mark of its commit in the database; empty where there is none.
    #[prost(int64, tag = "6")]
    pub marked: i64,
    #[prost(bytes = "vec", tag = "7")]
    pub mark: Vec<u8>,
}

/// One event. Without a kind it is a hint: the mailbox is at least there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    #[prost(string, tag = "1")]
    pub mailbox: String,
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub modseq: u64,
    #[prost(int64, tag = "4")]
    pub stamp: i64,
    /// The readable text, where it is short.
    #[prost(string, optional, tag = "5")]
    pub text: Option<String>,
    #[prost(oneof = "Kind", tags = "10, 11, 12, 13, 14")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    #[prost(message, tag = "10")]
    Received(Message),
    #[prost(message, tag = "11")]
    Updated(Message),
    #[prost(message, tag = "12")]
    Deleted(Deleted),
    #[prost(message, tag = "13")]
    Expired(Expired),
    #[prost(message, tag = "14")]
    MailboxDeleted(MailboxDeleted),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Deleted {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub uid: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Expired {
    #[prost(uint64, tag = "1")]
    pub through_uid: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MailboxDeleted {}

/// A line of a message list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub uid: u64,
    #[prost(message, optional, tag = "3")]
    pub from: Option<Party>,
    #[prost(message, repeated, tag = "4")]
    pub to: Vec<Party>,
    #[prost(string, tag = "5")]
    pub subject: String,
    #[prost(string, tag = "6")]
    pub preview: String,
    /// Times are microseconds since 1970.
    #[prost(sint64, optional, tag = "7")]
    pub date: Option<i64>,
    #[prost(sint64, tag = "8")]
    pub received_at: i64,
    #[prost(sint64, optional, tag = "9")]
    pub expires_at: Option<i64>,
    #[prost(uint64, tag = "10")]
    pub size: u64,
    #[prost(uint32, tag = "11")]
    pub attachments: u32,
    #[prost(bool, tag = "12")]
    pub is_read: bool,
    #[prost(string, repeated, tag = "13")]
    pub tags: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Party {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub address: Option<String>,
}
