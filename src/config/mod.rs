//! `deltapoll.toml`: plain data, checked once, secrets by reference.
//!
//! Layout: this file the types, [`mod@read`] the text, [`mod@check`] what it means, [`cell`] what a source
//! expands to, [`fingerprint`] hashes of settings, [`mod@embedded`] the demo, [`secret`] values that are
//! references and what must not be printed, [`quantity`] durations and sizes.

pub mod cell;
pub mod check;
pub mod embedded;
pub mod fingerprint;
pub mod quantity;
pub mod secret;

mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use quantity::Bytes;
use secret::Text;

pub use check::{check, check_shape, warnings};
pub use embedded::embedded;
pub use read::{parse, read};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Identity: transactional id, progress key, lineage. ASCII letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Where the journal and the state live. Default `deltapoll-data`.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// What to poll, by name.
    #[serde(default)]
    pub source: BTreeMap<String, Source>,
    /// What becomes of the entries of a cell that is no longer configured. Default: refuse to start.
    pub on_cell_removed: Option<OnCellRemoved>,
    /// Where changes are published; absent: the local topic log.
    pub kafka: Option<Kafka>,
    /// The local topic log, used without `[kafka]`.
    #[serde(default)]
    pub local: Local,
    /// Avro objects; absent: off.
    pub archive: Option<Archive>,
    /// When epochs are sealed.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// What may be used up.
    #[serde(default)]
    pub limits: Limits,
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("deltapoll-data")
}

/// A named thing to poll; feeds one topic.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The address, with `{var}` placeholders.
    pub url: String,
    /// Values for each placeholder; their matrix is the source's cells.
    #[serde(default)]
    pub vars: BTreeMap<String, Vec<String>>,
    /// Request headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// Time between two polls of a cell. Default 60s.
    #[serde(default = "default_every", with = "quantity::duration")]
    pub every: Duration,
    /// JSON pointer to the list of entries. Default `""`: the document itself.
    #[serde(default)]
    pub records: String,
    /// JSON pointers within an entry; the first that is there is the key.
    pub key: Vec<String>,
    /// The record key made of `{key}` and vars. Default `{key}`.
    #[serde(default = "default_record_key")]
    pub record_key: String,
    /// JSON pointers within an entry that do not count as a change.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// What is published when a key is gone. Default `tombstone`.
    #[serde(default)]
    pub removed: Removed,
    /// Complete snapshots in a row that lack a key before it is removed. Default 2; 1 = at once.
    #[serde(default = "default_removed_after")]
    pub removed_after: u32,
    /// Whether a snapshot is the whole cell. `false`: a partial view, nothing is ever removed.
    #[serde(default = "default_true")]
    pub complete: bool,
    /// The topic. Default: the source's name.
    pub topic: Option<String>,
    /// The value's format. Default `json`.
    #[serde(default)]
    pub format: Format,
}

fn default_every() -> Duration {
    Duration::from_secs(60)
}

fn default_record_key() -> String {
    "{key}".into()
}

fn default_removed_after() -> u32 {
    2
}

fn default_true() -> bool {
    true
}

/// What is published when a key is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removed {
    /// A record with a null value.
    #[default]
    Tombstone,
    /// A record whose value says so: `{"removed":true,"key":"..."}`.
    Event,
    /// Nothing: the key is forgotten.
    Ignore,
}

/// The format of a record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The entry's JSON as it arrived.
    #[default]
    Json,
}

/// What becomes of the entries of a cell that is no longer configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCellRemoved {
    /// They stay in the topic and in the state.
    Keep,
    /// They are removed from both, with tombstones, at the next start.
    Tombstone,
}

/// Where changes are published.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap: String,
    /// Default `deltapoll-progress-{name}`.
    pub progress_topic: Option<String>,
    /// Whether every record carries change, epoch, seq, polled_at, source and cell. Default true.
    #[serde(default = "default_true")]
    pub headers: bool,
    /// Anything librdkafka knows; secrets by reference.
    #[serde(default)]
    pub properties: BTreeMap<String, Text>,
    /// For topics that are missing.
    #[serde(default)]
    pub create: Create,
}

/// How missing topics are created: compacted, `min.compaction.lag.ms` of 7 days.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Create {
    /// Default 1.
    pub partitions: u32,
    /// Default 1.
    pub replication: u16,
}

impl Default for Create {
    fn default() -> Create {
        Create {
            partitions: 1,
            replication: 1,
        }
    }
}

/// The local topic log.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Local {
    /// How long records are kept. Default 7d.
    #[serde(with = "quantity::duration")]
    pub retain: Duration,
}

impl Default for Local {
    fn default() -> Local {
        Local {
            retain: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Avro objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// `gs://bucket/prefix`, `s3://bucket/prefix` or `file:///directory`.
    pub url: String,
    /// Compression within the objects. Default `zstandard`.
    #[serde(default)]
    pub codec: Codec,
    /// When an object is closed and uploaded.
    #[serde(default)]
    pub roll: Roll,
    /// Anything object_store knows for that kind of store; secrets by reference.
    #[serde(default)]
    pub options: BTreeMap<String, Text>,
}

/// Compression within an Avro object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// None.
    Null,
    /// zlib.
    Deflate,
    /// Snappy with CRC.
    Snappy,
    /// Zstandard.
    #[default]
    Zstandard,
}

/// When an object is closed and uploaded: whichever comes first, at an epoch's end.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roll {
    /// Default 100000.
    pub records: u64,
    /// Keys and values before compression. Default 64MiB.
    pub bytes: Bytes,
    /// Since the first change that waits. Default 5m.
    #[serde(with = "quantity::duration")]
    pub age: Duration,
}

impl Default for Roll {
    fn default() -> Roll {
        Roll {
            records: 100_000,
            bytes: Bytes::mib(64),
            age: Duration::from_secs(300),
        }
    }
}

/// When epochs are sealed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Shortest time between two seals. Default 0s.
    #[serde(with = "quantity::duration")]
    pub min: Duration,
    /// Longest an epoch stays open while snapshots keep coming. Default 1s.
    #[serde(with = "quantity::duration")]
    pub max: Duration,
}

impl Default for Checkpoint {
    fn default() -> Checkpoint {
        Checkpoint {
            min: Duration::ZERO,
            max: Duration::from_secs(1),
        }
    }
}

/// What may be used up.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory from request to seal. Default 256MiB.
    pub staging: Bytes,
    /// Disk from seal to retire. Default 10GiB.
    pub journal: Bytes,
    /// The longest body of a poll, after decompression. Default 256MiB.
    pub body_max: Bytes,
    /// The largest record: key + value + headers + overhead. Default: the topic's and the producer's
    /// limit.
    pub record_max: Option<Bytes>,
    /// The largest Kafka transaction. Default 256MiB.
    pub transaction_bytes: Bytes,
    /// What is under way may take this long when stopping. Default 10s.
    #[serde(with = "quantity::duration")]
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            staging: Bytes::mib(256),
            journal: Bytes::mib(10 * 1024),
            body_max: Bytes::mib(256),
            record_max: None,
            transaction_bytes: Bytes::mib(256),
            grace: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// The topic that `source` feeds.
    #[must_use]
    pub fn topic<'a>(&'a self, source: &'a str) -> &'a str {
        self.source
            .get(source)
            .and_then(|s| s.topic.as_deref())
            .unwrap_or(source)
    }

    /// The topic of the progress records.
    #[must_use]
    pub fn progress_topic(&self) -> String {
        let named = self.kafka.as_ref().and_then(|k| k.progress_topic.clone());
        named.unwrap_or_else(|| format!("deltapoll-progress-{}", self.name))
    }
}
