//! What a test or a reader wants out of a message at once: the one-time codes and the links. `wait` answers with them.

mod codes;
mod links;
mod message;
#[cfg(test)]
mod samples;
mod vocabulary;

pub use codes::{MAX_CODES, codes};
pub use links::{Link, MAX_LINKS, links};
pub use message::{message_codes, summary_codes};
