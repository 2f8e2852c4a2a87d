//! A server that speaks S3: moto, which `scripts/moto.sh` installs.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::super::certificates::{Authority, Signed};
use super::super::process::free_addresses;
use super::running::{Running, Words, directory};

/// A server that keeps its buckets in memory: what was in them is gone when it is started again.
pub struct S3 {
    running: Running,
    pub endpoint: String,
}

impl S3 {
    /// With an empty bucket `mail`.
    pub fn start() -> Self {
        Self::begin(None)
    }

    /// The same over TLS; its URL names `localhost`.
    pub fn with_tls(authority: &Authority, own: &Signed) -> Self {
        Self::begin(Some((authority, own)))
    }

    fn begin(tls: Option<(&Authority, &Signed)>) -> Self {
        let [address] = free_addresses();
        let program = program();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut server = Words::new([program.to_str().expect("text"), "-H", &host, "-p", &port]);
        let mut endpoint = format!("http://{address}");
        let mut curl = Words::new(["curl", "-fsS", "-o", "/dev/null"]);
        if let Some((authority, own)) = tls {
            server = server.and(["-c", &own.certificate, "-k", &own.key]);
            endpoint = format!("https://localhost:{port}");
            curl = curl.and(["--cacert", &authority.file()]);
        }
        let probe = curl.clone().and([&format!("{endpoint}/moto-api/")]);
        let this = Self { running: Running::start(server, probe, directory(), address), endpoint };
        let bucket = format!("{}/mail", this.endpoint);
        curl.and(["-X", "PUT", &bucket]).run();
        this
    }
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| Words::new(["sh", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/moto.sh")]).run().into())
}

impl Deref for S3 {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for S3 {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}
