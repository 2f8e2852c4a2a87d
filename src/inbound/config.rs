//! Settings of receiving: `[smtp]`, `[mailboxes]`, `[domains]`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::mail::address::Plus;
use crate::mail::units::{Bytes, Count, Limit, Period};
use crate::settings::{Check, Listen, ListenError, Network, Wrong, is_domain};
use crate::store::WhenFull;

/// Where other servers bring mail, RFC 5321 §4.5.4.2.
const SMTP_PORT: u16 = 25;

crate::settings! {
    /// `[smtp]`: the listeners and what one client may ask of them.
    pub struct SmtpConfig {
        /// Where to listen; `smtp://address:port`. Without an address it is a port of 127.0.0.1.
        pub listen: Vec<String> = vec!["smtp://127.0.0.1:2525".into()],
        /// Where senders reach SMTP when that is not `listen`, behind a proxy or a published port: "name:port", or a name alone
        /// for port 25. The dashboard and `/v1/server` show it instead of `listen`.
        pub public_address: String = String::new(),
        /// The name this server gives itself in its greeting and in `Received`; empty: the machine's host name.
        pub hostname: String = String::new(),
        /// Sessions at one time; beyond it a client hears 421.
        pub max_sessions: usize = 2_000,
        /// Sessions at one time of one client: an IPv4 address or an IPv6 /64 network.
        pub max_sessions_per_client: usize = 1_000,
        /// Recipients of one message; beyond it RCPT answers 452.
        pub max_recipients: usize = 10,
        /// Bytes of one message; announced with SIZE.
        pub max_message_size: Bytes = Bytes::mib(10),
        /// Bytes of messages that are being received or stored, in all sessions; beyond it DATA answers 452.
        pub max_bytes_in_flight: Bytes = Bytes::mib(256),
        /// Those of one client (as in max_sessions_per_client) once more than half of max_bytes_in_flight is taken; never
        /// less than one message of the largest size.
        pub max_bytes_in_flight_per_client: Bytes = Bytes::mib(64),
        /// How long to wait for the next command or the next piece of a message.
        pub read_timeout: Period = Period::secs(30),
        /// How long to wait for a client to take a reply.
        pub write_timeout: Period = Period::secs(30),
        /// How long one message may take from DATA to its dot.
        pub data_timeout: Period = Period::secs(600),
        /// Bytes a second below which a message is given up, measured after the first read timeout.
        pub min_data_rate: Bytes = Bytes(100),
        /// Refused commands in one session; then it is closed.
        pub max_errors: u16 = 20,
        /// How long to wait for the store after the dot; then 451 if it has not begun.
        pub commit_timeout: Period = Period::secs(30),
        /// Lone CR or LF in a message: "refuse" (550) or "normalise" to CRLF.
        pub bare_line_ends: BareLineEnds = BareLineEnds::Refuse,
        /// Networks of proxies that tell the client's address with the PROXY protocol, version 1 or 2: whoever connects from
        /// one must begin with a header, or is cut off; from anywhere else none is taken. That address counts for the limits
        /// of a client and stands in `Received` and the log. Name the proxies alone: who is in it may claim to be anyone.
        pub proxy_protocol_from: Vec<Network> = Vec::new(),
        /// How long such a proxy may take to send the header.
        pub proxy_protocol_timeout: Period = Period::secs(5),
    }
}

impl SmtpConfig {
    /// Host and port that senders are shown; none where `public_address` is empty, or would not do.
    #[must_use]
    pub fn public(&self) -> Option<(String, u16)> {
        let text = self.public_address.as_str();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some((address.ip().to_string(), address.port())).filter(|(_, port)| *port > 0);
        }
        if text.parse::<IpAddr>().is_ok() {
            return Some((text.to_owned(), SMTP_PORT));
        }
        let (name, port) = match text.split_once(':') {
            // `parse` would take a sign.
            Some((_, port)) if port.starts_with('+') => return None,
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0)?),
            None => (text, SMTP_PORT),
        };
        let is_name = name.is_ascii() && !name.starts_with('[') && is_domain(name);
        is_name.then(|| (name.to_owned(), port))
    }

    /// What one item of `listen` means; `smtp://` may be left out.
    ///
    /// # Errors
    /// It is no address with a port.
    pub fn address(url: &str) -> Result<SocketAddr, ListenError> {
        url.strip_prefix("smtp://").unwrap_or(url).parse().map(|Listen(address)| address)
    }
}

impl Check for SmtpConfig {
    fn check(&self, wrong: &mut Wrong) {
        for url in self.listen.iter().filter(|url| Self::address(url).is_err()) {
            let possible = match url.starts_with("smtps:") {
                true => "smtp://ADDRESS:PORT: this build receives without TLS",
                false => "smtp://ADDRESS:PORT, as in listen = [\"smtp://127.0.0.1:2525\"]",
            };
            wrong.refuse_text("listen", url, possible);
        }
        if !self.public_address.is_empty() && self.public().is_none() {
            let possible =
                "\"NAME:PORT\", as in public_address = \"mail.example.com:25\", or \"\" for what listen says";
            wrong.refuse_text("public_address", &self.public_address, possible);
        }
        let is_name = |name: &str| name.is_empty() || (name.is_ascii() && is_domain(name));
        if !is_name(&self.hostname) {
            wrong.refuse_text("hostname", &self.hostname, "a host name in ASCII, or \"\" for this machine's");
        }
        wrong.least("max_sessions", self.max_sessions, 1);
        wrong.least("max_sessions_per_client", self.max_sessions_per_client, 1);
        wrong.least("max_recipients", self.max_recipients, 1);
        wrong.least("max_message_size", self.max_message_size, Bytes::kib(1));
        if self.max_bytes_in_flight < self.max_message_size {
            let size = self.max_message_size;
            wrong.refuse(
                "max_bytes_in_flight",
                self.max_bytes_in_flight,
                format_args!("max_message_size ({size}) or more: no large message would pass"),
            );
        }
        wrong.least("max_bytes_in_flight_per_client", self.max_bytes_in_flight_per_client, Bytes::kib(1));
        let second = Period::secs(1);
        wrong.least("read_timeout", self.read_timeout, second);
        wrong.least("write_timeout", self.write_timeout, second);
        wrong.least("data_timeout", self.data_timeout, second);
        wrong.least("max_errors", self.max_errors, 1);
        wrong.least("commit_timeout", self.commit_timeout, second);
        wrong.least("proxy_protocol_timeout", self.proxy_protocol_timeout, Period::millis(100));
    }
}

/// What happens to a lone CR, a lone LF in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BareLineEnds {
    #[default]
    Refuse,
    Normalise,
}

crate::settings! {
    /// `[mailboxes]`: who may have one, how long mail lives in it, how much fits.
    pub struct MailboxesConfig {
        /// "open": anyone who reaches the port reads all mail, and mail makes its mailbox. "token": a mailbox is made by a
        /// call, which gives the token that reads it.
        pub access: AccessMode = AccessMode::Open,
        /// Allows `access = "open"` on an HTTP listener that others than this machine reach.
        pub insecure_open: bool = false,
        /// `bob+x@d` is "same" as `bob@d`, or "separate".
        pub plus: PlusMode = PlusMode::Same,
        /// How long a message lives; "never" keeps it.
        pub message_ttl: Limit<Period> = Limit::of(Period::days(7)),
        /// Messages in one mailbox, unless it has a limit of its own; "unlimited".
        pub max_messages: Limit<Count> = Limit::NONE,
        /// Bytes in one mailbox, unless it has a limit of its own; "unlimited".
        pub max_bytes: Limit<Bytes> = Limit::NONE,
        /// Mail for a full mailbox: "refuse" it (452), or "drop_oldest".
        pub when_full: FullMode = FullMode::Refuse,
        /// How long a mailbox that nobody uses stays in memory.
        pub idle: Period = Period::secs(60),
        /// How often to look for what has expired.
        pub expire_every: Period = Period::secs(10),
    }
}

impl Check for MailboxesConfig {
    fn check(&self, wrong: &mut Wrong) {
        if let Some(ttl) = self.message_ttl.0 {
            wrong.least("message_ttl", ttl, Period::secs(1));
        }
        if let Some(messages) = self.max_messages.0 {
            wrong.least("max_messages", messages, Count(1));
        }
        if let Some(bytes) = self.max_bytes.0 {
            wrong.least("max_bytes", bytes, Bytes::kib(1));
        }
        wrong.least("idle", self.idle, Period::millis(10));
        wrong.least("expire_every", self.expire_every, Period::millis(100));
    }
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

crate::settings! {
    /// `[domains]`: which domains receive mail.
    pub struct DomainsConfig {
        /// Domains that receive mail; "*" is every domain, "*.example.com" every name below it.
        pub accept: Vec<String> = vec!["*".into()],
        /// The domain of generated addresses.
        pub default: String = "mailroom.test".into(),
    }
}

impl Check for DomainsConfig {
    fn check(&self, wrong: &mut Wrong) {
        let names = |pattern: &str| is_domain(pattern.strip_prefix("*.").unwrap_or(pattern));
        for pattern in self.accept.iter().filter(|pattern| *pattern != "*" && !names(pattern)) {
            wrong.refuse_text(
                "accept",
                pattern,
                "\"*\", a domain, or \"*.\" and a domain, as in accept = [\"example.com\", \"*.example.org\"]",
            );
        }
        if !is_domain(&self.default) {
            wrong.refuse_text("default", &self.default, "a domain, as in default = \"mailroom.test\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_a_name_or_an_address_and_a_port() {
        let read = |text: &str| SmtpConfig { public_address: text.into(), ..SmtpConfig::default() }.public();
        for (text, host, port) in [
            ("mail.example.com:25", "mail.example.com", 25),
            ("mail.example.com", "mail.example.com", 25),
            ("localhost:2525", "localhost", 2525),
            ("192.0.2.1", "192.0.2.1", 25),
            ("192.0.2.1:26", "192.0.2.1", 26),
            ("2001:db8::1", "2001:db8::1", 25),
            ("[2001:db8::1]:26", "2001:db8::1", 26),
        ] {
            assert_eq!(read(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            ":25",
            "smtp://mail.example.com",
            "a b:25",
            "a.b:",
            "a.b:0",
            "a.b:+1",
            "a.b:99999",
            "192.0.2.1:0",
            "a.b:25:26",
        ] {
            assert_eq!(read(text), None, "{text}");
            let config = SmtpConfig { public_address: text.into(), ..SmtpConfig::default() };
            let wrong = Wrong::of(&config);
            assert_eq!(wrong.iter().any(|(setting, _)| *setting == "public_address"), !text.is_empty(), "{wrong:?}");
        }
    }
}
