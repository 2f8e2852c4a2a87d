//! Who receives mail here: domains, automatic mailboxes, quotas. Pure.

use crate::handoff::Refusal;
use crate::mail::time::Timestamp;
use crate::store::{Mailbox, WhenFull};

use super::config::{AccessMode, DomainsConfig, MailboxesConfig};

/// The rules of this server, made once from the settings.
#[derive(Clone, Debug)]
pub struct Policy {
    accept: Vec<String>,
    default_domain: String,
    access: AccessMode,
    max_messages: Option<u64>,
    max_bytes: Option<u64>,
    when_full: WhenFull,
    /// Mail waits in a queue while the database is away.
    queued: bool,
}

impl Policy {
    #[must_use]
    pub fn new(mailboxes: &MailboxesConfig, domains: &DomainsConfig) -> Self {
        let lower = |name: &String| idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_ascii_lowercase());
        Self {
            accept: domains.accept.iter().map(lower).collect(),
            default_domain: lower(&domains.default),
            access: mailboxes.access,
            max_messages: mailboxes.max_messages.0.map(|count| count.0),
            max_bytes: mailboxes.max_bytes.0.map(|bytes| bytes.0),
            when_full: mailboxes.when_full.into(),
            queued: false,
        }
    }

    /// With a queue between SMTP and the database: who receives mail anyway does so while the database is away, too.
    #[must_use]
    pub fn queued(self, queued: bool) -> Self {
        Self { queued, ..self }
    }

    /// Whether recipients can be admitted while the database is away.
    #[must_use]
    pub const fn is_queued(&self) -> bool {
        self.queued
    }

    /// Mail makes its mailbox: any address of an accepted domain is one.
    #[must_use]
    pub const fn automatic(&self) -> bool {
        matches!(self.access, AccessMode::Open)
    }

    #[must_use]
    pub const fn access(&self) -> AccessMode {
        self.access
    }

    #[must_use]
    pub fn default_domain(&self) -> &str {
        &self.default_domain
    }

    /// The accepted domains as they were configured (`*` and `*.name` included).
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.accept.iter().map(String::as_str)
    }

    /// Whether mail for this domain (lower case, A-labels) is received.
    #[must_use]
    pub fn accepts_domain(&self, domain: &str) -> bool {
        domain == self.default_domain || self.accept.iter().any(|pattern| covers(pattern, domain))
    }

    /// Whether a message of `size` bytes may be sent to a mailbox of an accepted domain whose row is `row`.
    ///
    /// # Errors
    /// The refusal for this recipient.
    pub fn admit(&self, row: Option<&Mailbox>, size: u64, now: Timestamp) -> Result<(), Refusal> {
        let row = row.filter(|row| row.expires_at.is_none_or(|end| end > now));
        if row.is_none() && !self.automatic() {
            return Err(Refusal::UnknownMailbox);
        }
        // What makes room does so for what fits into an empty mailbox.
        let drops = row.and_then(|row| row.when_full).unwrap_or(self.when_full) == WhenFull::DropOldest;
        let (messages, bytes) = row.filter(|_| !drops).map_or((0, 0), |row| (row.messages, row.bytes));
        let full = self.messages_limit(row).is_some_and(|limit| messages >= limit)
            || self.bytes_limit(row).is_some_and(|limit| bytes.saturating_add(size.max(1)) > limit);
        if full { Err(Refusal::MailboxFull) } else { Ok(()) }
    }

    /// Whether what fits must be asked for each recipient.
    #[must_use]
    pub fn has_quota(&self, row: Option<&Mailbox>) -> bool {
        self.messages_limit(row).is_some() || self.bytes_limit(row).is_some()
    }

    fn messages_limit(&self, row: Option<&Mailbox>) -> Option<u64> {
        row.and_then(|row| row.max_messages).or(self.max_messages)
    }

    fn bytes_limit(&self, row: Option<&Mailbox>) -> Option<u64> {
        row.and_then(|row| row.max_bytes).or(self.max_bytes)
    }
}

fn covers(pattern: &str, domain: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => domain.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern == "*" || pattern == domain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(accept: &[&str]) -> Policy {
        let accept = accept.iter().map(ToString::to_string).collect();
        let domains = DomainsConfig { accept, default: "Mailroom.test".into() };
        Policy::new(&MailboxesConfig::default(), &domains)
    }

    #[test]
    fn a_star_covers_every_domain_and_a_wildcard_what_is_below() {
        assert!(policy(&["*"]).accepts_domain("a.example"));
        let below = policy(&["*.example.com"]);
        assert!(below.accepts_domain("mx.example.com"));
        assert!(!below.accepts_domain("example.com"));
        assert!(!below.accepts_domain("badexample.com"));
        assert!(below.accepts_domain("mailroom.test"), "generated addresses must work");
    }

    #[test]
    fn names_are_compared_as_a_labels() {
        assert!(policy(&["bücher.example"]).accepts_domain("xn--bcher-kva.example"));
    }
}
