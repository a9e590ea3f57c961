//! Committed records of the local topic log, up to a commit record that was read before: for who
//! compares (`verify`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fault::Fault;
use crate::io::committed::{Committed, Span, Stamp};
use crate::io::line;
use crate::io::local::commit::{Commit, Extent};
use crate::io::local::lines::{Lines, Shown};

/// Reads topics as one commit record has them.
pub(crate) struct Records {
    dir: PathBuf,
    commit: Commit,
}

impl Records {
    /// The topics below `data_dir` as they are committed now; `None`: nothing ever was.
    pub(crate) fn open(data_dir: &Path) -> Result<Option<Records>, Fault> {
        let dir = data_dir.join("topics");
        let commit = Commit::read(&dir)?;
        Ok(commit.map(|commit| Records { dir, commit }))
    }

    pub(crate) fn commit(&self) -> &Commit {
        &self.commit
    }

    fn extents(&self, topic: &str) -> BTreeMap<u32, Extent> {
        self.commit.topics.get(topic).cloned().unwrap_or_default()
    }

    /// What is kept of each partition; empty: there is no such topic.
    pub(crate) fn spans(&self, topic: &str) -> Result<Vec<Span>, Fault> {
        let dir = self.dir.join(topic);
        let span = |(partition, extent): (u32, Extent)| {
            let lines = Lines {
                dir: &dir,
                partition,
            };
            Ok(Span {
                partition,
                first: lines.first(extent)?,
                next: extent.next,
            })
        };
        self.extents(topic).into_iter().map(span).collect()
    }

    /// Shows every record of `topic` in order; a line that is none of ours is told to `wrong`, with its
    /// partition and the offset that it should have.
    pub(crate) fn read(
        &self,
        topic: &str,
        visit: &mut dyn FnMut(&Committed<'_>) -> Result<(), Fault>,
        wrong: &mut dyn FnMut(u32, u64),
    ) -> Result<(), Fault> {
        let dir = self.dir.join(topic);
        for (partition, extent) in self.extents(topic) {
            let lines = Lines {
                dir: &dir,
                partition,
            };
            let mut expected = lines.first(extent)?;
            let mut next = expected;
            let shown = lines.show(&mut next, extent, &mut |line| {
                match line::read(line) {
                    Some((key, read)) if read.offset == expected => {
                        let stamp = Stamp::of(&read);
                        visit(&Committed {
                            partition,
                            offset: read.offset,
                            key: key.as_bytes(),
                            value: read.value,
                            at: stamp.map_or(0, |stamp| stamp.polled_at),
                            stamp,
                        })?;
                    }
                    _ => wrong(partition, expected),
                }
                expected += 1;
                Ok(true)
            })?;
            if shown == Shown::Rolled || next < extent.next {
                return Err(Fault::directory(format!(
                    "the files in {} are not those of the commit record: partition {partition} ends \
                     at offset {next}, not {}",
                    dir.display(),
                    extent.next
                )));
            }
        }
        Ok(())
    }
}
