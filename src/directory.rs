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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltapoll_state::journal::{Journal, Options, Sealed};
use deltapoll_state::lock::Lock;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;

use crate::change::Seq;
use crate::dataflow::message::Who;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::ledger::Ledger;
use crate::reserve::Reserve;
use crate::reset;

/// The store's cache. Every unchanged poll reads all pages once, in order: no cache smaller than all of
/// them has the next one, and sled keeps what it wants beside.
const STORE_CACHE_BYTES: u64 = 8 << 20;
/// Named value in the store: the journal position that its pages are at least at.
const STORE_POSITION: &str = "position";
/// Named value in the store: the journal that it belongs to.
const STORE_LINEAGE: &str = "lineage";

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
        std::fs::create_dir_all(path).map_err(|error| {
            Fault::directory(format!(
                "cannot make the directory {}: {error}",
                path.display()
            ))
        })?;
        let lock = Lock::acquire(path).map_err(directory)?;
        // IMPORTANT: before anything is written: a full disk would refuse that already (R29).
        let reserve = Arc::new(Reserve::open(path)?);
        reset::settle(path)?;
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
            if position.0 + 1 < self.oldest.0 || position > self.start.seq {
                return Err(Fault::directory(format!(
                    "the journal in {} holds batches {} to {}, but {} is at {position}: the directory \
                     was put together from different times; restore all of it, or say `deltapoll \
                     state reset`",
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
        let wrong = |what: String| {
            Fault::directory(format!(
                "the state in {} {what}: restore the directory as a whole, or say `deltapoll state \
                 reset` to start over",
                path.display()
            ))
        };
        if remembered > Seq(0) && !path.exists() {
            return Err(wrong(format!(
                "is missing, the journal says it was at batch {remembered}"
            )));
        }
        let store = SledStore::open(&path, STORE_CACHE_BYTES).map_err(directory)?;
        let pages = Pages::new(Arc::new(store));
        let small = |name: &str| pages.small(name).map_err(directory);
        match small(STORE_LINEAGE)? {
            None if remembered > Seq(0) => return Err(wrong("is empty".into())),
            None => pages
                .put_small(STORE_LINEAGE, lineage.as_bytes())
                .map_err(directory)?,
            Some(theirs) if theirs == lineage.as_bytes() => {}
            Some(_) => return Err(wrong("belongs to another journal".into())),
        }
        let at = small(STORE_POSITION)?
            .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        let at = Seq(at.unwrap_or(0));
        if at < remembered {
            return Err(wrong(format!(
                "is at batch {at}, the journal says it was at {remembered}"
            )));
        }
        if at > self.start.seq {
            // R16: pages that hold what this journal never sealed.
            return Err(wrong(format!(
                "is at batch {at}, the journal ends with {}",
                self.start.seq
            )));
        }
        Ok(pages)
    }
}

/// Makes the pages durable, with the position that they are at.
///
/// # Errors
/// When the store cannot be written.
pub fn flush_pages(pages: &Pages, position: Seq) -> Result<(), Fault> {
    pages
        .put_small(STORE_POSITION, &position.0.to_le_bytes())
        .map_err(directory)?;
    pages.store().flush().map_err(directory)
}

fn directory(error: deltapoll_state::error::Error) -> Fault {
    Fault::directory(error.to_string())
}

fn damaged_fact(name: &str, text: &str) -> Fault {
    Fault::directory(format!("the journal's fact {name} is damaged: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
