//! What a configuration that can be read must also be: every problem is found and named with its
//! remedy, none is printed with a secret.
//!
//! Layout: [`source`] what is polled, [`record_key`] keys that cannot meet (R33), [`kafka`] where it
//! is published, this file the rest.

mod kafka;
mod record_key;
mod source;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::Fault;

use super::quantity::Bytes;
use super::read::plain;
use super::secret::{Text, looks_secret};
use super::{Archive, Config};

/// Longest name: it becomes part of topic names and of the transactional id.
const NAME_BYTES_MAX: usize = 100;
/// Longer than anybody means, and short enough to be added to any time.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
/// What Kafka's `message.max.bytes` can be at most.
const RECORD_BYTES_MAX: Bytes = Bytes(1_000_000_000);
/// The smallest `record_max` that leaves room for key and headers.
const RECORD_BYTES_MIN: Bytes = Bytes(1024);
/// Offsets within a body are kept in 32 bits.
const BODY_BYTES_MAX: Bytes = Bytes::mib(2048);

/// Checks everything, secrets included: that they are there is checked now, not at the first poll.
///
/// # Errors
/// One line for each problem (exit 2).
pub fn check(config: &Config) -> Result<(), Fault> {
    let mut problems = shape(config);
    references(config, &mut problems);
    problems.result()
}

/// Checks everything except that environment variables and files that are referred to are there.
///
/// # Errors
/// One line for each problem (exit 2).
pub fn check_shape(config: &Config) -> Result<(), Fault> {
    shape(config).result()
}

/// What works but should be otherwise, a line each.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut literals = |section: &str, texts: &BTreeMap<String, Text>| {
        for (name, text) in texts {
            if text.is_literal() && looks_secret(name) {
                found.push(format!(
                    "{section}.{name}: this looks like a secret written into the file: refer to it as \
                     ${{env:NAME}} or ${{file:/path}}"
                ));
            }
        }
    };
    for (name, source) in &config.source {
        literals(&format!("[source.{name}] headers"), &source.headers);
    }
    if let Some(kafka) = &config.kafka {
        literals("[kafka] properties", &kafka.properties);
    }
    if let Some(archive) = &config.archive {
        literals("[archive] options", &archive.options);
    }
    for (name, source) in &config.source {
        if let Some(what) = source::secret_in_url(&source.url) {
            found.push(format!(
                "[source.{name}] url: {what} is a secret written into the file: where the API takes a \
                 header instead, refer to it there as ${{env:NAME}}"
            ));
        }
    }
    found
}

/// The problems found so far, and the section that is being looked at.
#[derive(Default)]
struct Problems {
    section: String,
    found: Vec<String>,
}

impl Problems {
    fn add(&mut self, field: &str, problem: impl AsRef<str>) {
        let at = [self.section.as_str(), field];
        let at = at.into_iter().filter(|part| !part.is_empty());
        let at = at.collect::<Vec<_>>().join(" ");
        let problem = format!("{at}: {}", problem.as_ref());
        self.found.push(plain(&problem));
    }

    fn duration(&mut self, field: &str, duration: Duration) {
        if duration > DURATION_MAX {
            self.add(
                field,
                "is longer than ten years: write \"30s\", \"5m\" or \"7d\"",
            );
        }
    }

    fn result(self) -> Result<(), Fault> {
        if self.found.is_empty() {
            return Ok(());
        }
        Err(Fault::usage(self.found.join("\n")))
    }
}

fn shape(config: &Config) -> Problems {
    let mut problems = Problems::default();
    if let Some(told) = name_fault(&config.name) {
        problems.add("name", told);
    }
    if config.data_dir.as_os_str().is_empty() {
        problems.add("data_dir", "is empty: write data_dir = \"deltapoll-data\"");
    }
    if config.source.is_empty() {
        let told = "there is none to poll: write [source.NAME] with url = \"https://...\" and key = \
                    [\"/id\"]";
        problems.add("source", told);
    }
    for (name, source) in &config.source {
        problems.section = format!("[source.{name}]");
        source::check(name, source, &mut problems);
    }
    topics(config, &mut problems);
    if let Some(kafka) = &config.kafka {
        problems.section = "[kafka]".to_owned();
        kafka::check(kafka, &mut problems);
    }
    problems.section = "[local]".to_owned();
    if config.local.retain.is_zero() {
        problems.add(
            "retain",
            "is 0: changes would be gone before anybody reads them",
        );
    }
    problems.duration("retain", config.local.retain);
    if let Some(archive) = &config.archive {
        problems.section = "[archive]".to_owned();
        check_archive(archive, config.kafka.is_some(), &mut problems);
    }
    limits(config, &mut problems);
    problems
}

/// Why `name` cannot be a name.
fn name_fault(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if let Some(c) = name.chars().find(|c| !legal(*c)) {
        return Some(format!(
            "'{}' has a '{}': use ASCII letters, digits, '.', '_' and '-'",
            name.escape_default(),
            c.escape_default()
        ));
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("is longer than {NAME_BYTES_MAX} characters"));
    }
    None
}

/// Topic names that Kafka takes, each fed by one source (R33).
fn topics(config: &Config, problems: &mut Problems) {
    let mut fed: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, source) in &config.source {
        problems.section = format!("[source.{name}]");
        let topic = config.topic(name);
        // A wrong name was told already.
        let named = source.topic.is_some() || name_fault(name).is_none();
        if let Some(told) = topic_fault(topic).filter(|_| named) {
            problems.add("topic", told);
        }
        if let Some(other) = fed.insert(topic, name) {
            let told =
                format!("'{topic}' is fed by [source.{other}] too: give each source its own topic");
            problems.add("topic", told);
        }
    }
    if config.kafka.is_some() {
        let progress = config.progress_topic();
        problems.section = "[kafka]".to_owned();
        if let Some(told) = topic_fault(&progress) {
            problems.add("progress_topic", told);
        }
        if let Some(name) = fed.get(progress.as_str()) {
            let told = format!("'{progress}' is fed by [source.{name}]: it must be another topic");
            problems.add("progress_topic", told);
        }
    }
}

fn topic_fault(topic: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match topic {
        "" => Some("is empty".to_owned()),
        "." | ".." => Some(format!("'{topic}' is no name of a topic")),
        _ if topic.len() > 249 => Some("is longer than 249 characters".to_owned()),
        _ => topic.chars().find(|c| !legal(*c)).map(|c| {
            format!(
                "'{}' has a '{}': Kafka takes ASCII letters, digits, '.', '_' and '-'",
                topic.escape_default(),
                c.escape_default()
            )
        }),
    }
}

fn check_archive(archive: &Archive, with_kafka: bool, problems: &mut Problems) {
    if let Some(told) = archive_url_fault(&archive.url, with_kafka) {
        problems.add("url", told);
    }
    let roll = &archive.roll;
    let zero = "is 0: an object would never hold anything";
    if roll.records == 0 {
        problems.add("roll.records", zero);
    }
    if roll.bytes.0 == 0 {
        problems.add("roll.bytes", zero);
    }
    if roll.age.is_zero() {
        problems.add("roll.age", zero);
    }
    problems.duration("roll.age", roll.age);
}

fn archive_url_fault(url: &str, with_kafka: bool) -> Option<String> {
    let forms = "write gs://bucket/prefix, s3://bucket/prefix or file:///directory";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Some(format!("is no address of an object store: {forms}"));
    };
    let wrong = match scheme {
        "file" if !rest.starts_with('/') => {
            "a file:// address is absolute: write file:///directory, with three slashes".to_owned()
        }
        "file" => return None,
        "gs" | "s3" if rest.is_empty() || rest.starts_with('/') => {
            format!("names no bucket: write {scheme}://bucket/prefix")
        }
        "gs" | "s3" if rest.contains(['?', '#', '@']) => {
            "takes a bucket and a prefix only: the rest belongs in options".to_owned()
        }
        "gs" | "s3" if !with_kafka => format!(
            "{scheme}:// needs [kafka]: without it nothing keeps two instances from writing to one \
             bucket; use file:///directory"
        ),
        "gs" | "s3" => return None,
        _ => format!("'{}://' is unknown: {forms}", scheme.escape_default()),
    };
    Some(wrong)
}

fn limits(config: &Config, problems: &mut Problems) {
    problems.section = "[checkpoint]".to_owned();
    let checkpoint = &config.checkpoint;
    if checkpoint.min > checkpoint.max {
        let told = "is longer than max: an epoch would have to stay open longer than it may";
        problems.add("min", told);
    }
    problems.duration("min", checkpoint.min);
    problems.duration("max", checkpoint.max);
    problems.section = "[limits]".to_owned();
    let limits = &config.limits;
    for (field, bytes) in [
        ("staging", limits.staging),
        ("journal", limits.journal),
        ("body_max", limits.body_max),
        ("transaction_bytes", limits.transaction_bytes),
    ] {
        if bytes.0 == 0 {
            problems.add(field, "is 0: nothing could ever be polled");
        }
    }
    if limits.body_max > limits.staging {
        let told = format!(
            "{} is more than staging ({}): such a body could never be held",
            limits.body_max, limits.staging
        );
        problems.add("body_max", told);
    }
    if limits.body_max > BODY_BYTES_MAX {
        let told = format!("{} is more than {BODY_BYTES_MAX}", limits.body_max);
        problems.add("body_max", told);
    }
    if let Some(record) = limits.record_max {
        if !(RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&record) {
            let told = format!(
                "{record} is out of place: it must be {RECORD_BYTES_MIN} to {RECORD_BYTES_MAX}"
            );
            problems.add("record_max", told);
        }
        if record > limits.transaction_bytes {
            let told = format!(
                "{record} is more than transaction_bytes ({}): such a record could never be committed",
                limits.transaction_bytes
            );
            problems.add("record_max", told);
        }
    }
    problems.duration("grace", limits.grace);
}

/// That everything referred to can be read.
fn references(config: &Config, problems: &mut Problems) {
    for (name, source) in &config.source {
        problems.section = format!("[source.{name}]");
        for (header, text) in &source.headers {
            match text.reveal() {
                Ok(value) if reqwest::header::HeaderValue::from_str(&value).is_err() => {
                    let told = "has a value that HTTP does not allow (a line break, a control \
                                character): check what it refers to";
                    problems.add(&format!("headers.{header}"), told);
                }
                Ok(_) => {}
                Err(told) => problems.add(&format!("headers.{header}"), told),
            }
        }
    }
    let properties = config.kafka.iter().flat_map(|kafka| &kafka.properties);
    let options = config.archive.iter().flat_map(|archive| &archive.options);
    let named = properties.map(|pair| ("[kafka]", "properties", pair));
    let named = named.chain(options.map(|pair| ("[archive]", "options", pair)));
    for (section, field, (name, text)) in named {
        if let Err(told) = text.reveal() {
            section.clone_into(&mut problems.section);
            problems.add(&format!("{field}.{name}"), told);
        }
    }
}
