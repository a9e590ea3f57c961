//! The progress record: what is committed to Kafka, by whom. One per transaction, produced last.
//!
//! Read from the start of its topic to an end that is known: before our `init_transactions` to the
//! last stable offset, after it to the high watermark, so that nothing of an earlier producer of ours
//! can still come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use crate::io::kafka::context::Context;
use crate::io::kafka::error::{Error, of_question};
use crate::io::kafka::incarnation::Incarnation;
use crate::io::kafka::settings::Settings;

const VERSION: u32 = 1;
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait without a record while reading.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A progress record's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of this format: 1.
    pub version: u32,
    /// The directory's history.
    pub lineage: String,
    /// The one that it replaced (`state reset`).
    pub predecessor: Option<String>,
    /// The seed of the lineage's hashes, for `rebuild`.
    pub hash_seed: u64,
    /// The start that wrote it.
    pub incarnation: Incarnation,
    /// The last batch that is committed.
    pub seq: u64,
    /// The epoch of that batch.
    pub epoch: u64,
    /// The mapping of keys, by topic (R22).
    pub partitions: BTreeMap<String, u32>,
}

impl Progress {
    /// Reads the value of a record in `topic`.
    ///
    /// # Errors
    /// When it is damaged, or of a version that this build does not know.
    pub fn parse(topic: &str, value: &[u8]) -> Result<Progress, Fault> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |error: serde_json::Error| {
            Fault::directory(format!(
                "the progress record in topic '{topic}' is damaged ({error}); nobody else may write \
                 there; begin anew with `deltapoll state reset`"
            ))
        };
        let versioned: Versioned = serde_json::from_slice(value).map_err(damaged)?;
        if versioned.version != VERSION {
            return Err(Fault::directory(format!(
                "the progress record in topic '{topic}' has version {}, this build knows {VERSION}; \
                 use the build that wrote it, or a later one",
                versioned.version
            )));
        }
        serde_json::from_slice(value).map_err(damaged)
    }
}

/// The key of our progress record: the name, and the process (there is one).
#[must_use]
pub fn key(name: &str) -> String {
    format!("{name}/0")
}

/// The end that reading has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What is committed now; a transaction of somebody else may still be open.
    Stable,
    /// The log's end at this moment: waits for open transactions.
    High,
}

/// Reads the progress that is committed for `config`, once; for `verify`, `check` and `rebuild`.
///
/// # Errors
/// When Kafka does not answer, or the record cannot be read.
pub fn read_committed(config: &Config) -> Result<Option<Progress>, Fault> {
    once(config, End::Stable)
}

/// Like [`read_committed`], once nothing in the topic is undecided any more.
///
/// # Errors
/// When Kafka does not answer, or the record cannot be read.
pub fn read_decided(config: &Config) -> Result<Option<Progress>, Fault> {
    once(config, End::High)
}

fn once(config: &Config, end: End) -> Result<Option<Progress>, Fault> {
    let settings = Settings::read(config)?;
    let never = AtomicBool::new(false);
    match read(&settings, config, end, &never) {
        Ok(progress) => Ok(progress),
        Err(Error::Stop(fault)) => Err(fault),
        Err(other) => Err(Fault::failed(other.to_string())),
    }
}

/// Reads the last progress record of our key.
pub(crate) fn read(
    settings: &Settings,
    config: &Config,
    end: End,
    stop: &AtomicBool,
) -> Result<Option<Progress>, Error> {
    let topic = config.progress_topic();
    let key = key(&config.name);
    let consumer: BaseConsumer<Context> = settings
        .consumer(true)
        .create_with_context(Context::default())
        .map_err(|error| settings.fault(&error))?;
    if end == End::High {
        wait_until_stable(settings, &consumer, &topic, stop)?;
    }
    let (low, stable) = watermarks(&consumer, &topic)?;
    if stable <= low {
        return Ok(None);
    }
    let mut partitions = TopicPartitionList::new();
    partitions
        .add_partition_offset(&topic, 0, Offset::Offset(low))
        .and_then(|()| consumer.assign(&partitions))
        .map_err(|error| Error::Retry(format!("reading the topic '{topic}': {error}")))?;
    match last_value(&consumer, &topic, &key, stop)? {
        Some(value) => Ok(Some(Progress::parse(&topic, &value)?)),
        None => Ok(None),
    }
}

/// Low watermark and end of `topic`, under the handle's isolation level.
fn watermarks(consumer: &BaseConsumer<Context>, topic: &str) -> Result<(i64, i64), Error> {
    consumer
        .fetch_watermarks(topic, 0, PATIENCE)
        .map_err(|error| {
            let doing = format!("reading the ends of topic '{topic}'");
            match error.rdkafka_error_code() {
                Some(code) => of_question(&doing, code),
                None => Error::Retry(format!("{doing}: {error}")),
            }
        })
}

/// Whether nobody has a transaction open in the progress topic at this moment.
pub(crate) fn is_settled(settings: &Settings, config: &Config) -> Result<bool, Error> {
    let topic = config.progress_topic();
    let end = |committed: bool| {
        let consumer: BaseConsumer<Context> = settings
            .consumer(committed)
            .create_with_context(Context::default())
            .map_err(|error| settings.fault(&error))?;
        watermarks(&consumer, &topic).map(|(_, end)| end)
    };
    // The true end first: what comes in between only adds to the other.
    let high = end(false)?;
    Ok(end(true)? >= high)
}

/// Waits until all that is in the log now is committed or aborted.
fn wait_until_stable(
    settings: &Settings,
    consumer: &BaseConsumer<Context>,
    topic: &str,
    stop: &AtomicBool,
) -> Result<(), Error> {
    const STEP: Duration = Duration::from_millis(20);
    let all: BaseConsumer<Context> = settings
        .consumer(false)
        .create_with_context(Context::default())
        .map_err(|error| settings.fault(&error))?;
    let (_, high) = watermarks(&all, topic)?;
    let mut waits_until = Some(clock::now() + PATIENCE);
    loop {
        let (_, stable) = watermarks(consumer, topic)?;
        if stable >= high {
            return Ok(());
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if waits_until.is_some_and(|until| clock::now() > until) {
            waits_until = None;
            tracing::warn!(
                "waiting for the end of a transaction in the progress topic '{topic}': of a process that \
                 died, which its timeout ends, or of another producer, which should not write there"
            );
        }
        clock::pause(STEP);
    }
}

/// The value of the last record with `key`, read to the end of the partition; a tombstone is none.
fn last_value(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    key: &str,
    stop: &AtomicBool,
) -> Result<Option<Vec<u8>>, Error> {
    let mut last = None;
    let mut stranger = None;
    let mut heard = clock::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                heard = clock::now();
                if record.key() == Some(key.as_bytes()) {
                    last = record.payload().map(<[u8]>::to_vec);
                } else if stranger.is_none() {
                    let key = String::from_utf8_lossy(record.key().unwrap_or_default());
                    stranger = Some(key.into_owned());
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => {
                if let Some(code) = error.rdkafka_error_code()
                    && let stop @ Error::Stop(_) =
                        of_question(&format!("reading the topic '{topic}'"), code)
                {
                    return Err(stop);
                }
            }
            None => {}
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if clock::now().duration_since(heard) > SILENCE_MAX {
            let trouble = consumer.client().context().trouble().unwrap_or_default();
            return Err(Error::Retry(format!(
                "no answer while reading the topic '{topic}' {trouble}"
            )));
        }
    }
    if let Some(stranger) = stranger {
        let process = key.rsplit_once('/').map_or(key, |(name, _)| name);
        if stranger
            .rsplit_once('/')
            .is_none_or(|(name, _)| name != process)
        {
            tracing::warn!(
                "the progress topic '{topic}' holds a record with key '{stranger}', which is not \
                 ours; nothing else should write there"
            );
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Exit;

    #[test]
    fn a_progress_record_reads_back_and_keeps_its_format() {
        let text = br#"{"version":1,"lineage":"a","predecessor":null,
            "hash_seed":18446744073709551615,"incarnation":{"n":3,"id":"b"},
            "seq":12,"epoch":1700000000000,"partitions":{"challenger":4}}"#;
        let progress = Progress::parse("t", text).expect("sound");
        assert_eq!(progress.hash_seed, u64::MAX);
        assert_eq!(progress.partitions["challenger"], 4);
        let again = serde_json::to_vec(&progress).expect("plain data");
        assert_eq!(Progress::parse("t", &again).expect("sound"), progress);
    }

    #[test]
    fn r23_a_damaged_or_later_record_is_refused() {
        let later = Progress::parse("t", br#"{"version":2,"wholly":"different"}"#);
        let later = later.expect_err("refused");
        assert_eq!(later.exit, Exit::Directory);
        assert!(later.message.contains("version 2"), "{later}");
        let damaged = Progress::parse("t", b"{\"version\":1").expect_err("refused");
        assert_eq!(damaged.exit, Exit::Directory);
    }
}
