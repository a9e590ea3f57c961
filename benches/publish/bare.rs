//! The same records from a bare producer.

use std::ffi::{CString, c_void};
use std::io;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::producer::{Kind, PATIENCE, drain, headers, producer, send};
use crate::{PARTITIONS, Record, Run, measure};

/// Records that are sorted by partition and handed over together.
const AT_ONCE: usize = 4096;
/// Delivery reports are served once in so many records.
const SERVE_EVERY: usize = 512;

/// What is sent, over and over, `count` records in all.
pub struct Bare<'a> {
    pub bootstrap: &'a str,
    pub topic: &'a str,
    pub records: &'a [Record],
    pub count: usize,
}

impl Bare<'_> {
    fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().cycle().take(self.count)
    }

    /// One by one, with headers; in transactions of so many, if in any.
    pub fn loops(&self, kind: Kind, transaction: usize) -> io::Result<Run> {
        let producer = producer(self.bootstrap, kind)?;
        let numbers = ["1764360000000", "123456", "1764360000000"];
        measure(|| {
            for (n, record) in self.all().enumerate() {
                if kind == Kind::Transactional && n.is_multiple_of(transaction) {
                    commit(&producer, n)?;
                }
                let [epoch, seq, polled_at] = numbers;
                let headers = headers("changed", [epoch, seq, polled_at, "challenger", ""]);
                let next = BaseRecord::to(self.topic)
                    .partition(i32::try_from(record.partition).expect("a few"))
                    .key(record.key.as_bytes())
                    .payload(record.value.as_bytes())
                    .headers(headers);
                send(&producer, next)?;
                if n.is_multiple_of(SERVE_EVERY) {
                    producer.poll(Duration::ZERO);
                }
            }
            drain(&producer, 0)?;
            match kind {
                Kind::Transactional => ended(&producer),
                Kind::Idempotent => Ok(()),
            }
        })
    }

    /// Many at a time, for one partition each.
    pub fn batches(&self) -> io::Result<Run> {
        let producer = producer(self.bootstrap, Kind::Idempotent)?;
        let topic = Topic::open(&producer, self.topic);
        let mut waiting: Vec<Vec<&Record>> = vec![Vec::new(); PARTITIONS as usize];
        measure(|| {
            for (n, record) in self.all().enumerate() {
                waiting[record.partition as usize].push(record);
                if (n + 1).is_multiple_of(AT_ONCE) || n + 1 == self.count {
                    for (partition, records) in (0..).zip(&mut waiting) {
                        topic.produce(partition, records)?;
                        records.clear();
                    }
                    producer.poll(Duration::ZERO);
                }
            }
            drain(&producer, 0)
        })
    }
}

/// Ends the transaction before this record, and begins the next.
fn commit(producer: &BaseProducer, sent: usize) -> io::Result<()> {
    if sent > 0 {
        drain(producer, 0)?;
        ended(producer)?;
    }
    producer.begin_transaction().map_err(io::Error::other)
}

fn ended(producer: &BaseProducer) -> io::Result<()> {
    producer
        .commit_transaction(PATIENCE)
        .map_err(io::Error::other)
}

/// A topic as librdkafka's batches want it.
struct Topic<'a> {
    producer: &'a BaseProducer,
    handle: *mut native::rd_kafka_topic_t,
}

#[expect(unsafe_code, reason = "rdkafka 0.39 has no safe batches")]
impl<'a> Topic<'a> {
    fn open(producer: &'a BaseProducer, name: &str) -> Topic<'a> {
        let name = CString::new(name).expect("a name without NUL");
        let client = producer.client().native_ptr();
        // SAFETY: the client lives as long as `producer`; librdkafka copies the name.
        let handle = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        assert!(!handle.is_null(), "librdkafka takes the topic's name");
        Topic { producer, handle }
    }

    /// Hands all of them over; where the queue is full, waits until half of it is delivered.
    fn produce(&self, partition: i32, records: &[&Record]) -> io::Result<()> {
        let mut messages: Vec<_> = records.iter().map(|record| message(record)).collect();
        while !messages.is_empty() {
            let count = i32::try_from(messages.len()).expect("a few");
            // SAFETY: key and value outlive the call, which copies them (F_COPY) and writes to nothing
            // but the messages' fields; the handle lives until `self` is dropped.
            let taken = unsafe {
                native::rd_kafka_produce_batch(
                    self.handle,
                    partition,
                    native::RD_KAFKA_MSG_F_COPY,
                    messages.as_mut_ptr(),
                    count,
                )
            };
            if taken == count {
                return Ok(());
            }
            messages.retain(|message| message.err != NO_ERROR);
            if messages.iter().any(|message| message.err != QUEUE_FULL) {
                return Err(io::Error::other("librdkafka refuses a record"));
            }
            messages
                .iter_mut()
                .for_each(|message| message.err = NO_ERROR);
            drain(self.producer, self.producer.in_flight_count() / 2)?;
        }
        Ok(())
    }
}

const NO_ERROR: native::rd_kafka_resp_err_t =
    native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
const QUEUE_FULL: native::rd_kafka_resp_err_t =
    native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL;

fn message(record: &Record) -> native::rd_kafka_message_t {
    let bytes = |text: &str| (text.as_ptr().cast::<c_void>().cast_mut(), text.len());
    let ((payload, len), (key, key_len)) = (bytes(&record.value), bytes(&record.key));
    native::rd_kafka_message_t {
        err: NO_ERROR,
        rkt: ptr::null_mut(),
        partition: 0,
        payload,
        len,
        key,
        key_len,
        offset: 0,
        _private: ptr::null_mut(),
    }
}

#[expect(unsafe_code, reason = "what librdkafka made is given back to it")]
impl Drop for Topic<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `open`, destroyed once, before the producer.
        unsafe { native::rd_kafka_topic_destroy(self.handle) };
    }
}
