//! TLS to the servers that Mailroom uses: whose certificates are believed, and what goes wrong in plain words.
//!
//! `cluster` (Redis, the broker) and `store` (object storage) connect with it; databases read the same from their URLs by
//! themselves. Invariant: there is one cryptography in the process, ring's, and no certificate goes unchecked.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::settings::Wrong;

/// The cryptography of this process. Whoever lets a library connect calls it before.
pub fn provider() -> Arc<CryptoProvider> {
    if CryptoProvider::get_default().is_none() {
        // An error is another thread that was faster.
        let _ = ring::default_provider().install_default();
    }
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// `ca_file`, `cert_file` and `key_file` of a section; an empty one is not set.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    pub authority: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

/// What the files hold, in PEM, found to go together.
#[derive(Clone)]
pub struct Pem {
    /// Who is believed instead of the public authorities.
    pub authority: Option<Vec<u8>>,
    /// A certificate of this client, and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    config: Arc<ClientConfig>,
}

impl Files<'_> {
    /// Refuses what would not be looked at: `scheme` is the one that asks for TLS, and `is_tls` whether it is used.
    pub fn check(&self, wrong: &mut Wrong, is_tls: bool, scheme: &str) {
        let all = [("ca_file", self.authority), ("cert_file", self.certificate), ("key_file", self.key)];
        for (setting, path) in all.into_iter().filter(|(_, path)| !is_tls && !path.is_empty()) {
            wrong.refuse_text(setting, path, format_args!("\"\" as long as url does not begin with {scheme}"));
        }
        if self.certificate.is_empty() != self.key.is_empty() {
            let setting = if self.key.is_empty() { "key_file" } else { "cert_file" };
            wrong.refuse_text(setting, "", "a path: cert_file and key_file belong together");
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// The setting, its file, and what is wrong with it.
    pub fn read(&self) -> Result<Pem, String> {
        let authority = read("ca_file", self.authority)?;
        let roots = match &authority {
            Some(text) => authorities(text).map_err(|why| format!("ca_file {}: {why}", self.authority))?,
            None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        };
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let client = read("cert_file", self.certificate)?.zip(read("key_file", self.key)?);
        let config = match &client {
            Some((certificate, key)) => {
                let chain =
                    certificates(certificate).map_err(|why| format!("cert_file {}: {why}", self.certificate))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| format!("key_file {}: {}", self.key, not_pem(&error, "private key")))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| format!("cert_file {} and key_file {}: {error}", self.certificate, self.key))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Pem { authority, client, config: Arc::new(config) })
    }
}

impl Pem {
    /// What a connection of rustls is made with.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

fn read(setting: &str, path: &str) -> Result<Option<Vec<u8>>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    std::fs::read(path).map(Some).map_err(|error| format!("{setting} {path}: {error}"))
}

fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// At least one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let read = read.map_err(|error| not_pem(&error, "certificate"))?;
    if read.is_empty() { Err(not_pem(&pem::Error::NoItemsFound, "certificate")) } else { Ok(read) }
}

fn not_pem(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {what} in it (PEM, \"-----BEGIN …\")"),
        error => format!("no {what} can be read from it: {error}"),
    }
}

/// What an operator would say about a connection that failed for its certificates, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Stranger,
    OtherName,
    Expired,
    NotYet,
    OfAnAuthority,
    TooOld,
    AsksForOurs,
    RefusesOurs,
    NoTls,
}

/// How libraries say it, in what they say of a failed connection.
const SAID: &[(&str, Trouble)] = &[
    ("UnknownIssuer", Trouble::Stranger),
    // Of another authority that has the same name, such as one that was made anew.
    ("invalid peer certificate: BadSignature", Trouble::Stranger),
    ("certificate not valid for name", Trouble::OtherName),
    ("NotValidForName", Trouble::OtherName),
    ("certificate expired", Trouble::Expired),
    ("certificate not valid yet", Trouble::NotYet),
    ("CaUsedAsEndEntity", Trouble::OfAnAuthority),
    ("UnsupportedCertVersion", Trouble::TooOld),
    ("CertificateRequired", Trouble::AsksForOurs),
    ("fatal alert: HandshakeFailure", Trouble::AsksForOurs),
    ("fatal alert: UnknownCA", Trouble::RefusesOurs),
    ("fatal alert: BadCertificate", Trouble::RefusesOurs),
    ("fatal alert: DecryptError", Trouble::RefusesOurs),
    ("InvalidContentType", Trouble::NoTls),
    ("server does not support TLS", Trouble::NoTls),
];

impl Trouble {
    /// Finds it in the text of an error; none when the error is about something else.
    #[must_use]
    pub fn find(error: &str) -> Option<Self> {
        SAID.iter().find(|(said, _)| error.contains(said)).map(|(_, trouble)| *trouble)
    }

    /// What is wrong, after "it".
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Stranger => "its certificate is not signed by an authority that is believed here",
            Self::OtherName => "its certificate is for another name than the one in the URL",
            Self::Expired => "its certificate has expired",
            Self::NotYet => "its certificate is not valid yet",
            Self::OfAnAuthority => "its certificate is that of an authority, and such a one cannot stand for a server",
            Self::TooOld => "its certificate is of version 1, which names no hosts",
            Self::AsksForOurs => "it asks for a certificate of this client",
            Self::RefusesOurs => "it does not accept the certificate of this client",
            Self::NoTls => "it does not speak TLS there",
        }
    }

    /// What to do: `authority` and `client` name the settings.
    #[must_use]
    pub fn advice(self, authority: &str, client: &str) -> String {
        match self {
            Self::Stranger => format!("name the file with the certificate of its authority in {authority}"),
            Self::OtherName => {
                "use a name of its certificate in the URL, or have this one put among its subjectAltName".into()
            }
            Self::Expired => {
                "give the server a new certificate, and see that the clock of this machine is right".into()
            }
            Self::NotYet => "see that the clocks of both machines are right".into(),
            Self::OfAnAuthority => {
                format!(
                    "give the server a certificate of its own (CA:FALSE), signed by that one, and name that one in {authority}"
                )
            }
            Self::TooOld => "make it again with a subjectAltName, which makes it version 3".into(),
            Self::AsksForOurs => format!("name a certificate and its key in {client}"),
            Self::RefusesOurs => format!("let the authority that the server trusts sign the one in {client}"),
            Self::NoTls => "use the port where it speaks TLS, or a URL without".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Check;

    fn files<'a>(authority: &'a str, certificate: &'a str, key: &'a str) -> Files<'a> {
        Files { authority, certificate, key }
    }

    #[test]
    fn files_that_would_not_be_read_are_refused() {
        struct Section<'a>(Files<'a>, bool);
        impl Check for Section<'_> {
            fn check(&self, wrong: &mut Wrong) {
                self.0.check(wrong, self.1, "rediss://");
            }
        }
        let wrong = |files, is_tls| {
            let found = Wrong::of(&Section(files, is_tls));
            Vec::from_iter(found.into_iter().map(|(setting, text)| format!("{setting}: {text}")))
        };
        assert!(wrong(files("", "", ""), false).is_empty());
        assert!(wrong(files("/ca", "/c", "/k"), true).is_empty());
        assert_eq!(
            wrong(files("/ca", "", ""), false),
            ["ca_file: \"/ca\" will not do; possible: \"\" as long as url does not begin with rediss://"]
        );
        assert_eq!(
            wrong(files("", "/c", ""), true),
            ["key_file: \"\" will not do; possible: a path: cert_file and key_file belong together"]
        );
        assert!(wrong(files("", "", "/k"), true)[0].starts_with("cert_file"));
    }

    #[test]
    fn what_is_wrong_with_a_file_names_setting_and_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let error = |files: Files| files.read().err().unwrap();
        assert!(error(files("/nowhere/ca.pem", "", "")).starts_with("ca_file /nowhere/ca.pem: No such file"));
        let empty = file("empty", "no certificate\n");
        let said = error(files(&empty, "", ""));
        assert!(said.starts_with(&format!("ca_file {empty}: there is no certificate in it")), "{said}");
        let broken = file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(error(files(&broken, "", "")).starts_with(&format!("ca_file {broken}: ")));
        let said = error(files("", &broken, &empty));
        assert!(said.starts_with(&format!("key_file {empty}: there is no private key in it")), "{said}");
        assert!(files("", "", "").read().is_ok());
    }

    #[test]
    fn trouble_is_found_in_what_libraries_say() {
        let said = "Tls(invalid peer certificate: UnknownIssuer)";
        assert_eq!(Trouble::find(said), Some(Trouble::Stranger));
        assert_eq!(Trouble::find("Connection refused (os error 111)"), None);
        for (_, trouble) in SAID {
            assert!(!trouble.text().is_empty() && !trouble.advice("a", "b").is_empty());
        }
        assert!(Trouble::Stranger.advice("[redis] ca_file", "").contains("[redis] ca_file"));
    }
}
