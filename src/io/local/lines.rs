//! The committed lines of a partition of the local topic log, read without a lock.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use crate::fault::Fault;
use crate::io::local::commit::{Extent, failed};
use crate::io::local::segment::{closed, closed_name, live_name};

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    All,
    /// A segment was rolled since the commit record was read: look again.
    Rolled,
    /// The visitor has enough.
    Unwanted,
}

/// Takes a line with its break; whether it wants more.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8]) -> Result<bool, Fault>;

/// A partition's files.
pub(crate) struct Lines<'a> {
    /// The topic's directory.
    pub(crate) dir: &'a Path,
    pub(crate) partition: u32,
}

impl Lines<'_> {
    /// The offset of the oldest line that is kept.
    pub(crate) fn first(&self, extent: Extent) -> Result<u64, Fault> {
        let firsts = closed(self.dir, self.partition)?;
        let oldest = firsts.first().copied().unwrap_or(extent.first);
        Ok(oldest.min(extent.first))
    }

    /// Shows the lines from `next` on, which it counts, up to what `extent` counts.
    pub(crate) fn show(
        &self,
        next: &mut u64,
        extent: Extent,
        visit: Visit<'_>,
    ) -> Result<Shown, Fault> {
        if *next >= extent.next {
            return Ok(Shown::All);
        }
        let firsts = closed(self.dir, self.partition)?;
        for (at, first) in firsts
            .iter()
            .enumerate()
            .filter(|(_, first)| **first < extent.first)
        {
            let end = firsts.get(at + 1).copied().unwrap_or(extent.first);
            if end <= *next {
                continue;
            }
            // One that is gone has expired.
            if let Some(file) = self.open(&closed_name(self.partition, *first), *first)?
                && let Shown::Unwanted = self.show_file(file, u64::MAX, *first, next, visit)?
            {
                return Ok(Shown::Unwanted);
            }
        }
        if extent.bytes == 0 {
            return Ok(Shown::All);
        }
        for name in [
            closed_name(self.partition, extent.first),
            live_name(self.partition),
        ] {
            if let Some(file) = self.open(&name, extent.first)? {
                return self.show_file(file, extent.bytes, extent.first, next, visit);
            }
        }
        Ok(Shown::Rolled)
    }

    /// The segment with that name, if it is there and begins with the offset `first`.
    fn open(&self, name: &str, first: u64) -> Result<Option<File>, Fault> {
        let path = self.dir.join(name);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| failed("read", &path, &error))?,
        };
        let mut start = Vec::new();
        let read = (&file)
            .take(64)
            .read_to_end(&mut start)
            .and_then(|_| file.rewind());
        read.map_err(|error| failed("read", &path, &error))?;
        let expected = format!("{{\"offset\":{first},");
        Ok(start.starts_with(expected.as_bytes()).then_some(file))
    }

    /// Shows lines of `file`, whose first line is `first`, up to `bytes`.
    fn show_file(
        &self,
        file: File,
        bytes: u64,
        first: u64,
        next: &mut u64,
        visit: Visit<'_>,
    ) -> Result<Shown, Fault> {
        let mut reader = BufReader::with_capacity(256 * 1024, file.take(bytes));
        let mut line = Vec::new();
        let mut offset = first;
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            if read.map_err(|error| failed("read", self.dir, &error))? == 0 {
                return Ok(Shown::All);
            }
            if offset >= *next {
                if !visit(&line)? {
                    return Ok(Shown::Unwanted);
                }
                *next = offset + 1;
            }
            offset += 1;
        }
    }
}
