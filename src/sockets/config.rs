//! `[sockets]`: how much one WebSocket client may ask for, and how long a silent or slow one is kept.

use crate::mail::units::{Bytes, Period};
use crate::settings::{Check, Wrong};

crate::settings! {
    /// The WebSocket endpoint `/v1/ws`.
    pub struct Config {
        /// Clients at one time; beyond it the handshake is answered 503.
        pub max_clients: usize = 110_000,
        /// Subscriptions of one client; beyond it `subscribe` is answered with an error.
        pub max_subscriptions: usize = 1_000,
        /// Requests of one client that wait for their answer; beyond it nothing more is read from it.
        pub max_pending: u32 = 64,
        /// The largest message from a client; a larger one is skipped and answered with an error.
        pub max_message: Bytes = Bytes::kib(64),
        /// Events that may wait for one client; beyond it the client is served from the store. More costs memory while
        /// clients are slow, less makes them read from the store earlier.
        pub inbox: usize = 64,
        /// How much is written to one client at a time; more is made when it has taken that.
        pub max_unwritten: Bytes = Bytes::kib(64),
        /// Events that are read from the store at a time for one client.
        pub page: u32 = 100,
        /// How often a client is pinged. A proxy in front must keep silent connections longer than this.
        pub ping: Period = Period::secs(30),
        /// How long a client may be silent, its pongs included, until it is given up.
        pub silence: Period = Period::secs(75),
        /// How long a client may take nothing of what is written to it; then it is closed with code 1013.
        pub write_timeout: Period = Period::secs(30),
        /// How long a closed client has for its part of the closing handshake.
        pub close_timeout: Period = Period::secs(5),
        /// When the store or a mailbox could not answer for a client, how long to wait before asking again.
        pub retry: Period = Period::millis(500),
    }
}

impl Check for Config {
    fn check(&self, wrong: &mut Wrong) {
        let second = Period::secs(1);
        wrong.least("max_clients", self.max_clients, 1);
        wrong.least("max_subscriptions", self.max_subscriptions, 1);
        wrong.least("max_pending", self.max_pending, 1);
        wrong.least("max_message", self.max_message, Bytes::kib(1));
        wrong.least("inbox", self.inbox, 1);
        wrong.least("max_unwritten", self.max_unwritten, Bytes::kib(1));
        wrong.least("page", self.page, 1);
        wrong.least("ping", self.ping, second);
        if self.silence <= self.ping {
            // A client that answers every ping would be given up before the first.
            wrong.refuse("silence", self.silence, format_args!("more than ping ({})", self.ping));
        }
        wrong.least("write_timeout", self.write_timeout, second);
        wrong.least("close_timeout", self.close_timeout, Period::millis(100));
        wrong.least("retry", self.retry, Period::millis(10));
    }
}
