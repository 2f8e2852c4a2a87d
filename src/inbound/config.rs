//! Settings of receiving: `[smtp]`, `[mailboxes]`, `[domains]`.

use serde::{Deserialize, Serialize};

use crate::mail::address::Plus;
use crate::mail::units::{Bytes, Count, Limit, Period};
use crate::store::WhenFull;

/// `[smtp]`: the listeners and what one client may ask of them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpConfig {
    /// Where to listen; `smtp://address:port`.
    pub listen: Vec<String>,
    /// The name this server gives itself in its greeting and in `Received`; empty: the machine's host name.
    pub hostname: String,
    /// Threads that run sessions and mailboxes; 0 takes one for every two processors.
    pub arbiters: usize,
    /// Sessions at one time; beyond it a client hears 421.
    pub max_sessions: usize,
    /// Sessions at one time of one client: an IPv4 address or an IPv6 /64 network.
    pub max_sessions_per_client: usize,
    /// Recipients of one message; beyond it RCPT answers 452.
    pub max_recipients: usize,
    /// Bytes of one message; announced with SIZE.
    pub max_message_size: Bytes,
    /// Bytes of messages that are being received or stored, in all sessions; beyond it DATA answers 452.
    pub max_bytes_in_flight: Bytes,
    /// How long to wait for the next command or the next piece of a message.
    pub read_timeout: Period,
    /// How long to wait for a client to take a reply.
    pub write_timeout: Period,
    /// How long one message may take from DATA to its dot.
    pub data_timeout: Period,
    /// Bytes a second below which a message is given up, measured after the first read timeout.
    pub min_data_rate: Bytes,
    /// Refused commands in one session; then it is closed.
    pub max_errors: u32,
    /// How long to wait for the store after the dot; then 451 if it has not begun.
    pub commit_timeout: Period,
    /// Lone CR or LF in a message: "refuse" (550) or "normalise" to CRLF.
    pub bare_line_ends: BareLineEnds,
}

/// What happens to a lone CR, a lone LF in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BareLineEnds {
    #[default]
    Refuse,
    Normalise,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            listen: vec!["smtp://127.0.0.1:2525".into()],
            hostname: String::new(),
            arbiters: 0,
            max_sessions: 2_000,
            max_sessions_per_client: 1_000,
            max_recipients: 10,
            max_message_size: Bytes::mib(10),
            max_bytes_in_flight: Bytes::mib(256),
            read_timeout: Period::secs(30),
            write_timeout: Period::secs(30),
            data_timeout: Period::secs(600),
            min_data_rate: Bytes(100),
            max_errors: 20,
            commit_timeout: Period::secs(30),
            bare_line_ends: BareLineEnds::Refuse,
        }
    }
}

/// `[mailboxes]`: who may have one, how long mail lives in it, how much fits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxesConfig {
    /// "open": anyone who reaches the port reads all mail, and mail makes its mailbox. "token": a mailbox is made by a
    /// call, which gives the token that reads it.
    pub access: AccessMode,
    /// Allows `access = "open"` on an HTTP listener that others than this machine reach.
    pub insecure_open: bool,
    /// `bob+x@d` is "same" as `bob@d`, or "separate".
    pub plus: PlusMode,
    /// How long a message lives; "never" keeps it.
    pub message_ttl: Limit<Period>,
    /// Messages in one mailbox, unless it has a limit of its own; "unlimited".
    pub max_messages: Limit<Count>,
    /// Bytes in one mailbox, unless it has a limit of its own; "unlimited".
    pub max_bytes: Limit<Bytes>,
    /// Mail for a full mailbox: "refuse" it (452), or "drop_oldest".
    pub when_full: FullMode,
    /// How long a mailbox that nobody uses stays in memory.
    pub idle: Period,
    /// How often to look for what has expired.
    pub expire_every: Period,
}

/// Who may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessMode {
    #[default]
    Open,
    Token,
}

/// How `+` in a local part is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlusMode {
    #[default]
    Same,
    Separate,
}

impl From<PlusMode> for Plus {
    fn from(mode: PlusMode) -> Self {
        match mode {
            PlusMode::Same => Self::Same,
            PlusMode::Separate => Self::Separate,
        }
    }
}

/// What a full mailbox does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FullMode {
    #[default]
    Refuse,
    DropOldest,
}

impl From<FullMode> for WhenFull {
    fn from(mode: FullMode) -> Self {
        match mode {
            FullMode::Refuse => Self::Refuse,
            FullMode::DropOldest => Self::DropOldest,
        }
    }
}

impl Default for MailboxesConfig {
    fn default() -> Self {
        Self {
            access: AccessMode::Open,
            insecure_open: false,
            plus: PlusMode::Same,
            message_ttl: Limit::of(Period::days(7)),
            max_messages: Limit::NONE,
            max_bytes: Limit::NONE,
            when_full: FullMode::Refuse,
            idle: Period::secs(60),
            expire_every: Period::secs(10),
        }
    }
}

/// `[domains]`: which domains receive mail.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DomainsConfig {
    /// Domains that receive mail; "*" is every domain, "*.example.com" every name below it.
    pub accept: Vec<String>,
    /// The domain of generated addresses.
    pub default: String,
}

impl Default for DomainsConfig {
    fn default() -> Self {
        Self { accept: vec!["*".into()], default: "mailroom.test".into() }
    }
}
