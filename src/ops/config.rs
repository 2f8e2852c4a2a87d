//! `[ops]`: the operations listener.

use std::net::{Ipv4Addr, SocketAddr};

crate::settings! {
    /// The operations listener: `/health`, `/health/live`, `/health/ready` and `/metrics`. It asks for no password, so it
    /// stays on loopback unless it is moved here. It answers to the names that `[http] allowed_hosts` has.
    pub struct OpsConfig {
        /// Address and port; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8025)),
    }
}
