//! What disk and broker take without us: the floor under every figure of the pipeline.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use deltapoll::clock;
use rdkafka::Offset;
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::producer::{Kind, PATIENCE, drain, producer, send};
use crate::reader::Reader;
use crate::spread::{Spread, milliseconds};
use crate::support::used::used;

/// What one fsync makes durable: about the frame of a small epoch.
const BLOCK: [u8; 4096] = [7; 4096];
/// About what an entry of the simulation has.
const VALUE_BYTES: usize = 190;
/// Delivery reports are served once in so many records.
const SERVE_EVERY: usize = 512;

/// Appends a block to a file in `dir` and makes it durable, `count` times; each in milliseconds.
pub fn fsyncs(dir: &Path, count: usize) -> io::Result<Vec<f64>> {
    let mut file = fs::File::create(dir.join("fsyncs"))?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        file.write_all(&BLOCK)?;
        let begun = clock::now();
        file.sync_data()?;
        times.push(milliseconds(begun.elapsed()));
    }
    Ok(times)
}

/// A record for each of some partitions, written without anything else.
pub struct Single {
    /// Until the commit, or without transactions the delivery, is answered.
    pub answered: Spread,
    /// Until a reader of committed records has the last of them.
    pub visible: Spread,
}

impl Single {
    pub fn json(&self) -> Value {
        json!({
            "answered_milliseconds": self.answered.json(),
            "visible_milliseconds": self.visible.json(),
        })
    }
}

/// Writes a record for each of `partitions`, `count` times, each time when a reader has the last ones.
pub fn singles(
    bootstrap: &str,
    topic: &str,
    kind: Kind,
    partitions: u32,
    count: usize,
) -> io::Result<Single> {
    let producer = producer(bootstrap, kind)?;
    let reader = Reader::open(bootstrap, topic, Offset::End)?;
    let (mut answered, mut visible) = (Vec::new(), Vec::new());
    let mut warm = false;
    // The reader must stand at the end before a record counts: the first is written until it comes.
    for number in 0.. {
        if answered.len() == count {
            break;
        }
        let begun = clock::now();
        let key = format!("{number:078}");
        write(&producer, topic, kind, &key, partitions)?;
        let answer = milliseconds(begun.elapsed());
        let seen = wait_for(&reader, &key, partitions, begun)?;
        match seen {
            Some(seen) if warm => {
                answered.push(answer);
                visible.push(seen);
            }
            Some(_) => warm = true,
            None if warm => return Err(io::Error::other("a committed record did not arrive")),
            None => {}
        }
    }
    let spread = |times| Spread::of(times).ok_or_else(|| io::Error::other("nothing was written"));
    Ok(Single {
        answered: spread(answered)?,
        visible: spread(visible)?,
    })
}

/// Transactions of one record, each begun when the last commit is answered: what a busy publisher meets.
pub fn back_to_back(bootstrap: &str, topic: &str, count: usize) -> io::Result<Spread> {
    let producer = producer(bootstrap, Kind::Transactional)?;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let begun = clock::now();
        let key = format!("{number:078}");
        write(&producer, topic, Kind::Transactional, &key, 1)?;
        times.push(milliseconds(begun.elapsed()));
    }
    Spread::of(times).ok_or_else(|| io::Error::other("nothing was written"))
}

/// Writes `key` to the first `partitions`.
fn write(
    producer: &BaseProducer,
    topic: &str,
    kind: Kind,
    key: &str,
    partitions: u32,
) -> io::Result<()> {
    let value = "v".repeat(VALUE_BYTES);
    if kind == Kind::Transactional {
        producer.begin_transaction().map_err(io::Error::other)?;
    }
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key(key.as_bytes())
            .payload(value.as_bytes());
        send(producer, record)?;
    }
    drain(producer, 0)?;
    if kind == Kind::Transactional {
        producer
            .commit_transaction(PATIENCE)
            .map_err(io::Error::other)?;
    }
    Ok(())
}

/// When the last of `count` records with this key arrived, in milliseconds; `None`: not within a second.
fn wait_for(reader: &Reader, key: &str, count: u32, begun: Instant) -> io::Result<Option<f64>> {
    const LONG: Duration = Duration::from_secs(1);
    let mut seen = 0;
    while begun.elapsed() < LONG {
        let message = reader.next(LONG)?;
        seen += u32::from(message.is_some_and(|message| message.key() == Some(key.as_bytes())));
        if seen == count {
            return Ok(Some(milliseconds(begun.elapsed())));
        }
    }
    Ok(None)
}

/// A record as it was read.
pub struct Record {
    partition: i32,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: OwnedHeaders,
}

/// The first `count` records of a topic, or as many as there are.
pub fn records(bootstrap: &str, topic: &str, count: usize) -> io::Result<Vec<Record>> {
    /// At the end of a topic nothing comes for so long.
    const QUIET: Duration = Duration::from_secs(2);
    let reader = Reader::open(bootstrap, topic, Offset::Beginning)?;
    let mut records = Vec::with_capacity(count);
    while records.len() < count
        && let Some(message) = reader.next(QUIET)?
    {
        records.push(Record {
            partition: message.partition(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message
                .headers()
                .map_or(OwnedHeaders::new(), |headers| headers.detach()),
        });
    }
    Ok(records)
}

/// Writes `records` over and over, `count` in all, without transactions: how many a second, and CPU
/// seconds for a million.
pub fn throughput(
    bootstrap: &str,
    topic: &str,
    records: &[Record],
    count: usize,
) -> io::Result<(f64, f64)> {
    let producer = producer(bootstrap, Kind::Idempotent)?;
    let (begun, before) = (clock::now(), used("self")?.cpu_seconds);
    for (n, record) in records.iter().cycle().take(count).enumerate() {
        let next = BaseRecord::to(topic)
            .partition(record.partition)
            .key(record.key.as_slice())
            .payload(record.value.as_slice())
            .headers(record.headers.clone());
        send(&producer, next)?;
        if n.is_multiple_of(SERVE_EVERY) {
            producer.poll(Duration::ZERO);
        }
    }
    drain(&producer, 0)?;
    let took = begun.elapsed().as_secs_f64();
    let cpu = used("self")?.cpu_seconds - before;
    Ok((count as f64 / took, cpu / count as f64 * 1e6))
}
