//! A topic-partition on its way into the archive: what is in objects, and what waits.
//!
//! Waiting changes are held encoded and compressed, so that a lane never holds much more than one
//! object; their digest grows along.

use bytes::Bytes;
use object_store::PutPayload;

use super::name;
use crate::change::{Change, Epoch, Seq};
use crate::config::{Codec, Roll};
use crate::fault::Fault;
use crate::io::avro::container::{self, Blocks};
use crate::io::avro::digest::Digester;
use crate::io::avro::header::Header;
use crate::io::avro::schema::Record;

/// A topic-partition.
#[derive(Debug)]
pub struct Lane {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Index of the first change that is in no object yet.
    pub next: u64,
    /// The batch of the last change that is in an object; 0: none is.
    pub archived: Seq,
    waiting: Option<Waiting>,
}

/// Changes that are in no object yet.
#[derive(Debug)]
struct Waiting {
    name: String,
    seq_first: Seq,
    seq_last: Seq,
    since: Epoch,
    all: Size,
    /// What of `all` belongs to an epoch that has not ended.
    open: Size,
    blocks: Blocks,
    digester: Digester,
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    records: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }

    fn reaches(self, roll: &Roll) -> bool {
        self.records >= roll.records || self.bytes >= roll.bytes.0
    }
}

/// What all lanes' objects share.
#[derive(Clone, Debug)]
pub struct Make {
    /// The directory's identity.
    pub lineage: String,
    /// Compression within objects.
    pub codec: Codec,
}

/// An object that is ready to be put.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name below the prefix.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// What it says of itself.
    pub header: Header,
    /// The whole file.
    pub payload: PutPayload,
}

impl Lane {
    /// A lane of which `next` changes are in objects, the last of them from batch `archived`.
    #[must_use]
    pub fn new(topic: &str, partition: u32, next: u64, archived: Seq) -> Lane {
        Lane {
            topic: topic.to_owned(),
            partition,
            next,
            archived,
            waiting: None,
        }
    }

    /// Takes a change of batch `seq`, unless an object already has it.
    ///
    /// # Errors
    /// When the change cannot be encoded.
    pub fn push(&mut self, make: &Make, at: &At, change: &Change<'_>) -> Result<(), Fault> {
        if at.seq <= self.archived {
            return Ok(());
        }
        let record = at.record(change)?;
        let Lane {
            topic,
            partition,
            next,
            ..
        } = self;
        let waiting = self.waiting.get_or_insert_with(|| {
            let name = name::write(topic, *partition, *next);
            let sync = container::sync_marker(&make.lineage, &name);
            Waiting {
                name,
                seq_first: at.seq,
                seq_last: at.seq,
                since: at.epoch,
                all: Size::default(),
                open: Size::default(),
                blocks: Blocks::new(make.codec, sync),
                digester: Digester::default(),
            }
        });
        assert!(waiting.seq_last <= at.seq, "batches are read in order");
        waiting.seq_last = at.seq;
        let bytes = (record.key.len() + record.value.map_or(0, str::len)) as u64;
        waiting.all.add(bytes);
        waiting.open.add(bytes);
        waiting.digester.push(&record);
        waiting
            .blocks
            .push(&record)
            .map_err(|error| broken(&waiting.name, &error))
    }

    /// The epoch of what was taken last has ended.
    pub fn end_epoch(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.open = Size::default();
        }
    }

    /// The batch of the first change that waits.
    #[must_use]
    pub fn waits_from(&self) -> Option<Seq> {
        Some(self.waiting.as_ref()?.seq_first)
    }

    /// The epoch of the first change that waits.
    #[must_use]
    pub fn waits_since(&self) -> Option<Epoch> {
        Some(self.waiting.as_ref()?.since)
    }

    /// Whether something waits and it ends where an epoch ends.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|waiting| waiting.open.records == 0)
    }

    /// Whether an object must end here, a batch's end, by `roll` (R24): at the end of an epoch when
    /// enough waits, within one only when what waits of it alone is enough.
    #[must_use]
    pub fn is_full(&self, roll: &Roll) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| {
            let size = if self.is_whole() {
                waiting.all
            } else {
                waiting.open
            };
            size.reaches(roll)
        })
    }

    /// Memory in use by what waits.
    #[must_use]
    pub fn held(&self) -> usize {
        self.waiting
            .as_ref()
            .map_or(0, |waiting| waiting.blocks.held())
    }

    /// All that waits as an object; it goes on waiting until [`Lane::settle`].
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn object(&mut self, make: &Make) -> Result<Option<Object>, Fault> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(None);
        };
        let header = Header {
            lineage: make.lineage.clone(),
            first: self.next,
            last: self.next + waiting.all.records - 1,
            seq_first: waiting.seq_first,
            seq_last: waiting.seq_last,
            digest: waiting.digester.digest(),
        };
        let metadata = header.metadata();
        let metadata = metadata
            .each_ref()
            .map(|(key, value)| (*key, value.as_str()));
        let file: Vec<Bytes> =
            (waiting.blocks.file(&metadata)).map_err(|error| broken(&waiting.name, &error))?;
        Ok(Some(Object {
            name: waiting.name.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            header,
            payload: PutPayload::from_iter(file),
        }))
    }

    /// The changes up to `last` (an index), which end with batch `seq`, are in an object. Nothing
    /// waits after this: what comes after them must be pushed again.
    pub fn settle(&mut self, last: u64, seq: Seq) {
        assert!(
            self.next <= last && self.archived < seq,
            "objects come in order"
        );
        self.next = last + 1;
        self.archived = seq;
        self.waiting = None;
    }
}

/// Where a change stands.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Its batch.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// When its snapshot arrived.
    pub polled_at: u64,
}

impl At {
    /// The change as it is archived.
    ///
    /// # Errors
    /// When the value is not UTF-8: the journal is damaged, as the scan lets no such value through.
    pub fn record<'a>(&self, change: &Change<'a>) -> Result<Record<'a>, Fault> {
        let value = change
            .value
            .map(simdutf8::basic::from_utf8)
            .transpose()
            .map_err(|_| {
                Fault::directory(format!(
                    "batch {} holds a value that is not UTF-8 (key {:?}): the journal is damaged",
                    self.seq, change.key
                ))
            })?;
        Ok(Record {
            key: change.key,
            kind: change.kind,
            epoch: self.epoch,
            seq: self.seq,
            polled_at: self.polled_at,
            print: change.print.canon,
            value,
        })
    }
}

fn broken(name: &str, error: &apache_avro::Error) -> Fault {
    Fault::failed(format!("cannot encode {name}: {error}"))
}
