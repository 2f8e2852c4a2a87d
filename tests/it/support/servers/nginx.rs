//! nginx with a configuration that the test writes.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use rustix::process::Signal;

use super::running::{Running, Words, directory};

pub struct Nginx(Running);

impl Nginx {
    /// Serves what `configure` says for the directory it is given; `address` is one of those it listens on. Everything that
    /// nginx writes goes below that directory.
    pub fn start(address: SocketAddr, configure: impl FnOnce(&str) -> String) -> Self {
        let directory = directory();
        let place = directory.to_str().expect("a path in text").to_owned();
        let file = directory.join("nginx.conf");
        std::fs::write(&file, configure(&place)).expect("writes");
        let server = Words::new(["nginx", "-p", &place, "-c", file.to_str().expect("text"), "-e", "stderr"])
            .and(["-g", &format!("daemon off; pid {place}/pid;")]);
        let probe = Words::new(["bash"])
            .and(["-c", "exec 3<>/dev/tcp/$0/$1"])
            .and([&address.ip().to_string(), &address.port().to_string()]);
        Self(Running::start(server, probe, directory, address))
    }

    /// Reads its configuration again, which may have been written anew.
    pub fn reload(&self) {
        self.0.signal(Signal::HUP);
    }

    pub fn stop(&mut self) {
        self.0.stop(Signal::QUIT);
    }
}

impl Deref for Nginx {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl DerefMut for Nginx {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.0
    }
}
