//! The whole configuration: one field a stage, each declared in that stage's own `config.rs`.
//!
//! [`load`] reads it from defaults, a TOML file, the environment and flags, in this order, and reports everything that is
//! wrong at once; [`check`] finds what is well formed but would not do; [`strangers`] finds variables whose prefix is
//! misspelt; [`example`] prints it. Callers: `cli`, and `app`,
//! which hands every stage its own section.

mod check;
mod example;
mod load;
mod nearest;
mod strangers;

pub use check::{Findings, check};
pub use example::example;
pub use load::{Flag, Problem, Problems, Sources, load};
pub use strangers::strangers;

use std::net::SocketAddr;

use crate::cluster::limits::LimitsConfig;
use crate::cluster::redis::RedisConfig;
use crate::inbound::config::{DomainsConfig, MailboxesConfig, SmtpConfig};
use crate::mail::units::Period;
use crate::ops::config::OpsConfig;
use crate::settings::{Check, Section, Wrong};
use crate::store::{self, BodiesConfig, ColdConfig, DatabaseConfig, SearchConfig};
use crate::telemetry::config::LogConfig;

crate::settings! {
    /// The process as a whole.
    pub struct RuntimeConfig {
        /// Directory of everything that is kept: database, message bodies, search index, lock. Made when missing, and
        /// used by one server at a time.
        pub data: std::path::PathBuf = "data".into(),
        /// Threads that run the actors of sessions and mailboxes. One serves most machines best, because every crossing
        /// between threads is a wake-up; raise it when that thread alone is at 100 % and cores are idle.
        pub arbiters: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN,
        /// How long a stop may take: what was promised is finished and flushed, idle sessions are told 421. Whatever is
        /// left at the end is cut off.
        pub stop_within: Period = Period::secs(30),
        /// How long the ports stay open after SIGTERM, so that proxies and balancers learn of it first: `/health/ready` answers
        /// 503 at once, and every HTTP answer ends its connection. It is a part of stop_within, at most half of it. "0s" for
        /// a server that nothing stands in front of. SIGINT, as Ctrl-C sends it, does without.
        pub drain: Period = Period::secs(5),
    }
}

impl RuntimeConfig {
    /// How long the ports stay open after SIGTERM.
    #[must_use]
    pub fn drain_time(&self) -> std::time::Duration {
        self.drain.0.min(self.stop_within.0 / 2)
    }
}

impl Check for RuntimeConfig {
    fn check(&self, wrong: &mut Wrong) {
        if self.data.as_os_str().is_empty() {
            wrong.refuse_text("data", "", "a directory, as in data = \"data\"");
        }
        wrong.within("arbiters", self.arbiters.get(), 1, 1_024);
        wrong.least("stop_within", self.stop_within, Period::secs(1));
    }
}

macro_rules! sections {
    ($($name:ident: $type:ty,)*) => {
        /// Every setting there is.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config {
            $(pub $name: $type,)*
        }

        impl Config {
            /// The sections by name, in the order of the printed example.
            #[must_use]
            pub fn sections(&self) -> Vec<(&'static str, &dyn Section)> {
                vec![$((stringify!($name), &self.$name as &dyn Section)),*]
            }

            fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

sections! {
    smtp: SmtpConfig,
    mailboxes: MailboxesConfig,
    domains: DomainsConfig,
    database: DatabaseConfig,
    bodies: BodiesConfig,
    cold: ColdConfig,
    search: SearchConfig,
    redis: RedisConfig,
    limits: LimitsConfig,
    broker: crate::cluster::broker::BrokerConfig,
    http: crate::web::Config,
    sockets: crate::sockets::Config,
    ops: OpsConfig,
    runtime: RuntimeConfig,
    log: LogConfig,
}

impl Config {
    /// Every address to listen on that can be read as one, with what it is for.
    #[must_use]
    pub fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let smtp = self.smtp.listen.iter().filter_map(|url| Some(("SMTP", SmtpConfig::address(url).ok()?)));
        smtp.chain([("HTTP", self.http.listen.0), ("operations", self.ops.listen.0)]).collect()
    }

    /// What the store is opened with: its own sections, the data directory, and what `[mailboxes]` says of lifetimes.
    #[must_use]
    pub fn store(&self) -> store::Config {
        let mailboxes = &self.mailboxes;
        store::Config {
            data: self.runtime.data.clone(),
            database: self.database.clone(),
            bodies: self.bodies.clone(),
            cold: self.cold.clone(),
            search: self.search.clone(),
            defaults: store::Defaults {
                message_ttl: mailboxes.message_ttl.0.map(|ttl| ttl.0),
                max_messages: mailboxes.max_messages.0.map(|count| count.0),
                max_bytes: mailboxes.max_bytes.0.map(|bytes| bytes.0),
                when_full: mailboxes.when_full.into(),
            },
            largest: self.smtp.max_message_size,
        }
    }
}
