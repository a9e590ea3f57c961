//! A partition of the local topic log: its live segment, and rolling.
//!
//! A roll renames the live segment after its first offset and begins an empty one; it counts with the
//! next commit record. Until then the record's `first` names the segment that was live, which a reader
//! finds under either name, and a restart renames back.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deltapoll_state::fail;

use crate::clock;
use crate::fault::Fault;
use crate::io::local::commit::{Extent, failed, sync_dir};

/// A live segment of this size is rolled.
pub(crate) const ROLL_BYTES: u64 = 64 << 20;

/// The name of a partition's live segment.
pub(crate) fn live_name(partition: u32) -> String {
    format!("{partition}.ndjson")
}

/// The name of a partition's closed segment.
pub(crate) fn closed_name(partition: u32, first: u64) -> String {
    format!("{partition}.{first:020}.ndjson")
}

/// The closed segments of `partition` in `dir`: their first offsets in order.
pub(crate) fn closed(dir: &Path, partition: u32) -> Result<Vec<u64>, Fault> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed("list", dir, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", dir, &error))?;
        let name = entry.file_name();
        let middle = name.to_str().and_then(|name| {
            let rest = name.strip_prefix(&format!("{partition}."))?;
            rest.strip_suffix(".ndjson")
        });
        found.extend(middle.and_then(|first| first.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// A partition that is being written.
pub(crate) struct Segment {
    dir: PathBuf,
    partition: u32,
    live: File,
    /// What is written; committed once the commit record says so.
    pub(crate) extent: Extent,
    buffer: Vec<u8>,
    unsynced: bool,
}

impl Segment {
    /// Opens the live segment of `partition` in `dir` and cuts off what lies beyond `committed`.
    pub(crate) fn open(dir: &Path, partition: u32, committed: Extent) -> Result<Segment, Fault> {
        fs::create_dir_all(dir).map_err(|error| failed("create", dir, &error))?;
        let path = dir.join(live_name(partition));
        let closed = dir.join(closed_name(partition, committed.first));
        if committed.bytes > 0 && closed.exists() {
            // A roll that no commit record tells of.
            fs::rename(&closed, &path).map_err(|error| failed("rename", &closed, &error))?;
        }
        let live = OpenOptions::new().create(true).append(true).open(&path);
        let live = live.map_err(|error| failed("open", &path, &error))?;
        let length = live
            .metadata()
            .map_err(|error| failed("read", &path, &error))?
            .len();
        if length < committed.bytes {
            return Err(Fault::directory(format!(
                "{} has {length} bytes, {} are committed; restore it, or begin anew with `deltapoll \
                 state reset`",
                path.display(),
                committed.bytes
            )));
        }
        if !fail::broken("r34") {
            live.set_len(committed.bytes)
                .map_err(|error| failed("cut", &path, &error))?;
        }
        live.sync_all()
            .map_err(|error| failed("sync", &path, &error))?;
        sync_dir(dir)?;
        Ok(Segment {
            dir: dir.to_owned(),
            partition,
            live,
            extent: committed,
            buffer: Vec::new(),
            unsynced: false,
        })
    }

    /// Where the next line is put together; [`Segment::wrote_line`] counts it.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// One more line is in the buffer.
    pub(crate) fn wrote_line(&mut self) -> Result<(), Fault> {
        const BUFFER_BYTES: usize = 256 * 1024;
        if self.extent.next == self.extent.first {
            self.extent.begun_ms = clock::unix_ms();
        }
        self.extent.next += 1;
        self.unsynced = true;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes all lines durable.
    pub(crate) fn sync(&mut self) -> Result<(), Fault> {
        if !self.unsynced {
            return Ok(());
        }
        self.flush()?;
        let path = self.dir.join(live_name(self.partition));
        self.live
            .sync_data()
            .map_err(|error| failed("sync", &path, &error))?;
        self.unsynced = false;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let path = self.dir.join(live_name(self.partition));
        let written = self.live.write_all(&self.buffer);
        written.map_err(|error| failed("write", &path, &error))?;
        self.extent.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Whether the live segment is due to be closed, so that old changes can go: by its size, or
    /// because it was begun longer than `age` ago.
    pub(crate) fn is_due(&self, age: Duration, now_ms: u64) -> bool {
        let old = u128::from(now_ms.saturating_sub(self.extent.begun_ms)) > age.as_millis();
        self.extent.bytes >= ROLL_BYTES || (old && self.extent.bytes > 0)
    }

    /// Closes the live segment and begins the next. All lines are committed.
    pub(crate) fn roll(&mut self) -> Result<(), Fault> {
        assert!(!self.unsynced, "a segment is rolled after its commit");
        let path = self.dir.join(live_name(self.partition));
        let closed = self
            .dir
            .join(closed_name(self.partition, self.extent.first));
        fs::rename(&path, &closed).map_err(|error| failed("rename", &path, &error))?;
        let live = OpenOptions::new().create_new(true).append(true).open(&path);
        self.live = live.map_err(|error| failed("create", &path, &error))?;
        sync_dir(&self.dir)?;
        self.extent.first = self.extent.next;
        self.extent.bytes = 0;
        Ok(())
    }

    /// Deletes closed segments whose last line is older than `retain`.
    pub(crate) fn expire(&self, retain: Duration, now_ms: u64) -> Result<(), Fault> {
        let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now_ms);
        for first in closed(&self.dir, self.partition)? {
            let path = self.dir.join(closed_name(self.partition, first));
            let written = fs::metadata(&path).and_then(|data| data.modified());
            let written = written.map_err(|error| failed("read", &path, &error))?;
            if now.duration_since(written).is_ok_and(|age| age > retain) {
                fs::remove_file(&path).map_err(|error| failed("delete", &path, &error))?;
            }
        }
        Ok(())
    }
}
