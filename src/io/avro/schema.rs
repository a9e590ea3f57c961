//! The record of an archived change: its schema, and its Avro binary form written by hand (the
//! schema is trivial, and a serde round trip costs more than the encoding).

use crate::change::{Epoch, Kind, Seq};

/// The schema as it stands in every object, byte for byte.
pub const SCHEMA: &str = concat!(
    r#"{"type":"record","name":"Change","namespace":"deltapoll","#,
    r#""doc":"One change of one key, as it was published","fields":["#,
    r#"{"name":"key","type":"string","doc":"The record key"},"#,
    r#"{"name":"change","type":{"type":"enum","name":"Kind","#,
    r#""symbols":["added","changed","removed"]}},"#,
    r#"{"name":"epoch","type":"long","doc":"Checkpoint that the change belongs to"},"#,
    r#"{"name":"seq","type":"long","doc":"Batch that the change belongs to"},"#,
    r#"{"name":"polled_at","type":{"type":"long","logicalType":"timestamp-millis"},"#,
    r#""doc":"When the snapshot arrived"},"#,
    r#"{"name":"fp","type":"long","doc":"Canonical fingerprint; 0 for a removal"},"#,
    r#"{"name":"value","type":["null","string"],"doc":"The published value; null = tombstone"}]}"#,
);

/// One archived change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record key.
    pub key: &'a str,
    /// What happened.
    pub kind: Kind,
    /// The epoch of its batch.
    pub epoch: Epoch,
    /// The number of its batch.
    pub seq: Seq,
    /// When the snapshot's last byte arrived (Unix ms).
    pub polled_at: u64,
    /// The canonical fingerprint.
    pub print: u64,
    /// The published value.
    pub value: Option<&'a str>,
}

impl Record<'_> {
    /// Its encoding is no longer than this.
    pub fn bytes_max(&self) -> usize {
        // Seven numbers, each of ten bytes at most, and the symbol.
        const NUMBERS: usize = 71;
        NUMBERS + self.key.len() + self.value.map_or(0, str::len)
    }

    /// Appends the record in Avro's binary encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        text(out, self.key);
        let symbol = match self.kind {
            Kind::Added => 0,
            Kind::Changed => 1,
            Kind::Removed => 2,
        };
        long(out, symbol);
        for number in [self.epoch.0, self.seq.0, self.polled_at, self.print] {
            long(out, number.cast_signed());
        }
        match self.value {
            None => long(out, 0),
            Some(value) => {
                long(out, 1);
                text(out, value);
            }
        }
    }
}

/// Appends an Avro string.
pub fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

/// Appends Avro bytes.
pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a length or a count as an Avro long.
pub fn length(out: &mut Vec<u8>, length: usize) {
    long(
        out,
        i64::try_from(length).expect("no allocation is larger than isize::MAX"),
    );
}

/// Appends an Avro long: zigzag, then seven bits a byte.
pub fn long(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;

    use super::*;

    #[test]
    fn the_schema_is_one_that_avro_accepts() {
        let schema = Schema::parse_str(SCHEMA).unwrap();
        assert_eq!(schema.name().unwrap().to_string(), "deltapoll.Change");
    }

    #[test]
    fn a_long_is_zigzag_in_groups_of_seven_bits() {
        let cases: [(i64, &[u8]); 6] = [
            (0, &[0]),
            (-1, &[1]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (i64::MAX, &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            (i64::MIN, &[0xff, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ];
        for (number, expected) in cases {
            let mut out = Vec::new();
            long(&mut out, number);
            assert_eq!(out, expected, "{number}");
        }
    }
}
