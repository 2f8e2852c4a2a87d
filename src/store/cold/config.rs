//! Settings of `[cold]`: where old bodies go, and when.

use std::fmt;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{Certificate, ClientOptions};
use serde::{Deserialize, Serialize};

use crate::mail::units::{Bytes, Limit, Period};
use crate::settings::{Check, Wrong};
use crate::tls::Files;

crate::settings! {
    /// Object storage for the bodies of old messages. Lists, search and everything else stay where they are.
    pub struct ColdConfig {
        /// `file:///DIRECTORY` (with a database server one that all nodes share) or `s3://BUCKET/PREFIX`; empty for none. What
        /// was moved stays needed: keep this as it is until the last message that was moved has gone. No login stands here: that
        /// is what `access_key_id` is for.
        pub url: String = String::new(),
        /// Age at which the body of a message moves; with `"never"` only `mailroom archive` moves any.
        pub after: Limit<Period> = Limit(None),
        /// Messages are packed into objects of about this size. Larger ones are fewer requests, smaller ones give space back
        /// sooner.
        pub object_size: Bytes = Bytes::mib(16),
        /// Between two looks for what has become old, and for objects that are not needed any more.
        pub every: Period = Period::minutes(10),
        /// How long an object stays of which nothing is needed any more: as long, a backup can be restored that needs it.
        pub keep: Period = Period::hours(7 * 24),
        /// An object is written anew when less than this percentage of it is still needed.
        pub repack_below: u32 = 50,
        /// How long reading one body may take; then it is answered 503.
        pub timeout: Period = Period::secs(10),
        /// Bodies read from there at one time; more wait.
        pub max_reads: u32 = 32,
        /// For what speaks S3 and is not Amazon's: `"https://minio.example:9000"`. With `http://` nothing is encrypted. No login
        /// stands here either.
        pub endpoint: String = String::new(),
        /// With `https://` in `endpoint`: a file with the certificates (PEM) of the authorities that are believed, and no
        /// others. Empty: those of the machine.
        pub ca_file: String = String::new(),
        /// The bucket's region; empty for `AWS_REGION` or, without it, us-east-1.
        pub region: String = String::new(),
        /// Name the bucket in the host name and not in the path.
        pub virtual_hosted: bool = false,
        /// Credentials; empty for `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, or what the machine's
        /// role gives.
        pub access_key_id: String = String::new(),
        /// Belongs to `access_key_id`. Better in the environment: MAILROOM__COLD__SECRET_ACCESS_KEY.
        pub secret_access_key: Secret = Secret::default(),
    }
}

/// A setting that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

/// What is said instead of a text that may have a secret in it.
const LOGIN: &str = "a URL with a login in it";

/// Whether a place that was refused looks as if a login stood in it; then it is not repeated.
fn has_login(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let is_place = ["", "file", "http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    rest.contains('@') || (!is_place && rest.contains(':'))
}

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Directory(std::path::PathBuf),
    S3 { bucket: String, prefix: String },
}

impl Location {
    /// Reads `[cold] url`; none when it is empty.
    ///
    /// # Errors
    /// What would do.
    pub fn parse(url: &str) -> Result<Option<Self>, &'static str> {
        const POSSIBLE: &str = "\"file:///DIRECTORY\", \"s3://BUCKET/PREFIX\", or \"\" for none";
        if url.is_empty() {
            return Ok(None);
        }
        if let Some(path) = url.strip_prefix("file://") {
            let whole = path.starts_with('/') && path.len() > 1;
            return if whole { Ok(Some(Self::Directory(path.into()))) } else { Err(POSSIBLE) };
        }
        let (bucket, prefix) = match url.strip_prefix("s3://") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => return Err(Self::elsewhere(url).unwrap_or(POSSIBLE)),
        };
        let named = !bucket.is_empty() && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let prefix = prefix.trim_end_matches('/');
        let plain = object_store::path::Path::parse(prefix).is_ok();
        if named && plain { Ok(Some(Self::S3 { bucket: bucket.into(), prefix: prefix.into() })) } else { Err(POSSIBLE) }
    }

    /// What to do about storage that this build knows no other way to.
    fn elsewhere(url: &str) -> Option<&'static str> {
        match url.split_once("://")?.0 {
            "gs" | "gcs" => Some(
                "\"s3://BUCKET/PREFIX\" with endpoint = \"https://storage.googleapis.com\" and an HMAC key, \
                 which is how this build reaches Google Cloud Storage",
            ),
            "az" | "azure" | "abfs" | "abfss" => {
                Some("\"s3://BUCKET/PREFIX\" of something that speaks S3: this build does not speak to Azure")
            }
            _ => None,
        }
    }
}

impl Check for ColdConfig {
    fn check(&self, wrong: &mut Wrong) {
        match Location::parse(&self.url) {
            Ok(_) => {}
            Err(possible) if has_login(&self.url) => {
                wrong.refuse("url", LOGIN, format_args!("{possible}, beside access_key_id and secret_access_key"));
            }
            Err(possible) => wrong.refuse_text("url", &self.url, possible),
        }
        if let Limit(Some(after)) = self.after {
            wrong.least("after", after, Period::secs(1));
            if self.url.is_empty() {
                wrong.refuse("after", after, "\"never\" as long as url is empty");
            }
        }
        wrong.within("object_size", self.object_size, Bytes::kib(64), Bytes::mib(256));
        wrong.least("every", self.every, Period::secs(1));
        wrong.within("repack_below", self.repack_below, 0, 90);
        wrong.least("timeout", self.timeout, Period::secs(1));
        wrong.within("max_reads", self.max_reads, 1, 10_000);
        let endpoint = self.endpoint.as_str();
        if has_login(endpoint) {
            const POSSIBLE: &str = "\"https://HOST:PORT\", beside access_key_id and secret_access_key";
            wrong.refuse("endpoint", LOGIN, POSSIBLE);
        } else if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            wrong.refuse_text("endpoint", endpoint, "\"https://HOST:PORT\", or \"\" for Amazon's");
        }
        self.files().check(wrong, endpoint.starts_with("https://"), "https://");
        if self.access_key_id.is_empty() != self.secret_access_key.0.is_empty() {
            wrong.refuse("secret_access_key", "one without the other", "both access_key_id and this, or neither");
        }
    }
}

impl ColdConfig {
    fn files(&self) -> Files<'_> {
        Files { authority: &self.ca_file, certificate: "", key: "" }
    }

    /// How requests are made.
    ///
    /// # Errors
    /// What is wrong with `ca_file`.
    pub(super) fn client(&self) -> Result<ClientOptions, String> {
        // The library takes what it finds.
        crate::tls::provider();
        let mut options = ClientOptions::new()
            .with_allow_http(self.endpoint.starts_with("http://"))
            .with_connect_timeout(self.timeout.0);
        if let Some(authority) = self.files().read()?.authority {
            let bundle = Certificate::from_pem_bundle(&authority).map_err(|error| format!("ca_file: {error}"))?;
            options = bundle.into_iter().fold(options, ClientOptions::with_root_certificate);
            options = options.with_no_system_certificates(true);
        }
        Ok(options)
    }

    /// The URL to name the storage by. One that is refused is not repeated when a login may stand in it.
    #[must_use]
    pub fn shown(&self) -> &str {
        if Location::parse(&self.url).is_err() && has_login(&self.url) { LOGIN } else { &self.url }
    }

    /// What connects to `bucket`.
    ///
    /// # Errors
    /// The endpoint, here or in the environment, has a login in it: every message about a request would show it.
    pub(super) fn s3(&self, bucket: &str) -> Result<AmazonS3Builder, &'static str> {
        let mut builder =
            AmazonS3Builder::from_env().with_bucket_name(bucket).with_virtual_hosted_style_request(self.virtual_hosted);
        if !self.endpoint.is_empty() {
            builder = builder.with_endpoint(&self.endpoint);
        }
        if !self.region.is_empty() {
            builder = builder.with_region(&self.region);
        }
        if !self.access_key_id.is_empty() {
            let secret = self.secret_access_key.reveal();
            builder = builder.with_access_key_id(&self.access_key_id).with_secret_access_key(secret);
        }
        match builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
            Some(endpoint) if has_login(&endpoint) => Err("its endpoint has a login in it"),
            _ => Ok(builder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        let s3 = |bucket: &str, prefix: &str| Some(Location::S3 { bucket: bucket.into(), prefix: prefix.into() });
        assert_eq!(Location::parse(""), Ok(None));
        assert_eq!(Location::parse("file:///srv/cold"), Ok(Some(Location::Directory("/srv/cold".into()))));
        assert_eq!(Location::parse("s3://mail"), Ok(s3("mail", "")));
        assert_eq!(Location::parse("s3://mail/old/bodies/"), Ok(s3("mail", "old/bodies")));
        for wrong in
            ["file://", "file:///", "file://srv", "s3://", "s3:///x", "s3://a b/x", "s3://a/x//y", "gs://x", "/srv"]
        {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
        let said = |url: &str| format!("{:?}", Wrong::of(&ColdConfig { url: url.into(), ..ColdConfig::default() }));
        assert!(said("gs://mail/old").contains("https://storage.googleapis.com"), "{}", said("gs://mail/old"));
        assert!(said("az://mail/old").contains("does not speak to Azure"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let config = ColdConfig { secret_access_key: Secret("hunter2".into()), ..ColdConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
        let wrong = Wrong::of(&config);
        assert_eq!(wrong.len(), 1);
        assert!(!format!("{wrong:?}").contains("hunter2"));
    }

    #[test]
    fn an_authority_is_for_an_endpoint_with_tls() {
        let config = |endpoint: &str| ColdConfig {
            url: "s3://b".into(),
            endpoint: endpoint.into(),
            ca_file: "/ca.pem".into(),
            ..ColdConfig::default()
        };
        assert_eq!(Wrong::of(&config("https://minio.test:9000")), []);
        assert_eq!(Wrong::of(&config("http://minio.test:9000"))[0].0, "ca_file");
    }

    #[test]
    fn a_login_in_a_url_is_refused_and_not_repeated() {
        for url in [
            "s3://AKIA:hunter2@bucket",
            "s3://AKIA:hun/ter2@bucket/x",
            "s3://AKIA:hunter2/bucket",
            "S3://AKIA:hunter2@bucket",
            "s4://AKIA:hunter2/bucket",
            "AKIA:hunter2@bucket",
            "http://AKIA:hunter2@host/bucket",
            "file://ann:hunter2@host/srv",
        ] {
            let config = ColdConfig { url: url.into(), ..ColdConfig::default() };
            let wrong = Wrong::of(&config);
            assert_eq!((wrong.len(), wrong[0].0), (1, "url"), "{wrong:?}");
            let opened = crate::store::cold::Cold::open(&config).unwrap_err();
            for said in [wrong[0].1.as_str(), config.shown(), &opened.to_string(), &format!("{opened:?}")] {
                assert!(!said.contains("ter2") && !said.contains("AKIA"), "{said}");
            }
        }
        for endpoint in ["http://AKIA:hunter2@host:9000", "https://hunter2@host", "AKIA:hunter2@host"] {
            let config = ColdConfig { url: "s3://b".into(), endpoint: endpoint.into(), ..ColdConfig::default() };
            let wrong = Wrong::of(&config);
            assert_eq!((wrong.len(), wrong[0].0), (1, "endpoint"), "{wrong:?}");
            let opened = crate::store::cold::Cold::open(&config).unwrap_err().to_string();
            assert!(!wrong[0].1.contains("ter2") && !opened.contains("ter2"), "{wrong:?} {opened}");
        }
        // What is no login.
        for url in ["s3://b/ann@x.test/y:z", "file:///srv/ann@x.test"] {
            let config = ColdConfig { url: url.into(), endpoint: "http://h:9000".into(), ..ColdConfig::default() };
            assert_eq!((Wrong::of(&config), config.shown()), (vec![], url));
        }
    }

    #[test]
    fn an_age_needs_a_place() {
        let config = ColdConfig { after: Limit(Some(Period::hours(1))), ..ColdConfig::default() };
        assert_eq!(Wrong::of(&config)[0].0, "after");
        assert_eq!(Wrong::of(&ColdConfig { url: "s3://b/p".into(), ..config }), []);
    }
}
