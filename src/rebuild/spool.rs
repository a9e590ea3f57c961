//! Changes that are in no object yet, put aside while topics are read, and given back in order of their
//! batches.
//!
//! A topic-partition's changes come in order; those of different ones do not. So each topic-partition has
//! a file, and reading merges the files; what is in memory is one change of each.
//!
//! A row: `length u32 | seq u64 | epoch u64 | a batch of one change`, integers little-endian.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::change::{self, Batch, Builder, Change, Epoch, Head, Seq};
use crate::fault::Fault;

/// There may be a thousand files.
const BUFFER_BYTES: usize = 16 << 10;

/// Changes put aside.
pub struct Spool {
    dir: PathBuf,
    lanes: BTreeMap<(String, u32), Lane>,
    first: Option<(Seq, Epoch)>,
}

struct Lane {
    path: PathBuf,
    file: BufWriter<File>,
    last: Seq,
}

impl Spool {
    /// An empty one in `dir`, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(dir: PathBuf) -> Result<Spool, Fault> {
        fs::create_dir_all(&dir).map_err(|error| failed("create", &dir, &error))?;
        Ok(Spool {
            dir,
            lanes: BTreeMap::new(),
            first: None,
        })
    }

    /// Puts a change of batch `seq` aside.
    ///
    /// # Errors
    /// When batches of a topic-partition go back, or the file cannot be written.
    pub fn push(
        &mut self,
        (seq, epoch): (Seq, Epoch),
        head: &Head,
        change: &Change<'_>,
    ) -> Result<(), Fault> {
        if self.first.is_none_or(|(first, _)| seq < first) {
            self.first = Some((seq, epoch));
        }
        let place = (head.topic.clone(), change.partition);
        if !self.lanes.contains_key(&place) {
            let path = self.dir.join(format!("{:06}", self.lanes.len()));
            let file = File::create(&path).map_err(|error| failed("create", &path, &error))?;
            let file = BufWriter::with_capacity(BUFFER_BYTES, file);
            let last = Seq(0);
            self.lanes.insert(place.clone(), Lane { path, file, last });
        }
        let lane = self.lanes.get_mut(&place).expect("just put there");
        if seq < lane.last {
            let (topic, partition) = place;
            return Err(Fault::directory(format!(
                "topic '{topic}' partition {partition} holds batch {seq} after batch {}: somebody else \
                 wrote there; set archive.url to another prefix",
                lane.last
            )));
        }
        lane.last = seq;
        let mut builder = Builder::new(head);
        builder.push(change);
        let body = builder.take().expect("one change");
        let length = u32::try_from(body.len()).expect("a record is far below 4 GiB");
        let numbers = [seq.0.to_le_bytes(), epoch.0.to_le_bytes()].concat();
        let row = [&length.to_le_bytes()[..], &numbers, &body].concat();
        let written = lane.file.write_all(&row);
        written.map_err(|error| failed("write", &lane.path, &error))
    }

    /// The first batch that a change is put aside of, and its epoch.
    #[must_use]
    pub fn first(&self) -> Option<(Seq, Epoch)> {
        self.first
    }

    /// Everything back, batch by batch.
    ///
    /// # Errors
    /// When a file cannot be written or read.
    pub fn batches(self) -> Result<Batches, Fault> {
        let mut batches = Batches {
            lanes: Vec::new(),
            waiting: BinaryHeap::new(),
        };
        for (at, (_, lane)) in self.lanes.into_iter().enumerate() {
            let Lane { path, mut file, .. } = lane;
            file.flush()
                .map_err(|error| failed("write", &path, &error))?;
            let file = File::open(&path).map_err(|error| failed("open", &path, &error))?;
            let file = BufReader::with_capacity(BUFFER_BYTES, file);
            batches.lanes.push((path, file));
            batches.refill(at)?;
        }
        Ok(batches)
    }
}

/// A batch that was put together again.
#[derive(Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its number.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its body, with those of its changes that were put aside.
    pub body: Vec<u8>,
}

/// Batch, file, epoch, and a batch of one change.
type Row = (u64, usize, u64, Vec<u8>);

/// What was put aside, in order of batches.
pub struct Batches {
    lanes: Vec<(PathBuf, BufReader<File>)>,
    /// By batch, then by file: those of one file stay in their order.
    waiting: BinaryHeap<Reverse<Row>>,
}

impl Batches {
    /// The next batch; `None`: that was the last.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<Restored>, Fault> {
        let Some(Reverse((seq, at, epoch, row))) = self.waiting.pop() else {
            return Ok(None);
        };
        self.refill(at)?;
        let mut builder = Builder::new(&batch(&row)?.head);
        add(&mut builder, &row)?;
        while self.waiting.peek().is_some_and(|row| row.0.0 == seq) {
            let Some(Reverse((_, at, _, row))) = self.waiting.pop() else {
                break;
            };
            self.refill(at)?;
            add(&mut builder, &row)?;
        }
        Ok(builder.take().map(|body| Restored {
            seq: Seq(seq),
            epoch: Epoch(epoch),
            body,
        }))
    }

    fn refill(&mut self, at: usize) -> Result<(), Fault> {
        let (path, file) = &mut self.lanes[at];
        let mut head = [0; 20];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read.map_err(|error| failed("read", path, &error))?,
        }
        let word = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("20 bytes"));
        let length = u32::from_le_bytes(*head.first_chunk().expect("20 bytes"));
        let mut row = vec![0; length as usize];
        let read = file.read_exact(&mut row);
        read.map_err(|error| failed("read", path, &error))?;
        self.waiting.push(Reverse((word(4), at, word(12), row)));
        Ok(())
    }
}

fn add(builder: &mut Builder, row: &[u8]) -> Result<(), Fault> {
    for change in batch(row)?.changes() {
        builder.push(&change.map_err(damaged)?);
    }
    Ok(())
}

fn batch(row: &[u8]) -> Result<Batch<'_>, Fault> {
    Batch::read(row).map_err(damaged)
}

fn damaged(error: change::Error) -> Fault {
    Fault::failed(format!("what was put aside cannot be read: {error}"))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::failed(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{CellId, Fingerprint, KeyHash, Kind};

    fn head(topic: &str) -> Head {
        Head {
            cell: CellId(1),
            polled_at: 7,
            topic: topic.into(),
            source: "s".into(),
            label: String::new(),
        }
    }

    fn change(partition: u32, key: &str) -> Change<'_> {
        Change {
            kind: Kind::Added,
            partition,
            hash: KeyHash(1),
            print: Fingerprint::default(),
            key,
            value: Some(b"{}"),
            silent: false,
        }
    }

    #[test]
    fn r35_what_was_put_aside_comes_back_by_batch_and_in_the_order_of_its_partition() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path().join("spool")).unwrap();
        let rows = [
            (3, 1, "c"),
            (3, 1, "b"),
            (9, 1, "a"),
            (2, 0, "d"),
            (3, 0, "e"),
        ];
        for (seq, partition, key) in rows {
            let at = (Seq(seq), Epoch(seq * 10));
            spool.push(at, &head("t"), &change(partition, key)).unwrap();
        }
        assert_eq!(spool.first(), Some((Seq(2), Epoch(20))));
        let back = spool.push((Seq(1), Epoch(10)), &head("t"), &change(0, "x"));
        assert!(back.unwrap_err().message.contains("batch 1 after batch 3"));
        let mut batches = spool.batches().unwrap();
        let mut all = Vec::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            assert_eq!(batch.epoch.0, batch.seq.0 * 10);
            let body = Batch::read(&batch.body).unwrap();
            let keys = body.changes().map(|change| change.unwrap().key.to_owned());
            all.push((batch.seq.0, keys.collect::<Vec<_>>().concat()));
        }
        let wanted = [(2, "d"), (3, "ecb"), (9, "a")];
        assert_eq!(all, wanted.map(|(seq, keys)| (seq, keys.to_owned())));
    }
}
