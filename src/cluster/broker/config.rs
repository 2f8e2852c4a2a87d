//! `[broker]`: a queue between SMTP and the store.

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::mail::units::{Bytes, Period};
use crate::settings::url::{parameter, shown};
use crate::settings::{Check, Wrong};
use crate::tls::{Files, Pem};

crate::settings! {
    /// A RabbitMQ between SMTP and the database: mail is taken as long as it answers, also while the database is away.
    pub struct BrokerConfig {
        /// `amqp://user:password@host:5672/vhost`, or `amqps://` with TLS; a `/` in the name of the vhost is `%2f`. Empty: mail
        /// goes straight to the database.
        pub url: String = String::new(),
        /// With `amqps://`: a file with the certificates (PEM) of the authorities that are believed, and no others. Empty: the
        /// public ones. This and the next two are read for each connection.
        pub ca_file: String = String::new(),
        /// A certificate (PEM) that this node shows to a broker that asks for one (`verify_peer`).
        pub cert_file: String = String::new(),
        /// The private key (PEM) of `cert_file`.
        pub key_file: String = String::new(),
        /// What the names of the queues begin with. Nodes of one installation have the same, installations that share a
        /// RabbitMQ have different ones.
        pub prefix: String = "mailroom".into(),
        /// Queues that mailboxes are shared out to. The first node fixes the number; one that asks for another does not
        /// start. More let more nodes take part.
        pub queues: u16 = 16,
        /// Deliveries that a node has of a queue at one time before they are in the database. More fill its batches better;
        /// each holds up to 256 KiB of memory (larger messages have a queue of their own, of which a node has 4).
        pub prefetch: u16 = 100,
        /// Times that a message may fail by itself, while others are stored, before it is put to the dead letters. Each counts
        /// after a pause, from 1 s up to 60 s: 20 take a quarter of an hour. An outage of the database, a lost connection and a node
        /// that crashes count nothing.
        pub delivery_limit: u16 = 20,
        /// The largest message that the broker takes: `max_message_size` of RabbitMQ, which is 16 MiB there since version 4 and
        /// 128 MiB before. `[smtp] max_message_size` must be smaller, by `2MiB` and `1KiB` for each of `max_recipients`.
        pub max_message_size: Bytes = Bytes::mib(16),
        /// How long the broker may take to say that it has a message; later it is answered 451.
        pub confirm_timeout: Period = Period::secs(10),
        /// Bytes of messages that wait for the broker at one time; more are answered 451.
        pub max_unconfirmed: Bytes = Bytes::mib(128),
    }
}

const BESIDE: u64 = 2 << 20;
const BESIDE_RECIPIENT: u64 = 1 << 10;
const URL: &str = "amqp://user:password@host:5672/vhost, amqps://…, or \"\" to go without";

impl Check for BrokerConfig {
    fn check(&self, wrong: &mut Wrong) {
        if self.is_used() {
            // The reason and not the text, which may have a password.
            if let Err(why) = self.uri().and_then(|_| whole(&self.url)) {
                wrong.refuse_text("url", &why, URL);
            }
        }
        self.files().check(wrong, self.is_tls(), "amqps://");
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(is_name) {
            wrong.refuse_text("prefix", &self.prefix, "1 to 64 letters, digits, '.', '-' and '_'");
        }
        wrong.within("queues", self.queues, 1, 256);
        wrong.within("prefetch", self.prefetch, 1, 10_000);
        wrong.within("delivery_limit", self.delivery_limit, 1, 10_000);
        wrong.least("confirm_timeout", self.confirm_timeout, Period::millis(100));
        wrong.least("max_message_size", self.max_message_size, Bytes::mib(1));
        wrong.least("max_unconfirmed", self.max_unconfirmed, Bytes::mib(1));
    }
}

/// Refuses what a URL says and nobody would look at.
fn whole(url: &str) -> Result<(), String> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let names = query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty());
    for name in names {
        match name {
            "heartbeat" | "frame_max" | "channel_max" | "auth_mechanism" => {}
            "cacertfile" | "certfile" | "keyfile" => {
                return Err(format!(
                    "this build takes no {name:?} from a URL, but ca_file, cert_file and key_file beside it"
                ));
            }
            _ => return Err(format!("this build knows no parameter {} of a URL", parameter(name, query))),
        }
    }
    // The library would go to localhost.
    let host = place.split_once("://").map_or("", |(_, rest)| rest.rsplit('@').next().unwrap_or_default());
    match host.starts_with('[') {
        true => Err("this build takes an address of IPv6 by a name only".into()),
        false => Ok(()),
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

impl BrokerConfig {
    /// Whether there is a broker.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.url.is_empty()
    }

    /// The URL as the library reads it.
    ///
    /// # Errors
    /// What the library says, unless a part of the URL may stand in that.
    pub fn uri(&self) -> Result<AMQPUri, String> {
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        let repeats = |why: &str| why.contains('\'') || query.contains('@');
        self.url.parse().map_err(|why: String| if repeats(&why) { shown(&self.url) } else { why })
    }

    pub(super) fn is_tls(&self) -> bool {
        // As the library reads it: "AMQPS" is the same.
        self.uri().is_ok_and(|uri| uri.scheme == AMQPScheme::AMQPS)
    }

    fn files(&self) -> Files<'_> {
        Files { authority: &self.ca_file, certificate: &self.cert_file, key: &self.key_file }
    }

    /// Whom a connection believes and what it shows; none where there is no TLS.
    ///
    /// # Errors
    /// A file that does not serve.
    pub fn tls(&self) -> Result<Option<Pem>, String> {
        if self.is_tls() { self.files().read().map(Some) } else { Ok(None) }
    }

    /// What a message needs in the queue beside its own bytes: its text for the search and what its header says again, and its
    /// recipients.
    #[must_use]
    pub fn largest(message: Bytes, recipients: usize) -> Bytes {
        let recipients = (recipients as u64).saturating_mul(BESIDE_RECIPIENT);
        Bytes(message.0.saturating_add(BESIDE).saturating_add(recipients))
    }

    /// The user and the virtual host.
    #[must_use]
    pub fn who(&self) -> (String, String) {
        self.uri().map(|uri| (uri.authority.userinfo.username, uri.vhost)).unwrap_or_default()
    }

    /// Where it is, without user and password.
    #[must_use]
    pub fn place(&self) -> String {
        match self.uri() {
            Ok(uri) => {
                // The one that is called "/" is the one of a URL without any.
                let vhost = if uri.vhost == "/" { String::new() } else { format!("/{}", uri.vhost) };
                format!("{}://{}:{}{vhost}", uri.scheme, uri.authority.host, uri.authority.port)
            }
            Err(_) => "[broker] url".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_without_showing_its_password() {
        let config = |url: &str| BrokerConfig { url: url.into(), ..BrokerConfig::default() };
        for url in ["", "amqp://guest:guest@127.0.0.1:5672/%2f", "amqps://mq.example", "amqp://mq/v?heartbeat=5"] {
            assert_eq!(Wrong::of(&config(url)), [], "{url}");
        }
        for url in ["http://a:secret@b", "mq.example", "amqp://u:secret@h:notaport"] {
            let wrong = Wrong::of(&config(url));
            assert_eq!(wrong.len(), 1, "{url}");
            assert!(!wrong[0].1.contains("secret"), "{wrong:?}");
        }
        assert_eq!(config("amqp://u:secret@mq.example/v").place(), "amqp://mq.example:5672/v");
        for url in ["amqp://u:secret@mq.example", "amqp://u:secret@mq.example/%2f"] {
            assert_eq!(config(url).place(), "amqp://mq.example:5672", "{url}");
        }
    }

    #[test]
    fn what_the_build_cannot_do_is_said_exactly() {
        let why = |url: &str| {
            let wrong = Wrong::of(&BrokerConfig { url: url.into(), ..BrokerConfig::default() });
            wrong[0].1.split(" will not do").next().unwrap().to_owned()
        };
        assert_eq!(
            why("amqps://u:secret@mq?cacertfile=/ca.pem"),
            r#""this build takes no \"cacertfile\" from a URL, but ca_file, cert_file and key_file beside it""#
        );
        assert_eq!(why("amqps://mq?verify=verify_none"), r#""this build knows no parameter \"verify\" of a URL""#);
        assert_eq!(why("amqp://u:p@[::1]:5672/%2f"), r#""this build takes an address of IPv6 by a name only""#);
        assert!(BrokerConfig { url: "AMQPS://mq".into(), ..BrokerConfig::default() }.tls().unwrap().is_some());
        let config = BrokerConfig { url: "amqp://mq".into(), ca_file: "/ca.pem".into(), ..BrokerConfig::default() };
        assert_eq!(
            Wrong::of(&config),
            [("ca_file", "\"/ca.pem\" will not do; possible: \"\" as long as url does not begin with amqps://".into())]
        );
    }

    #[test]
    fn names_are_plain() {
        for (prefix, good) in [("mailroom", true), ("a.b-c_1", true), ("", false), ("a b", false), ("a/b", false)] {
            let config = BrokerConfig { prefix: prefix.into(), ..BrokerConfig::default() };
            assert_eq!(Wrong::of(&config).is_empty(), good, "{prefix}");
        }
    }
}
