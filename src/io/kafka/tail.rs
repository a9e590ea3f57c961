//! Committed changes of a topic as lines, without joining a group.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::de::IgnoredAny;

use crate::config::Config;
use crate::fault::Fault;
use crate::io::kafka::context::Context;
use crate::io::kafka::error::remedy;
use crate::io::kafka::settings::Settings;
use crate::io::line::{self, Line};

/// The longest wait for the cluster's description.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes the committed changes of `topic` to `out`, one line each: from its beginning or from now on,
/// up to its end or, with `follow`, until `stop`. A reader of `out` that has enough ends it too.
///
/// # Errors
/// When Kafka does not answer, there is no such topic, or it may not be read.
pub fn tail(
    config: &Config,
    topic: &str,
    from_start: bool,
    follow: bool,
    out: &mut dyn Write,
    stop: &AtomicBool,
) -> Result<(), Fault> {
    let settings = Settings::read(config)?;
    let consumer: BaseConsumer<Context> = settings
        .consumer(true)
        .create_with_context(Context::default())
        .map_err(|error| settings.fault(&error))?;
    let mut unfinished = assign(&consumer, &settings, topic, from_start)?;
    let mut lines = Vec::new();
    while follow || !unfinished.is_empty() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                append(&mut lines, &record);
                if lines.len() < 64 * 1024 {
                    continue;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            Some(Err(error)) => check(topic, &error)?,
            None => {}
        }
        if !write(out, &mut lines)? {
            return Ok(());
        }
    }
    write(out, &mut lines).map(|_| ())
}

/// Assigns all partitions and returns their numbers.
fn assign(
    consumer: &BaseConsumer<Context>,
    settings: &Settings,
    topic: &str,
    from_start: bool,
) -> Result<BTreeSet<i32>, Fault> {
    let failed = |error: KafkaError| {
        let trouble = consumer.client().context().trouble().unwrap_or_default();
        Fault::failed(format!(
            "cannot read the topic '{topic}' at {}: {error} {trouble}",
            settings.bootstrap()
        ))
    };
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.filter(|found| found.error().is_none() && !found.partitions().is_empty());
    let Some(found) = found else {
        return Err(Fault::failed(format!(
            "there is no topic '{topic}' at {}, or it may not be read",
            settings.bootstrap()
        )));
    };
    let mut list = TopicPartitionList::new();
    let mut all = BTreeSet::new();
    for partition in found.partitions() {
        let (low, stable) = consumer
            .fetch_watermarks(topic, partition.id(), PATIENCE)
            .map_err(failed)?;
        let offset = Offset::Offset(if from_start { low } else { stable });
        list.add_partition_offset(topic, partition.id(), offset)
            .map_err(failed)?;
        all.insert(partition.id());
    }
    consumer.assign(&list).map_err(failed)?;
    Ok(all)
}

/// Errors that pass are librdkafka's to retry.
fn check(topic: &str, error: &KafkaError) -> Result<(), Fault> {
    let code = error
        .rdkafka_error_code()
        .unwrap_or(RDKafkaErrorCode::Unknown);
    match remedy(code) {
        Some(remedy) => Err(Fault::failed(format!(
            "reading the topic '{topic}': {code}; {remedy}"
        ))),
        None => Ok(()),
    }
}

/// Writes what is there; `false`: nobody reads any more.
fn write(out: &mut dyn Write, lines: &mut Vec<u8>) -> Result<bool, Fault> {
    if lines.is_empty() {
        return Ok(true);
    }
    match out.write_all(lines).and_then(|()| out.flush()) {
        Ok(()) => {
            lines.clear();
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Fault::failed(format!("cannot write: {error}"))),
    }
}

fn append(lines: &mut Vec<u8>, record: &BorrowedMessage<'_>) {
    let key = String::from_utf8_lossy(record.key().unwrap_or_default());
    let header = |name: &str| {
        let headers = record.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    let number = |name: &str| header(name)?.parse::<u64>().ok();
    // What is not JSON (somebody else's record) is shown as text.
    let text = |value: &[u8]| {
        let text = String::from_utf8_lossy(value);
        serde_json::to_vec(&text).expect("text is JSON")
    };
    let shown = record.payload().map(|value| {
        let sound = serde_json::from_slice::<IgnoredAny>(value).is_ok();
        if sound { value.to_vec() } else { text(value) }
    });
    let line = Line {
        offset: u64::try_from(record.offset()).unwrap_or_default(),
        key: &key,
        value: shown.as_deref(),
        change: header("change"),
        epoch: number("epoch"),
        seq: number("seq"),
        polled_at: number("polled_at"),
    };
    let partition = u32::try_from(record.partition()).unwrap_or_default();
    line::append(lines, Some((record.topic(), partition)), &line);
}
