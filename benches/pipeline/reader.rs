//! A reader of committed records, as a downstream would have it.

use std::io;
use std::time::Duration;

use deltapoll::clock;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::support::LOOK;

/// How long a topic may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question to the broker may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Reads every partition of a topic.
pub struct Reader(BaseConsumer);

impl Reader {
    /// Waits until the topic is there, and reads it from `from` on.
    pub fn open(bootstrap: &str, topic: &str, from: Offset) -> io::Result<Reader> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "bench")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("socket.nagle.disable", "true")
            .create()
            .map_err(io::Error::other)?;
        let deadline = clock::now() + PATIENCE;
        let mut all = TopicPartitionList::new();
        while all.count() == 0 {
            if clock::now() > deadline {
                return Err(io::Error::other(format!("topic {topic} is not there")));
            }
            let partitions = partitions(&consumer, topic);
            if partitions == 0 {
                clock::pause(LOOK);
            }
            for partition in 0..partitions {
                all.add_partition_offset(topic, partition, from)
                    .map_err(io::Error::other)?;
            }
        }
        consumer.assign(&all).map_err(io::Error::other)?;
        Ok(Reader(consumer))
    }

    /// The next record, if one comes within `wait`.
    pub fn next(&self, wait: Duration) -> io::Result<Option<BorrowedMessage<'_>>> {
        self.0.poll(wait).transpose().map_err(io::Error::other)
    }
}

/// 0: the topic is not there yet.
fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), ANSWER) else {
        return 0;
    };
    let topic = metadata.topics().first();
    let ready = topic.filter(|topic| {
        topic.error().is_none() && topic.partitions().iter().all(|part| part.leader() >= 0)
    });
    ready.map_or(0, |topic| {
        i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)
    })
}

/// The number in the header `name`.
pub fn number(message: &BorrowedMessage, name: &str) -> Option<u64> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()?.parse().ok()
}
