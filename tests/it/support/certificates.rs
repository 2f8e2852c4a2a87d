//! An authority of a test's own, and the certificates that it signs.

use super::servers::Words;

/// Its files are gone with it.
pub struct Authority {
    directory: tempfile::TempDir,
}

/// A certificate and its key, each in a file that everyone may read.
#[derive(Clone, Debug)]
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

const SETTINGS: &str = "\
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
";
/// Names of loopback.
pub const HERE: &str = "DNS:localhost,IP:127.0.0.1";

impl Authority {
    /// Of a name that no other has.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self::named(&format!("/CN=authority {}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn named(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("mailroom-ca-").tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        for (name, text) in [("index.txt", ""), ("settings", SETTINGS)] {
            std::fs::write(directory.path().join(name), text).expect("writes");
        }
        let this = Self { directory };
        let (certificate, key) = (this.file(), this.path("ca.key"));
        this.openssl(["req", "-x509"], ["-days", "2", "-subj", name, "-out", &certificate, "-keyout", &key]);
        this
    }

    /// Its own certificate.
    pub fn file(&self) -> String {
        self.path("ca.pem")
    }

    /// Its own certificate with its key: nothing that a server should show.
    pub fn itself(&self) -> Signed {
        Signed { certificate: self.file(), key: self.path("ca.key") }
    }

    /// For these names, valid now.
    pub fn sign(&self, names: &str) -> Signed {
        self.sign_until(names, "20491231235959Z")
    }

    /// Valid from 2020 until `end`.
    pub fn sign_until(&self, names: &str, end: &str) -> Signed {
        let number = std::fs::read_dir(self.directory.path()).expect("ours").count();
        let [request, extensions, certificate, key] =
            ["request", "extensions", "pem", "key"].map(|kind| self.path(&format!("{number}.{kind}")));
        std::fs::write(&extensions, format!("basicConstraints = CA:FALSE\nsubjectAltName = {names}\n"))
            .expect("writes");
        self.openssl(["req", "-new"], ["-subj", "/CN=test", "-out", &request, "-keyout", &key, "-batch"]);
        let (settings, own) = (self.path("settings"), self.itself());
        Words::new(["sh", "-c", r#"cd "$0" && exec openssl "$@""#, self.path("").trim_end_matches('/')])
            .and(["ca", "-batch", "-notext", "-config", &settings, "-cert", &own.certificate, "-keyfile", &own.key])
            .and(["-startdate", "20200101000000Z", "-enddate", end])
            .and(["-in", &request, "-out", &certificate, "-extfile", &extensions])
            .run();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
        Signed { certificate, key }
    }

    fn openssl<const N: usize, const M: usize>(&self, what: [&str; N], more: [&str; M]) {
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        Words::new(["openssl"]).and(what).and(key).and(more).run();
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("a path in text").to_owned()
    }
}
