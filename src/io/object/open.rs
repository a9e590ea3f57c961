//! A URL and its options become a store.
//!
//! `gs://bucket/prefix` and `s3://bucket/prefix` take anything object_store knows (and what the
//! environment says, as the clouds' own tools do); `file:///directory` takes nothing. Opening sends
//! no request and creates nothing. Retries are the caller's: object_store's own are off, so that
//! every attempt is judged and logged in one place.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use serde_json::Value;
use tokio::runtime::Handle;

use super::Objects;
use super::trouble::{Trouble, clean};
use crate::config::secret::Text;
use crate::fault::Fault;

/// object_store's own limit for one request; the limit that counts goes by size and is ours.
const REQUEST_TIMEOUT: &str = "6 hours";
/// Shorter values are not looked for in errors: they would blot out ordinary words.
const SECRET_CHARS_MIN: usize = 6;
/// An option with one of these in its name holds a secret even if it is written out.
const SECRET_WORDS: [&str; 5] = ["key", "secret", "token", "password", "credential"];
/// The parts of a service account's JSON that are secret.
const SECRET_FIELDS: [&str; 4] = [
    "private_key",
    "private_key_id",
    "client_secret",
    "refresh_token",
];

/// Whether an archive at `url` is allowed: without Kafka nothing would fence a shared bucket (R26).
///
/// # Errors
/// Says what to do instead.
pub fn check_fenced(url: &str, kafka: bool) -> Result<(), String> {
    if kafka || url.starts_with("file://") {
        return Ok(());
    }
    Err(format!(
        "archive.url {url} needs [kafka]: without it nothing keeps two instances from writing to one \
         bucket; add [kafka], or write to a directory (file:///...)"
    ))
}

impl Objects {
    /// Opens the store at `url`. `runtime` is a multi-thread runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When the URL or an option is wrong, or a secret cannot be read; names it (exit 2).
    pub fn open(
        url: &str,
        options: &BTreeMap<String, Text>,
        runtime: Handle,
    ) -> Result<Objects, Fault> {
        let url = url.trim_end_matches('/');
        let opened = match url.split_once("://") {
            Some(("file", _)) => open_directory(url, options),
            Some((scheme @ ("gs" | "s3"), rest)) => open_bucket(scheme, rest, options),
            _ => Err("write gs://bucket/prefix, s3://bucket/prefix or file:///directory".into()),
        };
        let mut objects = opened
            .map_err(|reason| Fault::usage(format!("cannot open archive.url {url}: {reason}")))?
            .into_objects(url, runtime);
        objects
            .secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(objects)
    }
}

struct Opened {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    directory: Option<std::path::PathBuf>,
    secrets: Vec<String>,
}

impl Opened {
    fn into_objects(self, url: &str, runtime: Handle) -> Objects {
        Objects {
            store: self.store,
            url: url.to_owned(),
            prefix: self.prefix,
            directory: self.directory,
            secrets: self.secrets,
            runtime,
        }
    }
}

fn open_directory(url: &str, options: &BTreeMap<String, Text>) -> Result<Opened, String> {
    if let Some(name) = options.keys().next() {
        return Err(format!(
            "unknown option '{name}': a local directory takes none"
        ));
    }
    let wrong = "write file:///directory, with the directory's absolute path";
    let parsed = reqwest::Url::parse(url).map_err(|_| wrong)?;
    if parsed.host().is_some() || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong.into());
    }
    let directory = parsed.to_file_path().map_err(|()| wrong)?;
    let prefix = Path::from_absolute_path(&directory).map_err(|error| error.to_string())?;
    Ok(Opened {
        // For reading only: `staging` writes.
        store: Arc::new(LocalFileSystem::new()),
        prefix,
        directory: Some(directory),
        secrets: Vec::new(),
    })
}

fn open_bucket(
    scheme: &str,
    rest: &str,
    options: &BTreeMap<String, Text>,
) -> Result<Opened, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || rest.contains(['@', '?', '#', ':']) {
        return Err(format!("write {scheme}://bucket/prefix"));
    }
    let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
    let revealed = Revealed::read(options)?;
    let store = match scheme {
        "gs" => google(bucket, &revealed)?,
        _ => amazon(bucket, &revealed)?,
    };
    Ok(Opened {
        store,
        prefix,
        directory: None,
        secrets: revealed.secrets,
    })
}

fn google(bucket: &str, options: &Revealed) -> Result<Arc<dyn ObjectStore>, String> {
    let timeout = GoogleConfigKey::Client(ClientConfigKey::Timeout);
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_retry(no_retries())
        .with_config(timeout, REQUEST_TIMEOUT)
        .with_bucket_name(bucket);
    for (name, value) in &options.values {
        let key: GoogleConfigKey = name.parse().map_err(|_| {
            unknown(
                name,
                "service_account_path, service_account_key, base_url, proxy_url",
            )
        })?;
        match key {
            GoogleConfigKey::ServiceAccountKey => credentials(name, value)?,
            GoogleConfigKey::ServiceAccount => {
                let text = std::fs::read_to_string(value)
                    .map_err(|error| format!("option {name}: cannot read the file: {error}"))?;
                credentials(name, &text)?;
            }
            _ => {}
        }
        builder = builder.with_config(key, value);
    }
    let store = builder.build().map_err(|error| options.told(&error))?;
    Ok(Arc::new(store))
}

fn amazon(bucket: &str, options: &Revealed) -> Result<Arc<dyn ObjectStore>, String> {
    let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    let mut builder = AmazonS3Builder::from_env()
        .with_retry(no_retries())
        .with_config(timeout, REQUEST_TIMEOUT)
        .with_bucket_name(bucket);
    for (name, value) in &options.values {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| {
            unknown(
                name,
                "access_key_id, secret_access_key, region, endpoint, allow_http",
            )
        })?;
        builder = builder.with_config(key, value);
    }
    let store = builder.build().map_err(|error| options.told(&error))?;
    Ok(Arc::new(store))
}

fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn unknown(name: &str, some: &str) -> String {
    format!("unknown option '{name}': object_store knows {some} and others")
}

/// Checks by ourselves what a parser's message might quote.
fn credentials(name: &str, text: &str) -> Result<(), String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(_)) => Ok(()),
        _ => Err(format!(
            "option {name}: the service account is not a JSON object"
        )),
    }
}

/// Options with their secrets read.
struct Revealed {
    values: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Revealed {
    fn read(options: &BTreeMap<String, Text>) -> Result<Revealed, String> {
        let mut revealed = Revealed {
            values: Vec::new(),
            secrets: Vec::new(),
        };
        for (name, text) in options {
            let value = text
                .reveal()
                .map_err(|error| format!("option {name}: {error}"))?;
            let lower = name.to_ascii_lowercase();
            if text.written().contains("${") || SECRET_WORDS.iter().any(|w| lower.contains(w)) {
                revealed.hide(&value);
            }
            revealed.values.push((lower, value));
        }
        Ok(revealed)
    }

    fn hide(&mut self, value: &str) {
        if let Ok(Value::Object(fields)) = serde_json::from_str(value) {
            let secret = SECRET_FIELDS
                .iter()
                .filter_map(|name| fields.get(*name)?.as_str());
            self.secrets.extend(secret.map(str::to_owned));
        }
        self.secrets.push(value.to_owned());
        self.secrets
            .retain(|secret| secret.chars().count() >= SECRET_CHARS_MIN);
    }

    fn told(&self, error: &object_store::Error) -> String {
        clean(&Trouble::of(error, &self.secrets).message, &self.secrets)
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;

    use super::*;

    fn open(url: &str, options: &[(&str, &str)]) -> Result<Objects, Fault> {
        let runtime = Runtime::new().unwrap();
        let option = |(name, value): &(&str, &str)| ((*name).to_owned(), Text::new(*value));
        let options = options.iter().map(option).collect();
        Objects::open(url, &options, runtime.handle().clone())
    }

    fn refusal(url: &str, options: &[(&str, &str)]) -> String {
        let fault = open(url, options).unwrap_err();
        assert_eq!(fault.exit, crate::fault::Exit::Usage);
        fault.message
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_right_form() {
        for url in [
            "",
            "bucket",
            "http://x/y",
            "gs://",
            "s3:///p",
            "gs://user:pw@b/p",
        ] {
            let message = refusal(url, &[]);
            assert!(message.contains("write "), "{message}");
        }
        for url in ["file://relative/path", "file:///a?b"] {
            assert!(refusal(url, &[]).contains("file:///directory"), "{url}");
        }
    }

    #[test]
    fn an_unknown_option_is_named() {
        for url in ["gs://b/p", "s3://b/p", "file:///tmp/x"] {
            let message = refusal(url, &[("acess_key", "v")]);
            assert!(message.contains("unknown option 'acess_key'"), "{message}");
        }
    }

    #[test]
    fn known_options_open_a_bucket_without_a_request() {
        let keys = [
            ("access_key_id", "ABCDEFGH"),
            ("secret_access_key", "hunter22"),
        ];
        let s3 = open(
            "s3://bucket/some/prefix/",
            &[&keys[..], &[("region", "x")]].concat(),
        );
        assert_eq!(s3.unwrap().url(), "s3://bucket/some/prefix");
        let account = r#"{"gcs_base_url":"http://127.0.0.1:1","disable_oauth":true,
            "client_email":"","private_key":"","private_key_id":""}"#;
        let gs = open("gs://bucket", &[("google_service_account_key", account)]).unwrap();
        assert_eq!(gs.url(), "gs://bucket");
    }

    #[test]
    fn no_error_and_no_debug_output_shows_a_secret() {
        let secret = "hunter22hunter22";
        let quoted = format!("\"{secret}\"");
        let message = refusal("gs://b", &[("service_account_key", &quoted)]);
        assert!(!message.contains(secret), "{message}");
        let message = refusal(
            "s3://b",
            &[("secret_access_key", secret), ("allow_http", secret)],
        );
        assert!(!message.contains(secret), "{message}");
        let account = format!(
            r#"{{"client_email":"e","private_key":"{secret}","private_key_id":"{secret}"}}"#
        );
        let message = match open("gs://b", &[("service_account_key", &account)]) {
            Err(fault) => fault.message,
            Ok(objects) => format!("{:?}", objects.url()),
        };
        assert!(!message.contains(secret), "{message}");
    }

    #[test]
    fn r26_without_kafka_only_a_directory_will_do() {
        assert!(check_fenced("file:///x", false).is_ok());
        assert!(check_fenced("gs://x", true).is_ok());
        assert!(
            check_fenced("gs://x", false)
                .unwrap_err()
                .contains("[kafka]")
        );
    }
}
