//! Every committed record of the local topic log, for who makes a state of it. Nobody writes meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::change::{Epoch, Seq};
use crate::fault::Fault;
use crate::io::line;
use crate::io::local::commit::{Commit, Extent, failed};
use crate::io::local::segment::{closed, closed_name, live_name};
use crate::io::published::{Published, Told, kind};

/// What is committed in a data directory.
pub struct Records {
    dir: PathBuf,
    commit: Commit,
}

impl Records {
    /// Reads the commit record; `None`: there is no topic log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(data_dir: &Path) -> Result<Option<Records>, Fault> {
        let dir = data_dir.join("topics");
        let commit = Commit::read(&dir)?;
        Ok(commit.map(|commit| Records { dir, commit }))
    }

    /// The history that the log belongs to.
    #[must_use]
    pub fn lineage(&self) -> &str {
        &self.commit.lineage
    }

    /// The last batch whose changes are committed.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq(self.commit.seq)
    }

    /// How many records are committed.
    #[must_use]
    pub fn total(&self) -> u64 {
        let extents = self.commit.topics.values().flat_map(BTreeMap::values);
        extents.map(|extent| extent.next).sum()
    }

    /// Shows every record from the very first on, each partition's in order; `read` learns of each.
    ///
    /// # Errors
    /// When some have expired (exit 4), files are missing or damaged, or `each` fails.
    pub fn each(
        &self,
        read: &dyn Fn(u64),
        each: &mut dyn FnMut(&Published<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for (topic, partitions) in &self.commit.topics {
            for (partition, extent) in partitions {
                let place = Place {
                    dir: self.dir.join(topic),
                    topic,
                    partition: *partition,
                };
                place.read(*extent, read, each)?;
            }
        }
        Ok(())
    }
}

struct Place<'a> {
    dir: PathBuf,
    topic: &'a str,
    partition: u32,
}

impl Place<'_> {
    fn read(
        &self,
        extent: Extent,
        read: &dyn Fn(u64),
        each: &mut dyn FnMut(&Published<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut next = 0;
        let firsts = closed(&self.dir, self.partition)?;
        for first in firsts.into_iter().filter(|first| *first < extent.first) {
            self.follows(next, first)?;
            let path = self.dir.join(closed_name(self.partition, first));
            next = self.read_file(&path, first, u64::MAX, read, each)?;
        }
        self.follows(next, extent.first)?;
        if extent.bytes > 0 {
            // A roll that no commit record tells of has renamed it.
            let rolled = self.dir.join(closed_name(self.partition, extent.first));
            let live = self.dir.join(live_name(self.partition));
            let path = if rolled.exists() { rolled } else { live };
            next = self.read_file(&path, extent.first, extent.bytes, read, each)?;
        }
        self.follows(next, extent.next)
    }

    fn follows(&self, next: u64, first: u64) -> Result<(), Fault> {
        if next == first {
            return Ok(());
        }
        Err(Fault::directory(format!(
            "the local topic log {} lacks changes {next} to {}: they have expired (local.retain) or are \
             lost, and what they said of keys that never changed since is not known; bring state/ back \
             from a copy, or begin anew with `deltapoll state reset`",
            self.dir.display(),
            first.saturating_sub(1)
        )))
    }

    /// Returns the offset after the last line.
    fn read_file(
        &self,
        path: &Path,
        first: u64,
        bytes: u64,
        read: &dyn Fn(u64),
        each: &mut dyn FnMut(&Published<'_>) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(first),
            file => file.map_err(|error| failed("read", path, &error))?,
        };
        let mut reader = BufReader::with_capacity(256 * 1024, file.take(bytes));
        let (mut text, mut offset) = (Vec::new(), first);
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text);
            if length.map_err(|error| failed("read", path, &error))? == 0 {
                return Ok(offset);
            }
            let damaged = || {
                Fault::directory(format!(
                    "{} is damaged at offset {offset}; restore it, or begin anew with `deltapoll state \
                     reset`",
                    path.display()
                ))
            };
            let (key, line) = line::read(&text).ok_or_else(damaged)?;
            if line.offset != offset {
                return Err(damaged());
            }
            let told = |kind| {
                Some(Told {
                    kind,
                    epoch: Epoch(line.epoch?),
                    seq: Seq(line.seq?),
                    polled_at: line.polled_at?,
                    cell: None,
                })
            };
            each(&Published {
                topic: self.topic,
                partition: self.partition,
                offset,
                timestamp: line.polled_at.unwrap_or(0),
                key: key.as_bytes(),
                value: line.value,
                told: line.change.and_then(kind).and_then(told),
            })?;
            read(1);
            offset += 1;
        }
    }
}
