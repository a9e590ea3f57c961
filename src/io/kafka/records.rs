//! Every committed record of some topics, from their beginning to marks that are taken first.
//!
//! A mark is the true end of a partition at the moment that it is taken; reading begins when nothing
//! before any mark is undecided any more. So what was committed before the marks were taken is read, all
//! of it, although a commit shows in one partition sooner than in another. A transaction that a process
//! left open when it ended holds this up until its timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::change::{Epoch, Seq};
use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use crate::io::kafka::context::Context;
use crate::io::kafka::error::remedy;
use crate::io::kafka::settings::Settings;
use crate::io::published::{Published, Told, kind};

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait without a record while reading.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// What librdkafka reads ahead, all partitions together.
const AHEAD_KIB: &str = "16384";

/// How far a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The first offset that is still there.
    pub low: u64,
    /// The first offset that is not read.
    pub end: u64,
}

/// Topics with their marks.
pub struct Records {
    settings: Settings,
    marks: BTreeMap<String, BTreeMap<u32, Mark>>,
}

impl Records {
    /// Takes the marks of `topics` and waits until what is before them is decided.
    ///
    /// # Errors
    /// When Kafka does not answer, or a topic is not there.
    pub fn open(config: &Config, topics: &[String]) -> Result<Records, Fault> {
        let settings = Settings::read(config)?;
        let (committed, all) = (consumer(&settings, true)?, consumer(&settings, false)?);
        let mut marks = BTreeMap::new();
        for topic in topics {
            let mut partitions = BTreeMap::new();
            for partition in partitions_of(&all, &settings, topic)? {
                let (low, end) = watermarks(&all, topic, partition)?;
                partitions.insert(partition, Mark { low, end });
            }
            marks.insert(topic.clone(), partitions);
        }
        for (topic, partitions) in &marks {
            for (partition, mark) in partitions {
                wait_until_decided(&committed, topic, *partition, mark.end)?;
            }
        }
        Ok(Records { settings, marks })
    }

    /// The marks, by topic and partition.
    #[must_use]
    pub fn marks(&self) -> &BTreeMap<String, BTreeMap<u32, Mark>> {
        &self.marks
    }

    /// How many offsets lie before the marks.
    #[must_use]
    pub fn total(&self) -> u64 {
        let marks = self.marks.values().flat_map(BTreeMap::values);
        marks.map(|mark| mark.end - mark.low).sum()
    }

    /// Shows every committed record before the marks, each partition's in order; `read` learns how many
    /// offsets were passed.
    ///
    /// # Errors
    /// When Kafka does not answer, or `each` fails.
    pub fn each(
        &self,
        read: &dyn Fn(u64),
        each: &mut dyn FnMut(&Published<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for (topic, partitions) in &self.marks {
            let consumer = consumer(&self.settings, true)?;
            let partitions = partitions.iter().map(|(p, mark)| (*p, *mark)).collect();
            read_topic(&consumer, topic, partitions, read, &mut |record| {
                each(&published(topic, record))
            })?;
        }
        Ok(())
    }

    /// The longest run of offsets from `from` to before `to` that hold no record, aborted ones counted as
    /// records: one offset is the end of a transaction, more were compacted away.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn longest_hole(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        to: u64,
    ) -> Result<u64, Fault> {
        let consumer = consumer(&self.settings, false)?;
        let (mut next, mut longest) = (from, 0);
        let mark = Mark { low: from, end: to };
        let partitions = BTreeMap::from([(partition, mark)]);
        read_topic(&consumer, topic, partitions, &|_| {}, &mut |record| {
            let offset = offset_of(record);
            longest = longest.max(offset.saturating_sub(next));
            next = offset + 1;
            Ok(())
        })?;
        Ok(longest.max(to.saturating_sub(next)))
    }
}

fn consumer(settings: &Settings, committed: bool) -> Result<BaseConsumer<Context>, Fault> {
    let mut config = settings.consumer(committed);
    config.set("queued.max.messages.kbytes", AHEAD_KIB);
    let made = config.create_with_context(Context::default());
    made.map_err(|error| settings.fault(&error))
}

fn partitions_of(
    consumer: &BaseConsumer<Context>,
    settings: &Settings,
    topic: &str,
) -> Result<Vec<u32>, Fault> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE);
    let metadata = metadata.map_err(|error| failed(consumer, topic, &error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.filter(|found| found.error().is_none() && !found.partitions().is_empty());
    let found = found.ok_or_else(|| {
        Fault::failed(format!(
            "there is no topic '{topic}' at {}, or it may not be read",
            settings.bootstrap()
        ))
    })?;
    let numbers = found.partitions().iter().map(|p| p.id().cast_unsigned());
    Ok(numbers.collect())
}

fn watermarks(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partition: u32,
) -> Result<(u64, u64), Fault> {
    let marks = consumer.fetch_watermarks(topic, partition.cast_signed(), PATIENCE);
    let (low, end) = marks.map_err(|error| failed(consumer, topic, &error))?;
    Ok((low.max(0).cast_unsigned(), end.max(0).cast_unsigned()))
}

fn wait_until_decided(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partition: u32,
    end: u64,
) -> Result<(), Fault> {
    const STEP: Duration = Duration::from_millis(20);
    let mut told_at = Some(clock::now() + Duration::from_secs(2));
    while watermarks(consumer, topic, partition)?.1 < end {
        if told_at.is_some_and(|at| clock::now() > at) {
            told_at = None;
            tracing::info!(
                "waiting for the end of a transaction that was left open in topic '{topic}': its \
                 timeout ends it"
            );
        }
        clock::pause(STEP);
    }
    Ok(())
}

fn read_topic(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    marks: BTreeMap<u32, Mark>,
    read: &dyn Fn(u64),
    each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut list = TopicPartitionList::new();
    // By partition: the next offset.
    let mut open = BTreeMap::new();
    for (partition, mark) in marks.iter().filter(|(_, mark)| mark.low < mark.end) {
        let offset = Offset::Offset(mark.low.cast_signed());
        list.add_partition_offset(topic, partition.cast_signed(), offset)
            .map_err(|error| failed(consumer, topic, &error))?;
        open.insert(*partition, mark.low);
    }
    consumer
        .assign(&list)
        .map_err(|error| failed(consumer, topic, &error))?;
    let mut heard = clock::now();
    while !open.is_empty() {
        let ended = match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                heard = clock::now();
                let (partition, offset) = (record.partition().cast_unsigned(), offset_of(&record));
                let (Some(next), Some(mark)) = (open.get_mut(&partition), marks.get(&partition))
                else {
                    continue;
                };
                if offset < mark.end {
                    each(&record)?;
                    read(offset + 1 - *next);
                    *next = offset + 1;
                }
                (offset + 1 >= mark.end).then_some(partition)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Some(partition.cast_unsigned()),
            Some(Err(error)) => {
                permanent(topic, &error)?;
                None
            }
            None => None,
        };
        if let Some(next) = ended.and_then(|partition| open.remove(&partition)) {
            let end = ended.and_then(|p| marks.get(&p)).map_or(next, |m| m.end);
            read(end.saturating_sub(next));
        }
        if clock::now().duration_since(heard) > SILENCE_MAX {
            let trouble = consumer.client().context().trouble().unwrap_or_default();
            return Err(Fault::failed(format!(
                "no answer while reading the topic '{topic}' {trouble}"
            )));
        }
    }
    Ok(())
}

fn offset_of(record: &BorrowedMessage<'_>) -> u64 {
    record.offset().max(0).cast_unsigned()
}

fn published<'a>(topic: &'a str, record: &'a BorrowedMessage<'_>) -> Published<'a> {
    let timestamp = record.timestamp().to_millis().unwrap_or(0);
    Published {
        topic,
        partition: record.partition().cast_unsigned(),
        offset: offset_of(record),
        timestamp: timestamp.max(0).cast_unsigned(),
        key: record.key().unwrap_or_default(),
        value: record.payload(),
        told: record.headers().and_then(told),
    }
}

/// `None`: the headers are not ours.
fn told(headers: &BorrowedHeaders) -> Option<Told<'_>> {
    let text = |name: &str| {
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value.unwrap_or_default()).ok()
    };
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    Some(Told {
        kind: kind(text("change")?)?,
        epoch: Epoch(number("epoch")?),
        seq: Seq(number("seq")?),
        polled_at: number("polled_at")?,
        cell: Some((text("source")?, text("cell")?)),
    })
}

/// Errors that pass are librdkafka's to retry.
fn permanent(topic: &str, error: &KafkaError) -> Result<(), Fault> {
    let code = error.rdkafka_error_code();
    match remedy(code.unwrap_or(RDKafkaErrorCode::Unknown)) {
        Some(remedy) => Err(Fault::failed(format!(
            "reading the topic '{topic}': {error}; {remedy}"
        ))),
        None => Ok(()),
    }
}

fn failed(consumer: &BaseConsumer<Context>, topic: &str, error: &KafkaError) -> Fault {
    let trouble = consumer.client().context().trouble().unwrap_or_default();
    Fault::failed(format!(
        "cannot read the topic '{topic}': {error} {trouble}"
    ))
}
