//! What librdkafka tells us on the side: logs and errors go to `tracing`, delivery reports are counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;

use crate::io::kafka::error;

/// A record that Kafka did not take.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) bytes: usize,
}

impl Failure {
    /// Whether `self` says more about the cause than `other`. A batch fails as a whole: of those that
    /// are too large the largest is to blame; what follows a failure is purged.
    fn tells_more_than(&self, other: &Failure) -> bool {
        let rank = |failure: &Failure| {
            let cause = error::remedy(failure.code).is_some();
            let size = if failure.code == RDKafkaErrorCode::MessageSizeTooLarge {
                failure.bytes
            } else {
                0
            };
            (cause, size)
        };
        rank(self) > rank(other)
    }
}

/// The context of every client of ours.
#[derive(Default)]
pub(crate) struct Context {
    delivered: AtomicU64,
    failure: Mutex<Option<Failure>>,
    trouble: Mutex<Option<String>>,
}

impl Context {
    /// Records that Kafka took, since the client was made.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    /// The delivery failure that says most.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.lock().expect("never poisoned").clone()
    }

    /// The last connection trouble, in librdkafka's words.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("never poisoned").clone()
    }
}

impl ClientContext for Context {
    // IMPORTANT: an outage yields lines for ever, and a fence several: the publisher tells of each
    // once, in its own words.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        let mut trouble = self.trouble.lock().expect("never poisoned");
        // "All brokers are down" follows the reason; it must not replace it.
        if trouble.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown)
        {
            *trouble = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, record)) = result else {
            self.delivered.fetch_add(1, Ordering::Release);
            return;
        };
        let key = record.key().unwrap_or_default();
        let failure = Failure {
            code: error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::Unknown),
            topic: record.topic().to_owned(),
            partition: record.partition(),
            key: String::from_utf8_lossy(key).into_owned(),
            bytes: key.len() + record.payload_len(),
        };
        let mut kept = self.failure.lock().expect("never poisoned");
        if kept
            .as_ref()
            .is_none_or(|kept| failure.tells_more_than(kept))
        {
            *kept = Some(failure);
        }
    }
}
