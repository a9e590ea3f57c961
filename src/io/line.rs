//! One committed change as one line of JSON, the same from either sink:
//! `{"topic","partition","offset","key","value","change","epoch","seq","polled_at"}`.
//!
//! The value is embedded as JSON without line breaks (`null` = tombstone). What a record does not say
//! (headers switched off) is `null`.

use std::io::Write;

use crate::change::Kind;
use crate::io::published::kind;

/// A change on its way into a line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line<'a> {
    pub(crate) offset: u64,
    pub(crate) key: &'a str,
    /// JSON text; `None` = tombstone.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) change: Option<&'a str>,
    pub(crate) epoch: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) polled_at: Option<u64>,
}

/// Appends `line` and a line break to `out`, led by where it is from if `place` says so.
pub(crate) fn append(out: &mut Vec<u8>, place: Option<(&str, u32)>, line: &Line<'_>) {
    out.push(b'{');
    if let Some((topic, partition)) = place {
        append_place(out, topic, partition);
    }
    out.extend_from_slice(b"\"offset\":");
    append_number(out, Some(line.offset));
    out.extend_from_slice(b",\"key\":");
    append_text(out, line.key);
    out.extend_from_slice(b",\"value\":");
    match line.value {
        Some(value) => append_json(out, value),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"change\":");
    match line.change {
        Some(change) => append_text(out, change),
        None => out.extend_from_slice(b"null"),
    }
    for (name, number) in [
        (&b",\"epoch\":"[..], line.epoch),
        (b",\"seq\":", line.seq),
        (b",\"polled_at\":", line.polled_at),
    ] {
        out.extend_from_slice(name);
        append_number(out, number);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the members that say where a line is from, and a comma.
pub(crate) fn append_place(out: &mut Vec<u8>, topic: &str, partition: u32) {
    out.extend_from_slice(b"\"topic\":");
    append_text(out, topic);
    out.extend_from_slice(b",\"partition\":");
    append_number(out, Some(u64::from(partition)));
    out.push(b',');
}

fn append_number(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => write!(out, "{number}").expect("a vector takes all"),
        None => out.extend_from_slice(b"null"),
    }
}

fn append_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes all");
}

/// Reads a line without a place that [`append`] made: its key, and the rest with an empty key; `None`: it
/// is not one.
pub(crate) fn read(text: &[u8]) -> Option<(String, Line<'_>)> {
    #[derive(serde::Deserialize)]
    struct Rest {
        change: Option<String>,
        epoch: Option<u64>,
        seq: Option<u64>,
        polled_at: Option<u64>,
    }
    const CHANGE: &[u8] = b",\"change\":";
    let rest = text.strip_prefix(b"{\"offset\":")?;
    let comma = memchr::memchr(b',', rest)?;
    let offset = std::str::from_utf8(&rest[..comma]).ok()?.parse().ok()?;
    let rest = rest[comma..].strip_prefix(b",\"key\":")?;
    let mut keys = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
    let key = keys.next()?.ok()?;
    let rest = rest[keys.byte_offset()..].strip_prefix(b",\"value\":")?;
    // Nothing after the value can hold these bytes.
    let at = memchr::memmem::rfind(rest, CHANGE)?;
    let (value, rest) = rest.split_at(at);
    let rest: Rest = serde_json::from_slice(&[b"{", &rest[1..]].concat()).ok()?;
    let line = Line {
        offset,
        key: "",
        value: (value != b"null").then_some(value),
        change: rest.change.as_deref().and_then(kind).map(Kind::as_str),
        epoch: rest.epoch,
        seq: rest.seq,
        polled_at: rest.polled_at,
    };
    Some((key, line))
}

/// In sound JSON a raw line break stands between tokens only, so leaving it out changes nothing.
fn append_json(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pretty_printed_value_stays_on_one_line_and_keeps_its_meaning() {
        let value = b"{\n  \"a\": \"x\\ny\",\r\n  \"b\": [1,\n2]\n}";
        let line = Line {
            offset: 7,
            key: "k\"\n",
            value: Some(value),
            change: Some("added"),
            epoch: Some(1),
            seq: Some(2),
            polled_at: Some(3),
        };
        let mut out = Vec::new();
        append(&mut out, Some(("t", 4)), &line);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        let read: serde_json::Value = serde_json::from_slice(&out).expect("a line is JSON");
        let expected = serde_json::json!({
            "topic": "t", "partition": 4, "offset": 7, "key": "k\"\n",
            "value": {"a": "x\ny", "b": [1, 2]},
            "change": "added", "epoch": 1, "seq": 2, "polled_at": 3
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_reads_back() {
        for value in [
            None,
            Some(&b"{\"a\":\",\\\"change\\\":null\",\"change\":1}"[..]),
        ] {
            let line = Line {
                offset: 7,
                key: "k\"\n\u{e9}",
                value,
                change: Some("changed"),
                epoch: Some(1),
                seq: Some(2),
                polled_at: None,
            };
            let mut out = Vec::new();
            append(&mut out, None, &line);
            let (key, read) = super::read(&out).expect("a line");
            assert_eq!(key, line.key);
            assert_eq!((read.offset, read.value), (7, value));
            assert_eq!((read.change, read.epoch), (Some("changed"), Some(1)));
            assert_eq!((read.seq, read.polled_at), (Some(2), None));
            for cut in 0..out.len() - 2 {
                assert!(super::read(&out[..cut]).is_none(), "cut at {cut}");
            }
        }
    }
}
