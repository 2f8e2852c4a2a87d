//! Settings of the search index: `[search]`.

use crate::settings::{Check, Wrong};

crate::settings! {
    /// The index that answers searches for words.
    pub struct SearchConfig {
        /// Keep a full-text index: in `search.db`, or in the database server (`docs/search-index.md`). Without it every search
        /// reads the messages it is asked about, a bounded number for each page, and nothing is written beside the mail. Nodes that
        /// share a database may differ: one that keeps the index is enough, and the others then do not use it.
        pub enabled: bool = true,
    }
}

impl Check for SearchConfig {
    /// On and off will both do.
    fn check(&self, _: &mut Wrong) {}
}
