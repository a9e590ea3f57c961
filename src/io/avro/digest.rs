//! The digest of a range of changes (R25): XXH3-128 over every change's length-prefixed fields, in
//! order. It depends on the changes alone: neither on the schema nor on the codec, nor on how the
//! range was cut into blocks, so that an object can be recognised whoever wrote it.
//!
//! Per change: key, kind (its word), epoch, seq, polled_at (8 bytes little-endian each), value; each
//! preceded by its length (u32 little-endian). An absent value has the length `u32::MAX`.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use super::schema::Record;

const ABSENT: u32 = u32::MAX;
/// Changes are hashed when so many bytes of them wait: the hash takes few long pieces better than many
/// short ones.
const TOGETHER_BYTES: usize = 4096;

/// A digest as it stands in an object's header: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u128);

impl Digest {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Digest> {
        let sound = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        sound
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Digests changes one after another.
#[derive(Clone, Default)]
pub struct Digester {
    hash: Xxh3,
    /// What is not hashed yet.
    waiting: Vec<u8>,
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digester({})", self.digest())
    }
}

impl Digester {
    /// Adds one change.
    pub fn push(&mut self, record: &Record<'_>) {
        let out = &mut self.waiting;
        field(out, record.key.as_bytes());
        field(out, record.kind.as_str().as_bytes());
        for number in [record.epoch.0, record.seq.0, record.polled_at] {
            field(out, &number.to_le_bytes());
        }
        match record.value {
            None => out.extend_from_slice(&ABSENT.to_le_bytes()),
            Some(value) => field(out, value.as_bytes()),
        }
        if out.len() >= TOGETHER_BYTES {
            self.hash.update(out);
            out.clear();
        }
    }

    /// The digest of what was added so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = self.hash.clone();
        hash.update(&self.waiting);
        Digest(hash.digest128())
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("record_max bounds keys and values");
    assert_ne!(length, ABSENT, "record_max bounds keys and values");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;
    use crate::change::{Epoch, Kind, Seq};

    fn record<'a>(key: &'a str, value: Option<&'a str>) -> Record<'a> {
        Record {
            key,
            kind: Kind::Added,
            epoch: Epoch(1),
            seq: Seq(2),
            polled_at: 3,
            print: 4,
            value,
        }
    }

    fn digest(records: &[Record<'_>]) -> Digest {
        let mut digester = Digester::default();
        for record in records {
            digester.push(record);
        }
        digester.digest()
    }

    #[test]
    fn r25_every_field_counts_but_the_fingerprint() {
        let base = record("a", Some("v"));
        let kind = Kind::Changed;
        let differing = [
            record("b", Some("v")),
            record("a", Some("w")),
            record("a", None),
            record("a", Some("")),
            record("av", Some("")),
            Record { kind, ..base },
            Record {
                epoch: Epoch(9),
                ..base
            },
            Record {
                seq: Seq(9),
                ..base
            },
            Record {
                polled_at: 9,
                ..base
            },
        ];
        for (i, one) in differing.iter().enumerate() {
            assert_ne!(digest(&[*one]), digest(&[base]), "{one:?}");
            for other in &differing[i + 1..] {
                assert_ne!(digest(&[*one]), digest(&[*other]), "{one:?} {other:?}");
            }
        }
        assert_eq!(digest(&[Record { print: 9, ..base }]), digest(&[base]));
        assert_ne!(digest(&[base, differing[0]]), digest(&[differing[0], base]));
    }

    #[test]
    fn r25_a_digest_never_changes_its_meaning() {
        // Objects written by earlier builds carry it: a new value here is a new format.
        let all = [record("a", Some("{}")), record("b", None)];
        assert_eq!(digest(&all).to_string(), "42d73c18a258158ac47ed0e5810a8fb2");
    }

    #[test]
    fn r25_a_digest_is_that_of_all_fields_in_one_piece_wherever_it_is_asked_for() {
        let long = "v".repeat(3 * TOGETHER_BYTES);
        let mut digester = Digester::default();
        let mut all = Vec::new();
        for i in 0..300_usize {
            let value = &long[..if i == 77 { long.len() } else { 7 * i }];
            let one = record(&long[..i % 90], (i % 5 != 0).then_some(value));
            digester.push(&one);
            for bytes in [one.key.as_bytes(), b"added"] {
                field(&mut all, bytes);
            }
            for number in 1..=3_u64 {
                field(&mut all, &number.to_le_bytes());
            }
            match one.value {
                None => all.extend_from_slice(&[0xff; 4]),
                Some(value) => field(&mut all, value.as_bytes()),
            }
            if i % 11 == 0 {
                assert_eq!(digester.digest().0, xxh3_128(&all), "after {i}");
            }
        }
        assert_eq!(digester.digest().0, xxh3_128(&all));
    }

    #[test]
    fn a_digest_reads_back_and_nothing_else_does() {
        let one = Digest(0x0123);
        assert_eq!(Digest::parse(&one.to_string()), Some(one));
        for wrong in ["", "123", &"g".repeat(32), &"+1".repeat(16)] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
