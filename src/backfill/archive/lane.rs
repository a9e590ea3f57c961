//! A topic-partition of an archive: its objects one after another, checked before they are used.

use std::io::Read;
use std::vec;

use crate::change::{Epoch, Seq};
use crate::io::archive::name;
use crate::io::avro::read::{Changes, each};
use crate::io::avro::schema::Record;

use super::{Object, Series, open};

/// What all objects of an archive have in common.
#[derive(Debug)]
pub struct Archived {
    pub topic: String,
    /// The lineage, and an object that says so.
    pub lineage: (String, String),
    /// Bytes of the objects that were read.
    pub bytes: u64,
}

/// See the module.
pub struct Lane {
    pub partition: u32,
    /// Index of the next change.
    pub next: u64,
    objects: vec::IntoIter<Object>,
    open: Option<Open>,
    seq: Seq,
    epoch: Epoch,
}

/// An object that is sound.
struct Open {
    object: Object,
    changes: Changes<Vec<u8>>,
}

impl Lane {
    pub fn new(series: Series) -> Lane {
        Lane {
            partition: series.partition,
            next: 0,
            objects: series.objects.into_iter(),
            open: None,
            seq: Seq(0),
            epoch: Epoch(0),
        }
    }

    /// Leaves out objects that end before change `from`; returns how many.
    pub fn skip_to(&mut self, from: u64) -> u64 {
        let objects = self.objects.as_slice();
        let past = objects.partition_point(|object| object.first <= from);
        let past = past.saturating_sub(1);
        if past > 0 {
            self.next = objects[past].first;
            self.objects.nth(past - 1);
        }
        past as u64
    }

    /// Bytes of the objects that are to be read.
    pub fn size(&self) -> u64 {
        let objects = self.objects.as_slice().iter();
        objects.map(|object| object.size).sum()
    }

    /// The epoch of the next change; `None`: there is none left.
    ///
    /// # Errors
    /// Names the object that is missing or cannot be used, and the remedy.
    pub fn epoch(&mut self, archived: &mut Archived) -> Result<Option<Epoch>, String> {
        loop {
            if let Some(open) = &mut self.open {
                let next = open.changes.peek();
                match next.map_err(|what| unusable(&open.object, &what))? {
                    Some(record) => return Ok(Some(record.epoch)),
                    None => self.open = None,
                }
            }
            let Some(object) = self.objects.next() else {
                return Ok(None);
            };
            self.open = Some(self.begin(object, archived)?);
        }
    }

    /// Shows the changes of `epoch`, if they are next, with their indexes.
    ///
    /// # Errors
    /// As [`Lane::epoch`], and what `show` says.
    pub fn take(
        &mut self,
        epoch: Epoch,
        archived: &mut Archived,
        mut show: impl FnMut(u64, &Record<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        while self.epoch(archived)? == Some(epoch) {
            let open = self.open.as_mut().expect("it has the next change");
            while let Some(record) = open.changes.peek().ok().flatten() {
                if record.epoch != epoch {
                    break;
                }
                show(self.next, &record)?;
                open.changes.advance();
                self.next += 1;
            }
        }
        Ok(())
    }

    /// Reads an object whole, and whether it is the next.
    fn begin(&mut self, object: Object, archived: &mut Archived) -> Result<Open, String> {
        if object.first != self.next {
            return Err(self.misplaced(&object, &archived.topic));
        }
        let wrong = |what: &str| unusable(&object, what);
        let mut bytes = Vec::new();
        let mut file = open(&object.location).map_err(|what| wrong(&what))?;
        let read = file.read_to_end(&mut bytes);
        read.map_err(|error| wrong(&format!("it cannot be read: {error}")))?;
        let (mut first, mut last) = (None, Epoch(0));
        let header = each(&bytes, &mut |record| {
            first.get_or_insert(record.epoch);
            last = record.epoch;
        });
        let header = header.map_err(|what| wrong(&what))?;
        if header.first != object.first {
            let what = format!("it says that it begins with change {}", header.first);
            return Err(wrong(&what));
        }
        if header.seq_first <= self.seq || first < Some(self.epoch) {
            let (seq, before) = (header.seq_first, self.seq);
            let what = format!("it begins with batch {seq}, the one before ended with {before}");
            return Err(wrong(&what));
        }
        if header.lineage != archived.lineage.0 {
            return Err(format!(
                "{}: it is of another pipeline than {}: give the archive of one pipeline at a time",
                object.location, archived.lineage.1
            ));
        }
        (self.seq, self.epoch) = (header.seq_last, last);
        archived.bytes += object.size;
        let changes = Changes::new(bytes).map_err(|what| wrong(&what))?;
        Ok(Open { object, changes })
    }

    fn misplaced(&self, object: &Object, topic: &str) -> String {
        if object.first < self.next {
            let what = format!(
                "changes {} to {} are in another object too",
                object.first,
                self.next - 1
            );
            return unusable(object, &what);
        }
        let missing = name::write(topic, self.partition, self.next);
        format!(
            "{}: changes {} to {} before it are missing: put the object {missing} back; what came before \
             is sealed, and the same command goes on",
            object.location,
            self.next,
            object.first - 1
        )
    }
}

fn unusable(object: &Object, what: &str) -> String {
    format!(
        "{}: {what}; put back what the pipeline wrote there: what came before is sealed, and the same \
         command goes on (an archive cannot be read without one of its objects)",
        object.location
    )
}
