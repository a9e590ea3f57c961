//! Committed changes of the local topic log as lines, read without a lock.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;
use crate::fault::Fault;
use crate::io::line;
use crate::io::local::commit::{Commit, Extent};
use crate::io::local::lines::{Lines, Shown};
use crate::io::local::publisher::check_name;

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
            let lines = Lines {
                dir: &dir.join(topic),
                partition: *partition,
            };
            let mut place = vec![b'{'];
            line::append_place(&mut place, topic, *partition);
            let mut copy = |line: &[u8]| copy(&place, line, &mut out);
            match lines.show(next, *extent, &mut copy)? {
                Shown::All => {}
                Shown::Rolled => whole = false,
                Shown::Unwanted => return Ok(()),
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

/// Writes a line, led by `place`; whether somebody still reads.
fn copy(place: &[u8], line: &[u8], out: &mut impl Write) -> Result<bool, Fault> {
    let written = out
        .write_all(place)
        .and_then(|()| out.write_all(&line[1..]));
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Fault::failed(format!("cannot write: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// What is committed of `topic`.
fn extents(dir: &Path, topic: &str) -> Result<BTreeMap<u32, Extent>, Fault> {
    let commit = Commit::read(dir)?;
    let topics = commit.map(|commit| commit.topics).unwrap_or_default();
    Ok(topics.get(topic).cloned().unwrap_or_default())
}
