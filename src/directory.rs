//! The local directory: one lock, one journal, one store, and the checks that say they belong together
//! (R16, R28, R32).
//!
//! ```text
//! <data_dir>/LOCK         held by one process
//!            journal/     the commit point, and every small fact
//!            state/       the pages
//!            topics/      the local topic log, without [kafka]
//!            reserve      space for a start on a full disk
//! ```
//!
//! Fail points: `directory.made`; when pages are opened `directory.opened.store`, `.journal` (the number of
//! openings is durable there); when they are made durable `store.position` (put, not flushed).

mod pages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltapoll_state::fail;
use deltapoll_state::journal::{Journal, Options, Sealed};
use deltapoll_state::lock::Lock;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;

use crate::change::Seq;
use crate::dataflow::message::Who;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::ledger::Ledger;
use crate::rebuild::site;
use crate::reserve::Reserve;
use crate::reset;

pub use pages::{Expected, announce_pages, flush_pages, found_pages, opened};
use pages::{OPENED, STORE_CACHE_BYTES, STORE_LINEAGE, STORE_OPENED};

/// Where the archive began.
const ARCHIVE_START: &str = "archive/start";

/// A directory that this process has for itself.
pub struct Directory {
    _lock: Lock,
    path: PathBuf,
    /// The journal.
    pub ledger: Ledger,
    /// What was sealed when it was opened.
    pub start: Sealed,
    oldest: Seq,
    /// Room on the disk to go on with.
    pub reserve: Arc<Reserve>,
}

impl Directory {
    /// Locks and opens the directory, which is made if it is missing.
    ///
    /// # Errors
    /// When another process has it, or it is damaged.
    pub fn open(path: &Path) -> Result<Directory, Fault> {
        deltapoll_state::directory::make(path).map_err(directory)?;
        fail::step("directory.made");
        let lock = Lock::acquire(path).map_err(directory)?;
        // IMPORTANT: before anything is written: a full disk would refuse that already (R29).
        let reserve = Arc::new(Reserve::open(path)?);
        reset::settle(path)?;
        site::settle(path)?;
        let journal =
            Journal::open(&path.join("journal"), Options::default()).map_err(directory)?;
        let (start, oldest) = (journal.sealed(), journal.oldest());
        let ledger = Ledger::start(journal);
        Ok(Directory {
            _lock: lock,
            path: path.to_owned(),
            ledger,
            start,
            oldest,
            reserve,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where each follower is, checked against what the journal holds (R16).
    ///
    /// # Errors
    /// When a position is not within the journal.
    pub fn positions(&self, followers: &[Who]) -> Result<BTreeMap<Who, Seq>, Fault> {
        let mut positions = BTreeMap::new();
        for &who in followers {
            let written = self.ledger.get(who.fact());
            let position = match &written {
                None => Seq(0),
                Some(text) => Seq(text.parse().map_err(|_| damaged_fact(who.fact(), text))?),
            };
            let position = match (who, written) {
                (Who::Archive, None) => self.start_archive(positions[&Who::Publish])?,
                _ => position,
            };
            if who == Who::Archive && position.0 + 1 < self.oldest.0 {
                return Err(Fault::directory(format!(
                    "[archive] was not configured while batches {} to {} were published: the archive \
                     lacks them, and the journal has them no more; go on without [archive], or begin \
                     anew with `deltapoll state reset` and another archive.url",
                    position.0 + 1,
                    self.oldest.0 - 1,
                )));
            }
            let outside = position.0 + 1 < self.oldest.0 || position > self.start.seq;
            if outside && !fail::broken("r16") {
                return Err(Fault::directory(format!(
                    "the journal in {} holds batches {} to {}, but {} is at {position}: the directory \
                     was put together from different times; restore all of it, move it away and make \
                     it again with `deltapoll rebuild`, or say `deltapoll state reset`",
                    self.path.display(),
                    self.oldest,
                    self.start.seq,
                    who.fact(),
                )));
            }
            positions.insert(who, position);
        }
        Ok(positions)
    }

    /// An archive that was added now starts where publish is (R32).
    fn start_archive(&self, published: Seq) -> Result<Seq, Fault> {
        let text = Some(published.to_string());
        let facts =
            [ARCHIVE_START, Who::Archive.fact()].map(|name| (name.to_owned(), text.clone()));
        // IMPORTANT: durable before anything more is published; a start that were found out again
        // after a crash would leave out what was published in between.
        self.ledger.set(facts.to_vec(), true)?;
        Ok(published)
    }

    /// Opens the pages.
    ///
    /// # Errors
    /// When the store is missing or older than the journal says it was, belongs to another journal, or
    /// is damaged.
    pub fn pages(&self, lineage: &str, remembered: Seq) -> Result<Pages, Fault> {
        let path = self.path.join("state");
        let expected = Expected {
            path: &path,
            lineage,
            remembered,
            sealed: self.start,
            opened: opened(&self.ledger)?,
        };
        if remembered > Seq(0) && !path.exists() {
            let what = format!("is missing, the journal says it was at batch {remembered}");
            return Err(expected.wrong(&what));
        }
        let store = SledStore::open(&path, STORE_CACHE_BYTES).map_err(directory)?;
        let pages = Pages::new(Arc::new(store));
        if remembered == Seq(0) && pages.small(STORE_LINEAGE).map_err(directory)?.is_none() {
            pages
                .put_small(STORE_LINEAGE, lineage.as_bytes())
                .map_err(directory)?;
        } else {
            expected.check(&pages)?;
        }
        self.count_opening(&pages, expected.opened + 1)?;
        Ok(pages)
    }

    /// Makes every earlier copy of the store one that was opened less often.
    fn count_opening(&self, pages: &Pages, opened: u64) -> Result<(), Fault> {
        pages
            .put_small(STORE_OPENED, &opened.to_le_bytes())
            .map_err(directory)?;
        // IMPORTANT: durable in the store first: there it may be one more than the journal says.
        pages.store().flush().map_err(directory)?;
        fail::step("directory.opened.store");
        let fact = (OPENED.to_owned(), Some(opened.to_string()));
        self.ledger.set(vec![fact], true)?;
        fail::step("directory.opened.journal");
        Ok(())
    }
}

fn directory(error: deltapoll_state::error::Error) -> Fault {
    Fault::directory(error.to_string())
}

fn damaged_fact(name: &str, text: &str) -> Fault {
    Fault::directory(format!("the journal's fact {name} is damaged: {text}"))
}

#[cfg(test)]
mod tests {
    use super::pages::{STORE_POSITION, number};
    use super::*;
    use crate::change::Epoch;

    #[test]
    fn r16_pages_beyond_the_end_of_the_journal_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let pages = directory.pages("l", Seq(0)).unwrap();
        flush_pages(&pages, Seq(1)).unwrap();
        drop(pages);
        let fault = directory.pages("l", Seq(0)).unwrap_err();
        assert!(fault.message.contains("the journal ends with 0"), "{fault}");
    }

    #[test]
    fn r24_an_archive_without_an_object_is_where_it_began_and_a_new_one_where_publish_is() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let ledger = &directory.ledger;
        ledger.append(
            crate::change::Epoch(1),
            vec![],
            Arc::default(),
            Some(vec![]),
        );
        let fact = |name: &str, text: &str| vec![(name.to_owned(), Some(text.to_owned()))];
        ledger.set(fact(Who::Publish.fact(), "1"), true).unwrap();
        drop(directory);
        let directory = Directory::open(dir.path()).unwrap();
        let archive = || directory.positions(&[Who::Publish, Who::Archive]).unwrap()[&Who::Archive];
        assert_eq!(archive(), Seq(1));
        directory
            .ledger
            .set(fact(Who::Archive.fact(), "0"), true)
            .unwrap();
        assert_eq!(archive(), Seq(0), "its first changes are still waiting");
    }

    /// All of `from`, in place of `to`.
    fn replace(from: &Path, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                replace(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    fn position(directory: &Directory) -> Result<Seq, Fault> {
        Ok(directory.positions(&[Who::Remember])?[&Who::Remember])
    }

    /// What a start makes of the directory: the batch that its pages are at.
    fn start(path: &Path) -> Result<u64, Fault> {
        let directory = Directory::open(path)?;
        let pages = directory.pages("l", position(&directory)?)?;
        number(&pages, STORE_POSITION)
    }

    /// Seals a batch and remembers it.
    fn advance(path: &Path, batch: u64) {
        let directory = Directory::open(path).unwrap();
        let pages = directory.pages("l", position(&directory).unwrap()).unwrap();
        let ledger = &directory.ledger;
        let epoch = crate::change::Epoch(batch);
        ledger.append(epoch, vec![], Arc::default(), Some(vec![]));
        ledger.set(Vec::new(), true).unwrap();
        flush_pages(&pages, Seq(batch)).unwrap();
        let fact = (Who::Remember.fact().to_owned(), Some(batch.to_string()));
        ledger.set(vec![fact], true).unwrap();
    }

    fn is_refused(started: Result<u64, Fault>, what: &str) {
        let fault = started.unwrap_err();
        assert_eq!(fault.exit, crate::fault::Exit::Directory, "{fault}");
        assert!(fault.message.contains(what), "{fault}");
        assert!(
            fault.message.contains("state reset"),
            "the way out: {fault}"
        );
    }

    #[test]
    fn r16_r28_a_state_or_a_journal_of_another_time_is_refused() {
        let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        for batch in 1..=4 {
            advance(dir.path(), batch);
            replace(dir.path(), &copies.path().join(batch.to_string()));
        }
        let copy = |batch: u64, name: &str| copies.path().join(batch.to_string()).join(name);
        let restore = || replace(&copies.path().join("4"), dir.path());
        for batch in 1..=3 {
            replace(&copy(batch, "state"), &at("state"));
            let what = format!("is at batch {batch}, the journal says it was at 4");
            is_refused(start(dir.path()), &what);
            restore();
            replace(&copy(batch, "journal"), &at("journal"));
            let what = format!("is at batch 4, the journal ends with {batch}");
            is_refused(start(dir.path()), &what);
            // All of it is of one time.
            replace(&copies.path().join(batch.to_string()), dir.path());
            assert_eq!(start(dir.path()).unwrap(), batch);
            restore();
        }
        std::fs::remove_dir_all(at("journal")).unwrap();
        is_refused(start(dir.path()), "is at batch 4, the journal ends with 0");
        restore();
        assert_eq!(start(dir.path()).unwrap(), 4);
    }

    #[test]
    fn a_directory_of_a_future_format_is_refused_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::open(dir.path()).unwrap());
        let segment = dir.path().join("journal/0000000001.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[8] = 99;
        let end = bytes.len() - 8;
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        std::fs::write(&segment, bytes).unwrap();
        let fault = start(dir.path()).unwrap_err();
        assert_eq!(fault.exit, crate::fault::Exit::Directory, "{fault}");
        assert!(fault.message.contains("has format version 99"), "{fault}");
        assert!(
            fault.message.contains("use the build that wrote it"),
            "{fault}"
        );
    }

    #[test]
    fn r28_a_state_that_is_gone_empty_garbage_or_of_another_journal_is_refused() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = dir.path().join("state");
        advance(dir.path(), 1);
        replace(dir.path(), copy.path());
        std::fs::remove_dir_all(&state).unwrap();
        is_refused(start(dir.path()), "is missing");
        std::fs::create_dir(&state).unwrap();
        is_refused(start(dir.path()), "is empty");
        replace(copy.path(), dir.path());
        std::fs::write(state.join("CURRENT"), b"garbage").unwrap();
        is_refused(start(dir.path()), "has lost its file CURRENT");
        replace(copy.path(), dir.path());
        std::fs::write(state.join("0000000001/db"), b"garbage").unwrap();
        is_refused(start(dir.path()), "the state store");
        let other = tempfile::tempdir().unwrap();
        let directory = Directory::open(other.path()).unwrap();
        let pages = directory.pages("another", Seq(0)).unwrap();
        flush_pages(&pages, Seq(0)).unwrap();
        drop((directory, pages));
        replace(copy.path(), dir.path());
        replace(&other.path().join("state"), &state);
        is_refused(start(dir.path()), "belongs to another journal");
    }

    #[test]
    fn r08_r28_a_state_from_before_the_last_start_is_refused_although_nothing_was_sealed_since() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = dir.path().join("state");
        advance(dir.path(), 1);
        // It may hold misses, which the next start takes.
        replace(&state, copy.path());
        assert_eq!(start(dir.path()).unwrap(), 1);
        replace(copy.path(), &state);
        is_refused(start(dir.path()), "one of them is a copy");
    }

    #[test]
    fn crash_r28_between_the_two_places_that_count_openings_is_no_copy() {
        let dir = tempfile::tempdir().unwrap();
        advance(dir.path(), 1);
        let directory = Directory::open(dir.path()).unwrap();
        let pages = directory.pages("l", Seq(1)).unwrap();
        let more = opened(&directory.ledger).unwrap() + 1;
        pages.put_small(STORE_OPENED, &more.to_le_bytes()).unwrap();
        pages.store().flush().unwrap();
        drop((directory, pages));
        assert_eq!(start(dir.path()).unwrap(), 1);
    }

    #[test]
    fn r16_pages_that_are_ahead_of_their_position_under_an_older_journal_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, older) = (dir.path().join("journal"), dir.path().join("older"));
        advance(dir.path(), 1);
        let directory = Directory::open(dir.path()).unwrap();
        let pages = directory.pages("l", Seq(1)).unwrap();
        replace(&journal, &older);
        let ledger = &directory.ledger;
        ledger.append(Epoch(2), vec![], Arc::default(), Some(vec![]));
        ledger.set(Vec::new(), true).unwrap();
        // Pages are written, and the process is killed before their position is.
        announce_pages(&pages, 3, Epoch(2)).unwrap();
        pages.store().flush().unwrap();
        drop((pages, directory));
        assert_eq!(start(dir.path()).unwrap(), 1, "sound: it is replayed");
        replace(&older, &journal);
        is_refused(
            start(dir.path()),
            "holds changes of epoch 2, the journal ends with epoch 1",
        );
    }
}
