//! `[ops]`: the operations listener.

use crate::settings::{Check, Listen, Wrong};

crate::settings! {
    /// The operations listener: `/health`, `/health/live`, `/health/ready` and `/metrics`. It asks for no password, so it
    /// stays on loopback unless it is moved here. It answers to the names that `[http] allowed_hosts` has.
    pub struct OpsConfig {
        /// Address and port; port 0 takes a free one, a port alone is one of 127.0.0.1.
        pub listen: Listen = Listen::loopback(8025),
    }
}

impl Check for OpsConfig {
    /// Every address will do; `config::check` compares it with those of other sections.
    fn check(&self, _: &mut Wrong) {}
}
