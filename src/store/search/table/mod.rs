//! The full-text index in the database server itself, one for all nodes: the tables `search_words` and `search_state`.
//!
//! [`indexer`] runs on every node, and one of them at a time is at work: who holds the row of the state locked.
//! [`batch`] is what it does next, [`words`] how rows are written and asked for in each engine, [`blocks`] how a search
//! stays small in an index that has no order, [`page`] how it fills a page. The rows lie in the same database as the mail, so a
//! search sees both in one snapshot.

pub(crate) mod batch;
pub(crate) mod blocks;
pub(crate) mod indexer;
mod page;
pub(crate) mod state;
pub(crate) mod words;
