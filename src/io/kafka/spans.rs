//! Committed records of a topic, from where it begins now to an end that was found before, without
//! joining a group: for who compares (`verify`). Nothing is written, nobody is fenced.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use crate::io::committed::{Committed, Span, Stamp};
use crate::io::kafka::context::Context;
use crate::io::kafka::error::remedy;
use crate::io::kafka::settings::Settings;

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait without a record while reading.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What librdkafka may read ahead, in KiB; its default would be as much as a whole comparison.
const AHEAD_KIB: &str = "16384";

/// Reads topics, one at a time.
pub(crate) struct Records {
    settings: Settings,
    consumer: BaseConsumer<Context>,
}

impl Records {
    pub(crate) fn open(config: &Config) -> Result<Records, Fault> {
        let settings = Settings::read(config)?;
        let mut client = settings.consumer(true);
        if client.get("queued.max.messages.kbytes").is_none() {
            client.set("queued.max.messages.kbytes", AHEAD_KIB);
        }
        let consumer = client
            .create_with_context(Context::default())
            .map_err(|error| settings.fault(&error))?;
        Ok(Records { settings, consumer })
    }

    /// What is committed now in each of the topic's `partitions`.
    pub(crate) fn spans(&self, topic: &str, partitions: u32) -> Result<Vec<Span>, Fault> {
        let span = |partition: u32| {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            let marks = self.consumer.fetch_watermarks(topic, number, PATIENCE);
            let (low, stable) = marks.map_err(|error| self.failed(topic, &error))?;
            let offset = |mark: i64| u64::try_from(mark).unwrap_or(0);
            Ok(Span {
                partition,
                first: offset(low),
                next: offset(stable),
            })
        };
        (0..partitions).map(span).collect()
    }

    /// Shows every record within `spans`, in order for each partition.
    pub(crate) fn read(
        &self,
        topic: &str,
        spans: &[Span],
        visit: &mut dyn FnMut(&Committed<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut list = TopicPartitionList::new();
        let mut unfinished = BTreeSet::new();
        for span in spans.iter().filter(|span| span.offsets() > 0) {
            let partition = i32::try_from(span.partition).unwrap_or(i32::MAX);
            let offset = Offset::Offset(i64::try_from(span.first).unwrap_or(i64::MAX));
            list.add_partition_offset(topic, partition, offset)
                .map_err(|error| self.failed(topic, &error))?;
            unfinished.insert(span.partition);
        }
        let assigned = self.consumer.assign(&list);
        assigned.map_err(|error| self.failed(topic, &error))?;
        let mut heard = clock::now();
        while !unfinished.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    heard = clock::now();
                    let partition = u32::try_from(record.partition()).unwrap_or_default();
                    let span = spans.iter().find(|span| span.partition == partition);
                    let next = span.map_or(0, |span| span.next);
                    let offset = u64::try_from(record.offset()).unwrap_or_default();
                    if offset < next {
                        show(&record, partition, offset, visit)?;
                    }
                    if offset + 1 >= next {
                        unfinished.remove(&partition);
                    }
                }
                // The end may hold nothing but the marks of transactions.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unfinished.remove(&u32::try_from(partition).unwrap_or_default());
                }
                Some(Err(error)) => self.check(topic, &error)?,
                None => {}
            }
            if clock::now().duration_since(heard) > SILENCE_MAX {
                let what = KafkaError::Global(RDKafkaErrorCode::OperationTimedOut);
                return Err(self.failed(topic, &what));
            }
        }
        let none = self.consumer.assign(&TopicPartitionList::new());
        none.map_err(|error| self.failed(topic, &error))
    }

    /// Errors that pass are librdkafka's to retry.
    fn check(&self, topic: &str, error: &KafkaError) -> Result<(), Fault> {
        let code = error.rdkafka_error_code();
        match code.and_then(remedy) {
            Some(_) => Err(self.failed(topic, error)),
            None => Ok(()),
        }
    }

    fn failed(&self, topic: &str, error: &KafkaError) -> Fault {
        let trouble = self.consumer.client().context().trouble();
        Fault::failed(format!(
            "cannot read the topic '{topic}' at {}: {error} {}",
            self.settings.bootstrap(),
            trouble.unwrap_or_default()
        ))
    }
}

fn show(
    record: &BorrowedMessage<'_>,
    partition: u32,
    offset: u64,
    visit: &mut dyn FnMut(&Committed<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let header = |name: &str| {
        let headers = record.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    let at = record.timestamp().to_millis();
    visit(&Committed {
        partition,
        offset,
        key: record.key().unwrap_or_default(),
        value: record.payload(),
        at: at.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        stamp: Stamp::read(header),
    })
}
