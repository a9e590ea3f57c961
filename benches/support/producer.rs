//! Bare producers, set up as ours is (compression, linger, queue). They drain as ours does: `poll(0)` and
//! short pauses, because librdkafka's own `flush` waits in steps of 100 ms.

#![allow(dead_code, reason = "each bench uses a part")]

use std::io;
use std::time::Duration;

use deltapoll::clock;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

/// Between two looks at what is in flight.
const PAUSE: Duration = Duration::from_micros(200);
/// Records that librdkafka holds.
const QUEUE_RECORDS: &str = "20000";
/// How long anything may take here.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A name that no run before this one had.
pub fn fresh_name() -> String {
    format!("bench-{}", clock::unix_ms())
}

/// How a producer writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One transaction for each record.
    Transactional,
    /// Idempotent, without transactions.
    Idempotent,
}

pub fn producer(bootstrap: &str, kind: Kind) -> io::Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("socket.nagle.disable", "true")
        .set("queue.buffering.max.messages", QUEUE_RECORDS);
    if kind == Kind::Transactional {
        config.set("transactional.id", fresh_name());
    }
    let producer: BaseProducer<DefaultProducerContext> =
        config.create().map_err(io::Error::other)?;
    if kind == Kind::Transactional {
        producer
            .init_transactions(PATIENCE)
            .map_err(io::Error::other)?;
    }
    Ok(producer)
}

/// Hands a record over; where the queue is full, waits until half of it is delivered.
pub fn send(producer: &BaseProducer, record: BaseRecord<'_, [u8], [u8]>) -> io::Result<()> {
    let mut next = record;
    loop {
        match producer.send(next) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                next = back;
                drain(producer, producer.in_flight_count() / 2)?;
            }
            Err((error, _)) => return Err(io::Error::other(error)),
        }
    }
}

/// Headers as the program's records have them.
pub fn headers(change: &str, texts: [&str; 5]) -> OwnedHeaders {
    let names = ["change", "epoch", "seq", "polled_at", "source", "cell"];
    let values = std::iter::once(change).chain(texts);
    let empty = OwnedHeaders::new_with_capacity(names.len());
    names
        .iter()
        .zip(values)
        .fold(empty, |headers, (key, value)| {
            let value = Some(value);
            headers.insert(Header { key, value })
        })
}

/// Waits until no more than `most` records are in flight.
pub fn drain(producer: &BaseProducer, most: i32) -> io::Result<()> {
    let deadline = clock::now() + PATIENCE;
    while producer.in_flight_count() > most {
        producer.poll(Duration::ZERO);
        if clock::now() > deadline {
            return Err(io::Error::other("the broker does not take the records"));
        }
        clock::pause(PAUSE);
    }
    Ok(())
}
