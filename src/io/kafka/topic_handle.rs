//! A topic of one producer, found once, and many records handed over to it in one call.
//!
//! rdkafka's `send` names the topic: for each record librdkafka looks for it in a list, under the lock that
//! its own threads take too, and asks whether the transaction is open. With a handle and a batch both happen
//! once for hundreds of records.

#![expect(
    unsafe_code,
    reason = "rdkafka 0.39 has neither topic handles nor batches"
)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as native;
use rdkafka::bindings::{rd_kafka_vtype_t as Type, rd_kafka_vu_s__bindgen_ty_1 as Argument};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};

use crate::io::kafka::context::Context;

/// A record on its way out.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) partition: u32,
    pub(crate) key: &'a str,
    /// `None`: a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// What its header `change` says, where it gets headers.
    pub(crate) change: &'static str,
}

impl Outgoing<'_> {
    /// The partition as librdkafka has it.
    pub(crate) fn number(&self) -> i32 {
        i32::try_from(self.partition).unwrap_or(i32::MAX)
    }

    /// Of key and value.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.map_or(0, <[u8]>::len)
    }
}

/// The headers that records share; each has one of its own before them, `change`.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) epoch: &'a str,
    pub(crate) seq: &'a str,
    pub(crate) polled_at: &'a str,
    pub(crate) source: &'a str,
    pub(crate) cell: &'a str,
}

/// The first record that librdkafka did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Those before it were taken.
    pub(crate) taken: usize,
    pub(crate) code: RDKafkaErrorCode,
}

/// A topic of a producer.
pub(crate) struct TopicHandle {
    raw: NonNull<native::rd_kafka_topic_t>,
    /// Outlives `raw`, which is its.
    producer: Arc<BaseProducer<Context>>,
}

// SAFETY: librdkafka's handles are counted and locked by themselves, and may be used and destroyed by any
// thread.
unsafe impl Send for TopicHandle {}

impl TopicHandle {
    /// Finds the topic `name`, or has librdkafka ask for it.
    pub(crate) fn open(
        producer: &Arc<BaseProducer<Context>>,
        name: &str,
    ) -> Result<TopicHandle, RDKafkaErrorCode> {
        let name = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        let client = producer.client().native_ptr();
        // SAFETY: the client lives as long as `producer`; the name is copied; without options of its own
        // the topic has the producer's.
        let raw = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        // SAFETY: reads a number of this thread.
        let last = || unsafe { native::rd_kafka_last_error() };
        Ok(TopicHandle {
            raw: NonNull::new(raw).ok_or_else(|| RDKafkaErrorCode::from(last()))?,
            producer: producer.clone(),
        })
    }

    /// Hands `records`, all of one partition, over in their order, without headers and with the present as
    /// their time.
    ///
    /// # Errors
    /// Where the queue is full, nothing after the one that is named was taken either.
    pub(crate) fn produce_batch(&self, records: &[Outgoing<'_>]) -> Result<(), Refused> {
        let Some(first) = records.first() else {
            return Ok(());
        };
        let mut messages: Vec<_> = records.iter().map(message).collect();
        let count = c_int::try_from(messages.len()).unwrap_or(c_int::MAX);
        // IMPORTANT: a call for each partition. With a partition for each message (F_PARTITION) librdkafka
        // 2.12.1 adds partition -1 to the transaction while it does not know the topic yet, and what the
        // broker says to that is tried again for ever.
        //
        // SAFETY: `count` messages, whose keys and values outlive the call: it copies both (F_COPY) and
        // writes to the fields of the messages only. The handle lives as long as `self`.
        unsafe {
            native::rd_kafka_produce_batch(
                self.raw.as_ptr(),
                first.number(),
                native::RD_KAFKA_MSG_F_COPY,
                messages.as_mut_ptr(),
                count,
            )
        };
        let errors = messages.iter().map(|message| message.err.into());
        match errors.enumerate().find(|(_, code)| *code != NO_ERROR) {
            Some((taken, code)) => Err(Refused { taken, code }),
            None => Ok(()),
        }
    }

    /// Hands `records` over in their order, one by one: batches have no headers.
    ///
    /// `time`: their time, Unix ms.
    ///
    /// # Errors
    /// Nothing after the one that is named was taken.
    pub(crate) fn produce_each(
        &self,
        records: &[Outgoing<'_>],
        headers: Shared<'_>,
        time: u64,
    ) -> Result<(), Refused> {
        let flags = native::RD_KAFKA_MSG_F_COPY;
        let time = i64::try_from(time).unwrap_or(i64::MAX);
        let rkt = self.raw.as_ptr();
        for (taken, record) in records.iter().enumerate() {
            let value = record.value.map_or((ptr::null(), 0), pointer);
            let arguments = [
                argument(Type::RD_KAFKA_VTYPE_RKT, Argument { rkt }),
                argument(Type::RD_KAFKA_VTYPE_MSGFLAGS, Argument { i: flags }),
                argument(Type::RD_KAFKA_VTYPE_TIMESTAMP, Argument { i64_: time }),
                argument(
                    Type::RD_KAFKA_VTYPE_PARTITION,
                    Argument {
                        i32_: record.number(),
                    },
                ),
                bytes(Type::RD_KAFKA_VTYPE_KEY, pointer(record.key.as_bytes())),
                bytes(Type::RD_KAFKA_VTYPE_VALUE, value),
                header(c"change", record.change),
                header(c"epoch", headers.epoch),
                header(c"seq", headers.seq),
                header(c"polled_at", headers.polled_at),
                header(c"source", headers.source),
                header(c"cell", headers.cell),
            ];
            let client = self.producer.client().native_ptr();
            // SAFETY: each argument has the member that its type asks for; what they point to outlives
            // the call, which copies all of it (F_COPY). The error is ours, read and destroyed once.
            let code = unsafe {
                let error = native::rd_kafka_produceva(client, arguments.as_ptr(), arguments.len());
                // No error is null, which `rd_kafka_error_code` takes and `_destroy` does too.
                let code = native::rd_kafka_error_code(error).into();
                native::rd_kafka_error_destroy(error);
                code
            };
            if code != NO_ERROR {
                return Err(Refused { taken, code });
            }
        }
        Ok(())
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: made by `open`, destroyed once, and before the producer, of which `self` has a share.
        unsafe { native::rd_kafka_topic_destroy(self.raw.as_ptr()) };
    }
}

const NO_ERROR: RDKafkaErrorCode = RDKafkaErrorCode::NoError;

fn message(record: &Outgoing<'_>) -> native::rd_kafka_message_t {
    let (key, key_len) = pointer(record.key.as_bytes());
    let (payload, len) = record.value.map_or((ptr::null(), 0), pointer);
    native::rd_kafka_message_t {
        err: native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: record.number(),
        payload: payload.cast_mut(),
        len,
        key: key.cast_mut(),
        key_len,
        offset: 0,
        _private: ptr::null_mut(),
    }
}

fn pointer(bytes: &[u8]) -> (*const c_void, usize) {
    (bytes.as_ptr().cast(), bytes.len())
}

fn argument(vtype: Type, u: Argument) -> native::rd_kafka_vu_t {
    native::rd_kafka_vu_t { vtype, u }
}

fn bytes(vtype: Type, (ptr, size): (*const c_void, usize)) -> native::rd_kafka_vu_t {
    let mem = native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        ptr: ptr.cast_mut(),
        size,
    };
    argument(vtype, Argument { mem })
}

fn header(name: &'static CStr, text: &str) -> native::rd_kafka_vu_t {
    let header = native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
        name: name.as_ptr(),
        val: text.as_ptr().cast(),
        size: text.len().cast_signed(),
    };
    argument(Type::RD_KAFKA_VTYPE_HEADER, Argument { header })
}
