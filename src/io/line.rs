//! One committed change as one line of JSON, the same from either sink:
//! `{"topic","partition","offset","key","value","change","epoch","seq","polled_at"}`.
//!
//! The value is embedded as JSON without line breaks (`null` = tombstone). What a record does not say
//! (headers switched off) is `null`.

use std::io::Write;

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
}
