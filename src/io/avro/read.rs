//! Reads the changes in an archive object, with its header checked against them (R25).
//!
//! Safe on any bytes: an object that somebody cut or put there is an error that says what is wrong.

use apache_avro::{Codec, DeflateSettings, ZstandardSettings};

use super::container::{MAGIC, Sync};
use super::digest::Digester;
use super::header::{Cursor, Header};
use super::schema::{Record, SCHEMA};
use crate::change::{Epoch, Kind, Seq};

/// Shows every change of the object `bytes`, in order, and returns its header, which describes them.
///
/// # Errors
/// Says what is wrong; by then some changes may have been shown.
pub fn each(bytes: &[u8], show: &mut dyn FnMut(&Record<'_>)) -> Result<Header, String> {
    let header = Header::read(bytes)?;
    let mut digester = Digester::default();
    let (mut count, mut first) = (0, None);
    let (mut last, mut epoch, mut back) = (Seq(0), Epoch(0), None);
    let mut changes = Changes::new(bytes)?;
    while let Some(record) = changes.peek()? {
        digester.push(&record);
        count += 1;
        first.get_or_insert(record.seq);
        if record.seq < last || record.epoch < epoch {
            back.get_or_insert((record.seq, last));
        }
        (last, epoch) = (record.seq, record.epoch);
        show(&record);
        changes.advance();
    }
    if let Some((seq, last)) = back {
        return Err(format!("its batch {seq} comes after batch {last}"));
    }
    if count != header.records() {
        return Err(format!(
            "it holds {count} changes, its header says {} ({} to {})",
            header.records(),
            header.first,
            header.last
        ));
    }
    if digester.digest() != header.digest {
        return Err("its digest is not that of its changes".into());
    }
    if (first, last) != (Some(header.seq_first), header.seq_last) {
        return Err(format!(
            "its changes are of other batches than its header says ({} to {})",
            header.seq_first, header.seq_last
        ));
    }
    Ok(header)
}

/// The changes of an object, one after another, as they are: whether its header describes them is
/// known when [`each`] has seen them all.
pub struct Changes<B> {
    bytes: B,
    /// Where the next block starts.
    at: usize,
    codec: Codec,
    sync: Sync,
    /// A block, decompressed.
    block: Vec<u8>,
    /// Where its next record starts.
    place: usize,
    /// Bytes of that record, once it was looked at.
    length: usize,
    /// Records that are left in it.
    left: u64,
}

impl<B: AsRef<[u8]>> Changes<B> {
    /// Reads an object's header.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(bytes: B) -> Result<Changes<B>, String> {
        let all = bytes.as_ref();
        let mut cursor = Cursor(all.strip_prefix(MAGIC).ok_or_else(damaged)?);
        let codec = codec(&mut cursor).ok_or_else(damaged)??;
        let (sync, rest) = cursor.0.split_first_chunk::<16>().ok_or_else(damaged)?;
        Ok(Changes {
            at: all.len() - rest.len(),
            sync: *sync,
            codec,
            bytes,
            block: Vec::new(),
            place: 0,
            length: 0,
            left: 0,
        })
    }

    /// The next change; `None`: there is none left.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, String> {
        while self.left == 0 {
            if self.place < self.block.len() {
                return Err(damaged());
            }
            if self.at == self.bytes.as_ref().len() {
                return Ok(None);
            }
            self.open()?;
        }
        let rest = &self.block[self.place..];
        let mut cursor = Cursor(rest);
        let record = record(&mut cursor).ok_or_else(damaged)?;
        self.length = rest.len() - cursor.0.len();
        Ok(Some(record))
    }

    /// Goes past the change that was looked at.
    ///
    /// # Panics
    /// When none was.
    pub fn advance(&mut self) {
        assert!(self.length > 0, "a change is looked at before it is passed");
        self.place += std::mem::take(&mut self.length);
        self.left -= 1;
    }

    /// Decompresses the next block.
    fn open(&mut self) -> Result<(), String> {
        let all = self.bytes.as_ref();
        let mut cursor = Cursor(&all[self.at..]);
        let mut block = || {
            let count = u64::try_from(cursor.long()?).ok()?;
            let content = cursor.bytes()?.to_vec();
            let (end, rest) = cursor.0.split_first_chunk::<16>()?;
            cursor.0 = rest;
            (*end == self.sync).then_some((count, content))
        };
        let (count, mut content) = block().ok_or_else(damaged)?;
        self.codec
            .decompress(&mut content)
            .map_err(|error| format!("a block of it cannot be decompressed: {error}"))?;
        self.at = all.len() - cursor.0.len();
        (self.block, self.place, self.left) = (content, 0, count);
        Ok(())
    }
}

fn damaged() -> String {
    "it is cut off or damaged".to_owned()
}

/// Reads the metadata; `None`: it is cut off.
fn codec(cursor: &mut Cursor<'_>) -> Option<Result<Codec, String>> {
    let (mut codec, mut schema) = (&b"null"[..], &b""[..]);
    loop {
        let mut count = cursor.long()?;
        if count == 0 {
            break;
        }
        if count < 0 {
            cursor.long()?;
            count = count.checked_neg()?;
        }
        for _ in 0..count {
            match (cursor.bytes()?, cursor.bytes()?) {
                (b"avro.codec", value) => codec = value,
                (b"avro.schema", value) => schema = value,
                _ => {}
            }
        }
    }
    if schema != SCHEMA.as_bytes() {
        return Some(Err("it has a schema that this build does not know".into()));
    }
    Some(match codec {
        b"null" => Ok(Codec::Null),
        b"deflate" => Ok(Codec::Deflate(DeflateSettings::default())),
        b"snappy" => Ok(Codec::Snappy),
        b"zstandard" => Ok(Codec::Zstandard(ZstandardSettings::default())),
        other => Err(format!(
            "it has the codec {:?}, which this build does not know",
            String::from_utf8_lossy(other)
        )),
    })
}

fn record<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let key = std::str::from_utf8(cursor.bytes()?).ok()?;
    let kind = match cursor.long()? {
        0 => Kind::Added,
        1 => Kind::Changed,
        2 => Kind::Removed,
        _ => return None,
    };
    let mut number = || Some(cursor.long()?.cast_unsigned());
    let (epoch, seq, polled_at, print) = (number()?, number()?, number()?, number()?);
    let value = match cursor.long()? {
        0 => None,
        1 => Some(std::str::from_utf8(cursor.bytes()?).ok()?),
        _ => return None,
    };
    Some(Record {
        key,
        kind,
        epoch: Epoch(epoch),
        seq: Seq(seq),
        polled_at,
        print,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::super::container::{Blocks, sync_marker};
    use super::*;
    use crate::config::Codec as Chosen;

    const RECORDS: u64 = 3000;

    fn object(codec: Chosen, change: impl Fn(&mut Header)) -> Vec<u8> {
        object_of(codec, |i| 1 + i / 100, change)
    }

    fn object_of(
        codec: Chosen,
        batch: impl Fn(u64) -> u64,
        change: impl Fn(&mut Header),
    ) -> Vec<u8> {
        let mut blocks = Blocks::new(codec, sync_marker("l", "n"));
        let mut digester = Digester::default();
        for i in 0..RECORDS {
            let (key, value) = (
                format!("k\u{e9}{i}"),
                format!("{{\"n\":{i}, \"x\":\"{i:090}\"}}"),
            );
            let record = Record {
                key: &key,
                kind: [Kind::Added, Kind::Changed, Kind::Removed][(i % 3) as usize],
                epoch: Epoch(1000 + batch(i)),
                seq: Seq(batch(i)),
                polled_at: 7,
                print: u64::MAX - i,
                value: (i % 3 != 2).then_some(&value),
            };
            digester.push(&record);
            blocks.push(&record).unwrap();
        }
        let mut header = Header {
            lineage: "l".into(),
            first: 5,
            last: 5 + RECORDS - 1,
            seq_first: Seq(1),
            seq_last: Seq(30),
            digest: digester.digest(),
        };
        change(&mut header);
        let metadata = header.metadata();
        let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
        blocks.file(&metadata).unwrap().concat()
    }

    #[test]
    fn r25_the_changes_of_an_object_read_back_under_every_codec() {
        for codec in [
            Chosen::Null,
            Chosen::Deflate,
            Chosen::Snappy,
            Chosen::Zstandard,
        ] {
            let mut count = 0;
            let header = each(&object(codec, |_| ()), &mut |record| {
                assert_eq!(record.key, format!("k\u{e9}{count}"));
                assert_eq!(record.print, u64::MAX - count);
                assert_eq!(record.value.is_none(), count % 3 == 2);
                count += 1;
            });
            assert_eq!((header.unwrap().first, count), (5, RECORDS), "{codec:?}");
        }
    }

    #[test]
    fn r25_an_object_cut_or_changed_anywhere_is_an_error_and_never_a_panic() {
        let whole = object(Chosen::Deflate, |_| ());
        for cut in (0..whole.len()).step_by(97) {
            assert!(each(&whole[..cut], &mut |_| ()).is_err(), "cut at {cut}");
        }
        // The header's own bytes decide what the rest is read as; those after it are all content.
        for codec in [Chosen::Null, Chosen::Snappy, Chosen::Zstandard] {
            let whole = object(codec, |_| ());
            for at in (600..whole.len()).step_by(whole.len() / 150) {
                let mut changed = whole.clone();
                changed[at] ^= 0x55;
                // Fingerprints are not in the digest, and a frame may hold bits that nobody reads.
                let _ = each(&changed, &mut |_| ());
            }
        }
    }

    #[test]
    fn r25_a_header_that_does_not_describe_the_changes_is_an_error() {
        let wrong = |change: fn(&mut Header), what: &str| {
            let error = each(&object(Chosen::Null, change), &mut |_| ()).unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        wrong(
            |header| header.last += 1,
            "3000 changes, its header says 3001",
        );
        wrong(|header| header.digest.0 ^= 1, "digest");
        wrong(|header| header.seq_last = Seq(31), "other batches");
        let back = |i| if i == 150 { 1 } else { 1 + i / 100 };
        let error = each(&object_of(Chosen::Null, back, |_| ()), &mut |_| ()).unwrap_err();
        assert_eq!(error, "its batch 1 comes after batch 2");
    }
}
