//! What an error asks for: again, over, or stop.

use deltapoll_state::fail;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::fault::Fault;
use crate::io::kafka::context::Failure;

/// The outcome of work that did not end well; each variant asks the publisher for something else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Kafka does not answer, or not yet: try again.
    #[error("{0}")]
    Retry(String),
    /// This producer is done: the one way back (R19).
    #[error("{why}")]
    Redo {
        why: String,
        /// Another producer may have taken over, or the transaction expired: Kafka says the same.
        fenced: bool,
    },
    /// A permanent cause: end the program.
    #[error(transparent)]
    Stop(#[from] Fault),
    /// The program is stopping: leave everything as it is.
    #[error("stopped")]
    Stopped,
}

/// What to do about a permanent cause (R20); `None`: the cause may pass.
pub(crate) fn remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    if fail::broken("r20") {
        return None;
    }
    Some(match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            "raise max.message.bytes of the topic, or message.max.bytes of the brokers"
        }
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic => "the topic or partition is gone; restore it",
        Code::TopicAuthorizationFailed => "grant WRITE, DESCRIBE and DESCRIBE_CONFIGS on the topic",
        Code::TransactionalIdAuthorizationFailed => {
            "grant WRITE and DESCRIBE on the transactional id"
        }
        Code::ClusterAuthorizationFailed => "grant IDEMPOTENT_WRITE on the cluster",
        Code::GroupAuthorizationFailed => "grant READ on the consumer group",
        Code::InvalidTransactionTimeout => {
            "transaction.timeout.ms is above the brokers' transaction.max.timeout.ms; lower it in \
             [kafka].properties"
        }
        Code::InvalidTimestamp => {
            "the topic does not take the time of publishing; check this machine's clock and the \
             topic's message.timestamp limits"
        }
        Code::InvalidRecord | Code::PolicyViolation => "the topic's rules do not allow the record",
        Code::UnsupportedCompressionType => "choose another compression.type",
        Code::UnsupportedForMessageFormat | Code::UnsupportedVersion | Code::UnsupportedFeature => {
            "the brokers are too old for transactions"
        }
        Code::SecurityDisabled => "the brokers have no authorizer",
        _ => return None,
    })
}

/// A record that Kafka refuses for good, or the reason to start over.
pub(crate) fn of_failure(failure: &Failure, limit: Option<u64>) -> Error {
    let Failure {
        code,
        topic,
        partition,
        key,
        bytes,
    } = failure;
    let Some(remedy) = remedy(*code) else {
        return Error::Redo {
            why: format!("a record for {topic}/{partition} was not delivered: {code}"),
            fenced: is_fence(*code),
        };
    };
    let limit = limit.map_or(String::new(), |limit| format!(", limit {limit} bytes"));
    Error::Stop(Fault::failed(format!(
        "kafka refuses the record with key '{key}' for topic '{topic}', partition {partition} \
         ({bytes} bytes{limit}): {code}; {remedy}"
    )))
}

/// An answer of the transaction API. `doing` names the step.
pub(crate) fn of_transaction(doing: &str, error: &KafkaError) -> Error {
    let code = error
        .rdkafka_error_code()
        .unwrap_or(RDKafkaErrorCode::Unknown);
    let why = format!("{doing}: {error}");
    if let Some(remedy) = remedy(code) {
        return Error::Stop(Fault::failed(format!("{why}; {remedy}")));
    }
    match error {
        KafkaError::Transaction(native) if native.is_fatal() || native.txn_requires_abort() => {
            let fenced = is_fence(code);
            Error::Redo { why, fenced }
        }
        KafkaError::Transaction(native) if native.is_retriable() => Error::Retry(why),
        KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Error::Retry(why),
        _ => {
            let fenced = is_fence(code);
            Error::Redo { why, fenced }
        }
    }
}

/// An answer to a question: permanent, or to be asked again.
pub(crate) fn of_question(doing: &str, code: RDKafkaErrorCode) -> Error {
    use RDKafkaErrorCode as Code;
    let why = format!("{doing}: {code}");
    // One broker's word: it may not have heard of the topic yet. Whether it is gone is asked on its own
    // account (topics.rs).
    if matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic) {
        return Error::Retry(why);
    }
    match remedy(code) {
        Some(remedy) => Error::Stop(Fault::failed(format!("{why}; {remedy}"))),
        None => Error::Retry(why),
    }
}

/// Somebody with our transactional id came after us, or our transaction expired.
fn is_fence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::Fatal
    )
}
