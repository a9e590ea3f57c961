//! From an Avro object file that a Kafka Connect sink wrote to entries: a record each.
//!
//! A record in castorm's envelope (`value`, `key`, `timestamp`) is the JSON text in its `value`; any other
//! is written as JSON, field by field. The schema is the file's own.
//!
//! The envelope's `timestamp` is not the snapshot's time: it is when the connector built the record, or
//! whatever field it was told to copy, and may be null or differ between the records of one answer. A file
//! has one time, that of its name or its own.

use std::io::Read;

use apache_avro::Reader;
use apache_avro::types::Value;
use bytes::Bytes;
use serde_json::Value as Json;

use crate::io::json::cutter::PIECE_BYTES;

/// The fields of castorm's envelope; only the first has to be there.
const ENVELOPE: [&str; 3] = ["value", "key", "timestamp"];
/// The name of the records in our own objects.
const OUR_CHANGE: &str = "deltapoll.Change";

/// The entries of a file, in pieces; `grow` is told how many bytes they are so far.
///
/// # Errors
/// Why the file cannot be used.
pub fn entries(
    file: impl Read,
    bytes_max: u64,
    mut grow: impl FnMut(u64),
) -> Result<Vec<Bytes>, String> {
    let failed = |error: apache_avro::Error| format!("it is no sound Avro object file: {error}");
    let reader = Reader::new(file).map_err(failed)?;
    let name = reader.writer_schema().name().map(ToString::to_string);
    if name.as_deref() == Some(OUR_CHANGE) {
        return Err(
            "it is an object of a deltapoll archive: those are read together, so give the directory or \
             prefix that holds the archive, by itself and without a pattern"
                .into(),
        );
    }
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut bytes = 0;
    for record in reader {
        let entry = entry(record.map_err(failed)?)?;
        bytes += entry.len() as u64 + 1;
        if bytes > bytes_max {
            return Err(super::read::too_long(bytes_max));
        }
        grow(bytes);
        if !piece.is_empty() {
            piece.push(b',');
        }
        piece.extend_from_slice(entry.as_bytes());
        if piece.len() >= PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece).into());
        }
    }
    if !piece.is_empty() {
        pieces.push(piece.into());
    }
    Ok(pieces)
}

fn entry(record: Value) -> Result<String, String> {
    if let Value::Record(fields) = &record
        && fields
            .iter()
            .all(|(name, _)| ENVELOPE.contains(&name.as_str()))
        && let Some((_, value)) = fields.iter().find(|(name, _)| name == ENVELOPE[0])
        && let Some(text) = text(value)
    {
        return Ok(text.to_owned());
    }
    let json =
        Json::try_from(record).map_err(|error| format!("a record of it is no JSON: {error}"))?;
    Ok(json.to_string())
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Union(_, value) => text(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Record;
    use apache_avro::{Codec, Schema, Writer};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn file(schema: &str, records: &[&[(&str, Value)]]) -> Vec<u8> {
        let schema = Schema::parse_str(schema).unwrap();
        let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Snappy).unwrap();
        for fields in records {
            let mut record = Record::new(&schema).unwrap();
            fields
                .iter()
                .for_each(|(name, value)| record.put(name, value.clone()));
            writer.append_value(record).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<String, String> {
        let pieces = entries(bytes, 1 << 20, |_| ())?;
        let pieces: Vec<_> = pieces.iter().map(|p| String::from_utf8_lossy(p)).collect();
        Ok(pieces.join("|"))
    }

    fn player(id: &str, points: i64) -> Vec<u8> {
        let schema = r#"{"type":"record","name":"P","fields":[{"name":"puuid","type":"string"},
            {"name":"lp","type":["null","long"]}]}"#;
        let lp = Value::Union(1, Box::new(Value::Long(points)));
        file(
            schema,
            &[&[("puuid", Value::String(id.into())), ("lp", lp)]],
        )
    }

    #[test]
    fn a_record_is_an_entry_and_castorms_envelope_is_what_is_in_it() {
        assert_eq!(read(&player("a", 7)).unwrap(), r#"{"lp":7,"puuid":"a"}"#);
        let schema = r#"{"type":"record","name":"Value","namespace":"com.github.castorm.kafka.connect.http",
            "fields":[{"name":"value","type":"string"},{"name":"key","type":["null","string"]},
            {"name":"timestamp","type":["null","long"]}]}"#;
        let none = || Value::Union(0, Box::new(Value::Null));
        let record = |text: &str| {
            [
                ("value", Value::String(text.into())),
                ("key", none()),
                ("timestamp", none()),
            ]
        };
        let (a, b) = (record("{\"puuid\": \"a\"}"), record("{\"puuid\":\"b\"}"));
        assert_eq!(
            read(&file(schema, &[&a, &b])).unwrap(),
            r#"{"puuid": "a"},{"puuid":"b"}"#
        );
    }

    #[test]
    fn a_file_that_is_cut_foreign_or_ours_is_refused_and_never_a_panic() {
        let whole = player("a", 7);
        for end in 0..whole.len() {
            // Its header alone is a file without records.
            if let Ok(read) = read(&whole[..end]) {
                assert_eq!(read, "", "{end} of {} bytes", whole.len());
            }
        }
        assert!(read(b"{}").unwrap_err().contains("no sound Avro"));
        let ours = file(crate::io::avro::schema::SCHEMA, &[]);
        assert!(read(&ours).unwrap_err().contains("read together"));
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            // Whatever it says, it says something.
            drop(read(&bytes));
        }
    }
}
