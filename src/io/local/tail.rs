//! Committed changes of the local topic log as lines, read without a lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;
use crate::fault::Fault;
use crate::io::line;
use crate::io::local::commit::{Commit, Extent, failed};
use crate::io::local::publisher::check_name;
use crate::io::local::segment::{closed, closed_name, live_name};

/// A segment is rolled in an instant; a tenth of a second later the record tells of it.
const MISSED_MAX: u32 = 50;

/// Writes the committed changes of `topic` to `out`, one line each: from its beginning or from now on,
/// up to the last commit or, with `follow`, until `stop`. A reader of `out` that has enough ends it
/// too.
///
/// # Errors
/// When there is no such topic, or its files cannot be read.
pub fn tail(
    data_dir: &Path,
    topic: &str,
    from_start: bool,
    follow: bool,
    out: &mut dyn Write,
    stop: &AtomicBool,
) -> Result<(), Fault> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    check_name(topic)?;
    let dir = data_dir.join("topics");
    let mut out = BufWriter::with_capacity(256 * 1024, out);
    let mut extents = extents(&dir, topic)?;
    if extents.is_empty() && !follow {
        return Err(Fault::failed(format!(
            "there is no topic '{topic}' in {}",
            dir.display()
        )));
    }
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    if !from_start {
        next.extend(
            extents
                .iter()
                .map(|(partition, extent)| (*partition, extent.next)),
        );
    }
    let mut missed = 0;
    loop {
        let mut whole = true;
        for (partition, extent) in &extents {
            let next = next.entry(*partition).or_insert(0);
            let reader = Reader {
                dir: &dir.join(topic),
                topic,
                partition: *partition,
            };
            match reader.copy(next, *extent, &mut out)? {
                Copied::All => {}
                Copied::Rolled => whole = false,
                Copied::Unwanted => return Ok(()),
            }
        }
        match out.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            flushed => flushed.map_err(|error| Fault::failed(format!("cannot write: {error}")))?,
        }
        missed = if whole { 0 } else { missed + 1 };
        if missed > MISSED_MAX {
            return Err(Fault::directory(format!(
                "the files in {} are not those of the commit record",
                dir.join(topic).display()
            )));
        }
        if (whole && !follow) || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        clock::pause(LOOK_EVERY);
        extents = self::extents(&dir, topic)?;
    }
}

/// What is committed of `topic`.
fn extents(dir: &Path, topic: &str) -> Result<BTreeMap<u32, Extent>, Fault> {
    let commit = Commit::read(dir)?;
    let topics = commit.map(|commit| commit.topics).unwrap_or_default();
    Ok(topics.get(topic).cloned().unwrap_or_default())
}

/// How copying ended.
enum Copied {
    All,
    /// A segment was rolled since the commit record was read: look again.
    Rolled,
    /// Nobody reads any more.
    Unwanted,
}

struct Reader<'a> {
    dir: &'a Path,
    topic: &'a str,
    partition: u32,
}

impl Reader<'_> {
    /// Copies the lines from `next` on, up to what `extent` counts.
    fn copy(&self, next: &mut u64, extent: Extent, out: &mut impl Write) -> Result<Copied, Fault> {
        if *next >= extent.next {
            return Ok(Copied::All);
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
                && let Copied::Unwanted = self.copy_lines(file, u64::MAX, *first, next, out)?
            {
                return Ok(Copied::Unwanted);
            }
        }
        if extent.bytes == 0 {
            return Ok(Copied::All);
        }
        for name in [
            closed_name(self.partition, extent.first),
            live_name(self.partition),
        ] {
            if let Some(file) = self.open(&name, extent.first)? {
                return self.copy_lines(file, extent.bytes, extent.first, next, out);
            }
        }
        Ok(Copied::Rolled)
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

    /// Copies lines of `file`, whose first line is `first`, up to `bytes`.
    fn copy_lines(
        &self,
        file: File,
        bytes: u64,
        first: u64,
        next: &mut u64,
        out: &mut impl Write,
    ) -> Result<Copied, Fault> {
        let mut reader = BufReader::with_capacity(256 * 1024, file.take(bytes));
        let mut line = Vec::new();
        let mut place = vec![b'{'];
        line::append_place(&mut place, self.topic, self.partition);
        let mut offset = first;
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            if read.map_err(|error| failed("read", self.dir, &error))? == 0 {
                return Ok(Copied::All);
            }
            if offset >= *next {
                let written = out
                    .write_all(&place)
                    .and_then(|()| out.write_all(&line[1..]));
                match written {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        return Ok(Copied::Unwanted);
                    }
                    written => {
                        written.map_err(|error| Fault::failed(format!("cannot write: {error}")))?
                    }
                }
                *next = offset + 1;
            }
            offset += 1;
        }
    }
}
