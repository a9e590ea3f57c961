//! DescribeTopics, which the safe API lacks: topic ids and partition counts in one request.

#![expect(
    unsafe_code,
    reason = "rdkafka 0.39 has no safe DescribeTopics, and metadata has no topic ids"
)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The topic's id as Kafka's tools print it; `None`: brokers before 2.8 have none.
    pub id: Option<String>,
    /// Its number of partitions.
    pub partitions: u32,
}

/// A topic's name, and what it is or why that is not known.
pub(crate) type Named = (String, Result<Described, RDKafkaErrorCode>);
/// The answer to a whole request.
pub(crate) type Answer = Result<Vec<Named>, RDKafkaErrorCode>;

/// Describes `topics`: one answer for each, in any order.
pub(crate) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Answer {
    let names: Result<Vec<CString>, _> = topics.iter().map(|name| CString::new(*name)).collect();
    let names = names.map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`, which outlives this call. The collection copies the
    // names. Every object made here is destroyed exactly once, the event last, after everything that
    // it lends was copied out. A timed-out request keeps its own reference to the queue.
    unsafe {
        let collection =
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = native::rd_kafka_AdminOptions_new(
            rk,
            native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        native::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        let queue = native::rd_kafka_queue_new(rk);
        native::rd_kafka_DescribeTopics(rk, collection, options, queue);
        // librdkafka answers within the request's timeout; the margin is for its own threads.
        let event = native::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1_000));
        let answer = read_event(event);
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_TopicCollection_destroy(collection);
        answer
    }
}

/// # Safety
/// `event` is null or a live event.
unsafe fn read_event(event: *mut native::rd_kafka_event_t) -> Answer {
    if event.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    // SAFETY: the event is live. The result, the array of `count` descriptions and all that they
    // point to live as long as the event.
    unsafe {
        let code: RDKafkaErrorCode = native::rd_kafka_event_error(event).into();
        if code != RDKafkaErrorCode::NoError {
            return Err(code);
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let array = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut described = Vec::with_capacity(count);
        for at in 0..count {
            described.push(read_topic(*array.add(at)));
        }
        Ok(described)
    }
}

/// # Safety
/// `topic` is a live topic description.
unsafe fn read_topic(topic: *const native::rd_kafka_TopicDescription_t) -> Named {
    // SAFETY: the description is live, its name is a terminated string, its id is never null.
    unsafe {
        let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
        let name = name.to_string_lossy().into_owned();
        let error = native::rd_kafka_TopicDescription_error(topic);
        let code: RDKafkaErrorCode = native::rd_kafka_error_code(error).into();
        if code != RDKafkaErrorCode::NoError {
            return (name, Err(code));
        }
        let mut partitions = 0;
        native::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let most = native::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let least = native::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        let described = Described {
            id: id_text(u128::from(most) << 64 | u128::from(least)),
            partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
        };
        (name, Ok(described))
    }
}

/// A topic id as Kafka's tools print it: URL-safe base64 of its 16 bytes, without padding.
fn id_text(id: u128) -> Option<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if id == 0 {
        return None;
    }
    // 128 bits are 21 digits of 6 bits and one of the last 2, filled up with zeros.
    let digit = |bits: u128| char::from(DIGITS[(bits & 63) as usize]);
    let mut text: String = (0..21).map(|n| digit(id >> (122 - 6 * n))).collect();
    text.push(digit(id << 4));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_as_kafkas_tools_print_it() {
        // Uuid.fromString("MkU3OEVBNTcwNTJENDM2Qk") of the Java client.
        let bits = u128::from_be_bytes(*b"2E78EA57052D436B");
        assert_eq!(id_text(bits).as_deref(), Some("MkU3OEVBNTcwNTJENDM2Qg"));
        assert_eq!(id_text(0), None);
    }
}
