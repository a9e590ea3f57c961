//! A look at a journal: what an open would find, without writing a byte.
//!
//! An open starts a segment, cuts what did not count and removes what a crash left; none of that
//! happens here. What is not proven to have been synced shows as an open would keep it.
//!
//! Nobody may write to the journal meanwhile: a segment that is retired under a look is missing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::journal::disk::{Dir, System};
use crate::journal::reader::View;
use crate::journal::recover;
use crate::journal::{Facts, Journal, Readers, Sealed, closed};
use crate::word::Seq;

/// What a journal holds.
#[derive(Debug)]
pub struct Look {
    /// All facts.
    pub facts: Facts,
    /// What is sealed.
    pub sealed: Sealed,
    /// The first batch still held, or the next one if none is.
    pub oldest: Seq,
    /// Opens readers, in any thread.
    pub readers: Readers,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Journal {
    /// Looks at the journal in `dir`; writes nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no journal; otherwise as [`Journal::open`].
    pub fn look(dir: &Path) -> Result<Look, Error> {
        let missing = || Error::Missing {
            path: dir.to_owned(),
        };
        if !dir.is_dir() {
            return Err(missing());
        }
        let dir = Dir::open(Arc::new(System), dir)?;
        let chain = recover::chain(&dir)?;
        let last = chain.last().ok_or_else(missing)?;
        let (state, limit) = recover::read_through(&dir, last)?;
        let bytes = chain.iter().map(|found| found.bytes).sum();
        let sealed = Sealed {
            seq: Seq(state.start.next.0 - 1),
            epoch: state.start.epoch,
        };
        let view = View {
            segments: chain.into_iter().map(closed).collect::<VecDeque<_>>(),
            limit,
            sealed,
        };
        Ok(Look {
            facts: state.start.facts,
            sealed,
            oldest: view.oldest(),
            readers: Readers::new(dir, view),
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::journal::Options;
    use crate::word::Epoch;

    /// Every file of the directory, with its content.
    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        };
        entries.map(read).collect()
    }

    fn bodies(readers: &Readers, after: u64) -> Vec<(u64, Vec<u8>)> {
        let mut reader = readers.after(Seq(after)).unwrap();
        let mut all = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            all.push((frame.seq.0, frame.body));
        }
        all
    }

    /// A journal of three segments, the last of which holds epochs, a fact and the begin of an epoch.
    fn used(dir: &Path) {
        for n in 1..4 {
            let mut journal = Journal::open(dir, Options::default()).unwrap();
            journal.append(Epoch(n * 10), &[n as u8], None).unwrap();
            let fact = ("f".to_owned(), Some(n.to_string()));
            journal
                .append(Epoch(n * 10), &[n as u8, 0], Some(&[fact]))
                .unwrap();
            journal.sync().unwrap();
            journal.append(Epoch(n * 10 + 5), &[99], None).unwrap();
            journal.sync().unwrap();
        }
        fs::write(dir.join("0000000009.seg.new"), b"what a crash left").unwrap();
    }

    #[test]
    fn a_look_finds_what_an_open_finds_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        used(dir.path());
        let before = files(dir.path());
        let look = Journal::look(dir.path()).unwrap();
        let read = bodies(&look.readers, 0);
        assert_eq!(read.len(), 6);
        assert_eq!(bodies(&look.readers, 5), [(6, vec![3, 0])]);
        assert!(look.readers.after(Seq(7)).is_err(), "beyond what is sealed");
        assert_eq!(files(dir.path()), before);
        let journal = Journal::open(dir.path(), Options::default()).unwrap();
        assert_eq!((look.sealed, look.oldest), (journal.sealed(), Seq(1)));
        assert_eq!(&look.facts, journal.facts());
        assert_eq!(look.facts["f"], "3");
        assert_eq!(bodies(&journal.readers(), 0), read);
    }

    #[test]
    fn a_look_sees_damage_as_an_open_does() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Journal::look(&dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, Error::Missing { .. }), "{missing}");
        let empty = Journal::look(dir.path()).unwrap_err();
        assert!(matches!(empty, Error::Missing { .. }), "{empty}");
        used(dir.path());
        fs::remove_file(dir.path().join("0000000002.seg")).unwrap();
        let gap = Journal::look(dir.path()).unwrap_err();
        assert!(matches!(gap, Error::Missing { .. }), "{gap}");
    }
}
