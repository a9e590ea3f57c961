//! Avro object container files that come out the same, byte for byte, for the same changes.
//!
//! apache-avro's own writer draws a random sync marker and writes metadata in hash order; so the
//! file is put together here: schema text as it is, metadata in a fixed order, a sync marker derived
//! from lineage and name. Only the compression of a block is apache-avro's. Blocks are compressed as
//! they fill, so that what waits is held compressed; the header comes last because it states range
//! and digest.

use apache_avro::{Codec as Compression, DeflateSettings, ZstandardSettings};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::schema::{self, Record};
use crate::config::Codec;

/// What a file starts with.
pub const MAGIC: &[u8; 4] = b"Obj\x01";

/// A block is compressed before it has more bytes than this: enough for a good ratio, little enough for
/// many topic-partitions to wait at once.
const BLOCK_BYTES: usize = 128 << 10;

/// Ends the header and every block.
pub type Sync = [u8; SYNC_BYTES];

const SYNC_BYTES: usize = 16;

/// The sync marker of the object `name`.
#[must_use]
pub fn sync_marker(lineage: &str, name: &str) -> Sync {
    let text = format!("deltapoll sync\0{lineage}\0{name}");
    xxh3_128(text.as_bytes()).to_le_bytes()
}

/// The blocks of a container file as they grow.
#[derive(Debug)]
pub struct Blocks {
    codec: Codec,
    sync: Sync,
    open: Vec<u8>,
    open_records: usize,
    closed: Vec<Bytes>,
    closed_bytes: usize,
}

impl Blocks {
    /// No blocks yet.
    #[must_use]
    pub fn new(codec: Codec, sync: Sync) -> Blocks {
        Blocks {
            codec,
            sync,
            open: Vec::new(),
            open_records: 0,
            closed: Vec::new(),
            closed_bytes: 0,
        }
    }

    /// Appends a record; closes the block if it is full.
    ///
    /// # Errors
    /// When the compressor fails.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), apache_avro::Error> {
        if self.open_records > 0 && self.open.len() + record.bytes_max() > BLOCK_BYTES - SYNC_BYTES
        {
            self.close()?;
            // As large as it gets: to grow is to copy.
            self.open.reserve_exact(BLOCK_BYTES);
        }
        record.encode(&mut self.open);
        self.open_records += 1;
        Ok(())
    }

    /// Memory in use.
    #[must_use]
    pub fn held(&self) -> usize {
        self.open.capacity() + self.closed_bytes
    }

    /// Closes the open block and returns the whole file so far under `metadata`; more may follow.
    ///
    /// # Errors
    /// When the compressor fails.
    pub fn file(&mut self, metadata: &[(&str, &str)]) -> Result<Vec<Bytes>, apache_avro::Error> {
        if self.open_records > 0 {
            self.close()?;
        }
        let mut parts = Vec::with_capacity(self.closed.len() + 1);
        parts.push(header(self.codec, metadata, self.sync));
        parts.extend(self.closed.iter().cloned());
        Ok(parts)
    }

    fn close(&mut self) -> Result<(), apache_avro::Error> {
        let mut body = std::mem::take(&mut self.open);
        compression(self.codec).compress(&mut body)?;
        let mut head = Vec::new();
        schema::length(&mut head, self.open_records);
        schema::length(&mut head, body.len());
        body.extend_from_slice(&self.sync);
        // What is compressed is shorter than what it lies in.
        body.shrink_to_fit();
        self.open_records = 0;
        self.closed_bytes += head.len() + body.len();
        self.closed.extend([head.into(), body.into()]);
        Ok(())
    }
}

fn header(codec: Codec, metadata: &[(&str, &str)], sync: Sync) -> Bytes {
    let mut out = MAGIC.to_vec();
    schema::length(&mut out, metadata.len() + 2);
    let own = [("avro.schema", schema::SCHEMA), ("avro.codec", name(codec))];
    for (key, value) in own.iter().chain(metadata) {
        schema::text(&mut out, key);
        schema::text(&mut out, value);
    }
    schema::long(&mut out, 0);
    out.extend_from_slice(&sync);
    out.into()
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Null => "null",
        Codec::Deflate => "deflate",
        Codec::Snappy => "snappy",
        Codec::Zstandard => "zstandard",
    }
}

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::Null => Compression::Null,
        Codec::Deflate => Compression::Deflate(DeflateSettings::default()),
        Codec::Snappy => Compression::Snappy,
        Codec::Zstandard => Compression::Zstandard(ZstandardSettings::default()),
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::Reader;
    use apache_avro::types::Value;

    use super::*;
    use crate::change::{Epoch, Kind, Seq};

    const ALL: [Codec; 4] = [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard];
    const RECORDS: usize = 5000;

    fn record<'a>(i: usize, key: &'a str, value: &'a str) -> Record<'a> {
        let kinds = [Kind::Added, Kind::Changed, Kind::Removed];
        Record {
            key,
            kind: kinds[i % 3],
            epoch: Epoch(1_700_000_000_000 + i as u64),
            seq: Seq(i as u64 / 7),
            polled_at: 1_700_000_000_123,
            print: u64::MAX - i as u64,
            value: (i % 3 != 2).then_some(value),
        }
    }

    fn write(codec: Codec) -> Vec<u8> {
        let mut blocks = Blocks::new(codec, sync_marker("lineage", "name"));
        for i in 0..RECORDS {
            let value = format!(r#"{{"points":{i},"name":"{}"}}"#, "p".repeat(i % 90));
            blocks
                .push(&record(i, &format!("k\u{e9}{i}"), &value))
                .unwrap();
        }
        let parts = blocks
            .file(&[("deltapoll.a", "1"), ("deltapoll.b", "2")])
            .unwrap();
        assert!(parts.len() > 3, "several blocks");
        parts.concat()
    }

    fn field(record: &Value, name: &str) -> Value {
        let Value::Record(fields) = record else {
            panic!("{record:?} is no record")
        };
        fields.iter().find(|(n, _)| n == name).unwrap().1.clone()
    }

    #[test]
    fn two_runs_are_byte_identical() {
        for codec in ALL {
            assert_eq!(write(codec), write(codec), "{codec:?}");
        }
    }

    #[test]
    fn apache_avro_reads_back_every_codec() {
        for codec in ALL {
            let file = write(codec);
            let reader = Reader::new(&file[..]).unwrap();
            assert_eq!(reader.user_metadata()["deltapoll.b"], b"2");
            let records: Vec<Value> = reader.map(Result::unwrap).collect();
            assert_eq!(records.len(), RECORDS, "{codec:?}");
            for (i, read) in records.iter().enumerate() {
                assert_eq!(field(read, "key"), Value::String(format!("k\u{e9}{i}")));
                let kind = ["added", "changed", "removed"][i % 3];
                assert_eq!(
                    field(read, "change"),
                    Value::Enum((i % 3) as u32, kind.into())
                );
                let epoch = Value::Long(1_700_000_000_000 + i as i64);
                assert_eq!(field(read, "epoch"), epoch);
                assert_eq!(field(read, "seq"), Value::Long(i as i64 / 7));
                let polled_at = Value::TimestampMillis(1_700_000_000_123);
                assert_eq!(field(read, "polled_at"), polled_at);
                assert_eq!(field(read, "fp"), Value::Long(-1 - i as i64));
                let text = format!(r#"{{"points":{i},"name":"{}"}}"#, "p".repeat(i % 90));
                let value = match i % 3 {
                    2 => Value::Union(0, Box::new(Value::Null)),
                    _ => Value::Union(1, Box::new(Value::String(text))),
                };
                assert_eq!(field(read, "value"), value);
            }
        }
    }

    #[test]
    fn a_block_is_no_longer_than_it_may_be_unless_one_record_is() {
        let long = "v".repeat(2 * BLOCK_BYTES);
        let values = [
            long.as_str(),
            "v",
            &long[..BLOCK_BYTES / 2],
            &long,
            &long[..999],
        ];
        let mut blocks = Blocks::new(Codec::Null, sync_marker("lineage", "name"));
        for i in 0..RECORDS / 10 {
            let extreme = Record {
                kind: Kind::Removed,
                epoch: Epoch(u64::MAX / 2),
                seq: Seq(u64::MAX / 2),
                polled_at: u64::MAX / 2,
                print: 1 << 63,
                ..record(1, "key", values[i % values.len()])
            };
            let mut encoded = Vec::new();
            extreme.encode(&mut encoded);
            assert!(encoded.len() <= extreme.bytes_max());
            blocks.push(&extreme).unwrap();
        }
        let mut parts = blocks.file(&[]).unwrap().into_iter().skip(1);
        let mut records = 0;
        while let (Some(head), Some(body)) = (parts.next(), parts.next()) {
            // One byte for few, twice what there are.
            let count = usize::from(head[0]) / 2;
            assert!(body.len() <= BLOCK_BYTES || count == 1, "{count} records");
            records += count;
        }
        assert_eq!(records, RECORDS / 10);
    }

    #[test]
    fn the_sync_marker_belongs_to_lineage_and_name() {
        let one = sync_marker("l", "n");
        assert_eq!(one, sync_marker("l", "n"));
        assert_ne!(one, sync_marker("l", "m"));
        assert_ne!(one, sync_marker("m", "n"));
    }
}
